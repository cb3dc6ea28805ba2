//! Whom a connection is for, by the first thing that it says. A pure decision.

use causeway_tunnel::carrier::ALPN as TUNNEL;
use causeway_tunnel::{Host, TlsEnd};

use crate::tls::{Spoken, TlsHello};

/// What stands at the door. Nothing that it said is lost: whoever takes it gets all of it.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A visitor on the port for plain HTTP.
    Plain,
    /// A visitor who speaks plain HTTP on the port for HTTPS, and what he said.
    Cleartext(Vec<u8>),
    /// A visitor whose TLS ends here.
    Visitor(TlsHello),
    /// A connector whose way by UDP is barred.
    Tunnel(TlsHello),
    /// A visitor of a site whose TLS ends elsewhere.
    PassThrough(Host, TlsEnd, TlsHello),
}

impl Arrival {
    /// On the port for HTTPS. `end_of`: where TLS of this name ends.
    pub(super) fn of(spoken: Spoken, end_of: impl FnOnce(&Host) -> TlsEnd) -> Self {
        let hello = match spoken {
            Spoken::Text(text) => return Self::Cleartext(text),
            Spoken::Tls(hello) => hello,
        };
        // A site must not be able to take the tunnel's connectors for its visitors, so the tunnel comes first.
        if hello.prefers(TUNNEL) {
            return Self::Tunnel(hello);
        }
        // A name that is none is the handshake's to refuse.
        let Some(name) = hello.name() else { return Self::Visitor(hello) };
        match end_of(&name) {
            TlsEnd::Edge => Self::Visitor(hello),
            elsewhere => Self::PassThrough(name, elsewhere, hello),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::tls::said_by_client as hello;

    async fn arrival(said: &[u8]) -> Arrival {
        let (mut ours, mut theirs) = tokio::io::duplex(16 * 1024);
        theirs.write_all(said).await.unwrap();
        Arrival::of(Spoken::read(&mut ours).await.unwrap(), |name| match &**name {
            "home.example" => TlsEnd::Passthrough,
            _ => TlsEnd::Edge,
        })
    }

    #[tokio::test]
    async fn each_arrival_is_told_by_what_it_says_first() {
        let h2: &[u8] = b"h2";
        let browser = arrival(&hello("a.example", &[h2, b"http/1.1"])).await;
        assert!(matches!(browser, Arrival::Visitor(_)), "{browser:?}");
        let old = arrival(&hello("a.example", &[])).await;
        assert!(matches!(old, Arrival::Visitor(_)), "{old:?}");
        let nameless = arrival(&hello("127.0.0.1", &[h2])).await;
        assert!(matches!(nameless, Arrival::Visitor(_)), "refused by the handshake: {nameless:?}");
        let connector = arrival(&hello("a.example", &[TUNNEL])).await;
        assert!(matches!(connector, Arrival::Tunnel(_)), "{connector:?}");
        let odd = arrival(&hello("a.example", &[h2, TUNNEL])).await;
        assert!(matches!(odd, Arrival::Visitor(_)), "{odd:?}");
        let text = arrival(b"GET / HTTP/1.1\r\n").await;
        assert!(matches!(text, Arrival::Cleartext(_)), "{text:?}");
    }

    #[tokio::test]
    async fn what_passes_through_keeps_all_that_was_said_and_never_takes_a_connector() {
        let said = hello("Home.example", &[b"h2"]);
        let Arrival::PassThrough(name, TlsEnd::Passthrough, hello_there) = arrival(&said).await else {
            panic!("it passes")
        };
        assert_eq!((&*name, hello_there.into_bytes()), ("home.example", said));
        let connector = arrival(&hello("home.example", &[TUNNEL])).await;
        assert!(matches!(connector, Arrival::Tunnel(_)), "{connector:?}");
    }
}

//! Whom a connection is for, by the first thing that it says. A pure decision.

use std::sync::Arc;

use causeway_acme::TLS_ALPN_PROTOCOL;
use causeway_tunnel::carrier::ALPN as TUNNEL;
use causeway_tunnel::{Host, TlsEnd};
use rustls::ServerConfig;

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
    /// A connector whose way by UDP is barred, or slow.
    Tunnel(TlsHello),
    /// An authority that looks whether we have a name, and what we show it.
    Challenge(TlsHello, Arc<ServerConfig>),
    /// A visitor of a site whose TLS ends elsewhere.
    PassThrough(Host, TlsEnd, TlsHello),
}

impl Arrival {
    /// On a port for connectors alone.
    pub(super) fn of_tunnel(spoken: Spoken) -> Option<Self> {
        match spoken {
            Spoken::Tls(hello) if hello.prefers(TUNNEL) => Some(Self::Tunnel(hello)),
            _ => None,
        }
    }

    /// On the port for HTTPS. `answers`: what an authority is shown that we asked to look at this name. `end_of`: where TLS of
    /// this name ends.
    pub(super) fn of(
        spoken: Spoken,
        answers: impl FnOnce(&Host) -> Option<Arc<ServerConfig>>,
        end_of: impl FnOnce(&Host) -> TlsEnd,
    ) -> Self {
        let hello = match spoken {
            Spoken::Text(text) => return Self::Cleartext(text),
            Spoken::Tls(hello) => hello,
        };
        // A site must not be able to take the tunnel's connectors for its visitors, so the tunnel comes first.
        if hello.prefers(TUNNEL) {
            return Self::Tunnel(hello);
        }
        // What we did not ask for is for the site, or nobody's.
        if hello.speaks_only(TLS_ALPN_PROTOCOL)
            && let Some(answer) = hello.name().as_ref().and_then(answers)
        {
            return Self::Challenge(hello, answer);
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

    fn answer() -> Arc<ServerConfig> {
        let config = ServerConfig::builder_with_provider(causeway_daemon::tls::provider());
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        Arc::new(config.with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new())))
    }

    async fn arrival(said: &[u8]) -> Arrival {
        let (mut ours, mut theirs) = tokio::io::duplex(16 * 1024);
        theirs.write_all(said).await.unwrap();
        let answer = |name: &Host| (&**name == "asked.example").then(answer);
        Arrival::of(Spoken::read(&mut ours).await.unwrap(), answer, |name| match &**name {
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

    #[tokio::test]
    async fn hazard_131_only_who_asks_for_the_challenge_alone_and_of_an_outstanding_name_is_an_authority() {
        let asked = arrival(&hello("asked.example", &[TLS_ALPN_PROTOCOL])).await;
        assert!(matches!(asked, Arrival::Challenge(..)), "{asked:?}");
        let browser = arrival(&hello("asked.example", &[b"h2", TLS_ALPN_PROTOCOL])).await;
        assert!(matches!(browser, Arrival::Visitor(_)), "{browser:?}");
        let stranger = arrival(&hello("a.example", &[TLS_ALPN_PROTOCOL])).await;
        assert!(matches!(stranger, Arrival::Visitor(_)), "{stranger:?}");
        let of_the_site = arrival(&hello("home.example", &[TLS_ALPN_PROTOCOL])).await;
        assert!(matches!(of_the_site, Arrival::PassThrough(..)), "{of_the_site:?}");
    }
}

//! The handshake's logic without I/O: versions, the connector's proof and its standing.

use crate::granted::Granted;
use crate::message::{Hello, RefusalCode, Refused, Retry};
use crate::proof::{self, Exporter};
use crate::session::Role;
use crate::token::{ConnectorId, KeyId, Token, TunnelId};

/// The protocol version of this build, and the oldest it still speaks. Versions 1 and 2 were in no release; N-1 from 4 on.
pub const VERSION: u32 = 3;
pub const OLDEST_VERSION: u32 = 3;

/// Name and version of this program, as both ends tell each other.
pub const SOFTWARE: &str = concat!("causeway/", env!("CARGO_PKG_VERSION"));

/// What an edge knows of a tunnel's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Active,
    Expired,
    Revoked,
}

/// A tunnel's key as the edge holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    pub public_key: [u8; 32],
    pub standing: Standing,
    /// The tunnel's name, told to a connector that proved itself.
    pub tunnel_name: String,
}

/// The edge's knowledge of tunnels. Answers from memory: it is asked inside the handshake.
pub trait Authority: Send + Sync {
    fn look_up(&self, tunnel: TunnelId, key: KeyId) -> Option<KnownKey>;

    /// What the connector of a tunnel is told when it has proved itself.
    fn granted(&self, _tunnel: TunnelId) -> Granted {
        Granted::default()
    }
}

/// A connector that proved its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    pub hello: Hello,
    pub version: u32,
    pub tunnel_name: String,
}

/// The connector's first message on a connection with this exporter.
pub fn hello(token: &Token, connector: ConnectorId, role: Role, host: &str, exporter: &Exporter) -> Hello {
    Hello {
        lowest_version: OLDEST_VERSION,
        highest_version: VERSION,
        tunnel: token.tunnel,
        key: token.key_id,
        connector,
        proof: proof::sign(&token.key, exporter, token.tunnel, connector),
        role,
        software: SOFTWARE.to_owned(),
        host: host.to_owned(),
    }
}

/// The edge's verdict on a Hello. Says nothing about a tunnel to somebody who has not proved its key (hazard 119).
///
/// # Errors
/// The refusal to send.
pub fn examine(hello: Hello, exporter: &Exporter, authority: &dyn Authority) -> Result<Proved, Refused> {
    let version = hello.highest_version.min(VERSION);
    if version < hello.lowest_version || version < OLDEST_VERSION {
        return Err(permanent(
            RefusalCode::Version,
            format!(
                "the connector speaks tunnel versions {} to {}, this edge {OLDEST_VERSION} to {VERSION}: update the older of the two",
                hello.lowest_version, hello.highest_version
            ),
        ));
    }
    let known = authority.look_up(hello.tunnel, hello.key);
    // An unknown tunnel costs the same work as a known one.
    let public_key = known.as_ref().map_or([0; 32], |known| known.public_key);
    let proved = proof::verify(&public_key, &hello.proof, exporter, hello.tunnel, hello.connector);
    let Some(known) = known.filter(|_| proved) else {
        return Err(permanent(
            RefusalCode::Unauthorized,
            "no such tunnel on this edge, or the token is not its: make a new token with `causeway-edge tunnel create` or `tunnel rotate`".to_owned(),
        ));
    };
    match known.standing {
        Standing::Active => Ok(Proved { hello, version, tunnel_name: known.tunnel_name }),
        Standing::Expired => Err(permanent(
            RefusalCode::Expired,
            format!(
                "this token of tunnel `{}` has expired: make a new one with `causeway-edge tunnel rotate`",
                known.tunnel_name
            ),
        )),
        Standing::Revoked => Err(permanent(
            RefusalCode::Revoked,
            format!(
                "tunnel `{}` was revoked: make a new one with `causeway-edge tunnel create`",
                known.tunnel_name
            ),
        )),
    }
}

fn permanent(code: RefusalCode, reason: String) -> Refused {
    Refused { code, reason, retry: Retry::Permanent }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Pin;
    use crate::token::TunnelKey;

    struct One(TunnelId, KeyId, KnownKey);

    impl Authority for One {
        fn look_up(&self, tunnel: TunnelId, key: KeyId) -> Option<KnownKey> {
            (tunnel == self.0 && key == self.1).then(|| self.2.clone())
        }
    }

    fn token() -> Token {
        Token {
            tunnel: TunnelId::random(),
            key_id: KeyId::random(),
            key: TunnelKey::generate(),
            edges: vec!["e:1".to_owned()],
            pin: Pin([0; 32]),
        }
    }

    fn authority(token: &Token, standing: Standing) -> One {
        let known = KnownKey { public_key: token.key.public(), standing, tunnel_name: "home".to_owned() };
        One(token.tunnel, token.key_id, known)
    }

    fn greet(token: &Token) -> Hello {
        hello(token, ConnectorId::random(), Role::Primary, "h", &[9; 32])
    }

    #[test]
    fn only_the_owner_of_the_key_learns_anything() {
        let (mine, other) = (token(), token());
        for standing in [Standing::Active, Standing::Expired, Standing::Revoked] {
            let authority = authority(&mine, standing);
            let mut forged = greet(&other);
            (forged.tunnel, forged.key) = (mine.tunnel, mine.key_id);
            let wrong_key = examine(forged, &[9; 32], &authority).unwrap_err();
            let unknown = examine(greet(&other), &[9; 32], &authority).unwrap_err();
            assert_eq!(wrong_key, unknown);
            assert_eq!((wrong_key.code, wrong_key.retry), (RefusalCode::Unauthorized, Retry::Permanent));
        }
        assert_eq!(
            examine(greet(&mine), &[9; 32], &authority(&mine, Standing::Active)).unwrap().tunnel_name,
            "home"
        );
        let revoked = examine(greet(&mine), &[9; 32], &authority(&mine, Standing::Revoked)).unwrap_err();
        assert_eq!(revoked.code, RefusalCode::Revoked);
        let expired = examine(greet(&mine), &[9; 32], &authority(&mine, Standing::Expired)).unwrap_err();
        assert_eq!(expired.code, RefusalCode::Expired);
    }

    #[test]
    fn hazard_120_a_hello_replayed_on_another_connection_is_refused() {
        let mine = token();
        let replayed = examine(greet(&mine), &[8; 32], &authority(&mine, Standing::Active)).unwrap_err();
        assert_eq!(replayed.code, RefusalCode::Unauthorized);
    }

    #[test]
    fn hazard_172_no_shared_version_is_an_explicit_refusal_and_a_newer_peer_is_met_at_ours() {
        let mine = token();
        let mut newer = greet(&mine);
        newer.highest_version = VERSION + 5;
        assert_eq!(examine(newer, &[9; 32], &authority(&mine, Standing::Active)).unwrap().version, VERSION);
        let mut future = greet(&mine);
        (future.lowest_version, future.highest_version) = (VERSION + 1, VERSION + 2);
        let refused = examine(future, &[9; 32], &authority(&mine, Standing::Active)).unwrap_err();
        assert_eq!(refused.code, RefusalCode::Version);
    }
}

//! An edge of our own making, to which a real connector connects: it says what no edge of ours would.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use causeway_tunnel::carrier::{Reuse, bind};
use causeway_tunnel::handshake::{Authority, KnownKey, Standing};
use causeway_tunnel::listen::{Listener, Shard};
use causeway_tunnel::{
    BodyKind, Certificates, Control, EdgeIdentity, KeyId, Message, RequestHead, RequestId, Route, Scheme,
    Session, Token, TunnelId, TunnelKey,
};
use http::{HeaderMap, Method};

/// Takes one key only.
struct OneKey(Token);

impl Authority for OneKey {
    fn look_up(&self, tunnel: TunnelId, key: KeyId) -> Option<KnownKey> {
        let known = || KnownKey {
            public_key: self.0.key.public(),
            standing: Standing::Active,
            tunnel_name: "hostile".to_owned(),
        };
        (tunnel == self.0.tunnel && key == self.0.key_id).then(known)
    }
}

/// An edge of our own making, to which a real connector connects.
pub struct HostileEdge {
    listener: Listener,
    pub token: Token,
}

impl HostileEdge {
    /// # Panics
    /// When the loopback has no free port.
    pub fn start() -> Self {
        let identity = EdgeIdentity::ephemeral();
        let (socket, _) = bind((Ipv4Addr::LOCALHOST, 0).into(), Reuse::Alone).expect("a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let listener =
            Listener::new(socket, Certificates::of(&identity), provider, Shard { index: 0, count: 1 })
                .expect("a listener on an own socket");
        let token = Token {
            tunnel: TunnelId::random(),
            key_id: KeyId::random(),
            key: TunnelKey::generate(),
            edges: vec![address.to_string()],
            pin: identity.pin(),
        };
        Self { listener, token }
    }

    /// The first session, with its announcement answered.
    ///
    /// # Panics
    /// When the connector does not keep to the protocol.
    pub async fn session(&self) -> (Session, Control, Vec<Route>) {
        let knock = self.listener.accept().await.expect("the tunnel's handshake");
        let stranger = knock.connect().await.expect("the tunnel's handshake");
        let (session, mut control) = stranger
            .handshake(&OneKey(self.token.clone()), |_| Ok(()))
            .await
            .expect("the tunnel's handshake");
        loop {
            if let Some(Message::Announce { generation, routes }) =
                control.recv().await.expect("the tunnel's handshake")
            {
                let accepted = routes.iter().map(|route| route.id).collect();
                control
                    .send(&Message::Announced { generation, accepted, refused: Vec::new() })
                    .await
                    .expect("the tunnel's handshake");
                return (session, control, routes);
            }
        }
    }
}

/// A GET without a body.
pub fn request(authority: &str, path: &str, route: u32) -> RequestHead {
    RequestHead {
        method: Method::GET,
        scheme: Scheme::Https,
        authority: authority.to_owned(),
        path: path.to_owned(),
        headers: HeaderMap::new(),
        visitor: SocketAddr::from((Ipv4Addr::LOCALHOST, 4242)),
        route,
        request_id: RequestId(rand::random()),
        upgrade: None,
        body: BodyKind::None,
        expect_continue: false,
    }
}

impl fmt::Debug for HostileEdge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostileEdge").finish_non_exhaustive()
    }
}

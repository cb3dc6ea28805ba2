//! The edge's end: takes connections, asks the handshake's logic, and hands out sessions.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, Incoming, TokioRuntime, VarInt};
use rustls::crypto::CryptoProvider;
use tokio::time::timeout;

use super::transport;
use crate::code::CloseCode;
use crate::handshake::{self, Authority, Proved, SOFTWARE};
use crate::identity::EdgeIdentity;
use crate::limits::{HANDSHAKE_TIMEOUT, MAX_HANDSHAKES, RETRY_THRESHOLD};
use crate::message::{Control, ControlError, Message, Refused, Welcome};
use crate::proof::EXPORTER_LABEL;
use crate::session::{Carrier, Closed, Session, SessionId, SessionInfo, closed};

/// Which of the edge's shards a listener belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    pub index: u32,
    pub count: u32,
}

/// Listens for connectors on one UDP socket.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    shard: Shard,
    handshakes: Arc<AtomicUsize>,
}

/// A stranger at the door: nothing was promised yet. Dropped, it is turned away.
#[derive(Debug)]
pub struct Knock {
    incoming: Incoming,
    shard: Shard,
    _half_open: HalfOpen,
}

/// A connection that did not become a session.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("no whole handshake within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
    #[error("the connection failed: {0}")]
    Connection(Closed),
    #[error("control stream")]
    Control(#[from] ControlError),
    #[error("the first message was not Hello")]
    NotHello,
    #[error("refused: {}", .0.reason)]
    Refused(Refused),
}

impl Listener {
    /// Takes over a socket from [`super::bind`]. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    pub fn new(
        socket: UdpSocket,
        identity: &EdgeIdentity,
        provider: Arc<CryptoProvider>,
        shard: Shard,
    ) -> io::Result<Self> {
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| {
                builder.with_no_client_auth().with_single_cert(vec![identity.certificate()], identity.key())
            })
            .map_err(io::Error::other)?;
        tls.alpn_protocols = vec![transport::ALPN.to_vec()];
        // Registration never happens in 0-RTT (hazard 92).
        tls.max_early_data_size = 0;
        let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(transport::edge());
        let endpoint =
            Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))?;
        Ok(Self { endpoint, shard, handshakes: Arc::default() })
    }

    /// The next stranger, or `None` once the listener was closed. Cancel safe. Under a flood, strangers are made to
    /// prove their address first, or turned away (hazard 82).
    pub async fn accept(&self) -> Option<Knock> {
        loop {
            let incoming = self.endpoint.accept().await?;
            let half_open = self.handshakes.load(Ordering::Relaxed);
            if half_open >= MAX_HANDSHAKES {
                incoming.refuse();
            } else if half_open >= RETRY_THRESHOLD && incoming.may_retry() {
                // An error only says that the address is proved already.
                let _ = incoming.retry();
            } else {
                let half_open = HalfOpen::new(&self.handshakes);
                return Some(Knock { incoming, shard: self.shard, _half_open: half_open });
            }
        }
    }

    /// # Errors
    /// When the socket is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Ends every connection and accepts no more; resolves when the last close has been sent.
    pub async fn close(&self, code: CloseCode, reason: &str) {
        self.endpoint.close(VarInt::from_u32(code.to_u32()), reason.as_bytes());
        self.endpoint.wait_idle().await;
    }
}

impl Knock {
    pub fn remote(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Turns the stranger away without a handshake.
    pub fn refuse(self) {
        self.incoming.refuse();
    }

    /// Carries out the handshake. `admit` has the last word on a connector that proved itself: it may refuse it,
    /// for instance because this edge is stopping.
    ///
    /// # Errors
    /// When the connection fails, breaks the protocol, takes too long, or is refused (the connector was told why).
    pub async fn handshake(
        self,
        authority: &dyn Authority,
        admit: impl FnOnce(&Proved) -> Result<(), Refused>,
    ) -> Result<(Session, Control), HandshakeError> {
        let Self { incoming, shard, _half_open } = self;
        timeout(HANDSHAKE_TIMEOUT, greet(incoming, shard, authority, admit))
            .await
            .unwrap_or(Err(HandshakeError::Timeout))
    }
}

async fn greet(
    incoming: Incoming,
    shard: Shard,
    authority: &dyn Authority,
    admit: impl FnOnce(&Proved) -> Result<(), Refused>,
) -> Result<(Session, Control), HandshakeError> {
    let connection = incoming.await.map_err(|e| HandshakeError::Connection(closed(&e)))?;
    let (send, recv) = connection.accept_bi().await.map_err(|e| HandshakeError::Connection(closed(&e)))?;
    let mut control = Control::new(send, recv);
    let Some(Message::Hello(hello)) = control.recv().await? else {
        connection.close(VarInt::from_u32(CloseCode::Protocol.to_u32()), b"expected hello");
        return Err(HandshakeError::NotHello);
    };
    let mut exporter = [0; 32];
    connection
        .export_keying_material(&mut exporter, EXPORTER_LABEL, hello.tunnel.0.as_bytes())
        .expect("32 bytes can be exported from a finished TLS 1.3 handshake");
    let verdict =
        handshake::examine(hello, &exporter, authority).and_then(|proved| admit(&proved).map(|()| proved));
    let proved = match verdict {
        Ok(proved) => proved,
        Err(refused) => {
            control.send(&Message::Refused(refused.clone())).await?;
            control.finish().await;
            connection.close(VarInt::from_u32(CloseCode::Refused.to_u32()), refused.reason.as_bytes());
            return Err(HandshakeError::Refused(refused));
        }
    };
    let id = SessionId(rand::random());
    control
        .send(&Message::Welcome(Welcome {
            version: proved.version,
            session: id.to_string(),
            shard: shard.index,
            shards: shard.count,
            tunnel_name: proved.tunnel_name.clone(),
            software: SOFTWARE.to_owned(),
        }))
        .await?;
    control.trust();
    let info = SessionInfo {
        id,
        tunnel: proved.hello.tunnel,
        tunnel_name: proved.tunnel_name,
        connector: proved.hello.connector,
        role: proved.hello.role,
        shard: shard.index,
        shards: shard.count,
        version: proved.version,
        peer_software: proved.hello.software,
        peer_host: proved.hello.host,
        remote: connection.remote_address(),
        since: Instant::now(),
    };
    Ok((Session::new(info, Carrier::Quic { connection, _endpoint: None }), control))
}

/// Counts a stranger until its handshake ends one way or the other.
#[derive(Debug)]
struct HalfOpen(Arc<AtomicUsize>);

impl HalfOpen {
    fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counter))
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

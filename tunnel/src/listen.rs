//! The edge's end: takes connections, asks the handshake's logic, and hands out sessions.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::crypto::CryptoProvider;
use tokio::time::{Instant, timeout_at};

use crate::carrier::memory::Network;
pub use crate::carrier::quic::{Elder, Given, Inherited, Mark};
pub use crate::carrier::tcp::Doorway;
use crate::carrier::{Attempt, Closed, Congestion, Connection, Endpoint, quic, tcp};
use crate::certificates::Certificates;
use crate::code::CloseCode;
use crate::control::{Control, ControlError};
use crate::flow::{Budget, Sizes};
use crate::granted::Granted;
use crate::guest::Guest;
use crate::handshake::{self, Authority, Proved, SOFTWARE};
use crate::limits::{HANDSHAKE_TIMEOUT, MAX_HANDSHAKES, RETRY_THRESHOLD, Terms};
use crate::message::{Message, Refused, Welcome};
use crate::proof::EXPORTER_LABEL;
use crate::session::{Session, SessionId, SessionInfo};

/// Which of the edge's shards a listener belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    pub index: u32,
    pub count: u32,
}

/// Listens for connectors.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    shard: Shard,
    budget: Budget,
    handshakes: Arc<AtomicUsize>,
    guests: Option<Terms>,
}

/// A stranger at the door: nothing was promised yet. Dropped, it is turned away.
#[derive(Debug)]
pub struct Knock {
    attempt: Attempt,
    shard: Shard,
    budget: Budget,
    guests: Option<Terms>,
    half_open: HalfOpen,
}

/// A connection that speaks some protocol of ours, and has proved nothing yet. Dropped, it ends.
#[derive(Debug)]
pub struct Stranger {
    connection: Connection,
    early: Option<quic::Early>,
    protocol: Vec<u8>,
    shard: Shard,
    budget: Budget,
    /// When its time is over.
    until: Instant,
    half_open: HalfOpen,
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
    /// Listens for QUIC on a socket from [`crate::carrier::bind`], or one that another process gave up. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    pub fn new(
        socket: impl Into<Inherited>,
        certificates: Certificates,
        provider: Arc<CryptoProvider>,
        shard: Shard,
    ) -> io::Result<Self> {
        let reset = certificates.derive(&format!("stateless reset, shard {}", shard.index));
        let keys = quic::Keys { reset, token: certificates.derive("address tokens") };
        let tls = certificates.into_config(provider).map_err(io::Error::other)?;
        let endpoint = Endpoint::Quic(quic::Endpoint::new(socket.into(), tls, &keys)?);
        Ok(Self { endpoint, shard, budget: Budget::default(), handshakes: Arc::default(), guests: None })
    }

    /// Listens for what is brought through the doorway: connections over TCP whose ClientHello was read already.
    ///
    /// # Errors
    /// When the identity's key cannot be used.
    pub fn over_tcp(
        certificates: Certificates,
        provider: Arc<CryptoProvider>,
        shard: Shard,
    ) -> Result<(Self, Doorway), rustls::Error> {
        let (endpoint, doorway) = tcp::Endpoint::new(certificates.into_config(provider)?);
        let (endpoint, budget) = (Endpoint::Tcp(endpoint), Budget::default());
        Ok((Self { endpoint, shard, budget, handshakes: Arc::default(), guests: None }, doorway))
    }

    /// Listens inside this process.
    pub fn within(network: &Network, shard: Shard) -> Self {
        let endpoint = Endpoint::Memory(network.listen());
        Self { endpoint, shard, budget: Budget::default(), handshakes: Arc::default(), guests: None }
    }

    /// What one is granted who speaks another protocol than the tunnel's.
    #[must_use]
    pub fn with_guests(self, terms: Terms) -> Self {
        Self { guests: Some(terms), ..self }
    }

    /// What its sessions' streams take their windows from, instead of a part of the machine's memory for this listener alone.
    #[must_use]
    pub fn with_budget(self, budget: Budget) -> Self {
        self.endpoint.set_budget(budget.clone());
        Self { budget, ..self }
    }

    /// How its connections find out what the line takes.
    #[must_use]
    pub fn with_congestion(self, congestion: Congestion) -> Self {
        match &self.endpoint {
            Endpoint::Quic(endpoint) => endpoint.set_congestion(congestion),
            Endpoint::Tcp(endpoint) => endpoint.set_congestion(congestion),
            Endpoint::Memory(_) => {}
        }
        self
    }

    /// Whether it listens on a socket of its own.
    pub fn has_socket(&self) -> bool {
        matches!(self.endpoint, Endpoint::Quic(_))
    }

    /// What another process needs to take the socket over, which it must not read before [`Listener::give`]. None: there is no socket.
    ///
    /// # Errors
    /// When descriptors ran out.
    pub fn to_hand_over(&self) -> io::Result<Option<(Inherited, Given)>> {
        match &self.endpoint {
            Endpoint::Quic(endpoint) => endpoint.to_hand_over().map(Some),
            Endpoint::Tcp(_) | Endpoint::Memory(_) => Ok(None),
        }
    }

    /// Another process has the socket from now on. No stranger comes any more; connections go on, with what that process passes on.
    pub fn give(&self, given: Given) {
        if let Endpoint::Quic(endpoint) = &self.endpoint {
            endpoint.give(given);
        }
    }

    /// The other process is gone: the socket is ours again.
    pub fn take_back(&self) {
        if let Endpoint::Quic(endpoint) = &self.endpoint {
            endpoint.take_back();
        }
    }

    /// The next stranger, or `None` once the listener was closed. Cancel safe. Under a flood, strangers are made to
    /// prove their address first, or turned away (hazard 82).
    pub async fn accept(&self) -> Option<Knock> {
        loop {
            let attempt = self.endpoint.accept().await?;
            let half_open = self.handshakes.load(Ordering::Relaxed);
            if half_open >= MAX_HANDSHAKES {
                attempt.refuse();
                continue;
            }
            let proved = if half_open >= RETRY_THRESHOLD { attempt.prove_address() } else { Some(attempt) };
            if let Some(attempt) = proved {
                let half_open = HalfOpen::new(&self.handshakes);
                let budget = self.budget.clone();
                let (shard, guests) = (self.shard, self.guests);
                return Some(Knock { attempt, shard, budget, guests, half_open });
            }
        }
    }

    /// # Errors
    /// When the socket is gone, or never was: over TCP it is others that listen.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Ends every connection and accepts no more; resolves when the last close has been sent.
    pub async fn close(&self, code: CloseCode, reason: &str) {
        self.endpoint.close(code, reason).await;
    }
}

impl Knock {
    pub fn remote(&self) -> SocketAddr {
        self.attempt.remote()
    }

    /// Turns the stranger away without a handshake.
    pub fn refuse(self) {
        self.attempt.refuse();
    }

    /// The carrier's own handshake.
    ///
    /// # Errors
    /// When the connection fails or takes too long.
    pub async fn connect(self) -> Result<Stranger, HandshakeError> {
        let Self { attempt, shard, budget, guests, half_open } = self;
        let until = Instant::now() + HANDSHAKE_TIMEOUT;
        let connected =
            timeout_at(until, attempt.connect(guests)).await.map_err(|_| HandshakeError::Timeout)?;
        let (connection, early) = connected.map_err(HandshakeError::Connection)?;
        let protocol = connection.protocol();
        Ok(Stranger { connection, early, protocol, shard, budget, until, half_open })
    }
}

impl Stranger {
    pub fn remote(&self) -> SocketAddr {
        self.connection.remote()
    }

    /// What it speaks (ALPN): the tunnel's protocol ([`crate::carrier::ALPN`]), or another that the port's [`Certificates`] have.
    pub fn protocol(&self) -> &[u8] {
        &self.protocol
    }

    /// Gives out the connection, for another protocol than the tunnel's. None: its carrier has no other.
    pub fn into_guest(self) -> Option<Guest> {
        let Connection::Quic(connection) = self.connection else { return None };
        let server_name = connection.server_name();
        Some(Guest::new(connection, self.early, server_name, &self.budget))
    }

    /// Turns it away without a word.
    pub fn refuse(self) {
        self.connection.close(CloseCode::Refused, "");
    }

    /// Carries out the tunnel's handshake. `admit` has the last word on a connector that proved itself: it may refuse it,
    /// for instance because this edge is stopping.
    ///
    /// # Errors
    /// When the connection fails, breaks the protocol, takes too long, or is refused (the connector was told why).
    pub async fn handshake(
        self,
        authority: &dyn Authority,
        admit: impl FnOnce(&Proved) -> Result<(), Refused>,
    ) -> Result<(Session, Control), HandshakeError> {
        let Self { connection, shard, budget, until, half_open: _half_open, .. } = self;
        timeout_at(until, greet(connection, shard, budget, authority, admit))
            .await
            .unwrap_or(Err(HandshakeError::Timeout))
    }
}

async fn greet(
    connection: Connection,
    shard: Shard,
    budget: Budget,
    authority: &dyn Authority,
    admit: impl FnOnce(&Proved) -> Result<(), Refused>,
) -> Result<(Session, Control), HandshakeError> {
    let (send, recv) = connection.accept().await.map_err(HandshakeError::Connection)?;
    let mut control = Control::new(send, recv);
    let Some(Message::Hello(hello)) = control.recv().await? else {
        connection.close(CloseCode::Protocol, "expected hello");
        return Err(HandshakeError::NotHello);
    };
    let exporter = connection.exporter(EXPORTER_LABEL, hello.tunnel.0.as_bytes());
    let verdict =
        handshake::examine(hello, &exporter, authority).and_then(|proved| admit(&proved).map(|()| proved));
    let proved = match verdict {
        Ok(proved) => proved,
        Err(refused) => {
            control.send(&Message::Refused(refused.clone())).await?;
            control.finish().await;
            connection.close(CloseCode::Refused, &refused.reason);
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
            granted: authority.granted(proved.hello.tunnel),
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
        remote: connection.remote(),
        granted: Granted::default(),
        since: std::time::Instant::now(),
    };
    let opened = Session::listened(info, connection, budget, Sizes::default()).await;
    let (session, courier) = opened.map_err(HandshakeError::Connection)?;
    courier.spawn();
    Ok((session, control))
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

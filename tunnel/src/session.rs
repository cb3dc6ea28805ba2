//! One live connection between a connector and an edge, whatever carries it.

mod silence;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::carrier::local;
use crate::carrier::{Closed, Connection, DatagramError, RecvHalf, SendHalf, Traffic, Transport};
use crate::code::CloseCode;
use crate::flow::{Budget, Courier, Flow, Inlet, NoCredit, Outlet, Sizes};
use crate::granted::Granted;
use crate::limits::{FIRST_STREAMS, KEEP_ALIVE, MAX_STREAMS, STANDBY_KEEP_ALIVE};
use crate::stream::{RecvStream, SendStream};
use crate::token::{ConnectorId, TunnelId};
use silence::Silence;
pub use silence::{Sign, Watch};

/// Names one session in logs, metrics and `status`: sixteen hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Carries requests.
    Primary,
    /// Warm, so that a lost primary costs no reconnect; carries requests only when there is no primary.
    Standby,
}

impl Role {
    /// How often the connector has the edge answer when nothing else is to be said.
    pub(crate) fn keep_alive(self) -> Duration {
        match self {
            Self::Primary => KEEP_ALIVE,
            Self::Standby => STANDBY_KEEP_ALIVE,
        }
    }
}

/// What is fixed about a session from its Welcome on.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    pub id: SessionId,
    pub tunnel: TunnelId,
    pub tunnel_name: String,
    pub connector: ConnectorId,
    pub role: Role,
    /// The edge's shard that has it, and how many there are.
    pub shard: u32,
    pub shards: u32,
    /// Negotiated protocol version.
    pub version: u32,
    /// The peer's program and version, and its machine's name where it told one.
    pub peer_software: String,
    pub peer_host: String,
    pub remote: SocketAddr,
    /// What the edge told of the tunnel; nothing at the edge itself.
    pub granted: Granted,
    pub since: Instant,
}

/// A handle on a live session; clones share it.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    info: SessionInfo,
    connection: Connection,
    flow: Arc<Flow>,
    /// Streams that the peer may have open at once; grows when they are used.
    allowed: AtomicU32,
    draining: AtomicBool,
    silence: Silence,
}

/// A stream could not be opened: the session is gone. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("the session has ended: {0}")]
pub struct OpenError(pub Closed);

impl Session {
    /// At the edge. Its courier is to run for as long as it wants to.
    pub(crate) async fn listened(
        info: SessionInfo,
        connection: Connection,
        budget: Budget,
        sizes: Sizes,
    ) -> Result<(Self, Courier), Closed> {
        let flow = Flow::new(connection.clone(), budget, sizes);
        let courier = Courier::open(&connection, &flow).await?;
        Ok((Self::new(info, connection, flow), courier))
    }

    /// At the connector.
    pub(crate) async fn dialled(
        info: SessionInfo,
        connection: Connection,
        budget: Budget,
        sizes: Sizes,
    ) -> Result<(Self, Courier), NoCredit> {
        let flow = Flow::new(connection.clone(), budget, sizes);
        let courier = Courier::accept(&connection, &flow).await?;
        Ok((Self::new(info, connection, flow), courier))
    }

    /// Two ends of one within this process: what the first opens, the second accepts. Must be called within the runtime that is
    /// to carry it.
    pub fn within(tunnel: TunnelId, connector: ConnectorId, budget: &Budget) -> (Self, Self) {
        let (one, other) = local::pair();
        let (credit, answer) = one.open().ok().zip(other.take()).expect("nobody has closed it");
        let credit = (SendHalf::Local(credit.0), RecvHalf::Local(credit.1));
        let answer = (SendHalf::Local(answer.0), RecvHalf::Local(answer.1));
        let end = |connection: local::Connection, credit| {
            let info = SessionInfo {
                id: SessionId(0),
                tunnel,
                tunnel_name: String::new(),
                connector,
                role: Role::Primary,
                shard: 0,
                shards: 1,
                // Nobody negotiates.
                version: 0,
                peer_software: String::new(),
                peer_host: String::new(),
                remote: connection.remote(),
                granted: Granted::default(),
                since: Instant::now(),
            };
            let connection = Connection::Local(connection);
            let flow = Flow::new(connection.clone(), budget.clone(), Sizes::default());
            Courier::over(credit, &flow).spawn();
            Self::new(info, connection, flow)
        };
        (end(one, credit), end(other, answer))
    }

    pub(crate) fn new(info: SessionInfo, connection: Connection, flow: Arc<Flow>) -> Self {
        Self(Arc::new(Inner {
            info,
            connection,
            flow,
            allowed: AtomicU32::new(FIRST_STREAMS),
            draining: AtomicBool::new(false),
            silence: Silence::default(),
        }))
    }

    pub fn info(&self) -> &SessionInfo {
        &self.0.info
    }

    /// Opens a stream. Waits while the peer allows no more; cancel safe.
    ///
    /// # Errors
    /// When the session has ended.
    pub async fn open(&self) -> Result<(SendStream, RecvStream), OpenError> {
        self.open_for(u64::MAX).await
    }

    /// [`Session::open`] for what will have little to answer at a time, for long: what this session's bulk reached is not
    /// kept ready for it.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub async fn open_narrow(&self) -> Result<(SendStream, RecvStream), OpenError> {
        self.open_for(0).await
    }

    async fn open_for(&self, most: u64) -> Result<(SendStream, RecvStream), OpenError> {
        let (send, recv) = self.0.connection.open().await.map_err(OpenError)?;
        let flow = &self.0.flow;
        let strand = flow.strand(send.number(), flow.sizes().first);
        let first = flow.first_window(most);
        let window = first.0;
        let outlet = Outlet::new(send, Arc::clone(&strand), Arc::clone(flow));
        let inlet = Inlet::new(recv, strand, Arc::clone(flow), first);
        Ok((SendStream::opening(outlet, window), RecvStream::new(inlet)))
    }

    /// The next stream that the peer opened, or `None` when the session has ended. Cancel safe.
    pub async fn accept(&self) -> Option<(SendStream, RecvStream)> {
        let (send, recv) = self.0.connection.accept().await.ok()?;
        let flow = &self.0.flow;
        // What may be answered is said in the opening.
        let strand = flow.strand(send.number(), 0);
        let outlet = Outlet::new(send, Arc::clone(&strand), Arc::clone(flow));
        let inlet = Inlet::new(recv, strand, Arc::clone(flow), (flow.sizes().first, None));
        self.allow_more();
        Some((SendStream::answering(outlet), RecvStream::new(inlet)))
    }

    /// Sends what may be lost or overtaken.
    ///
    /// # Errors
    /// See [`DatagramError`]; [`Session::max_datagram_bytes`] says beforehand.
    pub fn send_datagram(&self, bytes: Bytes) -> Result<(), DatagramError> {
        self.0.connection.send_datagram(bytes)
    }

    /// The next datagram that came through, or `None` when the session has ended. Cancel safe.
    pub async fn recv_datagram(&self) -> Option<Bytes> {
        self.0.connection.recv_datagram().await.ok()
    }

    /// The largest datagram that the path takes now; `None` when the carrier or the peer has none.
    pub fn max_datagram_bytes(&self) -> Option<usize> {
        self.0.connection.max_datagram_bytes()
    }

    /// What its streams take their windows from.
    pub fn budget(&self) -> &Budget {
        self.0.flow.budget()
    }

    /// Streams whose two halves have not both been dropped.
    pub fn in_flight(&self) -> usize {
        self.0.flow.in_flight()
    }

    /// Whoever keeps the session has to go through this for as long as it lives: nobody else looks whether it is silent.
    pub fn watch(&self) -> Watch {
        Watch::new(self.clone())
    }

    /// Another session on the same way is silent: this one is asked at once, however rarely it speaks, and suspected soon if it
    /// does not answer.
    pub fn doubt(&self) {
        self.0.silence.doubt();
    }

    /// What the peer says with its probes: whether it hears nothing of us. Then the session is suspected, though we hear it.
    pub fn set_unheard(&self, is_unheard: bool) {
        self.0.silence.set_unheard(is_unheard);
    }

    /// What the peer is to be told with a probe: that nothing of it arrives. Not what it said itself, or two ends would believe each
    /// other for ever.
    pub fn hears_nothing(&self) -> bool {
        self.0.silence.hears_nothing()
    }

    /// Whether nothing was heard for longer than a living peer is silent. It may yet be heard again.
    pub fn is_suspected(&self) -> bool {
        self.0.silence.is_suspected()
    }

    /// Waits until the session is suspected. Cancel safe.
    pub async fn suspected(&self) {
        self.0.silence.until(true).await;
    }

    /// Waits until the session is not suspected any more. Cancel safe.
    pub async fn heard(&self) {
        self.0.silence.until(false).await;
    }

    /// When something was last known to have come.
    pub fn last_heard(&self) -> Instant {
        self.0.info.since + self.0.silence.heard()
    }

    /// Whether the transport still stands. A peer that just died is alive until its silence was too long.
    pub fn is_alive(&self) -> bool {
        self.0.connection.is_open()
    }

    /// Marks the session as one that gets no new streams; [`Session::is_draining`] is for those who choose.
    pub fn set_draining(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Waits until the session has ended. Cancel safe.
    pub async fn closed(&self) -> Closed {
        self.0.connection.closed().await
    }

    /// Ends the session at once; streams in flight are lost.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.0.connection.close(code, reason);
    }

    /// What it goes over; `None` when it does not leave the process.
    pub fn transport(&self) -> Option<Transport> {
        self.0.connection.transport()
    }

    /// The smoothed round trip.
    pub fn rtt(&self) -> Duration {
        self.0.connection.rtt()
    }

    /// The largest packet that the way is known to take, in bytes; grows within a few round trips of the beginning. None: it
    /// has no packets.
    pub fn path_mtu(&self) -> Option<u16> {
        self.0.connection.path_mtu()
    }

    /// Datagrams of the carrier sent and received, and packets lost, since the session began.
    pub fn traffic(&self) -> Traffic {
        self.0.connection.traffic()
    }

    /// Doubles what the peer may open when three quarters of it are in use.
    fn allow_more(&self) {
        let allowed = self.0.allowed.load(Ordering::Relaxed);
        if allowed < MAX_STREAMS && self.in_flight() > allowed as usize / 4 * 3 {
            let more = (allowed * 2).min(MAX_STREAMS);
            self.0.allowed.store(more, Ordering::Relaxed);
            self.0.connection.allow_streams(more);
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({} {} {})", self.0.info.id, self.0.info.tunnel_name, self.0.info.remote)
    }
}

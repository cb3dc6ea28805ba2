//! One live connection between a connector and an edge, whatever carries it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use quinn::{ConnectionError, VarInt};
use serde::{Deserialize, Serialize};

use crate::code::{AbortCode, CloseCode};
use crate::limits::{FIRST_STREAMS, MAX_STREAMS, STREAM_WINDOW_BYTES};
use crate::recv::RecvStream;
use crate::send::SendStream;
use crate::token::{ConnectorId, TunnelId};
use crate::wire::Malformed;

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
    pub since: Instant,
}

/// What moves the bytes. A second carrier (TLS over TCP) becomes a second variant; nothing outside this crate sees it.
#[derive(Debug)]
pub(crate) enum Carrier {
    /// The endpoint is kept beside its connection when it serves this one alone.
    Quic { connection: quinn::Connection, _endpoint: Option<quinn::Endpoint> },
}

/// A handle on a live session; clones share it.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    info: SessionInfo,
    carrier: Carrier,
    in_flight: Arc<AtomicUsize>,
    /// Streams that the peer may have open at once; grows when they are used.
    allowed: AtomicU32,
    draining: AtomicBool,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// One of the two programs closed it.
    ByPeer(CloseCode, String),
    ByUs,
    /// Nothing was heard for [`crate::limits::IDLE_TIMEOUT`].
    Silent,
    /// The transport broke.
    Broken(String),
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByPeer(code, reason) => write!(f, "closed by the peer ({code:?}): {reason}"),
            Self::ByUs => f.write_str("closed by this side"),
            Self::Silent => f.write_str("the peer fell silent"),
            Self::Broken(reason) => write!(f, "transport error: {reason}"),
        }
    }
}

/// A stream could not be opened: the session is gone. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("the session has ended: {0}")]
pub struct OpenError(pub Closed);

/// One direction of a stream ended before its END.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The peer gave up.
    #[error("aborted by the peer: {0}")]
    Aborted(AbortCode),
    #[error("the session was lost: {0}")]
    Lost(Closed),
    #[error("the peer broke the protocol: {}", .0.0)]
    Malformed(Malformed),
}

impl StreamError {
    /// The code for the other leg of this request.
    pub fn code(&self) -> AbortCode {
        match self {
            Self::Aborted(code) => *code,
            Self::Lost(_) => AbortCode::Cancelled,
            Self::Malformed(_) => AbortCode::Protocol,
        }
    }
}

impl From<Malformed> for StreamError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Session {
    pub(crate) fn new(info: SessionInfo, carrier: Carrier) -> Self {
        Self(Arc::new(Inner {
            info,
            carrier,
            in_flight: Arc::default(),
            allowed: AtomicU32::new(FIRST_STREAMS),
            draining: AtomicBool::new(false),
        }))
    }

    pub fn info(&self) -> &SessionInfo {
        &self.0.info
    }

    /// Opens a stream for one request. Waits while the connector allows no more streams; cancel safe.
    ///
    /// # Errors
    /// When the session has ended.
    pub async fn open(&self) -> Result<(SendStream, RecvStream), OpenError> {
        let Carrier::Quic { connection, .. } = &self.0.carrier;
        let (send, recv) = connection.open_bi().await.map_err(|e| OpenError(closed(&e)))?;
        Ok(self.halves(send, recv))
    }

    /// The next stream that the peer opened, or `None` when the session has ended. Cancel safe.
    pub async fn accept(&self) -> Option<(SendStream, RecvStream)> {
        let Carrier::Quic { connection, .. } = &self.0.carrier;
        let (send, recv) = connection.accept_bi().await.ok()?;
        let halves = self.halves(send, recv);
        self.allow_more(connection);
        Some(halves)
    }

    /// Streams whose two halves have not both been dropped.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// Whether the transport still stands. A peer that just died is alive until its silence is noticed.
    pub fn is_alive(&self) -> bool {
        let Carrier::Quic { connection, .. } = &self.0.carrier;
        connection.close_reason().is_none()
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
        let Carrier::Quic { connection, .. } = &self.0.carrier;
        closed(&connection.closed().await)
    }

    /// Ends the session at once; streams in flight are lost.
    pub fn close(&self, code: CloseCode, reason: &str) {
        let Carrier::Quic { connection, .. } = &self.0.carrier;
        connection.close(VarInt::from_u32(code.to_u32()), reason.as_bytes());
    }

    /// The smoothed round trip.
    pub fn rtt(&self) -> Duration {
        let Carrier::Quic { connection, .. } = &self.0.carrier;
        connection.rtt()
    }

    /// UDP datagrams sent and received, and packets lost, since the session began.
    pub fn traffic(&self) -> Traffic {
        let Carrier::Quic { connection, .. } = &self.0.carrier;
        let stats = connection.stats();
        Traffic {
            datagrams_sent: stats.udp_tx.datagrams,
            sends: stats.udp_tx.ios,
            datagrams_received: stats.udp_rx.datagrams,
            packets_lost: stats.path.lost_packets,
        }
    }

    fn halves(&self, send: quinn::SendStream, recv: quinn::RecvStream) -> (SendStream, RecvStream) {
        let guard = Arc::new(InFlight::new(&self.0.in_flight));
        (SendStream::new(send, Arc::clone(&guard)), RecvStream::new(recv, guard))
    }

    /// Doubles what the peer may open when three quarters of it are in use.
    fn allow_more(&self, connection: &quinn::Connection) {
        let allowed = self.0.allowed.load(Ordering::Relaxed);
        if allowed < MAX_STREAMS && self.in_flight() > allowed as usize / 4 * 3 {
            let more = (allowed * 2).min(MAX_STREAMS);
            self.0.allowed.store(more, Ordering::Relaxed);
            connection.set_receive_window(session_window(more));
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(more));
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({} {} {})", self.0.info.id, self.0.info.tunnel_name, self.0.info.remote)
    }
}

/// Counters of a session's transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub datagrams_sent: u64,
    /// System calls that sent them: with segmentation offload far fewer than datagrams.
    pub sends: u64,
    pub datagrams_received: u64,
    pub packets_lost: u64,
}

/// Counts a stream as in flight for as long as either half lives.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counter))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A window for every stream, so that no stream can be starved by stalled neighbours.
pub(crate) fn session_window(streams: u32) -> VarInt {
    VarInt::from_u64(u64::from(streams) * u64::from(STREAM_WINDOW_BYTES)).expect("below 2^62")
}

pub(crate) fn closed(error: &ConnectionError) -> Closed {
    match error {
        ConnectionError::ApplicationClosed(close) => Closed::ByPeer(
            CloseCode::from_u64(close.error_code.into_inner()),
            String::from_utf8_lossy(&close.reason).into_owned(),
        ),
        ConnectionError::LocallyClosed => Closed::ByUs,
        ConnectionError::TimedOut | ConnectionError::Reset => Closed::Silent,
        other => Closed::Broken(other.to_string()),
    }
}

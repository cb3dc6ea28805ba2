//! What moves a session's bytes: streams that either end opens, datagrams, and one end for all. Nothing of HTTP, nothing of
//! frames. Everything above asks this enum; only the carriers below it know their libraries.
//!
//! | carrier | between | a stream's reader says stop | datagrams | dialled and listened for by |
//! |---|---|---|---|---|
//! | [`quic`] | machines | STOP_SENDING (RFC 9000 §3.5) | DATAGRAM (RFC 9221), off until a kind uses it | UDP |
//! | [`tcp`] | machines, where UDP does not pass or is slow | a record on the stream's other direction | none | TCP |
//! | [`memory`] | two ends in one process, over a line with delay and loss | as QUIC | as QUIC | a [`memory::Network`] |
//! | [`local`] | two ends in one process, without a line | at once | none | [`crate::Session::within`] |
//!
//! What a carrier lacks, and what it makes of it: HTTP/2 over TLS and TCP has no STOP_SENDING (its RST_STREAM ends
//! both directions), so its `stop` is a message on the stream's other direction; it has no datagrams, so
//! [`Connection::max_datagram_bytes`] is `None`; and what it lost holds up every stream. None may lack an end that is told
//! apart from a reset: a [`SendHalf`] that is dropped may finish, so its owner resets it first where that would be a lie.

pub(crate) mod local;
pub mod memory;
pub(crate) mod quic;
pub mod tcp;

mod ended;

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::code::{AbortCode, CloseCode};
use crate::flow::Budget;
use crate::limits::Terms;
pub use ended::{Closed, DatagramError, Ended};
pub use quic::{Reuse, UdpReport, bind};

/// What the TLS of a carrier says that it carries. The protocol's own versions are negotiated by Hello and Welcome.
pub const ALPN: &[u8] = b"causeway/1";

/// How a connection finds out how much its line takes; over TCP as far as the kernel has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Congestion {
    /// By the rate that the path delivers, with a short queue; beside neighbours that fill it, as they do.
    #[default]
    Auto,
    /// By loss alone (RFC 9438): what TCP does nearly everywhere.
    Cubic,
    /// The first version of BBR: leaves little to its neighbours.
    Bbr,
}

/// What a session goes over between machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Quic,
    Tcp,
}

impl Transport {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

/// How far behind others the carrier sends a stream's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    #[default]
    Small,
    Bulk,
    /// So much that even a picture goes before it.
    Huge,
}

/// One live connection; clones share it.
#[derive(Clone, Debug)]
pub(crate) enum Connection {
    Quic(quic::Connection),
    Tcp(tcp::Connection),
    Memory(memory::Connection),
    Local(local::Connection),
}

/// The sending direction of a stream.
#[derive(Debug)]
pub(crate) enum SendHalf {
    Quic(quic::SendHalf),
    Tcp(tcp::SendHalf),
    Memory(memory::SendHalf),
    Local(local::SendHalf),
}

/// The receiving direction of a stream. Dropped before its end it tells the peer to stop.
#[derive(Debug)]
pub(crate) enum RecvHalf {
    Quic(quic::RecvHalf),
    Tcp(tcp::RecvHalf),
    Memory(memory::RecvHalf),
    Local(local::RecvHalf),
}

/// Takes connections.
#[derive(Debug)]
pub(crate) enum Endpoint {
    Quic(quic::Endpoint),
    Tcp(tcp::Endpoint),
    Memory(memory::Endpoint),
}

/// A connection that was asked for and not granted yet. Dropped, it is refused.
#[derive(Debug)]
pub(crate) enum Attempt {
    Quic(Box<quic::Attempt>),
    Tcp(Box<tcp::Attempt>),
    Memory(memory::Attempt),
}

/// Makes connections.
#[derive(Debug)]
pub(crate) enum Dial {
    Quic(quic::Dial),
    Tcp(tcp::Dial),
    Memory(memory::Network),
}

/// Why no connection came of a dial.
#[derive(Debug)]
pub(crate) enum DialFailure {
    Socket(io::Error),
    /// The peer is not the one whose key is known.
    WrongPeer,
    Closed(Closed),
    Other(String),
}

/// Counters of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub datagrams_sent: u64,
    /// System calls that sent them: with segmentation offload far fewer than datagrams.
    pub sends: u64,
    pub datagrams_received: u64,
    pub packets_lost: u64,
}

/// 32 bytes that only the two ends of one connection know.
pub type Exporter = [u8; 32];

impl Connection {
    /// Opens a stream. Waits while the peer allows no more; cancel safe.
    pub(crate) async fn open(&self) -> Result<(SendHalf, RecvHalf), Closed> {
        match self {
            Self::Quic(connection) => {
                connection.open().await.map(|(send, recv)| (SendHalf::Quic(send), RecvHalf::Quic(recv)))
            }
            Self::Tcp(connection) => {
                connection.open().await.map(|(send, recv)| (SendHalf::Tcp(send), RecvHalf::Tcp(recv)))
            }
            Self::Memory(connection) => {
                connection.open().await.map(|(send, recv)| (SendHalf::Memory(send), RecvHalf::Memory(recv)))
            }
            Self::Local(connection) => {
                connection.open().map(|(send, recv)| (SendHalf::Local(send), RecvHalf::Local(recv)))
            }
        }
    }

    /// The next stream that the peer opened. Cancel safe.
    pub(crate) async fn accept(&self) -> Result<(SendHalf, RecvHalf), Closed> {
        match self {
            Self::Quic(connection) => {
                connection.accept().await.map(|(send, recv)| (SendHalf::Quic(send), RecvHalf::Quic(recv)))
            }
            Self::Tcp(connection) => {
                connection.accept().await.map(|(send, recv)| (SendHalf::Tcp(send), RecvHalf::Tcp(recv)))
            }
            Self::Memory(connection) => {
                connection.accept().await.map(|(send, recv)| (SendHalf::Memory(send), RecvHalf::Memory(recv)))
            }
            Self::Local(connection) => {
                connection.accept().await.map(|(send, recv)| (SendHalf::Local(send), RecvHalf::Local(recv)))
            }
        }
    }

    /// How many streams the peer may have open at once from now on. It never shrinks.
    pub(crate) fn allow_streams(&self, count: u32) {
        match self {
            Self::Quic(connection) => connection.allow_streams(count),
            Self::Tcp(connection) => connection.allow_streams(count),
            Self::Memory(connection) => connection.allow_streams(count),
            Self::Local(_) => {}
        }
    }

    /// What all its streams together may hold unsent and unacknowledged from now on.
    pub(crate) fn set_send_window(&self, bytes: u64) {
        match self {
            Self::Quic(connection) => connection.set_send_window(bytes),
            Self::Tcp(connection) => connection.set_send_window(bytes),
            Self::Memory(_) | Self::Local(_) => {}
        }
    }

    /// What all its streams together may hold unread from now on, if the peer keeps to no limit of ours.
    pub(crate) fn set_receive_window(&self, bytes: u64) {
        match self {
            Self::Quic(connection) => connection.set_receive_window(bytes),
            Self::Tcp(connection) => connection.set_receive_window(bytes),
            Self::Memory(_) | Self::Local(_) => {}
        }
    }

    /// Whether all its streams wait for the same room when it is full. Else each waits for its own.
    pub(crate) fn shares_room(&self) -> bool {
        match self {
            Self::Quic(_) | Self::Tcp(_) => true,
            Self::Memory(_) | Self::Local(_) => false,
        }
    }

    /// What the path may have under way, as far as its carrier knows.
    pub(crate) fn congestion_window(&self) -> u64 {
        match self {
            Self::Quic(connection) => connection.congestion_window(),
            // The kernel's buffers follow the path; what waits before them need not.
            Self::Tcp(_) | Self::Memory(_) | Self::Local(_) => 0,
        }
    }

    /// None: it does not leave the process.
    pub(crate) fn transport(&self) -> Option<Transport> {
        match self {
            Self::Quic(_) => Some(Transport::Quic),
            Self::Tcp(_) => Some(Transport::Tcp),
            Self::Memory(_) | Self::Local(_) => None,
        }
    }

    /// The time on its line: tokio's, but in a simulation.
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Quic(_) | Self::Tcp(_) | Self::Local(_) => Instant::now(),
            Self::Memory(connection) => connection.now(),
        }
    }

    /// Sends what may be lost or overtaken. Older ones that wait are dropped for it.
    pub(crate) fn send_datagram(&self, bytes: Bytes) -> Result<(), DatagramError> {
        match self {
            Self::Quic(connection) => connection.send_datagram(bytes),
            Self::Memory(connection) => connection.send_datagram(bytes),
            Self::Tcp(_) | Self::Local(_) => Err(DatagramError::None),
        }
    }

    /// The next datagram that came through. Cancel safe.
    pub(crate) async fn recv_datagram(&self) -> Result<Bytes, Closed> {
        match self {
            Self::Quic(connection) => connection.recv_datagram().await,
            Self::Memory(connection) => connection.recv_datagram().await,
            // None ever comes.
            Self::Tcp(connection) => Err(connection.closed().await),
            Self::Local(connection) => Err(connection.closed().await),
        }
    }

    /// The largest datagram that the path takes now; `None` when there are none.
    pub(crate) fn max_datagram_bytes(&self) -> Option<usize> {
        match self {
            Self::Quic(connection) => connection.max_datagram_bytes(),
            Self::Memory(connection) => Some(connection.max_datagram_bytes()),
            Self::Tcp(_) | Self::Local(_) => None,
        }
    }

    /// Ends the connection at once; what is in flight is lost.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        match self {
            Self::Quic(connection) => connection.close(code, reason),
            Self::Tcp(connection) => connection.close(code, reason),
            Self::Memory(connection) => connection.close(code, reason),
            Self::Local(connection) => connection.close(code, reason),
        }
    }

    /// Behind [`Connection::close`]: waits until the peer was told.
    pub(crate) async fn settled(&self) {
        match self {
            Self::Quic(connection) => connection.settled().await,
            Self::Tcp(connection) => connection.settled().await,
            Self::Memory(_) | Self::Local(_) => {}
        }
    }

    /// Waits until the connection has ended. Cancel safe.
    pub(crate) async fn closed(&self) -> Closed {
        match self {
            Self::Quic(connection) => connection.closed().await,
            Self::Tcp(connection) => connection.closed().await,
            Self::Memory(connection) => connection.closed().await,
            Self::Local(connection) => connection.closed().await,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Quic(connection) => connection.is_open(),
            Self::Tcp(connection) => connection.is_open(),
            Self::Memory(connection) => connection.is_open(),
            Self::Local(connection) => connection.is_open(),
        }
    }

    pub(crate) fn exporter(&self, label: &[u8], context: &[u8]) -> Exporter {
        match self {
            Self::Quic(connection) => connection.exporter(label, context),
            Self::Tcp(connection) => connection.exporter(label, context),
            Self::Memory(connection) => connection.exporter(),
            Self::Local(connection) => connection.exporter(),
        }
    }

    /// What its two ends agreed to speak (ALPN).
    pub(crate) fn protocol(&self) -> Vec<u8> {
        match self {
            Self::Quic(connection) => connection.protocol(),
            Self::Tcp(connection) => connection.protocol(),
            Self::Memory(_) | Self::Local(_) => ALPN.to_vec(),
        }
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        match self {
            Self::Quic(connection) => connection.remote(),
            Self::Tcp(connection) => connection.remote(),
            Self::Memory(connection) => connection.remote(),
            Self::Local(connection) => connection.remote(),
        }
    }

    /// The smoothed round trip.
    pub(crate) fn rtt(&self) -> Duration {
        match self {
            Self::Quic(connection) => connection.rtt(),
            Self::Tcp(connection) => connection.rtt(),
            Self::Memory(connection) => connection.rtt(),
            Self::Local(connection) => connection.rtt(),
        }
    }

    /// The largest packet that the way is known to take.
    pub(crate) fn path_mtu(&self) -> Option<u16> {
        match self {
            Self::Quic(connection) => Some(connection.path_mtu()),
            Self::Tcp(_) | Self::Memory(_) | Self::Local(_) => None,
        }
    }

    pub(crate) fn traffic(&self) -> Traffic {
        match self {
            Self::Quic(connection) => connection.traffic(),
            Self::Tcp(connection) => connection.traffic(),
            Self::Memory(connection) => connection.traffic(),
            Self::Local(_) => Traffic::default(),
        }
    }

    /// Grows whenever something of the peer has come, if only a keep-alive's answer.
    pub(crate) fn arrivals(&self) -> u64 {
        match self {
            Self::Quic(connection) => connection.arrivals(),
            Self::Tcp(connection) => connection.arrivals(),
            Self::Memory(connection) => connection.arrivals(),
            Self::Local(connection) => connection.arrivals(),
        }
    }

    /// What is written next may leave although as much is under way unanswered as congestion control allows: a line that
    /// stood still with a full window is to be asked whether it moves again.
    pub(crate) fn allow_probe(&self) {
        match self {
            Self::Quic(connection) => connection.allow_probe(),
            // They have no congestion control, or it is the kernel's.
            Self::Tcp(_) | Self::Memory(_) | Self::Local(_) => {}
        }
    }
}

impl SendHalf {
    /// Writes all of `chunks`, taking from their fronts what is written: pending, they hold what is left. Cancel safe in that
    /// sense. Woken when more fits, and when the peer stops reading, whatever window it waits for.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<(), Ended>> {
        match self {
            Self::Quic(send) => send.poll_write(cx, chunks),
            Self::Tcp(send) => send.poll_write(cx, chunks),
            Self::Memory(send) => send.poll_write(cx, chunks),
            Self::Local(send) => Poll::Ready(send.write(chunks)),
        }
    }

    /// Ends this direction behind what was written. Does nothing when it has ended.
    pub(crate) fn finish(&mut self) {
        match self {
            Self::Quic(send) => send.finish(),
            Self::Tcp(send) => send.finish(),
            Self::Memory(send) => send.finish(),
            Self::Local(send) => send.finish(),
        }
    }

    /// The stream's number among those of its opener.
    pub(crate) fn number(&self) -> u64 {
        match self {
            Self::Quic(send) => send.number(),
            Self::Tcp(send) => send.number(),
            Self::Memory(send) => send.number(),
            Self::Local(send) => send.number(),
        }
    }

    /// What is written here goes behind what is of a smaller class.
    pub(crate) fn set_class(&self, class: Class) {
        match self {
            Self::Quic(send) => send.set_class(class),
            Self::Tcp(send) => send.set_class(class),
            Self::Memory(_) | Self::Local(_) => {}
        }
    }

    /// What is written here goes before what is written to any other stream.
    pub(crate) fn set_urgent(&self) {
        match self {
            Self::Quic(send) => send.set_urgent(),
            Self::Tcp(send) => send.set_urgent(),
            Self::Memory(_) | Self::Local(_) => {}
        }
    }

    /// Ready once nothing can be written any more, for whoever waits for something else than the carrier.
    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        match self {
            Self::Quic(send) => send.poll_broken(cx),
            Self::Tcp(send) => send.poll_broken(cx),
            Self::Memory(send) => send.poll_broken(cx),
            Self::Local(send) => send.poll_broken(cx),
        }
    }

    /// Breaks this direction off: what is under way may be lost. Does nothing when the peer has all of it.
    pub(crate) fn reset(&mut self, code: AbortCode) {
        match self {
            Self::Quic(send) => send.reset(code),
            Self::Tcp(send) => send.reset(code),
            Self::Memory(send) => send.reset(code),
            Self::Local(send) => send.reset(code),
        }
    }

    /// Resolves when the peer stops reading, with its code, when the connection is lost ([`AbortCode::Cancelled`]), and with
    /// `None` when the peer has everything. Independent of the stream's borrow and cancel safe.
    pub(crate) fn stopped(&self) -> impl Future<Output = Option<AbortCode>> + Send + 'static {
        enum Stopped<Q, T, M, L> {
            Quic(Q),
            Tcp(T),
            Memory(M),
            Local(L),
        }
        let stopped = match self {
            Self::Quic(send) => Stopped::Quic(send.stopped()),
            Self::Tcp(send) => Stopped::Tcp(send.stopped()),
            Self::Memory(send) => Stopped::Memory(send.stopped()),
            Self::Local(send) => Stopped::Local(send.stopped()),
        };
        async move {
            match stopped {
                Stopped::Quic(stopped) => stopped.await,
                Stopped::Tcp(stopped) => stopped.await,
                Stopped::Memory(stopped) => stopped.await,
                Stopped::Local(stopped) => stopped.await,
            }
        }
    }
}

impl RecvHalf {
    /// Takes what has arrived, in order and in pieces of any size; `Ok(false)` is the end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnMut(Bytes),
    ) -> Poll<Result<bool, Ended>> {
        match self {
            Self::Quic(recv) => recv.poll_read(cx, take),
            Self::Tcp(recv) => recv.poll_read(cx, take),
            Self::Memory(recv) => recv.poll_read(cx, take),
            Self::Local(recv) => recv.poll_read(cx, take),
        }
    }

    /// Gives up reading: the peer's writes fail with `code`. Does nothing after the end.
    pub(crate) fn stop(&mut self, code: AbortCode) {
        match self {
            Self::Quic(recv) => recv.stop(code),
            Self::Tcp(recv) => recv.stop(code),
            Self::Memory(recv) => recv.stop(code),
            Self::Local(recv) => recv.stop(code),
        }
    }
}

impl Endpoint {
    /// The next connection that is asked for, or `None` once the endpoint was closed. Cancel safe.
    pub(crate) async fn accept(&self) -> Option<Attempt> {
        match self {
            Self::Quic(endpoint) => endpoint.accept().await.map(|attempt| Attempt::Quic(Box::new(attempt))),
            Self::Tcp(endpoint) => endpoint.accept().await.map(|attempt| Attempt::Tcp(Box::new(attempt))),
            Self::Memory(endpoint) => endpoint.accept().await.map(Attempt::Memory),
        }
    }

    /// What its connections' streams take their windows from.
    pub(crate) fn set_budget(&self, budget: Budget) {
        match self {
            Self::Quic(endpoint) => endpoint.set_budget(budget),
            Self::Tcp(_) | Self::Memory(_) => {}
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Quic(endpoint) => endpoint.local_addr(),
            Self::Tcp(_) => Err(io::ErrorKind::Unsupported.into()),
            Self::Memory(endpoint) => Ok(endpoint.local_addr()),
        }
    }

    /// Ends every connection and takes no more; resolves when the peers were told.
    pub(crate) async fn close(&self, code: CloseCode, reason: &str) {
        match self {
            Self::Quic(endpoint) => endpoint.close(code, reason).await,
            Self::Tcp(endpoint) => endpoint.close(code, reason).await,
            Self::Memory(endpoint) => endpoint.close(code, reason),
        }
    }
}

impl Attempt {
    pub(crate) fn remote(&self) -> SocketAddr {
        match self {
            Self::Quic(attempt) => attempt.remote(),
            Self::Tcp(attempt) => attempt.remote(),
            Self::Memory(attempt) => attempt.remote(),
        }
    }

    pub(crate) fn refuse(self) {
        match self {
            Self::Quic(attempt) => attempt.refuse(),
            // Its socket goes with it.
            Self::Tcp(_) => {}
            Self::Memory(attempt) => attempt.refuse(),
        }
    }

    /// Has the stranger prove its address before anything is kept of it. Gives it back when it has proved it, or when the
    /// carrier has proof already.
    pub(crate) fn prove_address(self) -> Option<Self> {
        match self {
            Self::Quic(attempt) => attempt.prove_address().map(|attempt| Self::Quic(Box::new(attempt))),
            Self::Tcp(_) | Self::Memory(_) => Some(self),
        }
    }

    /// The carrier's own handshake. `guests`: what one is granted who speaks another protocol than the tunnel's.
    pub(crate) async fn connect(
        self,
        guests: Option<Terms>,
    ) -> Result<(Connection, Option<quic::Early>), Closed> {
        match self {
            Self::Quic(attempt) => {
                let (connection, early) = attempt.connect(guests).await?;
                Ok((Connection::Quic(connection), early))
            }
            Self::Tcp(attempt) => Ok((Connection::Tcp(attempt.connect().await?), None)),
            Self::Memory(attempt) => Ok((Connection::Memory(attempt.connect()), None)),
        }
    }
}

impl Dial {
    /// As [`Endpoint::set_budget`].
    pub(crate) fn set_budget(&self, budget: Budget) {
        match self {
            Self::Quic(dial) => dial.set_budget(budget),
            Self::Tcp(_) | Self::Memory(_) => {}
        }
    }

    /// Dials once, for a connection whose other end answers at least so often. Cancel safe: a dropped dial leaves nothing behind.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        keep_alive: Duration,
    ) -> Result<Connection, DialFailure> {
        match self {
            Self::Quic(dial) => dial.connect(address, keep_alive).await.map(Connection::Quic),
            Self::Tcp(dial) => dial.connect(address, keep_alive).await.map(Connection::Tcp),
            Self::Memory(network) => network.connect().map(Connection::Memory).map_err(DialFailure::Closed),
        }
    }

    /// The same over a connection that is there; `None` where this goes over none.
    pub(crate) async fn over(
        &self,
        stream: TcpStream,
        first: Bytes,
        round_trip: Duration,
        keep_alive: Duration,
    ) -> Option<Result<Connection, DialFailure>> {
        match self {
            Self::Tcp(dial) => {
                Some(dial.over(stream, first, round_trip, keep_alive).await.map(Connection::Tcp))
            }
            Self::Quic(_) | Self::Memory(_) => None,
        }
    }
}

//! The TCP carrier: TLS 1.3 over a socket, and HTTP/2 (the h2 crate) for its streams. The edge is HTTP/2's client on the connection
//! that it accepted, since it opens nearly all streams; of those that it keeps ready the connector takes its own. The one place that
//! names h2 in this crate.
//!
//! ```text
//! Connection, SendHalf, RecvHalf ─ Shared, Stream ─ Task ─ h2 ─ TLS ─ Socket
//! requests of the edge:  POST /n  what the two ends tell each other of the connection: pings, its end (notes)
//!                        POST /s  a stream that the edge opens
//!                        POST /r  one that is the connector's to open; the edge asks for the next when its first byte has come
//! ```
//! A stream's two directions end one by one, with codes, by [`records`] in their DATA. How much an honest peer sends is bounded
//! by [`crate::flow`]; what any other may, by the window of the connection.

pub mod notes;
pub mod records;

mod bells;
mod dial;
mod endpoint;
mod room;
mod settings;
mod shared;
mod socket;
mod stream;
mod task;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio_rustls::TlsStream;

use super::{Class, Closed, Ended, Exporter, Traffic};
use crate::code::{AbortCode, CloseCode};
pub(crate) use dial::Dial;
pub use endpoint::Doorway;
pub(crate) use endpoint::{Attempt, Endpoint};
use room::Room;
use shared::{Purpose, Shared};
use socket::{Meter, Socket};
use stream::Stream;
use task::{Mux, Notes, Task};
use tls::Secrets;

#[derive(Clone, Debug)]
pub(crate) struct Connection(Arc<Handle>);

/// Held by who may still use the connection; it is closed when nobody does.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    secrets: Secrets,
    protocol: Vec<u8>,
    remote: SocketAddr,
}

/// What waits for the library at first; [`Connection::set_send_window`] says better.
const FIRST_ROOM_BYTES: usize = 32 * 1024;
/// More is only a queue before that of the kernel, and much less a stall.
const ROOM_BYTES: std::ops::RangeInclusive<u64> = 32 * 1024..=256 * 1024;

impl Connection {
    /// At the edge. Must be called within the runtime that is to carry it.
    async fn of_edge(
        tls: TlsStream<Socket>,
        meter: Arc<Meter>,
        remote: SocketAddr,
        round_trip: Duration,
    ) -> Result<Self, Closed> {
        let protocol = spoken(&tls);
        let (tls, secrets) = tls::split(tls);
        let (mut opener, connection) = settings::edge().handshake(tls).await.map_err(broken)?;
        std::future::poll_fn(|cx| opener.poll_ready(cx)).await.map_err(broken)?;
        let (answer, outgoing) = opener.send_request(Purpose::Notes.request(), false).map_err(broken)?;
        let shared = Shared::new(Some(opener), Room::new(FIRST_ROOM_BYTES), meter, round_trip);
        let notes = Some(Notes::asked(answer, outgoing));
        Ok(Self::start(Mux::Edge(Box::new(connection)), shared, notes, None, (secrets, protocol), remote))
    }

    /// At the connector.
    async fn of_connector(
        tls: TlsStream<Socket>,
        meter: Arc<Meter>,
        remote: SocketAddr,
        round_trip: Duration,
        keep_alive: Duration,
    ) -> Result<Self, Closed> {
        let protocol = spoken(&tls);
        let (tls, secrets) = tls::split(tls);
        let connection = settings::connector().handshake(tls).await.map_err(broken)?;
        let shared = Shared::new(None, Room::new(FIRST_ROOM_BYTES), meter, round_trip);
        let mux = Mux::Connector(Box::new(connection));
        Ok(Self::start(mux, shared, None, Some(keep_alive), (secrets, protocol), remote))
    }

    fn start(
        mux: Mux,
        shared: Arc<Shared>,
        notes: Option<Notes>,
        keep_alive: Option<Duration>,
        (secrets, protocol): (Secrets, Vec<u8>),
        remote: SocketAddr,
    ) -> Self {
        let task = Task::new(mux, Arc::clone(&shared), notes, keep_alive);
        #[expect(clippy::disallowed_methods, reason = "it belongs to its connection, and ends with that")]
        drop(tokio::spawn(task.run()));
        Self(Arc::new(Handle { shared, secrets, protocol, remote }))
    }

    pub(super) async fn open(&self) -> Result<(SendHalf, RecvHalf), Closed> {
        std::future::poll_fn(|cx| self.0.shared.poll_open(cx)).await.map(|stream| self.halves(&stream))
    }

    pub(super) async fn accept(&self) -> Result<(SendHalf, RecvHalf), Closed> {
        std::future::poll_fn(|cx| self.0.shared.poll_accept(cx)).await.map(|stream| self.halves(&stream))
    }

    fn halves(&self, stream: &Arc<Stream>) -> (SendHalf, RecvHalf) {
        let (send, recv) = (Arc::clone(stream), Arc::clone(stream));
        let is_urgent = AtomicBool::new(false);
        let send = SendHalf { stream: send, is_urgent, _connection: self.clone() };
        (send, RecvHalf { stream: recv, _connection: self.clone() })
    }

    pub(super) fn allow_streams(&self, count: u32) {
        self.0.shared.allow_streams(count);
    }

    pub(super) fn set_send_window(&self, bytes: u64) {
        let bytes = bytes.clamp(*ROOM_BYTES.start(), *ROOM_BYTES.end());
        self.0.shared.room.set_most(usize::try_from(bytes).unwrap_or(FIRST_ROOM_BYTES));
    }

    pub(super) fn set_receive_window(&self, bytes: u64) {
        self.0.shared.set_receive_window(bytes);
    }

    pub(super) fn close(&self, code: CloseCode, reason: &str) {
        self.0.shared.close(code, reason);
    }

    pub(super) async fn settled(&self) {
        self.0.shared.settled().await;
    }

    pub(super) async fn closed(&self) -> Closed {
        self.0.shared.closed().await
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.shared.is_open()
    }

    pub(super) fn exporter(&self, label: &[u8], context: &[u8]) -> Exporter {
        self.0.secrets.exporter(label, context)
    }

    pub(super) fn protocol(&self) -> Vec<u8> {
        self.0.protocol.clone()
    }

    pub(super) fn remote(&self) -> SocketAddr {
        self.0.remote
    }

    pub(super) fn rtt(&self) -> Duration {
        self.0.shared.round_trip()
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.0.shared.meter.traffic()
    }

    pub(super) fn arrivals(&self) -> u64 {
        self.0.shared.meter.arrivals()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close(CloseCode::Done, "");
    }
}

#[derive(Debug)]
pub(crate) struct SendHalf {
    stream: Arc<Stream>,
    is_urgent: AtomicBool,
    _connection: Connection,
}

impl SendHalf {
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<(), Ended>> {
        self.stream.poll_write(cx, chunks, *self.is_urgent.get_mut())
    }

    pub(super) fn number(&self) -> u64 {
        self.stream.number
    }

    /// The library takes its streams in turn, a frame of each; what comes before what else is decided before they are given to it.
    pub(super) fn set_class(&self, class: Class) {
        self.stream.set_bulk(class != Class::Small);
    }

    pub(super) fn set_urgent(&self) {
        self.is_urgent.store(true, Ordering::Relaxed);
    }

    pub(super) fn poll_broken(&self, cx: &Context<'_>) -> Poll<Ended> {
        self.stream.poll_broken(cx)
    }

    pub(super) fn stopped(&self) -> impl Future<Output = Option<AbortCode>> + Send + use<> {
        let stream = Arc::clone(&self.stream);
        std::future::poll_fn(move |cx| stream.poll_stopped(cx))
    }

    pub(super) fn finish(&self) {
        self.stream.end(None);
    }

    pub(super) fn reset(&self, code: AbortCode) {
        self.stream.end(Some(code));
    }
}

/// As the other carriers': whoever owns it has to reset it when a clean end would be a lie.
impl Drop for SendHalf {
    fn drop(&mut self) {
        self.finish();
    }
}

#[derive(Debug)]
pub(crate) struct RecvHalf {
    stream: Arc<Stream>,
    _connection: Connection,
}

impl RecvHalf {
    pub(super) fn poll_read(&self, cx: &Context<'_>, take: impl FnMut(Bytes)) -> Poll<Result<bool, Ended>> {
        self.stream.poll_read(cx, take)
    }

    pub(super) fn stop(&self, code: AbortCode) {
        self.stream.stop(code);
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        self.stop(AbortCode::Cancelled);
    }
}

fn spoken(tls: &TlsStream<Socket>) -> Vec<u8> {
    tls.get_ref().1.alpn_protocol().unwrap_or_default().to_vec()
}

fn broken(error: h2::Error) -> Closed {
    match error.get_io() {
        Some(error) => closed_by(error),
        None => Closed::Broken(error.to_string()),
    }
}

fn closed_by(error: &std::io::Error) -> Closed {
    match error.kind() {
        std::io::ErrorKind::TimedOut => Closed::Silent,
        _ => Closed::Broken(error.to_string()),
    }
}

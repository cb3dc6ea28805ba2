//! The QUIC carrier (quinn): connections and the two halves of their streams. The one place that names quinn.

mod apart;
mod congestion;
mod dial;
mod endpoint;
mod inherited;
#[cfg(test)]
pub(crate) mod lossy;
mod probe;
mod socket;
mod transport;

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::HandshakeData;
use quinn::{ConnectionError, ReadError, SendDatagramError, StoppedError, VarInt, WriteError};

use super::{Class, Closed, DatagramError, Ended, Exporter, Traffic};
use crate::code::{AbortCode, CloseCode};
use crate::limits::Terms;
pub(crate) use dial::Dial;
pub(crate) use endpoint::{Attempt, Early, Endpoint, Keys};
pub use inherited::{Elder, Given, Inherited, Mark};
pub use socket::{Reuse, UdpReport, bind};

/// One read takes so many chunks at most: one call a chunk doubles the cost of a bulk transfer.
const CHUNKS_A_READ: usize = 32;

#[derive(Clone, Debug)]
pub(crate) struct Connection {
    connection: quinn::Connection,
    /// Kept beside its connection when it serves this one alone.
    endpoint: Option<quinn::Endpoint>,
}

impl Connection {
    fn new(connection: quinn::Connection, endpoint: Option<quinn::Endpoint>) -> Self {
        Self { connection, endpoint }
    }

    /// Opens a stream that only we send on.
    pub(crate) async fn open_one_way(&self) -> Result<SendHalf, Closed> {
        let stream = self.connection.open_uni().await.map_err(|error| closed(&error))?;
        Ok(SendHalf { stream, stopping: None })
    }

    /// The next stream that only the peer sends on.
    pub(crate) async fn accept_one_way(&self) -> Result<RecvHalf, Closed> {
        self.connection.accept_uni().await.map(RecvHalf).map_err(|error| closed(&error))
    }

    /// Ends it in another protocol's words.
    pub(crate) fn close_as(&self, code: u32, reason: &str) {
        self.connection.close(VarInt::from_u32(code), reason.as_bytes());
    }

    pub(super) async fn open(&self) -> Result<(SendHalf, RecvHalf), Closed> {
        let (send, recv) = self.connection.open_bi().await.map_err(|error| closed(&error))?;
        Ok((SendHalf { stream: send, stopping: None }, RecvHalf(recv)))
    }

    pub(crate) async fn accept(&self) -> Result<(SendHalf, RecvHalf), Closed> {
        let (send, recv) = self.connection.accept_bi().await.map_err(|error| closed(&error))?;
        Ok((SendHalf { stream: send, stopping: None }, RecvHalf(recv)))
    }

    pub(super) fn allow_streams(&self, count: u32) {
        self.connection.set_max_concurrent_bi_streams(transport::streams(count));
    }

    pub(crate) fn set_send_window(&self, bytes: u64) {
        self.connection.set_send_window(bytes);
    }

    pub(crate) fn set_receive_window(&self, bytes: u64) {
        self.connection.set_receive_window(VarInt::from_u64(bytes).unwrap_or(VarInt::MAX));
    }

    pub(crate) fn congestion_window(&self) -> u64 {
        self.connection.stats().path.cwnd
    }

    pub(super) fn send_datagram(&self, bytes: Bytes) -> Result<(), DatagramError> {
        self.connection.send_datagram(bytes).map_err(|error| match error {
            SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled => DatagramError::None,
            SendDatagramError::TooLarge => DatagramError::TooLong,
            SendDatagramError::ConnectionLost(error) => DatagramError::Lost(closed(&error)),
        })
    }

    pub(super) async fn recv_datagram(&self) -> Result<Bytes, Closed> {
        self.connection.read_datagram().await.map_err(|error| closed(&error))
    }

    pub(super) fn max_datagram_bytes(&self) -> Option<usize> {
        self.connection.max_datagram_size()
    }

    pub(super) fn close(&self, code: CloseCode, reason: &str) {
        self.connection.close(VarInt::from_u32(code.to_u32()), reason.as_bytes());
    }

    pub(super) async fn settled(&self) {
        if let Some(endpoint) = &self.endpoint {
            endpoint.wait_idle().await;
        }
    }

    pub(super) async fn closed(&self) -> Closed {
        // What comes in one direction nobody would read: a peer that sends it has broken the protocol.
        tokio::select! {
            error = self.connection.closed() => return closed(&error),
            Ok(_) = self.connection.accept_uni() => self.close(CloseCode::Protocol, "a stream of no kind"),
        }
        closed(&self.connection.closed().await)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    pub(super) fn exporter(&self, label: &[u8], context: &[u8]) -> Exporter {
        let mut exporter = [0; 32];
        self.connection
            .export_keying_material(&mut exporter, label, context)
            .expect("32 bytes can be exported from a finished TLS 1.3 handshake");
        exporter
    }

    pub(super) fn protocol(&self) -> Vec<u8> {
        self.handshake().and_then(|data| data.protocol).unwrap_or_default()
    }

    /// Whom the peer asked for (SNI).
    pub(crate) fn server_name(&self) -> Option<String> {
        self.handshake().and_then(|data| data.server_name)
    }

    fn handshake(&self) -> Option<Box<HandshakeData>> {
        self.connection.handshake_data().and_then(|data| data.downcast().ok())
    }

    fn allow_guest(&self, terms: Terms) {
        self.connection.set_max_concurrent_bi_streams(VarInt::from_u32(terms.streams));
        self.connection.set_max_concurrent_uni_streams(VarInt::from_u32(terms.one_way));
    }

    /// Why it has ended, if it has.
    fn lost(&self) -> Option<Closed> {
        self.connection.close_reason().map(|error| closed(&error))
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    pub(crate) fn rtt(&self) -> Duration {
        self.connection.rtt()
    }

    pub(super) fn path_mtu(&self) -> u16 {
        self.connection.stats().path.current_mtu
    }

    pub(super) fn allow_probe(&self) {
        probe::allow(&self.connection);
        // What waits already is not written again, and only something new has the library look whether it may send: the same
        // figure once more is such a thing.
        self.connection.set_max_concurrent_uni_streams(VarInt::from_u32(transport::UNI_STREAMS));
    }

    /// Every datagram is a sign of life, also one that only acknowledges.
    pub(crate) fn arrivals(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    pub(super) fn traffic(&self) -> Traffic {
        let stats = self.connection.stats();
        Traffic {
            datagrams_sent: stats.udp_tx.datagrams,
            sends: stats.udp_tx.ios,
            datagrams_received: stats.udp_rx.datagrams,
            packets_lost: stats.path.lost_packets,
        }
    }
}

type Stopping = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

pub(crate) struct SendHalf {
    stream: quinn::SendStream,
    /// Watches for STOP_SENDING from the first write that had to wait. quinn alone does not see to it: a writer that waits for
    /// its stream's window and the session's at once is woken by STOP_SENDING, finds the session's still closed, waits for
    /// that, and is never woken again, since a stream whose own window is closed is not told of the session's opening.
    stopping: Option<Stopping>,
}

impl SendHalf {
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<(), Ended>> {
        let mut rest = chunks;
        loop {
            let written = rest.iter().take_while(|chunk| chunk.is_empty()).count();
            rest = &mut rest[written..];
            if rest.is_empty() {
                return Poll::Ready(Ok(()));
            }
            // The future holds nothing but the borrow, so that it may be made anew for each poll.
            match pin!(self.stream.write_chunks(rest)).poll(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(write_error(&error))),
                Poll::Pending => break,
            }
        }
        self.poll_broken(cx).map(Err)
    }

    pub(super) fn number(&self) -> u64 {
        self.stream.id().index()
    }

    pub(super) fn set_class(&self, class: Class) {
        let priority = match class {
            Class::Small => 0,
            Class::Bulk => -1,
            Class::Huge => -2,
        };
        // An error means that it has ended.
        let _ = self.stream.set_priority(priority);
    }

    pub(super) fn set_urgent(&self) {
        // An error means that it has ended.
        let _ = self.stream.set_priority(i32::MAX);
    }

    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let stopping = self.stopping.get_or_insert_with(|| Box::pin(self.stream.stopped()));
        let stopped = ready!(stopping.as_mut().poll(cx));
        // A future that is done must not be polled again, and who writes on is told again.
        self.stopping = None;
        Poll::Ready(match stopped {
            Ok(Some(code)) => aborted(code),
            Err(StoppedError::ConnectionLost(error)) => Ended::Lost(closed(&error)),
            Ok(None) | Err(StoppedError::ZeroRttRejected) => Ended::Aborted(AbortCode::Cancelled),
        })
    }

    /// The stream's number among all of its connection.
    pub(crate) fn id(&self) -> u64 {
        VarInt::from(self.stream.id()).into_inner()
    }

    /// [`SendHalf::reset`] in another protocol's words.
    pub(crate) fn reset_as(&mut self, code: u32) {
        // An error means that the stream is over already.
        let _ = self.stream.reset(VarInt::from_u32(code));
    }

    pub(crate) fn finish(&mut self) {
        // An error means that it has ended, or that the peer does not need the end.
        let _ = self.stream.finish();
    }

    pub(super) fn reset(&mut self, code: AbortCode) {
        // An error means that the stream is over already.
        let _ = self.stream.reset(VarInt::from_u32(code.to_u32()));
    }

    pub(crate) fn stopped(&self) -> impl Future<Output = Option<AbortCode>> + Send + use<> {
        let stopped = self.stream.stopped();
        async move {
            match stopped.await {
                Ok(code) => code.map(|code| AbortCode::from_u64(code.into_inner())),
                Err(StoppedError::ConnectionLost(_) | StoppedError::ZeroRttRejected) => {
                    Some(AbortCode::Cancelled)
                }
            }
        }
    }
}

impl std::fmt::Debug for SendHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SendHalf").field(&self.stream.id()).finish()
    }
}

#[derive(Debug)]
pub(crate) struct RecvHalf(quinn::RecvStream);

impl RecvHalf {
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnMut(Bytes),
    ) -> Poll<Result<bool, Ended>> {
        let mut chunks: [Bytes; CHUNKS_A_READ] = [const { Bytes::new() }; CHUNKS_A_READ];
        // The future holds nothing but the borrow, so that it may be made anew for each poll.
        let read = ready!(pin!(self.0.read_chunks(&mut chunks)).poll(cx));
        Poll::Ready(match read {
            Ok(Some(count)) => {
                chunks.into_iter().take(count).for_each(take);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(ReadError::Reset(code)) => Err(aborted(code)),
            Err(ReadError::ConnectionLost(error)) => Err(Ended::Lost(closed(&error))),
            Err(_) => Err(Ended::Aborted(AbortCode::Cancelled)),
        })
    }

    /// Whether it was opened before the handshake was done.
    pub(crate) fn is_early(&self) -> bool {
        self.0.is_0rtt()
    }

    /// [`RecvHalf::stop`] in another protocol's words.
    pub(crate) fn stop_as(&mut self, code: u32) {
        // An error means that the stream is over already.
        let _ = self.0.stop(VarInt::from_u32(code));
    }

    pub(super) fn stop(&mut self, code: AbortCode) {
        // An error means that the stream is over already.
        let _ = self.0.stop(VarInt::from_u32(code.to_u32()));
    }
}

fn aborted(code: VarInt) -> Ended {
    Ended::Aborted(AbortCode::from_u64(code.into_inner()))
}

fn write_error(error: &WriteError) -> Ended {
    match error {
        WriteError::Stopped(code) => aborted(*code),
        WriteError::ConnectionLost(error) => Ended::Lost(closed(error)),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => Ended::Aborted(AbortCode::Cancelled),
    }
}

fn closed(error: &ConnectionError) -> Closed {
    match error {
        ConnectionError::ApplicationClosed(close) => Closed::ByPeer(
            CloseCode::from_u64(close.error_code.into_inner()),
            String::from_utf8_lossy(&close.reason).into_owned(),
        ),
        ConnectionError::LocallyClosed => Closed::ByUs,
        ConnectionError::TimedOut => Closed::Silent,
        ConnectionError::Reset => Closed::Forgotten,
        other => Closed::Broken(other.to_string()),
    }
}

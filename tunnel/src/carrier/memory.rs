//! A carrier inside one process: two ends joined by a line that delays, loses and reorders, for tests of everything above.
//!
//! ```text
//! Connection, SendHalf, RecvHalf ─ handles ─→ link::Link (both ends, the packets between them, and the time: no I/O)
//! Network ─ asks for a connection ─→ Endpoint;   Network::run moves all its links along with tokio's clock
//! ```
//! There is no TLS in it: whoever has the [`Network`] is trusted as far as the handshake's proofs go.

mod link;
mod network;
mod stream;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Closed, DatagramError, Ended, Exporter, Traffic};
use crate::code::{AbortCode, CloseCode};
pub(crate) use link::{Link, Party};
pub use network::Network;
pub(crate) use network::{Attempt, Endpoint};

/// What lies between two ends.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// One way.
    pub delay: Duration,
    /// Added to the delay of each packet by chance, up to so much: packets overtake each other.
    pub jitter: Duration,
    /// How many of a thousand packets are lost; they come again after a retransmission, datagrams do not.
    pub loss_permille: u32,
    /// What a stream may have unread at its receiver.
    pub stream_window_bytes: u64,
    /// What a packet holds at most.
    pub packet_bytes: usize,
    pub seed: u64,
}

/// A home's line: 30 ms of round trip, one packet in a hundred lost.
impl Default for Line {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(15),
            jitter: Duration::from_millis(3),
            loss_permille: 10,
            stream_window_bytes: crate::limits::MAX_WINDOW_BYTES,
            packet_bytes: 1200,
            seed: 0,
        }
    }
}

/// One end.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    link: Shared,
    party: Party,
}

type Shared = Arc<Mutex<Link>>;

/// The two ends of a new link: who dialled, who answered.
pub(crate) fn pair(link: Link) -> (Connection, Connection, Shared) {
    let link = Arc::new(Mutex::new(link));
    let end = |party| Connection { link: Arc::clone(&link), party };
    (end(Party::Dialler), end(Party::Listener), Arc::clone(&link))
}

impl Connection {
    pub(super) async fn open(&self) -> Result<(SendHalf, RecvHalf), Closed> {
        let stream = std::future::poll_fn(|cx| self.link.lock().poll_open(self.party, cx)).await?;
        Ok(self.halves(stream))
    }

    pub(super) async fn accept(&self) -> Result<(SendHalf, RecvHalf), Closed> {
        let stream = std::future::poll_fn(|cx| self.link.lock().poll_accept(self.party, cx)).await?;
        Ok(self.halves(stream))
    }

    fn halves(&self, stream: u64) -> (SendHalf, RecvHalf) {
        let half = || Half { link: Arc::clone(&self.link), party: self.party, stream };
        (SendHalf(half()), RecvHalf(half()))
    }

    /// For openings; the credit stream is one more.
    pub(super) fn allow_streams(&self, count: u32) {
        self.link.lock().allow_streams(self.party, count + 1);
    }

    pub(super) fn send_datagram(&self, bytes: Bytes) -> Result<(), DatagramError> {
        self.link.lock().send_datagram(self.party, bytes)
    }

    pub(super) async fn recv_datagram(&self) -> Result<Bytes, Closed> {
        std::future::poll_fn(|cx| self.link.lock().poll_datagram(self.party, cx)).await
    }

    pub(super) fn max_datagram_bytes(&self) -> usize {
        self.link.lock().line().packet_bytes
    }

    pub(super) fn close(&self, code: CloseCode, reason: &str) {
        self.link.lock().close(self.party, code, reason);
    }

    pub(super) async fn closed(&self) -> Closed {
        std::future::poll_fn(|cx| self.link.lock().poll_closed(self.party, cx)).await
    }

    pub(super) fn is_open(&self) -> bool {
        self.link.lock().closed(self.party).is_none()
    }

    pub(super) fn exporter(&self) -> Exporter {
        self.link.lock().exporter()
    }

    pub(super) fn remote(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.party.other().port()).into()
    }

    pub(super) fn now(&self) -> Instant {
        self.link.lock().instant()
    }

    pub(super) fn rtt(&self) -> Duration {
        self.link.lock().line().delay * 2
    }

    pub(super) fn arrivals(&self) -> u64 {
        self.link.lock().arrivals(self.party)
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.link.lock().traffic(self.party)
    }
}

#[derive(Debug)]
struct Half {
    link: Shared,
    party: Party,
    stream: u64,
}

#[derive(Debug)]
pub(crate) struct SendHalf(Half);

#[derive(Debug)]
pub(crate) struct RecvHalf(Half);

impl SendHalf {
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<(), Ended>> {
        self.0.link.lock().poll_write(self.0.party, self.0.stream, cx, chunks)
    }

    pub(super) fn finish(&mut self) {
        self.0.link.lock().finish(self.0.party, self.0.stream);
    }

    pub(super) fn reset(&mut self, code: AbortCode) {
        self.0.link.lock().reset(self.0.party, self.0.stream, code);
    }

    pub(super) fn number(&self) -> u64 {
        self.0.stream / 2
    }

    pub(super) fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.0.link.lock().poll_broken(self.0.party, self.0.stream, cx)
    }

    pub(super) fn stopped(&self) -> impl Future<Output = Option<AbortCode>> + Send + 'static {
        let (link, party, stream) = (Arc::clone(&self.0.link), self.0.party, self.0.stream);
        std::future::poll_fn(move |cx| link.lock().poll_stopped(party, stream, cx))
    }
}

impl RecvHalf {
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnMut(Bytes),
    ) -> Poll<Result<bool, Ended>> {
        self.0.link.lock().poll_read(self.0.party, self.0.stream, cx, take)
    }

    pub(super) fn stop(&mut self, code: AbortCode) {
        self.0.link.lock().stop(self.0.party, self.0.stream, code);
    }
}

/// As quinn's: a dropped half finishes, so that whoever owns it has to reset it when that would be a lie.
impl Drop for SendHalf {
    fn drop(&mut self) {
        let mut link = self.0.link.lock();
        link.finish(self.0.party, self.0.stream);
        link.let_go_of_sending(self.0.party, self.0.stream);
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        let mut link = self.0.link.lock();
        link.stop(self.0.party, self.0.stream, AbortCode::Cancelled);
        link.let_go_of_receiving(self.0.party, self.0.stream);
    }
}

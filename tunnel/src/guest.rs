//! A connection on the tunnel's port that speaks another protocol than ours (ALPN): visitors' HTTP/3. Streams of both
//! kinds, and that protocol's own numbers; nothing of its meaning.
//!
//! One listener has one set of transport parameters, and nobody knows what a stranger speaks before it has said hello: they
//! are those of a connector, the tightest, and three streams on which only a visitor sends. As soon as the protocol is known, in the flight that answers the hello, a guest
//! is given its [`Terms`], so that it finds streams open when its handshake is done.
//!
//! Windows: a stream's is that of the tunnel ([`MAX_WINDOW_BYTES`]) and cannot be another; the connection's bounds what all
//! of them hold unread. It begins small, doubles while the guest fills it within two round trips, and makes room for
//! streams that stand still, so that these do not hold up the rest; all that of the process's [`Budget`].

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::carrier::quic;
use crate::carrier::{Closed, Ended};
use crate::flow::{Budget, Held, Sending};
use crate::limits::MAX_WINDOW_BYTES;
pub use crate::limits::Terms;

/// One live connection; clones share it.
#[derive(Clone, Debug)]
pub struct Guest(Arc<Inner>);

struct Inner {
    connection: quic::Connection,
    /// The stream that came with the hello.
    first: Mutex<Option<(quic::SendHalf, quic::RecvHalf)>>,
    /// The rest of the handshake, where a stream came before it.
    handshake: tokio::sync::Mutex<Option<Pin<Box<dyn Future<Output = bool> + Send>>>>,
    server_name: Option<String>,
    budget: Budget,
    sending: Mutex<Sending>,
    receiving: Mutex<Receiving>,
}

#[derive(Debug)]
struct Receiving {
    /// Beyond [`FIRST_WINDOW_BYTES`].
    more: Held,
    /// What the guest's pace asks for, and what streams that stand still do.
    pace: usize,
    standing: usize,
    /// Read since then.
    read: usize,
    since: Instant,
}

/// The sending direction of a stream.
#[derive(Debug)]
pub struct Sender {
    half: quic::SendHalf,
    guest: Guest,
}

/// The receiving direction of a stream.
#[derive(Debug)]
pub struct Receiver {
    half: quic::RecvHalf,
    guest: Guest,
}

/// One direction of a stream ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It was reset, or is not read any more.
    #[error("the guest gave the stream up")]
    ByPeer,
    #[error("the connection was lost")]
    Lost,
}

/// What all streams of a connection may hold unread at first: 100 Mbit/s at 80 ms.
const FIRST_WINDOW_BYTES: usize = 1024 * 1024;
/// And at most for the guest's pace.
const MAX_PACE_BYTES: usize = 8 * 1024 * 1024;
/// Streams that stand still for which there is room: two browsers' tabs with an upload each that nobody takes.
const MAX_STANDING: usize = 4;

impl Guest {
    pub(crate) fn new(
        connection: quic::Connection,
        early: Option<quic::Early>,
        server_name: Option<String>,
        budget: &Budget,
    ) -> Self {
        let (first, handshake) = early.map(|early| (early.first, early.done)).unzip();
        let sending = Sending::new(budget, budget.sender_came());
        connection.set_send_window(sending.bytes() as u64);
        connection.set_receive_window(FIRST_WINDOW_BYTES as u64);
        let receiving =
            Receiving { more: budget.none(), pace: 0, standing: 0, read: 0, since: Instant::now() };
        Self(Arc::new(Inner {
            connection,
            first: Mutex::new(first),
            handshake: tokio::sync::Mutex::new(handshake),
            server_name,
            budget: budget.clone(),
            sending: Mutex::new(sending),
            receiving: Mutex::new(receiving),
        }))
    }

    /// Where it is now: phones move.
    pub fn remote(&self) -> SocketAddr {
        self.0.connection.remote()
    }

    /// Whom it asked for (SNI).
    pub fn server_name(&self) -> Option<&str> {
        self.0.server_name.as_deref()
    }

    /// The next stream of both directions that it opened. Cancel safe.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn accept(&self) -> Result<(Sender, Receiver), Closed> {
        let first = self.0.first.lock().take();
        let (send, recv) = match first {
            Some(first) => first,
            None => self.0.connection.accept().await?,
        };
        Ok((Sender { half: send, guest: self.clone() }, Receiver { half: recv, guest: self.clone() }))
    }

    /// Waits for the handshake. False: the connection was lost before it was done. What comes on a stream before that
    /// ([`Receiver::is_early`]) may be what somebody else overheard. Cancel safe.
    pub async fn proved(&self) -> bool {
        let mut handshake = self.0.handshake.lock().await;
        if let Some(done) = handshake.as_mut() {
            done.await;
            *handshake = None;
        }
        self.0.connection.is_open()
    }

    /// The next stream that only it sends on. Cancel safe.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn accept_one_way(&self) -> Result<Receiver, Closed> {
        let half = self.0.connection.accept_one_way().await?;
        Ok(Receiver { half, guest: self.clone() })
    }

    /// Opens a stream that only we send on. Waits while the guest allows no more; cancel safe.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn open_one_way(&self) -> Result<Sender, Closed> {
        let half = self.0.connection.open_one_way().await?;
        Ok(Sender { half, guest: self.clone() })
    }

    /// So many streams have come of which nobody takes what waits.
    pub fn set_standing(&self, streams: usize) {
        let mut receiving = self.0.receiving.lock();
        let standing = streams.min(MAX_STANDING) * usize::try_from(MAX_WINDOW_BYTES).unwrap_or(usize::MAX);
        if standing != receiving.standing {
            receiving.standing = standing;
            self.settle(&mut receiving);
        }
    }

    /// Nothing is sent any more: what the path had of the budget is given back.
    pub fn rest(&self) {
        if let Some(bytes) = self.0.sending.lock().is_idle() {
            self.0.connection.set_send_window(bytes as u64);
        }
        let mut receiving = self.0.receiving.lock();
        if receiving.pace > 0 {
            receiving.pace = 0;
            self.settle(&mut receiving);
        }
    }

    /// The smoothed round trip.
    pub fn rtt(&self) -> Duration {
        self.0.connection.rtt()
    }

    /// Packets that have come.
    pub fn arrivals(&self) -> u64 {
        self.0.connection.arrivals()
    }

    /// Ends the connection at once, with a number of its protocol; what is in flight is lost.
    pub fn close(&self, code: u32, reason: &str) {
        self.0.connection.close_as(code, reason);
    }

    /// So many bytes were read.
    fn read(&self, bytes: usize) {
        let mut receiving = self.0.receiving.lock();
        receiving.read += bytes;
        let window = FIRST_WINDOW_BYTES + receiving.pace;
        if receiving.read < window / 2 {
            return;
        }
        let now = Instant::now();
        let is_fast = now.saturating_duration_since(receiving.since) < self.rtt() * 2;
        (receiving.read, receiving.since) = (0, now);
        if is_fast && receiving.pace < MAX_PACE_BYTES {
            receiving.pace = (receiving.pace + window).min(MAX_PACE_BYTES);
            self.settle(&mut receiving);
        }
    }

    fn settle(&self, receiving: &mut Receiving) {
        let granted = receiving.more.resize(receiving.pace + receiving.standing);
        self.0.connection.set_receive_window((FIRST_WINDOW_BYTES + granted) as u64);
    }

    /// A write had to wait.
    fn is_full(&self) {
        let under_way = self.0.connection.congestion_window();
        if let Some(bytes) = self.0.sending.lock().is_full(under_way) {
            self.0.connection.set_send_window(bytes as u64);
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.budget.sender_went();
    }
}

impl Sender {
    /// Writes all of `chunks`, taking from their fronts what is written: pending, they hold what is left. Woken when more
    /// fits, and when the guest stops reading.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, chunks: &mut [Bytes]) -> Poll<Result<(), Broken>> {
        let written = self.half.poll_write(cx, chunks);
        if written.is_pending() {
            self.guest.is_full();
        }
        written.map_err(|ended| broken(&ended))
    }

    /// Ready once nothing can be written any more.
    pub fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        self.half.poll_broken(cx).map(|ended| broken(&ended))
    }

    /// Ends this direction behind what was written.
    pub fn finish(&mut self) {
        self.half.finish();
    }

    /// Behind [`Sender::finish`]: waits until the guest has everything, or does not want it.
    pub fn settled(&self) -> impl Future<Output = ()> + Send + use<> {
        let stopped = self.half.stopped();
        async move {
            let _ = stopped.await;
        }
    }

    /// Breaks this direction off, with a number of the guest's protocol.
    pub fn reset(&mut self, code: u32) {
        self.half.reset_as(code);
    }

    /// The stream's number among all of the connection.
    pub fn id(&self) -> u64 {
        self.half.id()
    }
}

impl Receiver {
    /// Hands over what has come, in order. False: the end.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(Bytes),
    ) -> Poll<Result<bool, Broken>> {
        let mut bytes = 0;
        let read = self.half.poll_read(cx, |chunk| {
            bytes += chunk.len();
            take(chunk);
        });
        if bytes > 0 {
            self.guest.read(bytes);
        }
        read.map_err(|ended| broken(&ended))
    }

    /// Whether it was opened before the guest's handshake was done (0-RTT).
    pub fn is_early(&self) -> bool {
        self.half.is_early()
    }

    /// Gives up reading, with a number of the guest's protocol. Does nothing after the end.
    pub fn stop(&mut self, code: u32) {
        self.half.stop_as(code);
    }
}

fn broken(ended: &Ended) -> Broken {
    match ended {
        Ended::Aborted(_) => Broken::ByPeer,
        Ended::Lost(_) => Broken::Lost,
    }
}

//! A session and its streams as the edge needs them, whatever protocol the connector speaks: an enum with one arm a
//! protocol. Nothing else of the edge that carries requests knows which one it is.
//!
//! What every arm has to keep, so that no visitor is ever shown a short body that looks whole:
//! - [`RecvHalf::poll_frame`] gives [`Frame::End`] only for an end that the connector meant. Where the protocol has no
//!   word for it, its closest sign counts, and all else (a reset, a lost session) is an error.
//! - What is dropped before its end is a reset for the connector, in either direction.
//! - [`SendHalf::request`] fails with [`StreamError::Malformed`] only when nothing was sent.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use causeway_tunnel::{
    AbortCode, CloseCode, Closed, First, Frame, OpenError, Opening, Passage, RawRecv, RawSend, RecvStream,
    RequestHead, ResponseEvent, SendStream, SessionInfo, StreamError, Transport, Watch,
};
use http::HeaderMap;

/// A handle on a live session; clones share it.
#[derive(Clone, Debug)]
pub enum Session {
    Causeway(causeway_tunnel::Session),
}

/// A request on its way to the connector.
#[derive(Debug)]
pub enum SendHalf {
    Causeway(SendStream),
}

/// Its answer.
#[derive(Debug)]
pub enum RecvHalf {
    Causeway(RecvStream),
}

/// Raw bytes to the connector, after an upgrade was accepted.
#[derive(Debug)]
pub enum RawSendHalf {
    Causeway(RawSend),
}

/// Raw bytes from the connector.
#[derive(Debug)]
pub enum RawRecvHalf {
    Causeway(RawRecv),
}

impl Session {
    pub fn info(&self) -> &SessionInfo {
        match self {
            Self::Causeway(session) => session.info(),
        }
    }

    /// Opens a stream for one request. Waits while the connector allows no more; cancel safe.
    ///
    /// # Errors
    /// When the session has ended: nothing was sent.
    pub async fn open(&self) -> Result<(SendHalf, RecvHalf), OpenError> {
        match self {
            Self::Causeway(session) => {
                let (send, recv) = session.open().await?;
                Ok((SendHalf::Causeway(send), RecvHalf::Causeway(recv)))
            }
        }
    }

    /// [`Session::open`] for what answers little at a time, for long.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub async fn open_narrow(&self) -> Result<(SendHalf, RecvHalf), OpenError> {
        match self {
            Self::Causeway(session) => {
                let (send, recv) = session.open_narrow().await?;
                Ok((SendHalf::Causeway(send), RecvHalf::Causeway(recv)))
            }
        }
    }

    /// Streams of which a half still lives.
    pub fn in_flight(&self) -> usize {
        match self {
            Self::Causeway(session) => session.in_flight(),
        }
    }

    /// Whether it gets no new streams.
    pub fn is_draining(&self) -> bool {
        match self {
            Self::Causeway(session) => session.is_draining(),
        }
    }

    pub fn set_draining(&self) {
        match self {
            Self::Causeway(session) => session.set_draining(),
        }
    }

    /// To be gone through by whoever keeps it, for as long as it lives.
    pub fn watch(&self) -> Watch {
        match self {
            Self::Causeway(session) => session.watch(),
        }
    }

    /// Another session of its connector is silent: it is asked at once whether it is not.
    pub fn doubt(&self) {
        match self {
            Self::Causeway(session) => session.doubt(),
        }
    }

    /// What the connector is to be told: that we hear nothing of it.
    pub fn hears_nothing(&self) -> bool {
        match self {
            Self::Causeway(session) => session.hears_nothing(),
        }
    }

    /// What the connector says: whether it hears nothing of us.
    pub fn set_unheard(&self, is_unheard: bool) {
        match self {
            Self::Causeway(session) => session.set_unheard(is_unheard),
        }
    }

    /// Whether nothing was heard for longer than a living connector is silent. It may yet be heard again.
    pub fn is_suspected(&self) -> bool {
        match self {
            Self::Causeway(session) => session.is_suspected(),
        }
    }

    /// Waits until it is suspected. Cancel safe.
    pub async fn suspected(&self) {
        match self {
            Self::Causeway(session) => session.suspected().await,
        }
    }

    /// When something was last known to have come.
    pub fn last_heard(&self) -> Instant {
        match self {
            Self::Causeway(session) => session.last_heard(),
        }
    }

    /// Whether the transport still stands. A peer that just died is alive until its silence was too long.
    pub fn is_alive(&self) -> bool {
        match self {
            Self::Causeway(session) => session.is_alive(),
        }
    }

    /// Waits for its end. Cancel safe.
    pub async fn closed(&self) -> Closed {
        match self {
            Self::Causeway(session) => session.closed().await,
        }
    }

    /// Ends it at once; streams in flight are lost.
    pub fn close(&self, code: CloseCode, reason: &str) {
        match self {
            Self::Causeway(session) => session.close(code, reason),
        }
    }

    /// What it goes over; `None` when it does not leave the process.
    pub fn transport(&self) -> Option<Transport> {
        match self {
            Self::Causeway(session) => session.transport(),
        }
    }

    /// The smoothed round trip.
    pub fn rtt(&self) -> Duration {
        match self {
            Self::Causeway(session) => session.rtt(),
        }
    }

    /// The largest packet that the way is known to take, in bytes, where there are packets.
    pub fn path_mtu(&self) -> Option<u16> {
        match self {
            Self::Causeway(session) => session.path_mtu(),
        }
    }
}

impl SendHalf {
    /// The head, and with it the whole body if it is here. Whatever writes here may be cut short when the stream is then given up; an arm may promise more.
    pub async fn request(&mut self, head: &RequestHead, first: First) -> Result<(), StreamError> {
        match self {
            Self::Causeway(send) => send.request(head, first).await,
        }
    }

    /// The words that a connection which passes through begins with; its bytes follow raw.
    pub async fn connect(&mut self, passage: Passage) -> Result<(), StreamError> {
        match self {
            Self::Causeway(send) => send.open(&Opening::Connect(passage), First::More).await,
        }
    }

    pub async fn data(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        match self {
            Self::Causeway(send) => send.data(bytes).await,
        }
    }

    pub async fn trailers(&mut self, trailers: &HeaderMap) -> Result<(), StreamError> {
        match self {
            Self::Causeway(send) => send.trailers(trailers).await,
        }
    }

    /// The request is whole.
    pub async fn end(&mut self) -> Result<(), StreamError> {
        match self {
            Self::Causeway(send) => send.end().await,
        }
    }

    /// Gives up: the connector sees a reset. Does nothing after the end.
    pub fn abort(&mut self, code: AbortCode) {
        match self {
            Self::Causeway(send) => send.abort(code),
        }
    }

    /// Resolves when the connector wants no more of it, with its code, or has all of it (`None`). Borrows nothing;
    /// cancel safe.
    pub fn stopped(&self) -> impl Future<Output = Option<AbortCode>> + Send + 'static {
        match self {
            Self::Causeway(send) => send.stopped(),
        }
    }

    pub fn into_raw(self) -> RawSendHalf {
        match self {
            Self::Causeway(send) => RawSendHalf::Causeway(send.into_raw()),
        }
    }
}

impl RecvHalf {
    /// The next interim answer, or the final one's head. Cancel safe.
    pub async fn response(&mut self) -> Result<ResponseEvent, StreamError> {
        match self {
            Self::Causeway(recv) => recv.response().await,
        }
    }

    /// What may lie here, or come, while nobody reads on.
    pub fn waiting_bytes(&self) -> usize {
        match self {
            Self::Causeway(recv) => recv.waiting_bytes(),
        }
    }

    /// What of it the budget counts already, read or not.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Causeway(recv) => recv.held_bytes(),
        }
    }

    /// What follows the final head.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, StreamError>> {
        match self {
            Self::Causeway(recv) => recv.poll_frame(cx),
        }
    }

    pub fn into_raw(self) -> RawRecvHalf {
        match self {
            Self::Causeway(recv) => RawRecvHalf::Causeway(recv.into_raw()),
        }
    }
}

impl RawSendHalf {
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        match self {
            Self::Causeway(send) => send.write(bytes).await,
        }
    }

    /// Half-closes.
    pub fn finish(&mut self) {
        match self {
            Self::Causeway(send) => send.finish(),
        }
    }

    pub fn abort(&mut self, code: AbortCode) {
        match self {
            Self::Causeway(send) => send.abort(code),
        }
    }
}

impl RawRecvHalf {
    /// As [`RecvHalf::waiting_bytes`].
    pub fn waiting_bytes(&self) -> usize {
        match self {
            Self::Causeway(recv) => recv.waiting_bytes(),
        }
    }

    /// As [`RecvHalf::held_bytes`].
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Causeway(recv) => recv.held_bytes(),
        }
    }

    /// `None` when the connector half-closed. Cancel safe.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        match self {
            Self::Causeway(recv) => recv.chunk().await,
        }
    }
}

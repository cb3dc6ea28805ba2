//! The receiving half of a stream: heads, body frames and the explicit end.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use super::frame::Frame;
use super::head::{BodyKind, RequestHead};
use super::incoming::{Incoming, ResponseEvent};
use super::wire::Malformed;
use super::{RawRecv, StreamError};
use crate::code::AbortCode;
use crate::flow::Inlet;
use crate::opening::Opening;

/// Receives one message. Dropped before its end it tells the peer to stop ([`AbortCode::Cancelled`]).
pub struct RecvStream {
    /// `None` once it was turned into raw bytes.
    half: Option<Inlet>,
    incoming: Incoming,
    /// The end was seen, reading failed, or we gave up.
    is_over: bool,
}

impl RecvStream {
    pub(crate) fn new(half: Inlet) -> Self {
        Self { half: Some(half), incoming: Incoming::default(), is_over: false }
    }

    /// The first message of a stream that the peer opened. Cancel safe.
    ///
    /// # Errors
    /// When the peer gave up, broke the protocol, or the session is lost.
    pub async fn opening(&mut self) -> Result<Opening, StreamError> {
        let (opening, answer_window) = poll_fn(|cx| self.poll_next(cx, Incoming::opening)).await?;
        let half = self.half.as_mut().expect("a raw stream has no frames");
        half.may_answer(answer_window);
        if let Some(route) = opening.route() {
            half.set_route(route);
        }
        // Of another kind of body it is not known whether it is more than a message now and then.
        if let Opening::Request(RequestHead { body: BodyKind::Known(length), .. }) = &opening {
            half.expect(*length);
        }
        Ok(opening)
    }

    /// The next interim answer or the final head. Cancel safe.
    ///
    /// # Errors
    /// As [`RecvStream::opening`].
    pub async fn response(&mut self) -> Result<ResponseEvent, StreamError> {
        poll_fn(|cx| self.poll_next(cx, Incoming::response)).await
    }

    /// The next body frame; after [`Frame::End`] nothing more may be asked for. Cancel safe.
    ///
    /// # Errors
    /// As [`RecvStream::opening`]. A stream that ends without END is an error.
    pub async fn frame(&mut self) -> Result<Frame, StreamError> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// [`RecvStream::frame`] for those who poll.
    ///
    /// # Errors
    /// As [`RecvStream::frame`].
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, StreamError>> {
        let frame = ready!(self.poll_next(cx, Incoming::frame))?;
        if let (Frame::End, Some(half)) = (&frame, &mut self.half) {
            // END and FIN travel together: taking the FIN now saves a needless STOP_SENDING when the stream is dropped.
            half.poll_end(cx);
            self.is_over = true;
        }
        Poll::Ready(Ok(frame))
    }

    /// Whether the message has come to its clean end.
    pub fn is_ended(&self) -> bool {
        self.incoming.is_over()
    }

    /// What may lie here, or come, while nobody reads on.
    pub fn waiting_bytes(&self) -> usize {
        let outstanding = self.half.as_ref().filter(|_| !self.is_over).map_or(0, Inlet::outstanding);
        self.incoming.buffered() + usize::try_from(outstanding).unwrap_or(usize::MAX)
    }

    /// What of it the budget counts already, moving or not.
    pub fn held_bytes(&self) -> usize {
        self.half.as_ref().map_or(0, Inlet::held)
    }

    /// Gives up reading: the peer's writes fail with `code`. Does nothing after the end.
    pub fn stop(&mut self, code: AbortCode) {
        if let Some(half) = self.half.as_mut().filter(|_| !self.is_over) {
            half.stop(code);
            self.is_over = true;
        }
    }

    /// Switches to raw bytes, after an upgrade was accepted; what was read ahead comes first.
    pub fn into_raw(mut self) -> RawRecv {
        self.is_over = true;
        let half = self.half.take().expect("a stream is turned raw once");
        let rest = std::mem::take(&mut self.incoming).into_rest();
        RawRecv::new(half, rest)
    }

    fn poll_next<T>(
        &mut self,
        cx: &mut Context<'_>,
        next: fn(&mut Incoming) -> Result<Option<T>, Malformed>,
    ) -> Poll<Result<T, StreamError>> {
        let half = self.half.as_mut().expect("a raw stream has no frames");
        loop {
            if let Some(message) = next(&mut self.incoming)? {
                return Poll::Ready(Ok(message));
            }
            match ready!(half.poll_read(cx, |bytes| self.incoming.feed(bytes))) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(Err(Malformed("a stream ended without END").into())),
                Err(ended) => {
                    self.is_over = true;
                    return Poll::Ready(Err(ended.into()));
                }
            }
        }
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.stop(AbortCode::Cancelled);
    }
}

impl fmt::Debug for RecvStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvStream").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

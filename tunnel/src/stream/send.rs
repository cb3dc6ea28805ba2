//! The sending half of a stream: heads, body and a clean end, or an abort.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::head::{RequestHead, ResponseHead};
use super::outgoing::{First, Outgoing};
use super::{RawSend, StreamError};
use crate::code::AbortCode;
use crate::flow::Outlet;
use crate::opening::Opening;

/// Sends one message. Dropped before its end was sent it aborts with [`AbortCode::Cancelled`].
///
/// Cancel safe in this sense: what an `async` method was given when it was first polled belongs to the stream. Cancelled, the
/// method may have sent a part; the next one sends the rest first. So never give it the same again.
pub struct SendStream {
    /// `None` once it was turned into raw bytes.
    half: Option<Outlet>,
    outgoing: Outgoing,
    /// What may be answered before more is granted: told in the opening.
    answer_window: u64,
    /// The end or an abort was sent.
    is_over: bool,
}

impl SendStream {
    /// Of a stream that this end opens; so much may be answered before more is granted.
    pub(crate) fn opening(half: Outlet, answer_window: u64) -> Self {
        Self { half: Some(half), outgoing: Outgoing::default(), answer_window, is_over: false }
    }

    /// Of one that the peer opened.
    pub(crate) fn answering(half: Outlet) -> Self {
        Self::opening(half, 0)
    }

    /// The first message of a stream that this end opened.
    ///
    /// # Errors
    /// When the head is longer than the protocol allows (nothing is sent), the peer gave up or the session is lost.
    pub async fn open(&mut self, opening: &Opening, first: First) -> Result<(), StreamError> {
        self.expect(opening.route(), &first);
        self.outgoing.opening(opening, self.answer_window, first)?;
        self.flush().await
    }

    /// [`SendStream::open`] for a request.
    ///
    /// # Errors
    /// As [`SendStream::open`].
    pub async fn request(&mut self, head: &RequestHead, first: First) -> Result<(), StreamError> {
        self.expect(Some(head.route), &first);
        self.outgoing.request(head, self.answer_window, first)?;
        self.flush().await
    }

    /// # Errors
    /// As [`SendStream::open`].
    pub async fn response(&mut self, head: &ResponseHead, first: First) -> Result<(), StreamError> {
        self.expect(None, &first);
        self.outgoing.response(head, first)?;
        self.flush().await
    }

    /// Sends an interim (1xx) answer.
    ///
    /// # Errors
    /// As [`SendStream::open`].
    pub async fn interim(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), StreamError> {
        self.outgoing.interim(status, headers)?;
        self.flush().await
    }

    /// Sends body bytes without copying them.
    ///
    /// # Errors
    /// When the peer gave up or the session is lost.
    pub async fn data(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.outgoing.data(bytes);
        self.flush().await
    }

    /// Waits until some data can be sent, so that it need not be held meanwhile. Then it is sent, or [`SendStream::pass`] is
    /// called at once: others wait. Cancel safe.
    ///
    /// # Errors
    /// When the peer wants no more, or the session is lost.
    pub async fn ready(&mut self) -> Result<(), StreamError> {
        let half = self.half.as_mut().expect("a raw stream has no frames");
        Ok(poll_fn(|cx| half.poll_ready(cx)).await?)
    }

    /// Has others write first: there is nothing to send yet.
    pub fn pass(&mut self) {
        self.half.as_mut().expect("a raw stream has no frames").pass();
    }

    /// # Errors
    /// As [`SendStream::open`].
    pub async fn trailers(&mut self, trailers: &HeaderMap) -> Result<(), StreamError> {
        self.outgoing.trailers(trailers)?;
        self.flush().await
    }

    /// The message is whole.
    ///
    /// # Errors
    /// When the peer gave up or the session is lost.
    pub async fn end(&mut self) -> Result<(), StreamError> {
        self.outgoing.end();
        self.flush().await
    }

    /// Gives up: the peer sees a reset, never a short body. Does nothing after the end.
    pub fn abort(&mut self, code: AbortCode) {
        if let Some(half) = self.half.as_mut().filter(|_| !self.is_over) {
            half.reset(code);
            self.is_over = true;
        }
    }

    /// Resolves when the peer stops reading, with its code, or when the session is lost ([`AbortCode::Cancelled`]);
    /// with `None` when the peer has received everything. Independent of the stream's borrow and cancel safe.
    pub fn stopped(&self) -> impl Future<Output = Option<AbortCode>> + Send + 'static {
        let stopped = self.half.as_ref().map(Outlet::stopped);
        async move { stopped?.await }
    }

    /// Switches to raw bytes, after an upgrade was accepted.
    pub fn into_raw(mut self) -> RawSend {
        self.is_over = true;
        let half = self.half.take().expect("a stream is turned raw once");
        RawSend::new(half, std::mem::take(&mut self.outgoing).into_chunks())
    }

    /// A body may follow the head: the peer may grant for it as soon as it has read that.
    fn expect(&mut self, route: Option<u32>, first: &First) {
        let Some(half) = &mut self.half else { return };
        route.into_iter().for_each(|route| half.set_route(route));
        if *first == First::More {
            half.expect_much();
        }
    }

    async fn flush(&mut self) -> Result<(), StreamError> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let half = self.half.as_mut().expect("a raw stream has no frames");
        ready!(half.poll_write(cx, self.outgoing.chunks()))?;
        if self.outgoing.written() {
            half.finish();
            self.is_over = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        // A carrier may finish the stream: that is a clean end, which only END may be.
        self.abort(AbortCode::Cancelled);
    }
}

impl fmt::Debug for SendStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendStream").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

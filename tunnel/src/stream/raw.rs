//! The two halves of a stream after an accepted upgrade: raw bytes, where FIN closes one direction only.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};

use super::StreamError;
use crate::code::AbortCode;
use crate::flow::{Inlet, Outlet};

/// Sends raw bytes. Dropped before [`RawSend::finish`] it aborts.
pub struct RawSend {
    half: Outlet,
    /// Given to [`RawSend::write`], not written yet.
    chunks: Vec<Bytes>,
    is_over: bool,
}

/// Receives raw bytes. Dropped before the end it tells the peer to stop.
pub struct RawRecv {
    half: Inlet,
    /// Bytes that arrived behind the last frame, then those of later reads.
    ready: VecDeque<Bytes>,
    /// How it ended, once that is known: said again to whoever asks again, so that a break never looks like an end.
    end: Option<Result<(), StreamError>>,
}

/// What came in small pieces, one a packet, is handed out joined: a write to a socket for each would cost more than the copy.
const JOINED_BYTES: usize = 64 * 1024;

impl RawSend {
    pub(super) fn new(half: Outlet, chunks: Vec<Bytes>) -> Self {
        Self { half, chunks, is_over: false }
    }

    /// Sends all of `bytes` without copying. Cancel safe as [`super::SendStream`] is: never give it the same again.
    ///
    /// # Errors
    /// When the peer gave up or the session is lost.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.give(bytes);
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// [`RawSend::write`] for those who poll: takes `bytes`, which [`RawSend::poll_flush`] sends.
    pub fn give(&mut self, bytes: Bytes) {
        self.chunks.push(bytes);
    }

    /// Sends what it was given.
    ///
    /// # Errors
    /// As [`RawSend::write`].
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if !self.chunks.is_empty() {
            ready!(self.half.poll_write(cx, &mut self.chunks))?;
            self.chunks.clear();
        }
        Poll::Ready(Ok(()))
    }

    /// Closes this direction; the other one stays open. Behind a write that was cancelled it aborts: an end would lie.
    pub fn finish(&mut self) {
        if self.chunks.iter().all(Bytes::is_empty) {
            self.half.finish();
            self.is_over = true;
        } else {
            self.abort(AbortCode::Cancelled);
        }
    }

    /// Gives up: the peer sees a reset. Does nothing after [`RawSend::finish`].
    pub fn abort(&mut self, code: AbortCode) {
        if !self.is_over {
            self.half.reset(code);
            self.is_over = true;
        }
    }
}

impl RawRecv {
    pub(super) fn new(half: Inlet, ready: VecDeque<Bytes>) -> Self {
        Self { half, ready, end: None }
    }

    /// The next bytes; `None` when the peer closed its direction. Cancel safe.
    ///
    /// # Errors
    /// When the peer gave up or the session is lost.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// [`RawRecv::chunk`] for those who poll.
    ///
    /// # Errors
    /// As [`RawRecv::chunk`].
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        loop {
            if let Some(bytes) = self.joined() {
                return Poll::Ready(Ok(Some(bytes)));
            }
            if let Some(end) = &self.end {
                return Poll::Ready(end.clone().map(|()| None));
            }
            let ready = &mut self.ready;
            match ready!(self.half.poll_read(cx, |bytes| ready.push_back(bytes))) {
                Ok(true) => {}
                Ok(false) => self.end = Some(Ok(())),
                Err(ended) => self.end = Some(Err(ended.into())),
            }
        }
    }

    /// Of what is ready the first bytes, in one piece.
    fn joined(&mut self) -> Option<Bytes> {
        let mut length = 0;
        let fits = self.ready.iter().take_while(|bytes| {
            length += bytes.len();
            length <= JOINED_BYTES
        });
        let count = fits.count();
        if count < 2 {
            return self.ready.pop_front();
        }
        let mut joined = BytesMut::with_capacity(length.min(JOINED_BYTES));
        self.ready.drain(..count).for_each(|bytes| joined.extend_from_slice(&bytes));
        Some(joined.freeze())
    }

    /// As [`super::RecvStream::waiting_bytes`].
    pub fn waiting_bytes(&self) -> usize {
        let outstanding = if self.end.is_some() { 0 } else { self.half.outstanding() };
        self.ready.iter().map(Bytes::len).sum::<usize>() + usize::try_from(outstanding).unwrap_or(usize::MAX)
    }

    /// As [`super::RecvStream::held_bytes`].
    pub fn held_bytes(&self) -> usize {
        self.half.held()
    }

    /// Gives up reading. Does nothing after the end.
    pub fn stop(&mut self, code: AbortCode) {
        if self.end.is_none() {
            self.half.stop(code);
            self.ready.clear();
            self.end = Some(Err(StreamError::Aborted(code)));
        }
    }
}

impl Drop for RawSend {
    fn drop(&mut self) {
        self.abort(AbortCode::Cancelled);
    }
}

impl Drop for RawRecv {
    fn drop(&mut self) {
        self.stop(AbortCode::Cancelled);
    }
}

impl fmt::Debug for RawSend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSend").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

impl fmt::Debug for RawRecv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawRecv").field("end", &self.end).finish_non_exhaustive()
    }
}

//! The two halves of a stream after an accepted upgrade: raw bytes, where FIN closes one direction only.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use quinn::VarInt;

use crate::code::AbortCode;
use crate::recv::poll_chunks;
use crate::send::write_chunks;
use crate::session::{InFlight, StreamError};

/// Sends raw bytes. Dropped before [`RawSend::finish`] it aborts.
pub struct RawSend {
    stream: quinn::SendStream,
    ended: bool,
    _in_flight: Arc<InFlight>,
}

/// Receives raw bytes. Dropped before the end it tells the peer to stop.
pub struct RawRecv {
    stream: quinn::RecvStream,
    /// Bytes that arrived behind the last frame, then those of later reads.
    ready: VecDeque<Bytes>,
    ended: bool,
    _in_flight: Arc<InFlight>,
}

impl RawSend {
    pub(crate) fn new(stream: quinn::SendStream, in_flight: Arc<InFlight>) -> Self {
        Self { stream, ended: false, _in_flight: in_flight }
    }

    /// Sends all of `bytes` without copying. Not cancel safe.
    ///
    /// # Errors
    /// When the peer gave up or the session is lost.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        write_chunks(&mut self.stream, &mut [bytes]).await
    }

    /// Closes this direction; the other one stays open.
    pub fn finish(&mut self) {
        let _ = self.stream.finish();
        self.ended = true;
    }

    /// Gives up: the peer sees a reset. Does nothing after [`RawSend::finish`].
    pub fn abort(&mut self, code: AbortCode) {
        if !self.ended {
            let _ = self.stream.reset(VarInt::from_u32(code.to_u32()));
            self.ended = true;
        }
    }
}

impl RawRecv {
    pub(crate) fn new(stream: quinn::RecvStream, ready: VecDeque<Bytes>, in_flight: Arc<InFlight>) -> Self {
        Self { stream, ready, ended: false, _in_flight: in_flight }
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
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Ok(Some(bytes)));
            }
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            let ready = &mut self.ready;
            match ready!(poll_chunks(&mut self.stream, cx, |bytes| ready.push_back(bytes))) {
                Ok(open) => self.ended = !open,
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    /// Gives up reading. Does nothing after the end.
    pub fn stop(&mut self, code: AbortCode) {
        if !self.ended {
            let _ = self.stream.stop(VarInt::from_u32(code.to_u32()));
            self.ended = true;
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
        f.debug_struct("RawSend").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl fmt::Debug for RawRecv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawRecv").field("ended", &self.ended).finish_non_exhaustive()
    }
}

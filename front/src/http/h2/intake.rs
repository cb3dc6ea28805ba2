//! What a visitor sends on one stream, taken off h2's hands as it comes, whether or not anybody wants it yet.
//!
//! h2 keeps a record of some hundred bytes for each DATA frame that nobody has read, and ends the *connection* of a
//! visitor who has too many small ones waiting. So a stream whose receiver is busy goes on taking them in, small ones
//! copied together. Windows are released when bytes are handed on: they bound what waits here, and hold the visitor
//! back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;

use super::uploads::{Lane, Uploads};

/// Shorter pieces are copied together: h2's own mark for a frame that costs more than it carries.
const SMALL_BYTES: usize = 256;
/// What small pieces become at most before they are handed on.
const JOINED_BYTES: usize = 16 * 1024;

pub(super) struct Intake {
    recv: RecvStream,
    /// Taken and not handed on, in order; `joined` comes last.
    taken: VecDeque<Bytes>,
    joined: BytesMut,
    /// What comes after all that: the end of the data, or the error that broke the stream.
    end: Option<Result<(), h2::Error>>,
    lane: Lane,
}

impl Intake {
    pub(super) fn new(recv: RecvStream, uploads: &Arc<Uploads>) -> Self {
        let (taken, joined) = (VecDeque::new(), BytesMut::new());
        Self { recv, taken, joined, end: None, lane: Lane::new(uploads) }
    }

    /// The next bytes; `None` before trailers and at the end.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if self.is_empty() {
            self.take_in(cx);
        }
        if let Some(bytes) = self.pop() {
            // Fails only when the stream is gone, which the next poll reports.
            let _ = self.recv.flow_control().release_capacity(bytes.len());
            self.lane.moved(bytes.len());
            return Poll::Ready(Some(Ok(bytes)));
        }
        match self.end.take() {
            None => Poll::Pending,
            // h2 says it again when it is asked again.
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            Some(Ok(())) => Poll::Ready(None),
        }
    }

    pub(super) fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        self.recv.poll_trailers(cx)
    }

    /// Takes in what has come. To be polled while nobody wants it; the waker is told of more.
    pub(super) fn take_in(&mut self, cx: &mut Context<'_>) {
        while self.end.is_none() {
            match self.recv.poll_data(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(bytes))) => self.push(bytes),
                Poll::Ready(Some(Err(error))) => self.end = Some(Err(error)),
                Poll::Ready(None) => self.end = Some(Ok(())),
            }
        }
    }

    /// Ready with the error of a stream that broke, ahead of what was taken in before; else as [`Intake::take_in`].
    pub(super) fn poll_error(&mut self, cx: &mut Context<'_>) -> Poll<h2::Error> {
        self.take_in(cx);
        match self.end.take_if(|end| end.is_err()) {
            Some(Err(error)) => Poll::Ready(error),
            _ => Poll::Pending,
        }
    }

    /// Whether anything has come, the end included.
    pub(super) fn has_started(&mut self, cx: &mut Context<'_>) -> bool {
        self.take_in(cx);
        !self.is_empty() || self.end.is_some()
    }

    /// Whether everything was handed on and there are no trailers.
    pub(super) fn is_end(&self) -> bool {
        self.is_empty() && self.recv.is_end_stream()
    }

    fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.joined.is_empty()
    }

    fn push(&mut self, bytes: Bytes) {
        self.lane.came(bytes.len());
        if bytes.len() < SMALL_BYTES {
            if self.joined.len() + bytes.len() > JOINED_BYTES {
                self.taken.push_back(self.joined.split().freeze());
            }
            self.joined.extend_from_slice(&bytes);
            return;
        }
        if !self.joined.is_empty() {
            self.taken.push_back(self.joined.split().freeze());
        }
        self.taken.push_back(bytes);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let next = self.taken.pop_front();
        next.or_else(|| (!self.joined.is_empty()).then(|| std::mem::take(&mut self.joined).freeze()))
    }
}

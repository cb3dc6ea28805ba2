//! The response body as hyper writes it; its end is the end of the request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::super::guard::SideChannel;
use crate::exchange::{Abort, OutBody};
use crate::household::EVICTED;
use crate::record::Record;

pub(super) struct Delivery {
    body: OutBody,
    record: Record,
    side: Arc<SideChannel>,
    progress: Progress,
}

/// What hyper was handed.
///
/// ```text
///   Open ──────last frame──▶ Whole
///   Left(n) ──frame of m──▶ Left(n - m) ──last frame──▶ Whole
/// ```
/// hyper lets go of a body whose declared length is written without asking for its end: `Left(0)` is whole too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Not the end, and how far that is nobody knows.
    Open,
    /// So many bytes are missing.
    Left(u64),
    Whole,
}

impl Delivery {
    /// `declared`: what hyper will write by the response's head, if that says it.
    pub(super) fn new(body: OutBody, declared: Option<u64>, record: Record, side: &Arc<SideChannel>) -> Self {
        let progress = if body.is_end_stream() {
            side.complete();
            Progress::Whole
        } else {
            declared.or_else(|| body.size_hint().exact()).map_or(Progress::Open, Progress::Left)
        };
        side.set_reader(body.reader().cloned());
        Self { body, record, side: Arc::clone(side), progress }
    }

    fn handed_over(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.record.add_out(data);
            if let Progress::Left(left) = &mut self.progress {
                *left = left.saturating_sub(data.len() as u64);
            }
        }
        if frame.is_trailers() || self.body.is_end_stream() {
            self.end();
        }
    }

    /// Open, Left → Whole.
    fn end(&mut self) {
        self.progress = Progress::Whole;
        self.side.complete();
    }

    fn is_evicted(&self) -> bool {
        self.body.reader().is_some_and(|reader| reader.is_evicted())
    }
}

impl Body for Delivery {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        match &poll {
            Poll::Ready(Some(Ok(frame))) => self.handed_over(frame),
            Poll::Ready(None) => self.end(),
            Poll::Ready(Some(Err(abort))) => {
                self.record.set_failure(abort.to_string());
                // It may be asked for its next piece before the connection hears of it: the end is the same.
                if self.is_evicted() {
                    self.side.reset();
                }
            }
            Poll::Pending => {}
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        match self.progress {
            Progress::Whole | Progress::Left(0) => {}
            Progress::Open | Progress::Left(_) => {
                self.record.set_failure(if self.is_evicted() { EVICTED } else { "visitor_gone" });
            }
        }
        self.side.answered();
    }
}

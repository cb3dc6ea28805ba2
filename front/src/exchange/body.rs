//! The two bodies of an exchange: the visitor's ([`InBody`]) and ours ([`OutBody`]).

use std::borrow::Cow;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use causeway_tunnel::semantics::keep_trailers;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::interim::ContinueGate;
use crate::household::Reader;
use crate::record::Record;

/// Why a response body could not be finished. The visitor's stream is reset, never ended cleanly.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Abort(Cow<'static, str>);

impl Abort {
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(reason.into())
    }
}

/// Why the rest of a request body will never arrive. What was forwarded so far must be aborted, never ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InError {
    #[error("the visitor went away before its request body ended")]
    Gone,
    #[error("the request body is malformed: {0}")]
    Malformed(&'static str),
    #[error("the visitor sent its request body too slowly")]
    Slow,
}

/// A source of request body frames, one per HTTP version.
pub trait Arriving: Send {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, InError>>>;
    fn is_end(&self) -> bool;
    /// Whether the visitor already sends without having waited for 100.
    fn has_started(&mut self, _cx: &mut Context<'_>) -> bool {
        false
    }
    /// Takes in what has come although nobody wants it yet, as far as the visitor's windows let him send.
    fn take_in(&mut self, _cx: &mut Context<'_>) {}
    /// Called when the gate opens: tell the visitor to go on, if that is not done elsewhere.
    fn go_on(&mut self) {}
}

/// The visitor's body. An `Err` means that it will never be complete.
pub struct InBody {
    source: Source,
    gate: Option<Waiting>,
    record: Option<Record>,
    done: bool,
}

/// Before 100 was sent: the gate, and how long we wait for it.
struct Waiting {
    gate: Arc<ContinueGate>,
    patience: Option<Pin<Box<Sleep>>>,
}

enum Source {
    Bytes(Option<Bytes>),
    Arriving(Box<dyn Arriving>),
}

impl InBody {
    pub fn empty() -> Self {
        Self::whole(None)
    }

    /// A body that is already here.
    pub fn full(bytes: Bytes) -> Self {
        Self::whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    fn whole(bytes: Option<Bytes>) -> Self {
        let done = bytes.is_none();
        Self { source: Source::Bytes(bytes), gate: None, record: None, done }
    }

    pub fn arriving(source: Box<dyn Arriving>, gate: Option<Arc<ContinueGate>>, record: Record) -> Self {
        let gate = gate.map(|gate| Waiting { gate, patience: None });
        Self { source: Source::Arriving(source), gate, record: Some(record), done: false }
    }

    /// The next frame; `None` is a complete end. Cancel safe.
    pub async fn frame(&mut self) -> Option<Result<Frame<Bytes>, InError>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await
    }

    /// Never ends: takes in what comes, for the time in which nobody can use it.
    pub async fn take_in(&mut self) -> Infallible {
        let source = match &mut self.source {
            Source::Arriving(source) if !self.done && self.gate.is_none() => source,
            _ => return std::future::pending().await,
        };
        std::future::poll_fn(|cx| {
            source.take_in(cx);
            Poll::Pending
        })
        .await
    }
}

impl Body for InBody {
    type Data = Bytes;
    type Error = InError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, InError>>> {
        let this = &mut *self;
        if this.done {
            return Poll::Ready(None);
        }
        let source = match &mut this.source {
            Source::Bytes(bytes) => {
                let bytes = bytes.take();
                this.done = true;
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            Source::Arriving(source) => source,
        };
        if let Some(Waiting { gate, patience }) = &mut this.gate {
            if !source.has_started(cx) {
                ready!(gate.poll_open(patience, cx));
                source.go_on();
            }
            this.gate = None;
        }
        let frame = ready!(source.poll_frame(cx));
        match frame {
            None => {
                this.done = true;
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                this.done = true;
                Poll::Ready(Some(Err(error)))
            }
            Some(Ok(mut frame)) => {
                if let Some(data) = frame.data_ref() {
                    if let Some(record) = &this.record {
                        record.add_in(data);
                    }
                    if source.is_end() {
                        this.done = true;
                    }
                } else if let Some(trailers) = frame.trailers_mut() {
                    keep_trailers(trailers);
                    this.done = true;
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }
}

impl std::fmt::Debug for InBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InBody").field("done", &self.done).finish_non_exhaustive()
    }
}

/// Our body. An `Err` from it resets the visitor's stream: HTTP/1.1 closes without the last chunk, HTTP/2 sends
/// RST_STREAM.
pub struct OutBody {
    out: Out,
    /// Counts what its visitor keeps waiting.
    reader: Option<Arc<Reader>>,
}

enum Out {
    Full(Option<Bytes>),
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = Abort> + Send>>),
}

impl OutBody {
    pub fn empty() -> Self {
        Self { out: Out::Full(None), reader: None }
    }

    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self { out: Out::Full(Some(bytes.into()).filter(|bytes| !bytes.is_empty())), reader: None }
    }

    /// A body that flows from the tunnel. Its `size_hint` should be exact where the length is known.
    pub fn stream(body: impl Body<Data = Bytes, Error = Abort> + Send + 'static) -> Self {
        Self { out: Out::Stream(Box::pin(body)), reader: None }
    }

    /// The front end must break the body off when this reader is given up: it is not polled while it is blocked.
    #[must_use]
    pub fn read_by(self, reader: Option<Arc<Reader>>) -> Self {
        Self { reader, ..self }
    }

    pub fn reader(&self) -> Option<&Arc<Reader>> {
        self.reader.as_ref()
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        match &mut self.out {
            Out::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Out::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.out {
            Out::Full(bytes) => bytes.is_none(),
            Out::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.out {
            Out::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Out::Stream(body) => body.size_hint(),
        }
    }
}

impl std::fmt::Debug for OutBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.out {
            Out::Full(_) => "full",
            Out::Stream(_) => "stream",
        };
        f.debug_tuple("OutBody").field(&kind).finish()
    }
}

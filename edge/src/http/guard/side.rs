//! What the guard and the service of one connection tell each other beside hyper.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::head::{Framing, Head};
use super::scan::Refusal;
use crate::exchange::{InError, Target};
use crate::household::Reader;

/// What the guard let through, one for each request that hyper sees.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Admitted {
    Request(Head),
    /// hyper sees a stand-in: answer it with the refusal and close.
    Refused(Refusal),
}

/// A request that it is the service's turn to answer.
pub(crate) struct Taken {
    pub(crate) admitted: Admitted,
    /// Something that follows its head has arrived.
    pub(crate) has_more: bool,
    pub(crate) turn: Turn,
}

/// Sends informational responses to one request: none of its can reach the next one's visitor.
pub(crate) struct Turn {
    side: Arc<Side>,
    number: u64,
}

/// Shared by the guard, the service, and the handles of the request that is being served.
pub(crate) struct Side {
    state: Mutex<State>,
    /// The connection's task, to be woken when there is something to write.
    task: AtomicWaker,
    flushed: AtomicWaker,
}

struct State {
    admitted: VecDeque<Admitted>,
    /// Messages that the guard let through, that the service took, and that it finished answering.
    seen: u64,
    taken: u64,
    answered: u64,
    /// When the last answer was finished; at first, when the connection began.
    last: Instant,
    /// The last message seen has a body that has not ended.
    in_body: bool,
    body_error: Option<InError>,
    /// The core let go of the current request's body before its end.
    abandoned: bool,
    upgraded: bool,
    close: Close,
    draining: bool,
    /// Informational responses of the request that is being served. None once its final head is on the way.
    interim: Option<BytesMut>,
    interim_under_way: bool,
    has_more: bool,
    closed: bool,
    /// Who reads the current response.
    reader: Option<Arc<Reader>>,
}

/// What the end of the connection says to the visitor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Close {
    /// Nothing: every answer says by itself where it ends.
    Plain,
    /// That the answer is whole, and it is not: the connection must be reset.
    Reset,
    /// The same, and it is whole as soon as all of it is written.
    Completing,
}

impl Side {
    pub(crate) fn new() -> Self {
        let state = State {
            admitted: VecDeque::new(),
            seen: 0,
            taken: 0,
            answered: 0,
            last: Instant::now(),
            in_body: false,
            body_error: None,
            abandoned: false,
            upgraded: false,
            close: Close::Plain,
            draining: false,
            interim: None,
            interim_under_way: false,
            has_more: false,
            closed: false,
            reader: None,
        };
        Self { state: Mutex::new(state), task: AtomicWaker::new(), flushed: AtomicWaker::new() }
    }

    pub(super) fn admit(&self, admitted: Admitted, has_more: bool) {
        let mut state = self.state.lock();
        state.seen += 1;
        state.has_more = has_more;
        state.in_body = match &admitted {
            Admitted::Request(head) => !matches!(head.framing, Framing::None | Framing::Length(0)),
            Admitted::Refused(_) => false,
        };
        state.body_error = None;
        state.admitted.push_back(admitted);
    }

    /// The service takes the next request.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Taken> {
        let mut state = self.state.lock();
        let admitted = state.admitted.pop_front()?;
        state.taken += 1;
        state.abandoned = false;
        state.interim = Some(BytesMut::new());
        let turn = Turn { side: Arc::clone(self), number: state.taken };
        Some(Taken { admitted, has_more: state.has_more, turn })
    }

    /// The final head of the current response goes out: no informational response can follow. Ready once those
    /// before it were written.
    pub(crate) fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.flushed.register(cx.waker());
        let mut state = self.state.lock();
        let is_waiting =
            state.interim_under_way || state.interim.as_ref().is_some_and(|bytes| !bytes.is_empty());
        if is_waiting && !state.closed {
            self.task.wake();
            return Poll::Pending;
        }
        state.interim = None;
        Poll::Ready(())
    }

    /// The current response is over.
    pub(crate) fn answered(&self) {
        let mut state = self.state.lock();
        state.answered += 1;
        state.reader = None;
        state.last = Instant::now();
    }

    pub(crate) fn set_reader(&self, reader: Option<Arc<Reader>>) {
        self.state.lock().reader = reader;
    }

    /// Ready when the visitor takes nothing of the current response and was given up.
    pub(crate) fn poll_evicted(&self, cx: &Context<'_>) -> Poll<()> {
        let state = self.state.lock();
        state.reader.as_ref().map_or(Poll::Pending, |reader| reader.poll_evicted(cx))
    }

    /// From now on closing the connection would look like the end of what we send, which is not complete (hazard 138):
    /// however it comes to it (an error, a deadline, force, a panic), it is reset.
    pub(crate) fn reset(&self) {
        self.state.lock().close = Close::Reset;
    }

    /// The answer was handed over whole: its end may be seen once it is written.
    pub(crate) fn complete(&self) {
        let mut state = self.state.lock();
        if state.close == Close::Reset {
            state.close = Close::Completing;
        }
    }

    /// Everything was written, and our end with it.
    pub(super) fn ended(&self) {
        let mut state = self.state.lock();
        if state.close == Close::Completing {
            state.close = Close::Plain;
        }
    }

    /// Between requests the connection may end at once.
    pub(crate) fn drain(&self) {
        self.state.lock().draining = true;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.state.lock().draining
    }

    /// Since when there is nothing to answer. None: there is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        (state.answered == state.seen).then_some(state.last)
    }

    pub(crate) fn abandon_body(&self) {
        self.state.lock().abandoned = true;
    }

    /// Whether there is more of the body of the request that is being served, and nobody reads it.
    pub(crate) fn is_body_left(&self) -> bool {
        let state = self.state.lock();
        state.abandoned && state.in_body && state.taken == state.seen
    }

    pub(super) fn end_body(&self) {
        self.state.lock().in_body = false;
    }

    pub(super) fn fail_body(&self, error: InError) {
        self.state.lock().body_error = Some(error);
    }

    /// Why the guard failed the body that hyper reports as broken.
    pub(crate) fn body_error(&self) -> InError {
        self.state.lock().body_error.unwrap_or(InError::Gone)
    }

    /// The answer is 101: whatever comes passes.
    pub(crate) fn upgrade(&self) {
        let mut state = self.state.lock();
        state.upgraded = true;
        state.close = Close::Reset;
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.state.lock().upgraded
    }

    pub(super) fn take_interim(&self) -> Option<Bytes> {
        let mut state = self.state.lock();
        match &mut state.interim {
            Some(bytes) if !bytes.is_empty() => {
                let bytes = bytes.split().freeze();
                state.interim_under_way = true;
                Some(bytes)
            }
            _ => {
                if std::mem::take(&mut state.interim_under_way) {
                    self.flushed.wake();
                }
                None
            }
        }
    }

    pub(super) fn put_back_interim(&self, rest: Bytes) {
        let mut state = self.state.lock();
        let mut bytes = BytesMut::from(&rest[..]);
        if let Some(behind) = state.interim.take() {
            bytes.extend_from_slice(&behind);
        }
        state.interim = Some(bytes);
    }

    /// The connection is gone: nobody waits for a flush any more. True when it must be reset.
    pub(super) fn close(&self) -> bool {
        let mut state = self.state.lock();
        state.closed = true;
        self.flushed.wake();
        state.close != Close::Plain
    }

    /// To be called at each poll of the connection, before it.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
    }
}

impl Target for Turn {
    fn interim(&self, status: StatusCode, headers: HeaderMap) {
        let mut state = self.side.state.lock();
        if state.taken != self.number {
            return;
        }
        let Some(out) = &mut state.interim else { return };
        let reason = status.canonical_reason().unwrap_or("Informational");
        out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
        for (name, value) in &headers {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        drop(state);
        self.side.task.wake();
    }
}

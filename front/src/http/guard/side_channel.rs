//! What the guard and the service of one connection tell each other beside hyper, which has no way for it: heads as the
//! guard judged them, informational responses, and what the connection's end may look like. (What does have a way goes
//! by it: why a body broke is in the error that hyper hands on.)

mod ending;
mod interims;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::super::refusal::Refusal;
use super::head::{Framing, Head};
use crate::exchange::InterimSink;
use crate::household::Reader;
use ending::Ending;
use interims::{Due, Interims};

/// What the guard let through, one for each request that hyper sees.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Admitted {
    /// `has_more`: something that follows the head had arrived with it.
    Request { head: Head, has_more: bool },
    /// hyper sees a stand-in: answer it with the refusal and close.
    Refused(Refusal),
}

/// One request's place on its connection: what it says can reach no other's visitor.
#[derive(Clone)]
pub(crate) struct Turn {
    side: Arc<SideChannel>,
    number: u64,
}

/// Shared by the guard, the service, and the handles of the request that is being served.
pub(crate) struct SideChannel {
    state: Mutex<State>,
    /// The connection's task, to be woken when there is something to write.
    task: AtomicWaker,
    flushed: AtomicWaker,
}

struct State {
    phase: Phase,
    /// In the order in which they came, and hyper sees them.
    admitted: VecDeque<Admitted>,
    /// Messages that the guard let through, that the service took, and that it finished answering.
    seen: u64,
    taken: u64,
    answered: u64,
    /// When the last answer was finished; at first, when the connection began.
    last: Instant,
    body: Body,
    interims: Interims,
    ending: Ending,
    /// Who reads the current response.
    reader: Option<Arc<Reader>>,
}

/// How far the connection is.
///
/// ```text
///   Serving ──drain──▶ Draining ──upgrade──▶ Upgraded ──close──▶ Closed
///      └─────────────upgrade────────────────────▲                   ▲
///      └─────────────close──────────────────────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Between requests it may end at once.
    Draining,
    /// The answer was 101: whatever comes passes.
    Upgraded,
    /// Nobody writes any more, and nobody has to wait for it.
    Closed,
}

/// The body of the last message seen.
///
/// ```text
///   admit ──▶ Coming ──abandon──▶ Unwanted
///     │         └──────end─────▶ Ended ◀──end──┘
///     └─(it has none)──▶ Ended
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Ended,
    Coming,
    /// There is more of it, and nobody reads it.
    Unwanted,
}

impl SideChannel {
    pub(crate) fn new() -> Self {
        let state = State {
            phase: Phase::Serving,
            admitted: VecDeque::new(),
            seen: 0,
            taken: 0,
            answered: 0,
            last: Instant::now(),
            body: Body::Ended,
            interims: Interims::Over,
            ending: Ending::Plain,
            reader: None,
        };
        Self { state: Mutex::new(state), task: AtomicWaker::new(), flushed: AtomicWaker::new() }
    }

    pub(super) fn admit(&self, admitted: Admitted) {
        let mut state = self.state.lock();
        state.seen += 1;
        state.body = match &admitted {
            Admitted::Request { head, .. } if !matches!(head.framing, Framing::None | Framing::Length(0)) => {
                Body::Coming
            }
            Admitted::Request { .. } | Admitted::Refused(_) => Body::Ended,
        };
        state.admitted.push_back(admitted);
    }

    /// The service takes the next request.
    pub(crate) fn take(self: &Arc<Self>) -> Option<(Admitted, Turn)> {
        let mut state = self.state.lock();
        let admitted = state.admitted.pop_front()?;
        state.taken += 1;
        state.interims.begin();
        let number = state.taken;
        Some((admitted, Turn { side: Arc::clone(self), number }))
    }

    /// The final head of the current response goes out: no informational response can follow. Ready once those
    /// before it were written.
    pub(crate) fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.flushed.register(cx.waker());
        let mut state = self.state.lock();
        if state.interims.end() || state.phase == Phase::Closed {
            return Poll::Ready(());
        }
        self.task.wake();
        Poll::Pending
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
        self.state.lock().ending.must_reset();
    }

    /// The answer was handed over whole: its end may be seen once it is written.
    pub(crate) fn complete(&self) {
        self.state.lock().ending.complete();
    }

    /// Everything was written, and our end with it.
    pub(super) fn ended(&self) {
        self.state.lock().ending.written();
    }

    pub(crate) fn drain(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Serving {
            state.phase = Phase::Draining;
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.state.lock().phase == Phase::Draining
    }

    /// The answer is 101. From here on only the end of the connection ends what we send.
    pub(crate) fn upgrade(&self) {
        let mut state = self.state.lock();
        if state.phase != Phase::Closed {
            state.phase = Phase::Upgraded;
        }
        state.ending.must_reset();
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.state.lock().phase == Phase::Upgraded
    }

    /// Since when there is nothing to answer. None: there is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        (state.answered == state.seen).then_some(state.last)
    }

    pub(super) fn end_body(&self) {
        self.state.lock().body = Body::Ended;
    }

    /// Whether there is more of the body of the request that is being served, and nobody reads it.
    pub(crate) fn is_body_left(&self) -> bool {
        self.state.lock().body == Body::Unwanted
    }

    pub(super) fn take_interim(&self) -> Option<Bytes> {
        match self.state.lock().interims.take() {
            Due::Bytes(bytes) => return Some(bytes),
            Due::Written => self.flushed.wake(),
            Due::Nothing => {}
        }
        None
    }

    pub(super) fn put_back_interim(&self, rest: &[u8]) {
        self.state.lock().interims.put_back(rest);
    }

    /// The connection is gone: nobody waits for a flush any more. True when it must be reset.
    pub(super) fn close(&self) -> bool {
        let mut state = self.state.lock();
        (state.phase, state.interims) = (Phase::Closed, Interims::Over);
        self.flushed.wake();
        state.ending != Ending::Plain
    }

    /// To be called at each poll of the connection, before it.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
    }
}

impl Turn {
    /// The core let go of this request's body before its end. When another message has come since, it had ended.
    pub(crate) fn abandon_body(&self) {
        let mut state = self.side.state.lock();
        if state.seen == self.number && state.body == Body::Coming {
            state.body = Body::Unwanted;
        }
    }
}

impl InterimSink for Turn {
    fn interim(&self, status: StatusCode, headers: HeaderMap) {
        let mut state = self.side.state.lock();
        if state.taken != self.number {
            return;
        }
        let Some(out) = state.interims.say() else { return };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn upload() -> Admitted {
        let head = Head {
            framing: Framing::Chunked,
            expects: false,
            websocket: false,
            closes: false,
            is_http_10: false,
        };
        Admitted::Request { head, has_more: false }
    }

    #[test]
    fn a_body_that_nobody_reads_is_left_until_it_ends_and_is_never_the_next_ones() {
        let side = Arc::new(SideChannel::new());
        side.admit(upload());
        let (_, first) = side.take().unwrap();
        assert!(!side.is_body_left());
        first.abandon_body();
        assert!(side.is_body_left());
        side.end_body();
        assert!(!side.is_body_left());
        side.admit(upload());
        let (_, second) = side.take().unwrap();
        first.abandon_body();
        assert!(!side.is_body_left(), "what is let go of late had ended");
        second.abandon_body();
        assert!(side.is_body_left());
        assert!(side.take().is_none(), "hyper sees no request that the guard did not let through");
    }

    #[test]
    fn what_an_earlier_request_says_never_reaches_the_next_ones_visitor() {
        let side = Arc::new(SideChannel::new());
        side.admit(Admitted::Refused(Refusal::bad("x")));
        side.admit(upload());
        let (_, first) = side.take().unwrap();
        let (_, second) = side.take().unwrap();
        first.interim(StatusCode::EARLY_HINTS, HeaderMap::new());
        assert_eq!(side.take_interim(), None);
        second.interim(StatusCode::EARLY_HINTS, HeaderMap::new());
        assert_eq!(side.take_interim(), Some(Bytes::from_static(b"HTTP/1.1 103 Early Hints\r\n\r\n")));
    }

    #[test]
    fn an_upgrade_outlives_the_drain_and_nobody_waits_for_what_is_gone() {
        let side = Arc::new(SideChannel::new());
        side.drain();
        assert!(side.is_draining());
        side.upgrade();
        side.drain();
        assert!(side.is_upgraded() && !side.is_draining());
        side.admit(upload());
        let (_, turn) = side.take().unwrap();
        turn.interim(StatusCode::EARLY_HINTS, HeaderMap::new());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(side.poll_answer(&mut cx).is_pending());
        assert!(side.close(), "an upgraded connection that was not finished is reset");
        assert!(side.poll_answer(&mut cx).is_ready());
    }
}

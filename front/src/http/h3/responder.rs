//! The sending direction of a request's stream, shared by its answer, its body and its informational responses. What it
//! is given waits here until the carrier takes it; dropped before its end, the stream is reset.

use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use causeway_tunnel::guest::{Broken, Sender};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use super::{code, frames, head};
use crate::exchange::{Abort, InterimSink};

pub(super) struct Responder(Mutex<State>);

struct State {
    sender: Sender,
    /// In order.
    waiting: Vec<Bytes>,
    phase: Phase,
    /// Of whoever waits for the answer, or for room.
    task: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Informational responses may go out.
    Asked,
    Answering,
    /// Finished, or reset.
    Over,
}

impl Responder {
    pub(super) fn new(sender: Sender) -> Self {
        Self(Mutex::new(State { sender, waiting: Vec::new(), phase: Phase::Asked, task: None }))
    }

    /// While there is no answer: sends what waits. Ready when nobody waits for an answer any more.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<Abort> {
        let mut state = self.0.lock();
        state.wait(cx);
        if state.phase == Phase::Over {
            return Poll::Ready(Abort::new("the stream is over"));
        }
        if !state.waiting.is_empty()
            && let Poll::Ready(Err(broken)) = state.poll_write(cx)
        {
            return Poll::Ready(gone(broken));
        }
        state.sender.poll_broken(cx).map(gone)
    }

    /// Puts the final head in line. Says its size, as the visitor counts it.
    pub(super) fn begin(&self, status: StatusCode, headers: &HeaderMap) -> usize {
        let (frame, size) = head::response(status, headers);
        let mut state = self.0.lock();
        if state.phase == Phase::Asked {
            state.phase = Phase::Answering;
            state.waiting.push(frame);
        }
        size
    }

    /// Puts a piece of the body in line.
    pub(super) fn data(&self, piece: Bytes) {
        let mut head = Vec::with_capacity(9);
        frames::put_data(piece.len(), &mut head);
        self.0.lock().waiting.extend([head.into(), piece]);
    }

    pub(super) fn trailers(&self, trailers: &HeaderMap) {
        self.0.lock().waiting.push(head::end(trailers).0);
    }

    /// Ready when the carrier has taken all that was put in line. Adds to `moved` what it took.
    pub(super) fn poll_flush(&self, moved: &mut usize, cx: &mut Context<'_>) -> Poll<Result<(), Abort>> {
        let mut state = self.0.lock();
        state.wait(cx);
        if state.phase == Phase::Over {
            return Poll::Ready(Err(Abort::new("the stream is over")));
        }
        let before: usize = state.waiting.iter().map(Bytes::len).sum();
        let flushed = state.poll_write(cx);
        *moved += before - state.waiting.iter().map(Bytes::len).sum::<usize>();
        flushed.map_err(gone)
    }

    /// Ready when the visitor wants no more of the answer.
    pub(super) fn poll_stopped(&self, cx: &mut Context<'_>) -> Poll<Abort> {
        let mut state = self.0.lock();
        state.wait(cx);
        match state.phase {
            Phase::Over => Poll::Ready(Abort::new("the stream is over")),
            _ => state.sender.poll_broken(cx).map(gone),
        }
    }

    /// The end, behind what was flushed.
    pub(super) fn finish(&self) {
        let mut state = self.0.lock();
        if state.phase != Phase::Over {
            state.phase = Phase::Over;
            state.sender.finish();
        }
    }

    /// Behind [`Responder::finish`]: waits until the visitor has everything, or does not want it.
    pub(super) fn settled(&self) -> impl Future<Output = ()> + Send + use<> {
        self.0.lock().sender.settled()
    }

    /// An end that is none.
    pub(super) fn reset(&self, code: u32) {
        self.0.lock().reset(code);
    }
}

impl InterimSink for Responder {
    fn interim(&self, status: StatusCode, headers: HeaderMap) {
        let mut state = self.0.lock();
        if state.phase != Phase::Asked {
            return;
        }
        state.waiting.push(head::response(status, &headers).0);
        if let Some(task) = state.task.take() {
            task.wake();
        }
    }
}

impl State {
    fn wait(&mut self, cx: &Context<'_>) {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.task = Some(cx.waker().clone());
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let written = ready!(self.sender.poll_write(cx, &mut self.waiting));
        self.waiting.clear();
        Poll::Ready(written)
    }

    fn reset(&mut self, code: u32) {
        if self.phase == Phase::Over {
            return;
        }
        self.phase = Phase::Over;
        self.waiting.clear();
        self.sender.reset(code);
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.reset(code::REQUEST_CANCELLED);
    }
}

fn gone(broken: Broken) -> Abort {
    Abort::new(match broken {
        Broken::ByPeer => "the visitor gave the request up",
        Broken::Lost => "the visitor's connection was lost",
    })
}

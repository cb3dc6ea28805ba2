//! How a connection's task is called, and what for.

use std::task::{Context, Waker};

use parking_lot::Mutex;

#[derive(Debug, Default)]
pub(super) struct Bells(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    rung: Vec<u64>,
    is_nudged: bool,
    /// None while the task looks: it will see what is added.
    task: Option<Waker>,
}

impl Bells {
    /// The library has something of this stream, or is done with it.
    pub(super) fn ring(&self, stream: u64) {
        let mut state = self.0.lock();
        state.rung.push(stream);
        state.wake();
    }

    /// The task has something else to look after.
    pub(super) fn nudge(&self) {
        let mut state = self.0.lock();
        state.is_nudged = true;
        state.wake();
    }

    /// For the task: which streams it is to look at.
    pub(super) fn rung(&self) -> Vec<u64> {
        let mut state = self.0.lock();
        state.task = None;
        state.is_nudged = false;
        std::mem::take(&mut state.rung)
    }

    /// Whether there is nothing to look after; then the task is woken when there is.
    pub(super) fn is_quiet(&self, cx: &Context<'_>) -> bool {
        let mut state = self.0.lock();
        let is_quiet = state.rung.is_empty() && !state.is_nudged;
        state.task = is_quiet.then(|| cx.waker().clone());
        is_quiet
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }
}

//! What of a connection's answers waits in h2 for the socket.
//!
//! h2 bounds that for each stream; a visitor with wide windows that does not read its socket would have it a hundred
//! times, and for answers whose requests count as done. So a stream hands on its next piece only when the connection
//! has little waiting.

use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// Enough to keep the socket busy, whose own buffer holds what is on the way; half a thousand connections of one address
/// hold 64 MiB with it.
const MAX_WAITING_BYTES: usize = 128 * 1024;

#[derive(Default)]
pub(super) struct Backlog(Mutex<State>);

#[derive(Default)]
struct State {
    bytes: usize,
    waiting: Vec<Waker>,
}

impl Backlog {
    /// Ready when a piece may be handed on.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.bytes < MAX_WAITING_BYTES {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(super) fn handed_on(&self, bytes: usize) {
        self.0.lock().bytes += bytes;
    }

    /// The socket took so many, frame heads included: those make the count a little low, never high.
    pub(super) fn written(&self, bytes: usize) {
        let mut state = self.0.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
        if state.bytes >= MAX_WAITING_BYTES || state.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_backlog_holds_streams_back_until_the_socket_takes_bytes() {
        struct Nobody;
        impl std::task::Wake for Nobody {
            fn wake(self: std::sync::Arc<Self>) {}
        }
        let backlog = Backlog::default();
        let waker = Waker::from(std::sync::Arc::new(Nobody));
        let cx = Context::from_waker(&waker);
        backlog.handed_on(MAX_WAITING_BYTES);
        assert!(backlog.poll_room(&cx).is_pending() && backlog.poll_room(&cx).is_pending());
        assert_eq!(backlog.0.lock().waiting.len(), 1);
        backlog.written(1);
        assert!(backlog.0.lock().waiting.is_empty() && backlog.poll_room(&cx).is_ready());
        backlog.written(usize::MAX);
        assert_eq!(backlog.0.lock().bytes, 0);
    }
}

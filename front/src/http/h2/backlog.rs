//! What of a connection's answers waits in h2 for the socket.
//!
//! h2 bounds that for each stream; a visitor with wide windows that does not read its socket would have it a hundred
//! times, and for answers whose requests count as done. So a stream hands on its next piece only when the connection
//! has little waiting.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
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

/// A piece that counts as long as h2 holds it. When it lets go, the piece is written, or thrown away with its stream.
struct Held {
    bytes: Bytes,
    backlog: Arc<Backlog>,
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

    /// The same bytes, counted until the last of them is dropped.
    pub(super) fn hold(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        self.0.lock().bytes += bytes.len();
        Bytes::from_owner(Held { bytes, backlog: Arc::clone(self) })
    }

    fn release(&self, bytes: usize) {
        let mut state = self.0.lock();
        state.bytes -= bytes;
        if state.bytes >= MAX_WAITING_BYTES || state.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.backlog.release(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    // A waker of the runtime's: each use of one made here may have a table of its own, and then they differ.
    #[tokio::test]
    async fn a_full_backlog_holds_streams_back_until_bytes_are_written_or_thrown_away() {
        let backlog = Arc::<Backlog>::default();
        let room = || poll_fn(|cx| Poll::Ready(backlog.poll_room(cx)));
        let mut piece = backlog.hold(Bytes::from(vec![7; MAX_WAITING_BYTES]));
        assert!(room().await.is_pending() && room().await.is_pending());
        assert_eq!(backlog.0.lock().waiting.len(), 1);
        let part = piece.split_to(10);
        drop(piece);
        assert!(room().await.is_pending(), "a part of it is still there");
        drop(part);
        assert!(backlog.0.lock().waiting.is_empty() && room().await.is_ready());
        assert_eq!(backlog.0.lock().bytes, 0);
    }
}

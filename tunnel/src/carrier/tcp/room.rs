//! What was handed to the h2 library and not yet to TLS: bounded for all streams of a connection together. The library itself keeps
//! as much as it is given, and takes its streams in turn: what comes before what else is decided by who gets room. So there is as
//! much as the path takes while a writer is woken, and no more.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;

/// What one piece costs beside its bytes, so that many small ones are no way around the bound.
const PIECE_COST: usize = 128;

#[derive(Debug)]
pub(super) struct Room(Mutex<State>);

#[derive(Debug)]
struct State {
    size: usize,
    /// What it may grow to.
    most: usize,
    used: usize,
    waiting: Vec<Waker>,
    /// What has left since, and whether somebody had to wait meanwhile.
    left: usize,
    since: Instant,
    was_full: bool,
}

/// Less would stall a fast path while a writer is woken.
const LEAST_BYTES: usize = 32 * 1024;
/// What the path takes in so much time is enough.
const AHEAD: Duration = Duration::from_millis(25);

impl Room {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            size: most,
            most,
            used: 0,
            waiting: Vec::new(),
            left: 0,
            since: Instant::now(),
            was_full: false,
        })))
    }

    pub(super) fn set_most(&self, most: usize) {
        let mut state = self.0.lock();
        state.size = if most > state.most { most } else { state.size.min(most) };
        state.most = most;
        state.wake();
    }

    /// Whether a piece may be handed over; one more than fits may. `more`: beyond the room, for what must not wait for others.
    pub(super) fn poll_free(&self, cx: &Context<'_>, more: usize) -> Poll<()> {
        let mut state = self.0.lock();
        if state.used < state.size + more {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        state.was_full = true;
        Poll::Pending
    }

    pub(super) fn is_free(&self) -> bool {
        let state = self.0.lock();
        state.used < state.size
    }

    fn give_back(&self, bytes: usize) {
        let mut state = self.0.lock();
        state.used -= bytes;
        state.left += bytes;
        if state.left >= state.size {
            state.follow(Instant::now());
        }
        state.wake();
    }
}

impl State {
    /// A room's worth has left: how fast that was says how much is enough, if there was always more.
    fn follow(&mut self, now: Instant) {
        let took = now.saturating_duration_since(self.since).max(Duration::from_micros(1));
        if self.was_full {
            let ahead = self.left as u128 * AHEAD.as_micros() / took.as_micros();
            let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
            self.size = ahead.clamp(LEAST_BYTES.min(self.most), self.most);
        }
        (self.left, self.since, self.was_full) = (0, now, false);
    }

    fn wake(&mut self) {
        if self.used < self.size {
            self.waiting.drain(..).for_each(Waker::wake);
        }
    }
}

/// What the library is handed at once. What it takes of it, or drops, leaves the room.
pub(super) struct Piece {
    front: Bytes,
    body: Bytes,
    /// None: it has no bytes.
    room: Option<Arc<Room>>,
    /// Of the room.
    held: usize,
}

impl Piece {
    pub(super) fn none() -> Self {
        Self { front: Bytes::new(), body: Bytes::new(), room: None, held: 0 }
    }

    pub(super) fn new(front: Bytes, body: Bytes, room: &Arc<Room>) -> Self {
        let held = front.len() + body.len() + PIECE_COST;
        room.0.lock().used += held;
        Self { front, body, room: Some(Arc::clone(room)), held }
    }

    fn give_back(&mut self, bytes: usize) {
        self.held -= bytes;
        if let Some(room) = &self.room {
            room.give_back(bytes);
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.front.len() + self.body.len()
    }

    fn chunk(&self) -> &[u8] {
        if self.front.is_empty() { &self.body } else { &self.front }
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [std::io::IoSlice<'a>]) -> usize {
        let filled = self.front.chunks_vectored(into);
        filled + self.body.chunks_vectored(&mut into[filled..])
    }

    fn advance(&mut self, count: usize) {
        let of_front = count.min(self.front.len());
        self.front.advance(of_front);
        self.body.advance(count - of_front);
        self.give_back(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.give_back(self.held);
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({})", self.remaining())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_or_dropped_leaves_the_room_and_wakes_who_waits() {
        let room = Room::new(200);
        let cx = &Context::from_waker(Waker::noop());
        assert!(room.poll_free(cx, 0).is_ready());
        let mut piece = Piece::new(Bytes::from_static(b"ab"), Bytes::from(vec![1; 100]), &room);
        assert!(room.poll_free(cx, 0).is_pending());
        assert_eq!((piece.remaining(), piece.chunk()), (102, &b"ab"[..]));
        piece.advance(50);
        assert!(room.is_free());
        assert_eq!((piece.remaining(), piece.chunk().len()), (52, 52));
        drop(piece);
        let state = room.0.lock();
        assert_eq!((state.used, state.waiting.len()), (0, 0));
    }

    #[test]
    fn it_is_as_large_as_the_path_is_fast() {
        let room = Room::new(256 * 1024);
        let mut state = room.0.lock();
        let mut leaves = |bytes: usize, ms: u64| {
            state.left = bytes;
            state.was_full = true;
            let now = state.since + Duration::from_millis(ms);
            state.follow(now);
            state.size
        };
        assert_eq!(leaves(256 * 1024, 100), 64 * 1024, "20 Mbit/s");
        assert_eq!(leaves(64 * 1024, 500), LEAST_BYTES, "1 Mbit/s");
        assert_eq!(leaves(32 * 1024, 1), 256 * 1024, "250 Mbit/s");
    }
}

//! What a session knows of its path and of its streams' windows.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::budget::{Budget, Held, Pressure};
use super::post::Post;
use super::sending::Sending;
use super::strand::{Counter, Strand};
use super::turns::Turns;
use crate::carrier::Connection;
use crate::limits::{FIRST_WINDOW_BYTES, MAX_WINDOW_BYTES, SMALL_WINDOW_BYTES};

/// A session's share in it; its streams hold it too.
#[derive(Debug)]
pub(crate) struct Flow {
    connection: Connection,
    budget: Budget,
    sizes: Sizes,
    counter: Counter,
    /// Those whose peer may grant more, by number: none of a small message is here.
    listed: Mutex<HashMap<u64, Arc<Strand>>>,
    pub(super) post: Arc<Post>,
    pub(super) turns: Arc<Turns>,
    /// [`Flow::turns`]: who the carrier wakes.
    turns_waker: Waker,
    /// All its streams wait for the same room.
    pub(super) shares_room: bool,
    /// The widest window that a stream of this session had lately.
    lately: AtomicU64,
    /// The shortest round trip lately seen, in nanoseconds.
    shortest: AtomicU64,
    /// Written since the send window was looked at.
    written: AtomicU64,
    sending: Mutex<Sending>,
    /// It has more than its beginning.
    sends_much: AtomicBool,
}

/// How wide windows are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Of a stream of which nothing is known. Both ends know it.
    pub(crate) first: u64,
    /// When the budget is near its end.
    pub(crate) small: u64,
    pub(crate) largest: u64,
}

/// So many first windows as wide as the path's last one fit into what is free.
const FIRST_PART: usize = 16;

/// See [`Flow::is_crowded`].
const CROWD_PART: usize = 4;

impl Default for Sizes {
    fn default() -> Self {
        Self { first: FIRST_WINDOW_BYTES, small: SMALL_WINDOW_BYTES, largest: MAX_WINDOW_BYTES }
    }
}

impl Flow {
    /// The peer is known by now: its session gets all that sessions get.
    pub(crate) fn new(connection: Connection, budget: Budget, sizes: Sizes) -> Arc<Self> {
        let sending = Sending::new(&budget, budget.sender_came());
        connection.set_send_window(sending.bytes() as u64);
        connection.set_receive_window(receive_window(&budget, sizes));
        // The handshake's: nobody was busy with bytes yet.
        let shortest = u64::try_from(connection.rtt().as_nanos()).unwrap_or(u64::MAX);
        let turns = Arc::<Turns>::default();
        Arc::new(Self {
            shares_room: connection.shares_room(),
            connection,
            budget,
            sizes,
            counter: Counter::default(),
            listed: Mutex::default(),
            post: Arc::default(),
            turns_waker: Waker::from(Arc::clone(&turns)),
            turns,
            lately: AtomicU64::new(0),
            shortest: AtomicU64::new(shortest),
            written: AtomicU64::new(0),
            sending: Mutex::new(sending),
            sends_much: AtomicBool::new(false),
        })
    }

    pub(crate) fn sizes(&self) -> Sizes {
        self.sizes
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// A new stream, of which `limit` bytes may be sent so far.
    pub(crate) fn strand(&self, number: u64, limit: u64) -> Arc<Strand> {
        self.counter.count(number, limit)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.counter.get()
    }

    pub(super) fn now(&self) -> Instant {
        self.connection.now()
    }

    /// As it is now, but for what is longer only because somebody is busy, at either end or between.
    pub(super) fn round_trip(&self) -> Duration {
        let now = u64::try_from(self.connection.rtt().as_nanos()).unwrap_or(u64::MAX);
        let shortest = self.shortest.load(Ordering::Relaxed);
        // It creeps up, so that a path which became longer is believed after some hundred grants.
        let shortest = now.min(shortest.saturating_add(shortest / 64));
        self.shortest.store(shortest, Ordering::Relaxed);
        Duration::from_nanos(now.min(shortest.saturating_mul(MOST_QUEUE)))
    }

    /// How wide a stream begins of which at most so much is to come, and what of the budget it has for that.
    pub(crate) fn first_window(&self, most: u64) -> (u64, Option<Held>) {
        let lately = self.lately.load(Ordering::Relaxed).min(most);
        let Sizes { first, small, .. } = self.sizes;
        match self.budget.pressure() {
            Pressure::High => (small, None),
            _ if self.is_crowded() => (small, None),
            Pressure::Low if lately > first => {
                let mut held = self.budget.none();
                let more = held.resize_within(bytes(lately - first), FIRST_PART);
                (first + more as u64, Some(held))
            }
            Pressure::Low | Pressure::Middle => (first, None),
        }
    }

    /// So many streams that the windows where all begin, which the budget does not know of, would be much of it.
    fn is_crowded(&self) -> bool {
        self.in_flight() as u64 * self.sizes.first > (self.budget.bytes() / CROWD_PART) as u64
    }

    /// What a window of `wanted` bytes may be, with what its stream holds of the budget.
    pub(super) fn window(&self, wanted: u64, held: &mut Option<Held>) -> u64 {
        let base = match self.budget.pressure() {
            // Never less: a window that its slow reader halves at each grant would come to nothing.
            Pressure::High => self.sizes.small,
            _ if self.is_crowded() => self.sizes.small,
            _ => self.sizes.first,
        };
        let more = bytes(wanted.min(self.sizes.largest).saturating_sub(base));
        if more == 0 {
            *held = None;
            return base;
        }
        base + held.get_or_insert_with(|| self.budget.none()).resize(more) as u64
    }

    /// A stream's window grew.
    pub(super) fn grew(&self, size: u64) {
        self.lately.fetch_max(size, Ordering::Relaxed);
    }

    /// A stream ended whose window had been granted anew.
    pub(super) fn ended(&self, size: u64) {
        // The widest is forgotten over a few streams that did not need it.
        let forget = |lately: u64| (size < lately).then(|| (lately - lately / 4).max(size));
        let _ = self.lately.fetch_update(Ordering::Relaxed, Ordering::Relaxed, forget);
    }

    /// A write that, when it has to wait for the carrier, has the turns woken and not its own task.
    pub(super) fn with_turns<T>(&self, cx: &mut Context<'_>, write: impl FnOnce(&mut Context<'_>) -> T) -> T {
        if self.shares_room { write(&mut Context::from_waker(&self.turns_waker)) } else { write(cx) }
    }

    pub(super) fn list(&self, strand: &Arc<Strand>) {
        self.listed.lock().insert(strand.number, Arc::clone(strand));
    }

    pub(super) fn unlist(&self, number: u64) {
        self.listed.lock().remove(&number);
    }

    pub(super) fn granted(&self, number: u64, limit: u64) {
        // A record of a stream that is over comes late, and says nothing.
        let strand = self.listed.lock().get(&number).cloned();
        if let Some(strand) = strand {
            strand.grant(limit);
        }
    }

    /// A writer waits for the carrier, and has written so much since it last did.
    pub(super) fn is_full(&self, written: u64) {
        let all = self.written.fetch_add(written, Ordering::Relaxed) + written;
        if all < LOOK_AFTER_BYTES {
            return;
        }
        self.written.store(0, Ordering::Relaxed);
        let under_way = self.connection.congestion_window();
        if let Some(bytes) = self.sending.lock().is_full(under_way) {
            self.sends_much.store(true, Ordering::Relaxed);
            self.connection.set_send_window(bytes as u64);
        }
    }

    /// A half of a stream goes. With the last one goes what the session held for sending.
    pub(super) fn half_went(&self) {
        if self.sends_much.load(Ordering::Relaxed)
            && self.counter.get() <= 1
            && let Some(bytes) = self.sending.lock().is_idle()
        {
            self.sends_much.store(false, Ordering::Relaxed);
            self.connection.set_send_window(bytes as u64);
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.budget.sender_went();
        self.post.close();
    }
}

/// A queue may make a round trip so many times what it is without: more is nothing that wider windows would help.
const MOST_QUEUE: u64 = 8;
/// Between two looks at the send window: half of the first one.
const LOOK_AFTER_BYTES: u64 = 128 * 1024;

/// What a peer that keeps to no limit may make us hold: all that our own windows may come to.
fn receive_window(budget: &Budget, sizes: Sizes) -> u64 {
    (budget.bytes() as u64).max(sizes.largest * 2)
}

fn bytes(window: u64) -> usize {
    usize::try_from(window).unwrap_or(usize::MAX)
}

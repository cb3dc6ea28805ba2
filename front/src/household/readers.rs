//! Visitors that do not take what they asked for, and the memory that they hold with it.
//!
//! An answer's body that has handed out a piece and is not asked for the next one is *blocked*: meanwhile the tunnel may
//! fill its window, as wide as that is now, and what was handed out waits as well. Exactly that is charged, while it lasts,
//! to its household, to the session that carries it and to the process, whose budget knows of it too. When one of them holds
//! too much of the budget, the blocked reader that took least of late is given up: the household's own, or one of the
//! household that holds most. Who has just begun to stand with a wide window is spared, unless the budget is spent.
//!
//! ```text
//!   TunnelBody ──blocked(charge)──▶ Reader ──▶ household, session, process    too much: ──evict──▶ the slowest Reader
//!              ◀─────moving()─────                                                 its task is woken and resets the stream
//! ```

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use causeway_tunnel::flow::{Budget, Held};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::{Household, Households, Shared, Ticket};
use crate::metrics::ReasonLabels;

/// What may be kept waiting of the budget, in fifths. One household's: of the smallest budget 100 first windows, so that a
/// browser on a bad line that loads a page of pictures stays below it.
const HOUSEHOLD_FIFTHS: usize = 1;
/// On one session: three greedy households leave room for those that move.
const SESSION_FIFTHS: usize = 3;
/// In the process: what is left is for those that move, and for what the budget does not see.
const PROCESS_FIFTHS: usize = 4;
/// A reader blocked for less is given up only when there is no other: everybody waits for an acknowledgement at times.
const FRESH: Duration = Duration::from_millis(500);
/// What was taken so long ago counts half.
const HALF_LIFE: Duration = Duration::from_secs(8);

/// The reason in the access log.
pub const EVICTED: &str = "visitor_does_not_read";

/// The bytes charged to one session, or to a household.
#[derive(Debug, Default)]
pub struct Stalled(AtomicUsize);

/// One answer's body on its way to a visitor.
pub struct Reader {
    household: Arc<Household>,
    session: Arc<Stalled>,
    state: Mutex<State>,
    /// Who resets the stream.
    task: AtomicWaker,
}

struct State {
    /// Zero while it moves.
    charge: usize,
    /// What of the charge the budget did not know.
    held: Option<Held>,
    /// The budget knew of some: its window is wider than where all begin, since it was read fast.
    is_wide: bool,
    /// When it was last blocked.
    since: Instant,
    /// The piece that was handed out then.
    piece: usize,
    /// What was taken of late, as of `counted`.
    lately: u64,
    counted: Instant,
    is_evicted: bool,
}

/// All readers of a household, by address.
pub(super) type Readers = Mutex<HashMap<usize, Weak<Reader>>>;

impl Stalled {
    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Ticket {
    /// An answer's body begins to flow over a session.
    pub fn reader(&self, session: &Arc<Stalled>) -> Arc<Reader> {
        let now = Instant::now();
        let state = State {
            charge: 0,
            held: None,
            is_wide: false,
            since: now,
            piece: 0,
            lately: 0,
            counted: now,
            is_evicted: false,
        };
        let reader = Arc::new(Reader {
            household: Arc::clone(&self.household),
            session: Arc::clone(session),
            state: Mutex::new(state),
            task: AtomicWaker::new(),
        });
        self.household.readers.lock().insert(Arc::as_ptr(&reader).addr(), Arc::downgrade(&reader));
        reader
    }
}

impl Reader {
    /// A piece of the body was handed out; until the next one is asked for, `charge` bytes may wait.
    /// Of these, the budget knows `counted` already.
    pub fn blocked(&self, piece: usize, charge: usize, counted: usize) {
        let mut state = self.state.lock();
        if state.is_evicted || state.charge > 0 {
            return;
        }
        (state.charge, state.piece, state.since) = (charge, piece, Instant::now());
        state.held = Some(self.household.shared.budget.hold(charge - counted));
        state.is_wide = counted > 0;
        drop(state);
        self.household.stalled.add(charge);
        self.session.add(charge);
        let shared = &self.household.shared;
        shared.stalled.add(charge);
        if shared.is_over(&self.household, &self.session) {
            shared.relieve(&self.household, &self.session);
        }
    }

    /// The visitor took what was handed out. False: the reader was given up meanwhile.
    pub fn moving(&self) -> bool {
        let mut state = self.state.lock();
        if state.charge == 0 {
            return !state.is_evicted;
        }
        let now = Instant::now();
        state.lately = state.lately_at(now) + state.piece as u64;
        state.counted = now;
        let charge = std::mem::take(&mut state.charge);
        state.held = None;
        drop(state);
        self.release(charge);
        true
    }

    /// Ready once the reader was given up.
    pub fn poll_evicted(&self, cx: &Context<'_>) -> Poll<()> {
        self.task.register(cx.waker());
        if self.state.lock().is_evicted { Poll::Ready(()) } else { Poll::Pending }
    }

    pub fn is_evicted(&self) -> bool {
        self.state.lock().is_evicted
    }

    fn release(&self, charge: usize) {
        self.household.stalled.take(charge);
        self.session.take(charge);
        self.household.shared.stalled.take(charge);
    }

    /// The less, the sooner it is given up. None: it is not blocked, or only for a moment while it has a wide window and such are
    /// spared. What all windows have beyond their beginnings the budget bounds by itself, and one visitor on a long fast line may have
    /// more of that than he may keep waiting.
    fn standing(&self, now: Instant, spares: bool) -> Option<(bool, u64)> {
        let state = self.state.lock();
        let is_fresh = now.saturating_duration_since(state.since) < FRESH;
        (state.charge > 0 && !(is_fresh && state.is_wide && spares)).then(|| (is_fresh, state.lately_at(now)))
    }

    /// False: it moved meanwhile.
    fn evict(&self) -> bool {
        let mut state = self.state.lock();
        let charge = std::mem::take(&mut state.charge);
        if charge == 0 {
            return false;
        }
        state.is_evicted = true;
        state.held = None;
        drop(state);
        self.release(charge);
        self.task.wake();
        true
    }
}

impl State {
    fn lately_at(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.counted).as_millis() / HALF_LIFE.as_millis();
        self.lately.checked_shr(u32::try_from(passed).unwrap_or(u32::MAX)).unwrap_or(0)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.household.readers.lock().remove(&std::ptr::from_ref(self).addr());
        let charge = self.state.get_mut().charge;
        if charge > 0 {
            self.release(charge);
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("charge", &self.state.lock().charge).finish_non_exhaustive()
    }
}

impl Shared {
    fn bound(&self, fifths: usize) -> usize {
        self.budget.bytes() / 5 * fifths
    }

    /// Gives readers up until everything is within its bounds.
    fn relieve(&self, household: &Household, session: &Arc<Stalled>) {
        while !household.key.is_proxy && household.stalled.bytes() > self.bound(HOUSEHOLD_FIFTHS) {
            if !self.evict(household, None, "address") {
                break;
            }
        }
        while session.bytes() > self.bound(SESSION_FIFTHS) {
            let worst = self.holder_of_most(Some(session));
            if !worst.is_some_and(|worst| self.evict(&worst, Some(session), "session")) {
                break;
            }
        }
        while self.stalled.bytes() > self.bound(PROCESS_FIFTHS) {
            let worst = self.holder_of_most(None);
            if !worst.is_some_and(|worst| self.evict(&worst, None, "process")) {
                break;
            }
        }
    }

    fn is_over(&self, household: &Household, session: &Stalled) -> bool {
        household.stalled.bytes() > self.bound(HOUSEHOLD_FIFTHS) && !household.key.is_proxy
            || session.bytes() > self.bound(SESSION_FIFTHS)
            || self.stalled.bytes() > self.bound(PROCESS_FIFTHS)
    }

    /// Collected first: the last holder of a household takes it out of the table.
    fn households(&self) -> Vec<Arc<Household>> {
        self.table.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// Gives up the reader that took least of late. False: there is none.
    fn evict(&self, household: &Household, session: Option<&Arc<Stalled>>, reason: &'static str) -> bool {
        let now = Instant::now();
        // What nobody reads must not take more than there is.
        let spares = self.budget.free() > 0;
        let readers = household.readers(session);
        let slowest = readers
            .iter()
            .filter_map(|reader| Some((reader.standing(now, spares)?, reader)))
            .min_by_key(|(standing, _)| *standing);
        let Some((_, slowest)) = slowest else { return false };
        if slowest.evict() {
            self.metrics.readers_evicted.get_or_create(&ReasonLabels { reason }).inc();
            tracing::debug!(address = %household.key.address, reason, "gave up a visitor's download: it stands, and too much waits for it");
        }
        true
    }

    fn holder_of_most(&self, session: Option<&Arc<Stalled>>) -> Option<Arc<Household>> {
        let held = |household: &Arc<Household>| match session {
            None => household.stalled.bytes(),
            Some(_) => household.readers(session).iter().map(|reader| reader.state.lock().charge).sum(),
        };
        self.households().into_iter().max_by_key(held)
    }
}

impl Household {
    fn readers(&self, session: Option<&Arc<Stalled>>) -> Vec<Arc<Reader>> {
        // Collected first: the last holder of a reader takes it out.
        let mut all: Vec<Arc<Reader>> = self.readers.lock().values().filter_map(Weak::upgrade).collect();
        all.retain(|reader| session.is_none_or(|session| Arc::ptr_eq(session, &reader.session)));
        all
    }
}

impl Households {
    /// What the process may hold unread and unsent.
    pub fn budget(&self) -> &Budget {
        &self.0.budget
    }

    #[cfg(test)]
    pub fn stalled_bytes(&self) -> usize {
        self.0.stalled.bytes()
    }
}

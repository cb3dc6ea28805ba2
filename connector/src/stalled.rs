//! Bodies that stand, and the memory that they hold with it: uploads that their origins do not take, answers that the tunnel
//! does not, since their visitors do not.
//!
//! An upload that has handed out a piece and is not asked for the next one is *stalled*: meanwhile its stream's window may fill.
//! So is an answer that waits for credit: a piece of it, and what was read ahead of that. Exactly what waits then is charged,
//! while it lasts. When all together hold too much of the budget, those that have stood for longest are given up; none that moves now
//! and then, however slow the line is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use causeway_tunnel::flow::{Budget, Held};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

/// All of the process; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Stalls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    budget: Budget,
    /// By address. Only of those that were not whole at once.
    table: Mutex<HashMap<usize, Weak<Stall>>>,
    bytes: AtomicUsize,
    /// When somebody last looked for those that stood too long: it takes a walk over all.
    looked: Mutex<Option<Instant>>,
    evicted: Counter,
}

/// One body on its way.
#[derive(Debug)]
pub(crate) struct Stall {
    shared: Arc<Shared>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What is charged, what of the budget is held for it, and since when it stands.
    stands: Option<(usize, Held, Instant)>,
    is_evicted: bool,
    /// Who gives it up.
    task: Option<Waker>,
}

/// The part of the budget that stalled bodies may have: the rest is for those that move.
const PART: (usize, usize) = (4, 5);
/// Who stands for less is not given up while the budget has room: on a busy line everybody does.
const FRESH: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Stalls {
    /// `evicted` counts those that were given up.
    pub(crate) fn new(budget: Budget, evicted: Counter) -> Self {
        let (table, bytes, looked) = Default::default();
        Self(Arc::new(Shared { budget, table, bytes, looked, evicted }))
    }

    /// One more body.
    pub(crate) fn body(&self) -> Arc<Stall> {
        let stall = Arc::new(Stall { shared: Arc::clone(&self.0), state: Mutex::default() });
        self.0.table.lock().insert(Arc::as_ptr(&stall).addr(), Arc::downgrade(&stall));
        stall
    }

    /// To be called now and then: who stood for too short a time when too much came together stands for long by now.
    pub(crate) fn look(&self) {
        self.0.look(Instant::now());
    }
}

impl Stall {
    /// Until it moves, so many bytes may wait; of `held` of them the budget knows already.
    pub(crate) fn stands(&self, charge: usize, held: usize) {
        let mut state = self.state.lock();
        if state.is_evicted || state.stands.is_some() {
            return;
        }
        let held = self.shared.budget.hold(charge.saturating_sub(held));
        state.stands = Some((charge, held, Instant::now()));
        drop(state);
        self.shared.bytes.fetch_add(charge, Ordering::Relaxed);
        self.shared.look(Instant::now());
    }

    pub(crate) fn moves(&self) {
        let stands = self.state.lock().stands.take();
        self.release(stands);
    }

    /// Ready once it was given up.
    pub(crate) fn poll_evicted(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.is_evicted {
            return Poll::Ready(());
        }
        if !state.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            state.task = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn release(&self, stands: Option<(usize, Held, Instant)>) {
        if let Some((charge, _, _)) = stands {
            self.shared.bytes.fetch_sub(charge, Ordering::Relaxed);
        }
    }

    /// False: it moved meanwhile.
    fn evict(&self) -> bool {
        let mut state = self.state.lock();
        let Some(stands) = state.stands.take() else { return false };
        state.is_evicted = true;
        let task = state.task.take();
        drop(state);
        self.release(Some(stands));
        task.into_iter().for_each(Waker::wake);
        true
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.shared.table.lock().remove(&std::ptr::from_ref(self).addr());
        let stands = self.state.get_mut().stands.take();
        self.release(stands);
    }
}

impl Shared {
    fn bound(&self) -> usize {
        self.budget.bytes() / PART.1 * PART.0
    }

    fn look(&self, now: Instant) {
        if self.bytes.load(Ordering::Relaxed) <= self.bound() {
            return;
        }
        let mut looked = self.looked.lock();
        let is_early = looked.is_some_and(|looked| now.saturating_duration_since(looked) < LOOK_EVERY);
        if is_early && !self.is_spent() {
            return;
        }
        *looked = Some(now);
        drop(looked);
        self.relieve(now);
    }

    /// Nothing of the budget is left, for whatever it is.
    fn is_spent(&self) -> bool {
        self.budget.held() >= self.budget.bytes()
    }

    /// Gives up those that stood for longest until all are within their part.
    fn relieve(&self, now: Instant) {
        // Collected first: the last holder of one takes it out.
        let all: Vec<Arc<Stall>> = self.table.lock().values().filter_map(Weak::upgrade).collect();
        let since = |stall: &Arc<Stall>| stall.state.lock().stands.as_ref().map(|(_, _, since)| *since);
        let mut standing: Vec<_> = all.iter().filter_map(|stall| Some((since(stall)?, stall))).collect();
        standing.sort_unstable_by_key(|(since, _)| *since);
        let spares_fresh = !self.is_spent();
        for (since, stall) in standing {
            let is_fresh = now.saturating_duration_since(since) < FRESH;
            if is_fresh && spares_fresh || self.bytes.load(Ordering::Relaxed) <= self.bound() {
                return;
            }
            if stall.evict() {
                self.evicted.inc();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_spared_when_the_budget_is_spent() {
        let (budget, evicted) = (Budget::new(1000), Counter::default());
        let stalls = Stalls::new(budget.clone(), evicted.clone());
        let uploads: Vec<_> = (0..20).map(|_| stalls.body()).collect();
        for upload in &uploads {
            upload.stands(100, 0);
            assert!(budget.held() <= budget.bytes());
        }
        assert!(evicted.get() >= 10);
    }

    #[test]
    fn the_one_that_stands_longest_gives_way_and_who_moves_is_not_charged() {
        let (budget, evicted) = (Budget::new(1000), Counter::default());
        let stalls = Stalls::new(budget.clone(), evicted.clone());
        let uploads: Vec<_> = (0..9).map(|_| stalls.body()).collect();
        uploads.iter().for_each(|upload| upload.stands(100, 0));
        let gone = |upload: &Arc<Stall>| upload.poll_evicted(&Context::from_waker(Waker::noop())).is_ready();
        assert_eq!(uploads.iter().filter(|upload| gone(upload)).count(), 0, "all have just begun to stand");
        stalls.0.relieve(Instant::now() + FRESH);
        assert_eq!(uploads.iter().map(gone).collect::<Vec<_>>()[..2], [true, false]);
        assert_eq!((evicted.get(), budget.held()), (1, 800));
        uploads[1].moves();
        uploads[1].stands(100, 60);
        assert_eq!((evicted.get(), budget.held()), (1, 740));
        drop(uploads);
        assert!(budget.held() == 0 && stalls.0.table.lock().is_empty());
        assert_eq!(stalls.0.bytes.load(Ordering::Relaxed), 0);
    }
}

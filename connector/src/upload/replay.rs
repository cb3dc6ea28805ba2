//! What of a body may have to be sent once more: kept while it is small, or while the origin's budget has memory for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// A body's beginning, kept to be sent once more.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pieces: Vec<Bytes>,
    bytes: usize,
    /// Where what is more than [`REPLAY_BYTES`] is borrowed from, and how much is.
    budget: Option<Arc<ReplayBudget>>,
    borrowed: usize,
}

impl Replay {
    /// More may be kept than the usual, as long as `budget` has memory for that.
    pub(super) fn lend(&mut self, budget: &Arc<ReplayBudget>) {
        self.budget = Some(Arc::clone(budget));
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All that was kept, in order.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.pieces)
    }

    /// `false` when there is no room for it.
    pub(super) fn push(&mut self, bytes: &Bytes) -> bool {
        self.bytes += bytes.len();
        if self.bytes > REPLAY_BYTES {
            let more = self.bytes - REPLAY_BYTES - self.borrowed;
            let Some(budget) = &self.budget else { return false };
            if self.bytes > MAX_REPLAY_BYTES || !budget.borrow(more) {
                return false;
            }
            self.borrowed += more;
        }
        self.pieces.push(bytes.clone());
        true
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.0.fetch_add(self.borrowed, Ordering::Relaxed);
        }
    }
}

/// Memory for the bodies of all requests to one origin that may have to be sent once more.
#[derive(Debug)]
pub(crate) struct ReplayBudget(AtomicUsize);

impl Default for ReplayBudget {
    fn default() -> Self {
        Self(AtomicUsize::new(REPLAY_BUDGET_BYTES))
    }
}

impl ReplayBudget {
    fn borrow(&self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// As much of a body as is always kept to be sent once more (hazard 136): the window that nginx, Node and the protocol
/// itself begin with.
const REPLAY_BYTES: usize = 64 * 1024;
/// As much as is kept where the origin may still say that it did not take the request: Go's window, the widest among the
/// usual servers.
const MAX_REPLAY_BYTES: usize = 1024 * 1024;
/// What all bodies on their way to one origin may keep together beyond [`REPLAY_BYTES`] each: an eighth of the memory of
/// the smallest machine.
const REPLAY_BUDGET_BYTES: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_bodies_has_a_bound_each_and_one_for_all() {
        let piece = Bytes::from(vec![0; 60 * 1024]);
        let mut alone = Replay::default();
        assert!(alone.push(&piece) && !alone.push(&piece));
        let budget = Arc::new(ReplayBudget::default());
        let kept = |budget: &Arc<ReplayBudget>| {
            let mut replay = Replay::default();
            replay.budget = Some(Arc::clone(budget));
            while replay.push(&piece) {}
            replay
        };
        let many: Vec<Replay> = (0..100).map(|_| kept(&budget)).collect();
        let whole = MAX_REPLAY_BYTES / piece.len();
        assert_eq!(many[0].pieces.len(), whole);
        assert_eq!(many[99].pieces.len(), 1);
        let all: usize = many.iter().map(|replay| replay.borrowed).sum();
        assert!(all <= REPLAY_BUDGET_BYTES, "{all}");
        drop(many);
        assert_eq!(budget.0.load(Ordering::Relaxed), REPLAY_BUDGET_BYTES);
        assert_eq!(kept(&budget).pieces.len(), whole);
    }
}

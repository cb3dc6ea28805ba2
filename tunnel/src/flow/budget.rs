//! What a whole process may hold unread and unsent: one number, and what of it is held now.
//!
//! ```text
//! hold     what is there is there: counted, whatever the budget says; whoever asks sees that it is near its end
//! resize   what may come: at most a part of what is free, so that many who want all end with equal parts and something
//!          stays free for whoever comes next (Choudhury and Hahne's dynamic thresholds, as shared switch buffers use them)
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::memory;

/// Clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: usize,
    held: AtomicUsize,
    /// Who has a window to send by: connections.
    senders: AtomicUsize,
}

/// A part of a budget, given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    budget: Budget,
    bytes: usize,
}

/// How near its end a budget is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// More than half is free.
    Low,
    Middle,
    /// Less than a quarter is free: who begins now begins small.
    High,
}

/// One may grow to this part of what is free.
const PART: usize = 4;
/// Of the machine's memory: 64 MiB of 512.
const PART_OF_MACHINE: usize = 8;
/// Two streams of the widest window, on the smallest machine.
const LEAST_BYTES: usize = 32 * 1024 * 1024;
/// Nothing that is read at all needs more: 64 streams over the longest line.
const MOST_BYTES: usize = 1024 * 1024 * 1024;

impl Budget {
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Inner { bytes, held: AtomicUsize::new(0), senders: AtomicUsize::new(0) }))
    }

    /// An eighth of the memory that this process may have, by its cgroup or by the machine.
    pub fn of_machine() -> Self {
        let all = memory::available().unwrap_or(usize::MAX);
        Self::new((all / PART_OF_MACHINE).clamp(LEAST_BYTES, MOST_BYTES))
    }

    /// All of it.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// May be more than all: what is there is there.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    pub fn free(&self) -> usize {
        self.bytes().saturating_sub(self.held())
    }

    pub fn pressure(&self) -> Pressure {
        match self.free() {
            free if free > self.bytes() / 2 => Pressure::Low,
            free if free > self.bytes() / 4 => Pressure::Middle,
            _ => Pressure::High,
        }
    }

    /// Counts what is there.
    pub fn hold(&self, bytes: usize) -> Held {
        self.add(bytes);
        Held { budget: self.clone(), bytes }
    }

    /// Nothing yet, to be resized.
    pub fn none(&self) -> Held {
        Held { budget: self.clone(), bytes: 0 }
    }

    /// One more who sends; says how many there are.
    pub(crate) fn sender_came(&self) -> usize {
        self.0.senders.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn sender_went(&self) {
        self.0.senders.fetch_sub(1, Ordering::Relaxed);
    }

    fn add(&self, bytes: usize) {
        self.0.held.fetch_add(bytes, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) {
        self.0.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::of_machine()
    }
}

impl Held {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Grows towards `wanted` as far as its part allows, or shrinks: to what is wanted, or because others came.
    /// Says what it is now.
    pub fn resize(&mut self, wanted: usize) -> usize {
        self.resize_within(wanted, PART)
    }

    /// [`Held::resize`] to another part of what is free.
    pub fn resize_within(&mut self, wanted: usize, part: usize) -> usize {
        let bytes = wanted.min((self.budget.free() + self.bytes) / part);
        if bytes > self.bytes {
            self.budget.add(bytes - self.bytes);
        } else {
            self.budget.take(self.bytes - bytes);
        }
        self.bytes = bytes;
        bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.take(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_who_want_all_leave_something_to_the_next() {
        let budget = Budget::new(64 << 20);
        let mut held: Vec<Held> = Vec::new();
        for _ in 0..30 {
            let mut next = budget.none();
            assert!(next.resize(16 << 20) > 0, "nothing was left");
            held.push(next);
        }
        assert!(budget.held() < budget.bytes());
        // Each round makes the parts more equal: who has much gives to who has little.
        for _ in 0..100 {
            for held in &mut held {
                held.resize(16 << 20);
            }
        }
        let (least, most) = (held.iter().map(Held::bytes).min(), held.iter().map(Held::bytes).max());
        assert!(most.unwrap() < least.unwrap() * 11 / 10, "{least:?} to {most:?}");
        assert!(budget.held() < budget.bytes());
        drop(held);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn what_is_there_is_counted_and_makes_others_smaller() {
        let budget = Budget::new(1000);
        let mut window = budget.none();
        assert_eq!((window.resize(200), budget.pressure()), (200, Pressure::Low));
        let stuck = budget.hold(900);
        assert_eq!((budget.held(), budget.free(), budget.pressure()), (1100, 0, Pressure::High));
        assert_eq!(window.resize(200), 50);
        drop(stuck);
        assert_eq!((window.resize(200), budget.held()), (200, 200));
    }
}

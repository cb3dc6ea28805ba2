//! What a schedule leaves to chance, and waiting that may be cut short.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Clones share it: one seed decides everything.
#[derive(Clone)]
pub(super) struct Chance(Rc<RefCell<StdRng>>);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rc::new(RefCell::new(StdRng::seed_from_u64(seed))))
    }

    pub(super) fn below(&self, count: u32) -> u32 {
        self.0.borrow_mut().random_range(0..count)
    }

    pub(super) fn index(&self, count: usize) -> usize {
        self.0.borrow_mut().random_range(0..count)
    }

    pub(super) fn one_in(&self, count: u32) -> bool {
        self.below(count) == 0
    }

    /// Waits for `future`, or gives up at one of its waits and drops it: `None`.
    pub(super) async fn patiently<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.one_in(6) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Waits for `future`, cutting it short and asking anew as often as chance will have it.
    pub(super) async fn again<T>(&self, mut ask: impl AsyncFnMut() -> T) -> T {
        loop {
            if let Some(done) = self.patiently(ask()).await {
                return done;
            }
        }
    }
}

//! How many streams of a session are in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A session's count; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(Arc<AtomicUsize>);

/// Counts a stream as in flight for as long as either half holds it.
#[derive(Debug)]
pub(crate) struct InFlight(Counter);

impl Counter {
    /// For the two halves of one stream.
    pub(crate) fn count(&self) -> Arc<InFlight> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Arc::new(InFlight(self.clone()))
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

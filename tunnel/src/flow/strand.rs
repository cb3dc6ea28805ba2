//! What the two halves of a stream share: that it is in flight, and how much this end may send of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// How many streams of a session are in flight; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(Arc<AtomicUsize>);

/// Counts its stream as in flight for as long as either half holds it.
#[derive(Debug)]
pub(crate) struct Strand {
    /// The carrier's number of the stream: both ends have the same.
    pub(super) number: u64,
    counter: Counter,
    /// Which route it serves: known once its opening is.
    route: AtomicU32,
    credit: Mutex<Credit>,
}

#[derive(Debug)]
struct Credit {
    /// What may be sent in all.
    limit: u64,
    /// Who waits for more.
    writer: Option<Waker>,
}

impl Counter {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// For the two halves of one stream.
    pub(super) fn count(&self, number: u64, limit: u64) -> Arc<Strand> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let credit = Mutex::new(Credit { limit, writer: None });
        Arc::new(Strand { number, counter: self.clone(), route: AtomicU32::new(0), credit })
    }
}

impl Strand {
    pub(super) fn route(&self) -> u32 {
        self.route.load(Ordering::Relaxed)
    }

    pub(crate) fn set_route(&self, route: u32) {
        self.route.store(route, Ordering::Relaxed);
    }

    pub(super) fn limit(&self) -> u64 {
        self.credit.lock().limit
    }

    /// The limit, once it is more than `known`.
    pub(super) fn poll_limit(&self, cx: &Context<'_>, known: u64) -> Poll<u64> {
        let mut credit = self.credit.lock();
        if credit.limit > known {
            return Poll::Ready(credit.limit);
        }
        credit.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// More may be sent. A limit that is no more than the one before came late, and says nothing.
    pub(crate) fn grant(&self, limit: u64) {
        let mut credit = self.credit.lock();
        if limit <= credit.limit {
            return;
        }
        credit.limit = limit;
        let writer = credit.writer.take();
        drop(credit);
        writer.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Strand {
    fn drop(&mut self) {
        self.counter.0.fetch_sub(1, Ordering::Relaxed);
    }
}

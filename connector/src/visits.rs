//! Requests as they end, for a person who watches them (`expose`). Nobody waits for that person.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use causeway_tunnel::RequestHead;
use http::StatusCode;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Where they are told; by default nowhere.
#[derive(Clone, Debug, Default)]
pub struct Visits(Option<Arc<Told>>);

#[derive(Debug)]
struct Told {
    to: mpsc::Sender<Visit>,
    missed: AtomicU64,
}

/// One request that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// When it came.
    pub at: SystemTime,
    pub method: String,
    /// Without its query, which often holds secrets.
    pub path: String,
    pub outcome: Outcome,
    pub took: Duration,
    /// Others since the one before that nobody took in time.
    pub missed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered(StatusCode),
    /// The edge answered instead: why.
    Failed(String),
}

/// A request that has not ended.
#[derive(Debug)]
pub(crate) struct Pending(Option<(Arc<Told>, Visit, Instant)>);

impl Visits {
    pub fn channel() -> (Self, mpsc::Receiver<Visit>) {
        let (to, from) = mpsc::channel(WAITING);
        (Self(Some(Arc::new(Told { to, missed: AtomicU64::new(0) }))), from)
    }

    pub(crate) fn begin(&self, head: &RequestHead) -> Pending {
        Pending(self.0.as_ref().map(|told| {
            let path = head.path.split('?').next().unwrap_or_default();
            let visit = Visit {
                at: SystemTime::now(),
                method: head.method.to_string(),
                path: path.to_owned(),
                outcome: Outcome::Failed(String::new()),
                took: Duration::ZERO,
                missed: 0,
            };
            (Arc::clone(told), visit, Instant::now())
        }))
    }
}

impl Pending {
    pub(crate) fn end(self, outcome: Outcome) {
        let Some((told, mut visit, begun)) = self.0 else { return };
        (visit.outcome, visit.took) = (outcome, begun.elapsed());
        let missed = told.missed.swap(0, Ordering::Relaxed);
        visit.missed = missed;
        if told.to.try_send(visit).is_err() {
            told.missed.fetch_add(missed + 1, Ordering::Relaxed);
        }
    }
}

/// More than anybody reads; beyond it they are counted only.
const WAITING: usize = 256;

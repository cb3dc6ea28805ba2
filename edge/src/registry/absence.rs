//! The time between two sessions of a tunnel: who comes meanwhile waits for the next one instead of failing, for a while and not
//! without number.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Who comes within this of the last session's end is likely to see the next; and so long he waits for it.
const LIKELY: Duration = Duration::from_secs(3);
/// Requests of one tunnel. When there are more of them its end is worse news than a moment's.
const MAX_WAITING: usize = 1_000;

#[derive(Debug)]
pub(super) struct Absence {
    /// The last session's end; None: there never was one.
    since: Mutex<Option<Instant>>,
    over: Notify,
    waiting: AtomicUsize,
}

impl Absence {
    /// `was_there`: before this process began, so that its connectors look for it now.
    pub(super) fn new(was_there: bool) -> Self {
        let since = Mutex::new(was_there.then(Instant::now));
        Self { since, over: Notify::new(), waiting: AtomicUsize::new(0) }
    }

    /// A session has ended.
    pub(super) fn begin(&self) {
        *self.since.lock() = Some(Instant::now());
    }

    /// Somebody serves.
    pub(super) fn end(&self) {
        self.over.notify_waiters();
    }

    pub(super) fn is_short(&self) -> bool {
        self.since.lock().is_some_and(|since| since.elapsed() < LIKELY)
    }

    /// Waits until `is_over`, which [`Absence::end`] has it look at; says whether it is. Cancel safe.
    pub(super) async fn wait(&self, is_over: impl Fn() -> bool) -> bool {
        let _place = Place(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            return false;
        }
        let until = Instant::now() + LIKELY;
        loop {
            // Registered before the look, so that nothing is missed between the two.
            let mut over = std::pin::pin!(self.over.notified());
            over.as_mut().enable();
            if is_over() {
                return true;
            }
            if timeout_at(until, over).await.is_err() {
                return false;
            }
        }
    }
}

struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_comes_in_between_waits_for_the_next_session_and_not_longer() {
        let absence = Absence::new(false);
        assert!(!absence.is_short(), "nobody was ever there");
        absence.begin();
        assert!(absence.is_short());
        let is_there = AtomicBool::new(false);
        let wait = || absence.wait(|| is_there.load(Ordering::Relaxed));
        let began = Instant::now();
        assert!(!wait().await);
        assert_eq!(began.elapsed(), LIKELY);
        assert!(!absence.is_short());
        let come = async {
            // A word of somebody who serves something else.
            absence.end();
            tokio::time::sleep(Duration::from_secs(1)).await;
            is_there.store(true, Ordering::Relaxed);
            absence.end();
        };
        let began = Instant::now();
        assert!(tokio::join!(wait(), come).0);
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_a_thousand_wait() {
        let absence = Absence::new(true);
        let began = Instant::now();
        let all = (0..=MAX_WAITING).map(|_| absence.wait(|| false));
        let mut all: Vec<_> = all.map(Box::pin).collect();
        let mut last = all.pop().expect("there is one more");
        let others = futures_util::future::join_all(all);
        let turned_away = async {
            tokio::task::yield_now().await;
            assert!(!last.as_mut().await);
            began.elapsed()
        };
        let (_, at) = tokio::join!(others, turned_away);
        assert_eq!(at, Duration::ZERO);
        assert_eq!(absence.waiting.load(Ordering::Relaxed), 0);
    }
}

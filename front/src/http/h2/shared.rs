//! What an HTTP/2 connection and its streams tell each other: who runs, who was reset too often, what waits for the
//! socket.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::backlog::Backlog;
use super::flood::ResetBudget;
use super::uploads::Uploads;

pub(super) struct Shared {
    resets: Mutex<ResetBudget>,
    work: Mutex<Work>,
    /// Told when the connection must end because of a flood.
    pub(super) flooded: Arc<Notify>,
    pub(super) backlog: Arc<Backlog>,
    pub(super) uploads: Arc<Uploads>,
}

/// Running stream tasks, and when the last of them ended.
struct Work {
    running: usize,
    since: Instant,
}

impl Shared {
    pub(super) fn new(flooded: Arc<Notify>) -> Self {
        Self {
            resets: Mutex::new(ResetBudget::new(std::time::Instant::now())),
            work: Mutex::new(Work { running: 0, since: Instant::now() }),
            flooded,
            backlog: Arc::default(),
            uploads: Arc::default(),
        }
    }

    /// A stream was refused. Somebody who never hears of it is a flood like one of resets.
    pub(super) fn refused(&self) {
        let mut resets = self.resets.lock();
        resets.opened();
        if resets.reset(Duration::ZERO, std::time::Instant::now()).is_err() {
            self.flooded.notify_one();
        }
    }

    /// How many streams there were.
    pub(super) fn streams(&self) -> u64 {
        self.resets.lock().streams()
    }

    /// Since when there is nothing to do. None: a stream runs.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let work = self.work.lock();
        (work.running == 0).then_some(work.since)
    }
}

/// Counts one running stream, however it ends.
pub(super) struct Running {
    shared: Arc<Shared>,
    began: Instant,
}

impl Running {
    pub(super) fn begin(shared: &Arc<Shared>) -> Self {
        shared.resets.lock().opened();
        shared.work.lock().running += 1;
        Self { shared: Arc::clone(shared), began: Instant::now() }
    }

    /// How many streams its connection has at work, this one included.
    pub(super) fn count(&self) -> usize {
        self.shared.work.lock().running
    }

    pub(super) fn backlog(&self) -> &Arc<Backlog> {
        &self.shared.backlog
    }

    pub(super) fn uploads(&self) -> &Arc<Uploads> {
        &self.shared.uploads
    }

    /// The visitor reset the stream. Too many of them end the connection.
    pub(super) fn reset(&self) {
        let flood = self.shared.resets.lock().reset(self.began.elapsed(), std::time::Instant::now());
        if flood.is_err() {
            self.shared.flooded.notify_one();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut work = self.shared.work.lock();
        work.running -= 1;
        work.since = Instant::now();
    }
}

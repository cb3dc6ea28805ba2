//! Whether the threads that carry the work still turn: each beats from a task on its own runtime, and `/live` looks.
//!
//! A thread that blocks (in a system call, a lock, an endless loop) serves nobody, while the admin server on another
//! thread answers as ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The beats of one process. Clones are the same.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    /// Who has not beaten for this long is stuck.
    patience: Duration,
    /// Only ever grows, by one entry a thread.
    threads: Mutex<Vec<Arc<Thread>>>,
}

#[derive(Debug)]
struct Thread {
    name: String,
    /// Milliseconds since the start.
    last: AtomicU64,
}

/// Far more than a loaded machine delays a timer, and less than most health checks take to give up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Beats within the patience: one that comes late is no cause for alarm.
const BEATS: u32 = 10;

impl Pulse {
    pub fn new() -> Self {
        Self::with_patience(PATIENCE)
    }

    pub(crate) fn with_patience(patience: Duration) -> Self {
        Self(Arc::new(Inner { started: Instant::now(), patience, threads: Mutex::default() }))
    }

    /// Watches one more thread from now on. To be spawned on its runtime as a service; it ends with the process.
    pub fn beat(&self, name: String) -> impl Future<Output = ()> + Send + use<> {
        let thread = Arc::new(Thread { name, last: AtomicU64::new(self.0.now()) });
        self.0.threads.lock().push(Arc::clone(&thread));
        let inner = Arc::clone(&self.0);
        async move {
            loop {
                thread.last.store(inner.now(), Ordering::Relaxed);
                tokio::time::sleep(inner.patience / BEATS).await;
            }
        }
    }

    /// Who has not beaten for too long.
    pub fn stuck(&self) -> Vec<String> {
        let now = self.0.now();
        let patience = millis(self.0.patience);
        let threads = self.0.threads.lock();
        let is_stuck =
            |thread: &&Arc<Thread>| now.saturating_sub(thread.last.load(Ordering::Relaxed)) > patience;
        threads.iter().filter(is_stuck).map(|thread| thread.name.clone()).collect()
    }
}

impl Inner {
    fn now(&self) -> u64 {
        millis(self.started.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use super::Pulse;

    #[test]
    fn a_thread_that_is_blocked_is_named_until_it_goes_on() {
        let pulse = Pulse::with_patience(Duration::from_millis(200));
        let (go_on, gate) = mpsc::channel::<()>();
        let beat = pulse.beat("shard 3".to_owned());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            // Blocks the whole runtime, as a write to a full pipe does, and then leaves it alone.
            runtime.block_on(async { tokio::join!(beat, async { gate.recv() }) })
        });
        let becomes = |wanted: &[&str]| {
            let until = Instant::now() + Duration::from_secs(20);
            while pulse.stuck() != wanted {
                assert!(Instant::now() < until, "{:?}", pulse.stuck());
                std::thread::park_timeout(Duration::from_millis(5));
            }
        };
        becomes(&["shard 3"]);
        drop(go_on);
        becomes(&[]);
    }
}

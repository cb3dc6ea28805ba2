//! Staged shutdown: no new work, drain to a deadline, force; and the owner of every task of a process.
//!
//! ```text
//!   start()            tasks finish, or the deadline passes          force()
//! ─ running ─┬───────────────── draining ─────────────────┬──────────── forced ─
//!            listeners close, peers are told              tasks and services are dropped
//! ```
//! *Tasks* are work that a planned stop waits for (connections, requests, sessions). *Services* are what must live
//! until the last task ended (admin server, control socket, stats): nobody waits for them, the end drops them.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::future::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A cloneable handle on one process's (or one shard's) shutdown and tasks.
#[derive(Clone, Debug)]
pub struct Drain {
    inner: Arc<Inner>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// Every task ended by itself.
    Clean,
    /// The grace period passed, or somebody called [`Drain::force`]: tasks were dropped.
    Forced,
}

#[derive(Debug)]
struct Inner {
    draining: CancellationToken,
    forced: CancellationToken,
    /// Of the whole family.
    at_leisure: Arc<AtomicBool>,
    tasks: TaskTracker,
    services: TaskTracker,
    panics: AtomicU64,
    /// Drains of the shards; only ever grows, by one entry a shard.
    children: Mutex<Vec<Drain>>,
}

impl Drain {
    pub fn new() -> Self {
        Self::with_tokens(CancellationToken::new(), CancellationToken::new(), Arc::default())
    }

    /// A drain that follows this one but counts its tasks for itself, so that shards share no counter and no lock
    /// on the way of a request. [`Drain::tasks`], [`Drain::panics`] and [`Drain::finish`] of the parent include it.
    pub fn child(&self) -> Self {
        let (draining, forced) = (self.inner.draining.child_token(), self.inner.forced.child_token());
        let child = Self::with_tokens(draining, forced, Arc::clone(&self.inner.at_leisure));
        self.inner.children.lock().push(child.clone());
        child
    }

    fn with_tokens(
        draining: CancellationToken,
        forced: CancellationToken,
        at_leisure: Arc<AtomicBool>,
    ) -> Self {
        let inner = Inner {
            draining,
            forced,
            at_leisure,
            tasks: TaskTracker::new(),
            services: TaskTracker::new(),
            panics: AtomicU64::new(0),
            children: Mutex::new(Vec::new()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// No new work from now on; what runs may finish.
    pub fn start(&self) {
        self.inner.draining.cancel();
    }

    /// The same when another process has taken over: nobody waits for our end, and what runs may take its time.
    pub fn start_at_leisure(&self) {
        self.inner.at_leisure.store(true, Ordering::Relaxed);
        self.start();
    }

    /// Whether the drain was begun by [`Drain::start_at_leisure`].
    pub fn is_at_leisure(&self) -> bool {
        self.inner.at_leisure.load(Ordering::Relaxed)
    }

    /// Ends everything now: tasks and services are dropped at their next suspension point.
    pub fn force(&self) {
        self.inner.draining.cancel();
        self.inner.forced.cancel();
    }

    pub fn is_draining(&self) -> bool {
        self.inner.draining.is_cancelled()
    }

    pub fn is_forced(&self) -> bool {
        self.inner.forced.is_cancelled()
    }

    /// Resolves once [`Drain::start`] or [`Drain::force`] was called. Cancel safe.
    pub async fn draining(&self) {
        self.inner.draining.cancelled().await;
    }

    /// Resolves once [`Drain::force`] was called. Cancel safe.
    pub async fn forced(&self) {
        self.inner.forced.cancelled().await;
    }

    /// Runs a task that a planned stop waits for.
    ///
    /// The result is `None` when the task was dropped by force or panicked. A panic is caught, logged with the name
    /// and counted: one broken request never ends the process.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        self.inner.tasks.spawn(self.supervise(name, future))
    }

    /// Runs a task that lives until every other task ended, such as the admin server: it answers during the drain
    /// and is dropped at the end. Panics are handled as in [`Drain::spawn`].
    pub fn spawn_service<F>(&self, name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        self.inner.services.spawn(self.supervise(name, future))
    }

    /// How many tasks are running, services not counted.
    pub fn tasks(&self) -> usize {
        self.inner.tasks.len() + self.children().iter().map(Self::tasks).sum::<usize>()
    }

    /// How many tasks ended by a panic so far.
    pub fn panics(&self) -> u64 {
        self.inner.panics.load(Ordering::Relaxed) + self.children().iter().map(Self::panics).sum::<u64>()
    }

    /// Stops in stages: [`Drain::start`], wait for the tasks up to `grace`, then [`Drain::force`] and wait until all
    /// is dropped. Afterwards [`Drain::is_forced`] holds in either case, since the services were ended.
    ///
    /// A call of [`Drain::force`] meanwhile ends the wait at once. Must not be called from within a tracked task.
    pub async fn finish(&self, grace: Duration) -> Finished {
        self.start();
        let ended = tokio::select! {
            () = self.wait(Kind::Tasks) => true,
            () = self.forced() => false,
            () = tokio::time::sleep(grace) => false,
        };
        // Forced tasks end at once and may be seen before the force itself.
        let finished = if ended && !self.is_forced() { Finished::Clean } else { Finished::Forced };
        let left = self.tasks();
        if finished == Finished::Forced && left > 0 {
            tracing::warn!(tasks = left, "ending tasks by force that did not finish in the grace period");
        }
        self.force();
        let all = async {
            self.wait(Kind::Tasks).await;
            self.wait(Kind::Services).await;
        };
        if tokio::time::timeout(FORCE_WAIT, all).await.is_err() {
            tracing::error!(
                tasks = self.tasks(),
                "tasks are blocked and cannot be ended: leaving without them"
            );
        }
        finished
    }

    /// Of combinators: an async block would keep room for the future twice, as it came and where it is polled.
    fn supervise<F: Future>(
        &self,
        name: &'static str,
        future: F,
    ) -> impl Future<Output = Option<F::Output>> + use<F> {
        let drain = self.clone();
        let caught = AssertUnwindSafe(future).catch_unwind().map(move |outcome| match outcome {
            Ok(output) => Some(output),
            Err(payload) => {
                drain.inner.panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    task = name,
                    panic = panic_text(&*payload),
                    "a task panicked: it was dropped, the others run on"
                );
                None
            }
        });
        caught.with_cancellation_token_owned(self.inner.forced.clone()).map(Option::flatten)
    }

    async fn wait(&self, kind: Kind) {
        let trackers: Vec<TaskTracker> = self.trackers(kind);
        for tracker in &trackers {
            // A closed tracker still accepts tasks (requests on live connections): wait() means "none is left now".
            tracker.close();
        }
        // A task of one tracker may have spawned into another that was already empty: look again until all are.
        while let Some(tracker) = trackers.iter().find(|tracker| !tracker.is_empty()) {
            tracker.wait().await;
        }
    }

    fn trackers(&self, kind: Kind) -> Vec<TaskTracker> {
        let own = match kind {
            Kind::Tasks => &self.inner.tasks,
            Kind::Services => &self.inner.services,
        };
        let children = self.children();
        std::iter::once(own.clone()).chain(children.iter().flat_map(|child| child.trackers(kind))).collect()
    }

    fn children(&self) -> Vec<Self> {
        self.inner.children.lock().clone()
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Tasks,
    Services,
}

/// What a panic said, when it said it in text (as `panic!` does).
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&'static str>().copied()).unwrap_or("not a text")
}

/// How long a forced task may take to be dropped. Dropping takes microseconds; only a task that blocks its thread
/// needs longer, and that one would never end.
const FORCE_WAIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::{Drain, Finished};

    const GRACE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn hazard_153_tasks_in_flight_finish_within_the_grace_period() {
        let drain = Drain::new();
        let task = drain.spawn("request", async {
            sleep(Duration::from_secs(7)).await;
            "whole"
        });
        let begin = Instant::now();
        assert_eq!(drain.finish(GRACE).await, Finished::Clean);
        assert_eq!(begin.elapsed(), Duration::from_secs(7));
        assert_eq!(task.await.unwrap(), Some("whole"));
    }

    #[tokio::test(start_paused = true)]
    async fn leaves_at_once_when_nothing_is_in_flight() {
        let begin = Instant::now();
        assert_eq!(Drain::new().finish(GRACE).await, Finished::Clean);
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_task_is_dropped_when_the_grace_period_is_over() {
        let drain = Drain::new();
        let dropped = Arc::new(AtomicBool::new(false));
        let guard = SetOnDrop(Arc::clone(&dropped));
        let task = drain.spawn("stuck", async move {
            let _guard = guard;
            pending::<()>().await;
        });
        let begin = Instant::now();
        assert_eq!(drain.finish(GRACE).await, Finished::Forced);
        assert_eq!(begin.elapsed(), GRACE);
        assert!(dropped.load(Ordering::Relaxed));
        assert_eq!(task.await.unwrap(), None);
        assert_eq!(drain.tasks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn hazard_169_force_ends_a_running_drain_at_once() {
        let drain = Drain::new();
        drain.spawn("stuck", pending::<()>());
        let second_signal = drain.clone();
        drain.spawn_service("signals", async move {
            sleep(Duration::from_secs(1)).await;
            second_signal.force();
        });
        let begin = Instant::now();
        assert_eq!(drain.finish(GRACE).await, Finished::Forced);
        assert_eq!(begin.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test]
    async fn hazard_170_a_panic_ends_one_task_and_is_counted() {
        let drain = Drain::new();
        let broken = drain.spawn("broken", async { panic!("on purpose") });
        let healthy = drain.spawn("healthy", async { 1 });
        assert_eq!(broken.await.unwrap(), None::<()>);
        assert_eq!(healthy.await.unwrap(), Some(1));
        assert_eq!((drain.panics(), drain.tasks()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn services_live_until_the_last_task_and_do_not_hold_up_the_end() {
        let drain = Drain::new();
        let service = drain.spawn_service("admin", pending::<()>());
        drain.spawn("request", sleep(Duration::from_secs(3)));
        assert_eq!(drain.tasks(), 1);
        assert_eq!(drain.finish(GRACE).await, Finished::Clean);
        assert_eq!(service.await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_may_spawn_others_while_draining() {
        let drain = Drain::new();
        let (shard, parent) = (drain.child(), drain.clone());
        drain.spawn("accept", async move {
            parent.draining().await;
            shard.spawn("late", sleep(Duration::from_secs(2)));
        });
        tokio::task::yield_now().await;
        let begin = Instant::now();
        assert_eq!(drain.finish(GRACE).await, Finished::Clean);
        assert_eq!(begin.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_parent_speaks_for_its_children() {
        let drain = Drain::new();
        let shards = [drain.child(), drain.child()];
        for shard in &shards {
            shard.spawn("request", sleep(Duration::from_secs(5)));
            shard.spawn("broken", async { panic!("on purpose") });
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!((drain.tasks(), drain.panics()), (2, 2));
        assert_eq!(drain.finish(Duration::from_secs(1)).await, Finished::Forced);
        assert!(shards.iter().all(|shard| shard.is_draining() && shard.is_forced() && shard.tasks() == 0));
    }

    #[tokio::test]
    async fn a_child_stops_alone() {
        let drain = Drain::new();
        let shard = drain.child();
        shard.force();
        assert!(shard.is_draining() && !drain.is_draining() && !drain.is_forced());
    }

    struct SetOnDrop(Arc<AtomicBool>);

    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

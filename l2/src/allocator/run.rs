//! The loop: one task that takes in updates and outcomes, lets the index decide, and keeps the writes going.

use std::time::{Duration, Instant};

use causeway_daemon::drain::Drain;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::events::Publisher;
use super::index::{Index, Outcome};
use super::inputs::Update;
use super::metrics::{Kind, Metrics, Written};
use super::writer::Writer;
use crate::allocate::ServiceKey;
use crate::api::{ConfigurationStateStatus, IPAddressPool};
use crate::host_routes;
use crate::lease::Standing;
use crate::range::IpRange;

/// Writes of Services under way at a time: enough that 5,000 are through in seconds, few enough to be kind.
const MAX_WRITES: usize = 24;
/// Updates taken in before the index decides: a burst is decided at once.
const BATCH: usize = 512;
/// Statuses of pools and of the configuration follow changes at this pace.
const STATUS_PACE: Duration = Duration::from_secs(1);
/// What is not watched is listed at this pace.
const SURVEY_PACE: Duration = Duration::from_secs(600);
/// A survey or a sweep that failed is tried again after this.
const RETRY_PACE: Duration = Duration::from_secs(30);

pub(super) struct Loop {
    pub(super) index: Index,
    pub(super) updates: mpsc::Receiver<Update>,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) writer: Writer,
    pub(super) publisher: Publisher,
    pub(super) metrics: Metrics,
}

/// What a piece of work came to.
enum Done {
    Service(ServiceKey, Instant, Outcome),
    /// What the API server has made of the status.
    Pool(Option<Box<IPAddressPool>>),
    State(ConfigurationStateStatus, bool),
    /// Nothing for what could not be listed.
    Survey(Option<Vec<IpRange>>, Option<Vec<String>>),
    GossipKey(bool),
    /// Whether Services of other types are without our note, as far as this piece went.
    Forgot(bool),
}

type Work = FuturesUnordered<BoxFuture<'static, Done>>;

impl Loop {
    pub(super) async fn run(mut self, drain: Drain) {
        let mut work: Work = FuturesUnordered::new();
        let mut services_under_way = 0usize;
        let mut statuses = Pace::new(STATUS_PACE);
        let mut survey = Pace::new(SURVEY_PACE);
        work.push(self.survey());
        survey.ran(Instant::now());
        survey.due();
        let mut gossip_key = false;
        let mut sweep = Pace::new(RETRY_PACE);
        loop {
            let deadline = self.deadline([&statuses, &survey, &sweep]);
            // Outcomes first: they make room. Each arm is cancel safe.
            tokio::select! {
                biased;
                () = drain.draining() => break,
                Some(done) = work.next(), if !work.is_empty() => {
                    services_under_way -= usize::from(matches!(done, Done::Service(..)));
                    // Without the key no speaker starts: it is tried again with the next thing that happens.
                    gossip_key &= !matches!(done, Done::GossipKey(false));
                    self.done(done, [&mut statuses, &mut survey, &mut sweep]);
                }
                changed = self.standing.changed() => if changed.is_err() { break },
                update = self.updates.recv() => {
                    let Some(update) = update else { break };
                    self.take_in(update);
                    statuses.due();
                }
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
            let now = Instant::now();
            let leads = self.standing.borrow().leads(now);
            if leads && !self.index.is_leading() {
                // What happened while nobody led.
                sweep.due();
            }
            self.index.lead(leads);
            self.index.settle(now);
            for note in self.index.take_notes() {
                if !self.publisher.send(note) {
                    self.metrics.events_dropped.inc();
                }
            }
            if leads && !std::mem::replace(&mut gossip_key, true) {
                let writer = self.writer.clone();
                work.push(async move { Done::GossipKey(writer.ensure_gossip_key().await) }.boxed());
            }
            if leads {
                services_under_way += self.start_writes(&work, services_under_way, now);
                self.start_statuses(&work, &mut statuses, now);
                if sweep.is_due(now) {
                    sweep.ran(now);
                    let (writer, pools) = (self.writer.clone(), self.index.pool_names());
                    work.push(async move { Done::Forgot(writer.sweep(&pools).await) }.boxed());
                }
            }
            if survey.is_due(now) {
                survey.ran(now);
                survey.due();
                work.push(self.survey());
            }
            self.metrics.observe(&self.index);
        }
        // Writes under way are ours to finish; what is not written yet is the next leader's.
        while let Some(done) = work.next().await {
            self.done(done, [&mut statuses, &mut survey, &mut sweep]);
        }
    }

    fn take_in(&mut self, update: Update) {
        let now = Instant::now();
        self.index.update(update, now);
        self.metrics.updates.inc();
        for _ in 1..BATCH {
            let Ok(update) = self.updates.try_recv() else { return };
            self.index.update(update, now);
            self.metrics.updates.inc();
        }
    }

    fn start_writes(&mut self, work: &Work, under_way: usize, now: Instant) -> usize {
        for forgotten in self.index.take_forgotten() {
            let writer = self.writer.clone();
            work.push(async move { Done::Forgot(writer.forget(&forgotten).await) }.boxed());
        }
        let writes = self.index.next_writes(MAX_WRITES.saturating_sub(under_way), now);
        let count = writes.len();
        for write in writes {
            let writer = self.writer.clone();
            let call = async move {
                let (key, since, outcome) = writer.service(write).await;
                Done::Service(key, since, outcome)
            };
            work.push(call.boxed());
        }
        count
    }

    fn start_statuses(&mut self, work: &Work, pace: &mut Pace, now: Instant) {
        if !pace.is_due(now) {
            return;
        }
        pace.ran(now);
        let time = Time(Timestamp::now());
        for (name, status) in self.index.pool_statuses(&time) {
            let writer = self.writer.clone();
            let call = async move { Done::Pool(writer.pool(&name, &status).await.map(Box::new)) };
            work.push(call.boxed());
        }
        if let Some(status) = self.index.state_to_write(&time) {
            let writer = self.writer.clone();
            let call = async move {
                let written = writer.state(&status).await;
                Done::State(status, written)
            };
            work.push(call.boxed());
        }
    }

    /// Looks at what is not watched. The route table is read at once: it is a file of a few lines.
    fn survey(&mut self) -> BoxFuture<'static, Done> {
        self.index.set_own_gateways(host_routes::gateways());
        let writer = self.writer.clone();
        async move { Done::Survey(writer.service_ranges().await.ok(), writer.bgp().await.ok()) }.boxed()
    }

    fn done(&mut self, done: Done, [statuses, survey, sweep]: [&mut Pace; 3]) {
        let (kind, written) = match done {
            Done::Service(key, since, outcome) => {
                let written = matches!(outcome, Outcome::Written(_));
                if written {
                    self.metrics.latency.observe(since.elapsed().as_secs_f64());
                }
                self.index.wrote(&key, outcome, Instant::now());
                statuses.due();
                (Kind::Service, written)
            }
            Done::Pool(written) => {
                let is_written = written.is_some();
                match written {
                    Some(pool) => self.index.wrote_pool(*pool),
                    None => statuses.due(),
                }
                (Kind::Pool, is_written)
            }
            Done::State(status, written) => {
                if written {
                    self.index.wrote_state(status);
                } else {
                    statuses.due();
                }
                (Kind::ConfigurationState, written)
            }
            Done::Survey(ranges, bgp) => {
                // What is known stays in force while it cannot be seen.
                if ranges.is_none() || bgp.is_none() {
                    survey.due_in(RETRY_PACE);
                }
                if let Some(ranges) = ranges {
                    self.index.set_service_ranges(ranges);
                }
                if let Some(bgp) = bgp {
                    self.index.set_bgp(bgp);
                }
                statuses.due();
                return;
            }
            Done::Forgot(complete) => {
                if !complete {
                    sweep.due();
                }
                return;
            }
            Done::GossipKey(_) => return,
        };
        self.metrics.writes.get_or_create(&Written { kind }).inc();
        if !written {
            self.metrics.update_errors.inc();
        }
    }

    fn deadline(&self, [statuses, survey, sweep]: [&Pace; 3]) -> Instant {
        let now = Instant::now();
        let standing = self.standing.borrow().until().filter(|until| *until > now);
        // Only a leader sweeps: a standby's turn is no time to wake up for.
        let sweep = sweep.at().filter(|_| self.index.is_leading());
        let times = [self.index.next_deadline(), statuses.at(), survey.at(), sweep, standing];
        let first = times.into_iter().flatten().min();
        // Never twice in a row without a pause, whatever the parts say.
        first.unwrap_or(now + STATUS_PACE).max(now + Duration::from_millis(1))
    }
}

/// Something that happens at most once per period, and only when there is a reason.
struct Pace {
    period: Duration,
    last: Option<Instant>,
    wanted: Option<Instant>,
}

impl Pace {
    fn new(period: Duration) -> Self {
        Self { period, last: None, wanted: None }
    }

    fn due(&mut self) {
        self.wanted.get_or_insert_with(Instant::now);
    }

    /// Sooner than the period says.
    fn due_in(&mut self, wait: Duration) {
        (self.last, self.wanted) = (None, Some(Instant::now() + wait));
    }

    fn ran(&mut self, now: Instant) {
        (self.last, self.wanted) = (Some(now), None);
    }

    fn at(&self) -> Option<Instant> {
        Some(self.wanted?.max(self.last.map_or(self.wanted?, |last| last + self.period)))
    }

    fn is_due(&self, now: Instant) -> bool {
        self.at().is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_due_at_once_the_first_time_and_then_once_per_period() {
        let mut pace = Pace::new(Duration::from_secs(10));
        assert_eq!(pace.at(), None);
        pace.due();
        let now = Instant::now();
        assert!(pace.is_due(now));
        pace.ran(now);
        assert!(!pace.is_due(now + Duration::from_secs(60)), "nobody wants it");
        pace.due();
        assert!(!pace.is_due(now + Duration::from_secs(9)));
        assert!(pace.is_due(now + Duration::from_secs(10)));
    }
}

//! Leader election among replicas with a `coordination.k8s.io` Lease.
//!
//! ```text
//! Standby ── lease free, released, or unchanged for its duration ──► write ── accepted ──► Leader
//! Leader ── renewed every RENEW ──► Leader
//! Leader ── not renewed for DEADLINE, or somebody else holds it ──► Standby
//! Leader ── drain ──► lease released, the standby follows at once
//! ```
//! Clocks of different machines are never compared: a standby measures on its own monotonic clock for how long the
//! lease has not changed. A leader stops DEADLINE after the last renewal that it *began*, which is before a standby
//! may start; whoever acts on the standing asks [`Standing::leads`] at that moment, so that a process that was paused
//! does not act on an old one. Every write carries the version that was read, so that two never win.

use std::time::{Duration, Instant};

use causeway_daemon::drain::Drain;
use futures_util::StreamExt;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// A standby takes over when the lease has not changed for this long: crash to new leader in under 10 s.
pub(crate) const DURATION: Duration = Duration::from_secs(8);
/// A third of a call per second at rest.
const RENEW: Duration = Duration::from_secs(3);
/// Without a renewal for this long the leader stops; less than [`DURATION`] by more than a write takes.
const DEADLINE: Duration = Duration::from_secs(6);
/// The pause after a failed attempt.
const RETRY: Duration = Duration::from_millis(700);
/// One attempt; shorter than what is left between a failed renewal and the deadline.
const ATTEMPT: Duration = Duration::from_secs(2);

/// What the account needs.
const ROLE: &str =
    "the Role lacks one of `get`, `list`, `watch` and `update` on this Lease, or `create` on `leases`";

/// Until when this process may act as leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    until: Option<Instant>,
}

impl Standing {
    pub(crate) fn leads(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// When the standing ends by itself.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }
}

/// Takes part in the election until the drain.
#[derive(Clone, Debug)]
pub(crate) struct Elector {
    api: Api<Lease>,
    name: String,
    identity: String,
}

impl Elector {
    pub(crate) fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), identity: identity.to_owned() }
    }

    pub(crate) fn start(self, drain: &Drain) -> watch::Receiver<Standing> {
        let (sender, standing) = watch::channel(Standing::default());
        let stop = drain.clone();
        drop(drain.spawn("lease", async move { self.run(&sender, &stop).await }));
        standing
    }

    async fn run(self, standing: &watch::Sender<Standing>, drain: &Drain) {
        let mut seen = Seen::default();
        let mut due = Instant::now();
        let mut complained = false;
        let mut changes = std::pin::pin!(
            watch_object(self.api.clone(), &self.name).backoff(crate::retry::Retry::default())
        );
        loop {
            tokio::select! {
                biased;
                () = drain.draining() => break,
                change = changes.next() => {
                    match change {
                        Some(Ok(lease)) => {
                            if let Some(free) = seen.take_in(lease, Instant::now()) {
                                due = due.min(free);
                            }
                        }
                        Some(Err(error)) => self.complain(&mut complained, &error),
                        None => {}
                    }
                    // A leader keeps its own rhythm; a standby waits for the lease to be free.
                    if !standing.borrow().leads(Instant::now()) {
                        due = seen.free_at(&self.identity).unwrap_or_else(Instant::now);
                    }
                    continue;
                }
                () = tokio::time::sleep_until(due.into()) => {}
            }
            due = self.attempt(&mut seen, standing, &mut complained).await;
        }
        if standing.borrow().leads(Instant::now()) {
            standing.send_replace(Standing::default());
            self.release(&seen).await;
        }
    }

    /// Acquires or renews, and says when to try again.
    async fn attempt(
        &self,
        seen: &mut Seen,
        standing: &watch::Sender<Standing>,
        complained: &mut bool,
    ) -> Instant {
        let began = Instant::now();
        let led = standing.borrow().leads(began);
        let outcome = tokio::time::timeout(ATTEMPT, self.write(seen, led)).await;
        let now = Instant::now();
        match outcome {
            Ok(Ok(true)) => {
                *complained = false;
                if !led {
                    info!(lease = %self.name, identity = %self.identity, "leading");
                }
                standing.send_replace(Standing { until: Some(began + DEADLINE) });
                return now + RENEW;
            }
            Ok(Ok(false)) => {
                *complained = false;
                if led {
                    warn!(lease = %self.name, holder = seen.holder(), "somebody else leads now");
                }
                standing.send_replace(Standing::default());
                return seen.free_at(&self.identity).unwrap_or(now + RETRY).max(now + RETRY);
            }
            Ok(Err(error)) => self.complain(complained, &error),
            Err(_) => self.complain(complained, &format!("no answer within {ATTEMPT:?}")),
        }
        if led && !standing.borrow().leads(now) {
            warn!(lease = %self.name, "not renewed in time, standing by");
            standing.send_replace(Standing::default());
        }
        now + RETRY
    }

    /// Tells of an outage once. What a Role lacks is in the API server's own words.
    fn complain(&self, complained: &mut bool, error: &dyn std::fmt::Display) {
        if std::mem::replace(complained, true) {
            debug!(lease = %self.name, %error, "lease not read or written");
        } else {
            let lacks = error.to_string().contains("forbidden");
            let mend = if lacks { ROLE } else { "without it nobody leads" };
            warn!(lease = %self.name, %error, "lease not read or written, trying again; {mend}");
        }
    }

    /// Whether the lease is ours now.
    async fn write(&self, seen: &mut Seen, led: bool) -> kube::Result<bool> {
        if !led || seen.lease.is_none() {
            seen.take_in(self.api.get_opt(&self.name).await?, Instant::now());
        }
        let free = seen.free_at(&self.identity);
        if free.is_some_and(|free| led || free > Instant::now()) {
            // A leader that finds another's name has been overtaken, however old that is by now.
            return Ok(false);
        }
        let lease = self.mine(seen.lease.as_ref());
        let written = if seen.lease.is_none() {
            self.api.create(&PostParams::default(), &lease).await
        } else {
            self.api.replace(&self.name, &PostParams::default(), &lease).await
        };
        match written {
            Ok(lease) => {
                seen.take_in(Some(lease), Instant::now());
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {
                seen.take_in(self.api.get_opt(&self.name).await?, Instant::now());
                Ok(seen.holder() == Some(self.identity.as_str()) && led)
            }
            Err(error) => Err(error),
        }
    }

    fn mine(&self, before: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let old = before.and_then(|lease| lease.spec.as_ref());
        let same = old.is_some_and(|old| old.holder_identity.as_deref() == Some(&self.identity));
        let acquired = old.filter(|_| same).and_then(|old| old.acquire_time.clone());
        let transitions = old.and_then(|old| old.lease_transitions).unwrap_or(0);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: before.and_then(|lease| lease.metadata.resource_version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
                renew_time: Some(now),
                lease_transitions: Some(if same { transitions } else { transitions.saturating_add(1) }),
                ..LeaseSpec::default()
            }),
        }
    }

    async fn release(&self, seen: &Seen) {
        let mut lease = self.mine(seen.lease.as_ref());
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
        }
        let params = PostParams::default();
        let released = tokio::time::timeout(ATTEMPT, self.api.replace(&self.name, &params, &lease)).await;
        match released {
            Ok(Ok(_)) => info!(lease = %self.name, "released"),
            Ok(Err(error)) => info!(lease = %self.name, %error, "not released, it expires by itself"),
            Err(_) => info!(lease = %self.name, "not released within {ATTEMPT:?}, it expires by itself"),
        }
    }
}

/// The lease as last seen, and since when it is like that.
#[derive(Debug, Default)]
struct Seen {
    lease: Option<Lease>,
    since: Option<Instant>,
}

impl Seen {
    /// Notes a look at the lease; says when it is free, if this look changed that.
    fn take_in(&mut self, lease: Option<Lease>, now: Instant) -> Option<Instant> {
        let spec = |lease: &Option<Lease>| lease.as_ref().and_then(|lease| lease.spec.clone());
        if self.since.is_none() || spec(&self.lease) != spec(&lease) {
            self.since = Some(now);
        }
        self.lease = lease;
        (self.holder().is_none()).then_some(now)
    }

    fn holder(&self) -> Option<&str> {
        let spec = self.lease.as_ref()?.spec.as_ref()?;
        spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }

    /// When the lease may be taken; `None` for at once.
    fn free_at(&self, identity: &str) -> Option<Instant> {
        self.holder().filter(|holder| *holder != identity)?;
        let spec = self.lease.as_ref()?.spec.as_ref()?;
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Some(self.since? + seconds.map_or(DURATION, Duration::from_secs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, renewed: i64) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(8),
            renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    #[test]
    fn a_lease_is_free_when_it_has_not_changed_for_its_duration_on_our_own_clock() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        seen.take_in(Some(lease("other", 5_000_000_000)), now);
        assert_eq!(seen.free_at("me"), Some(now + DURATION), "the other's clock, far ahead, does not count");
        let later = now + Duration::from_secs(5);
        seen.take_in(Some(lease("other", 5_000_000_000)), later);
        assert_eq!(seen.free_at("me"), Some(now + DURATION), "looking again is no renewal");
        seen.take_in(Some(lease("other", 5_000_000_003)), later);
        assert_eq!(seen.free_at("me"), Some(later + DURATION));
    }

    #[test]
    fn a_released_or_missing_lease_and_our_own_are_free_at_once() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        assert_eq!(seen.take_in(None, now), Some(now));
        assert_eq!(seen.free_at("me"), None);
        assert_eq!(seen.take_in(Some(lease("", 1)), now), Some(now));
        assert_eq!(seen.free_at("me"), None);
        assert_eq!(seen.take_in(Some(lease("me", 1)), now), None);
        assert_eq!(seen.free_at("me"), None);
    }

    #[test]
    fn hazard_176_a_leader_that_was_paused_leads_no_more() {
        let began = Instant::now();
        let standing = Standing { until: Some(began + DEADLINE) };
        assert!(standing.leads(began));
        assert!(!standing.leads(began + DEADLINE), "stops before a standby may start");
        const { assert!(DEADLINE.as_secs() < DURATION.as_secs()) };
    }
}

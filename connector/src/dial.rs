//! Dialling an edge until there is a session: for ever, with attempts that overlap.
//!
//! A lost link is tried again every few hundred milliseconds while earlier attempts still wait for their answers: so a
//! link that comes back is used within a second, whatever the retransmission timers of one attempt say.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use causeway_daemon::backoff::Backoff;
use causeway_tunnel::dial::{DialError, Dialer};
use causeway_tunnel::message::Retry;
use causeway_tunnel::{Control, Role, Session, Transport};
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::carriers::{Carriers, Need, Protocol};
use crate::failure::chain;
use crate::forward_proxy::{Address, Proxy};
use crate::metrics::Metrics;

/// One edge as the token or the file names it.
#[derive(Debug)]
pub(crate) struct EdgeName {
    /// `host:port`.
    pub(crate) name: String,
    /// What the name last resolved to: used when the resolver is down (hazard 162).
    last_good: Mutex<Vec<SocketAddr>>,
    /// The last failure, for `status`; cleared by a session.
    pub(crate) trouble: Mutex<Option<String>>,
    pub(crate) carriers: Carriers,
    /// What TCP goes through.
    proxy: Option<Arc<Proxy>>,
    /// What the last session went over.
    over: Mutex<Option<Transport>>,
}

/// An attempt that failed.
#[derive(Debug)]
struct Attempt {
    text: String,
    outcome: &'static str,
    retry: Retry,
    weight: Weight,
}

/// Which of several failures is told: that which says most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// Of what stands in for what was tried first.
    Second,
    First,
    /// Of the proxy that somebody named for this.
    Proxy,
    /// The edge has spoken.
    Refusal,
    /// Only a person can mend it.
    Permanent,
}

impl EdgeName {
    pub(crate) fn new(name: String, carriers: Carriers, proxy: Option<Arc<Proxy>>) -> Self {
        Self {
            name,
            last_good: Mutex::default(),
            trouble: Mutex::default(),
            carriers,
            proxy,
            over: Mutex::default(),
        }
    }

    /// The proxy that sessions over TCP go through, if one is.
    pub(crate) fn proxy(&self) -> Option<&Address> {
        self.proxy.as_deref().map(|proxy| &proxy.address)
    }

    /// Takes note of what a session goes over, and says when that has changed.
    pub(crate) fn went_over(&self, transport: Option<Transport>) {
        let before = std::mem::replace(&mut *self.over.lock(), transport);
        match (before, transport) {
            (Some(Transport::Tcp), Some(Transport::Quic)) => {
                tracing::info!(edge = self.name, "QUIC comes through again: sessions go over it");
            }
            (None | Some(Transport::Quic), Some(Transport::Tcp))
                if self.carriers.protocol == Protocol::Auto =>
            {
                tracing::warn!(
                    edge = self.name,
                    proxy = self.proxy().map(tracing::field::display),
                    "QUIC does not come through, and sessions go over TCP: check that UDP to the edge's tunnel port is not blocked; trying QUIC again every {} s",
                    self.carriers.probe_every.as_secs()
                );
            }
            _ => {}
        }
    }

    /// Resolves anew at each dial.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, Attempt> {
        let failed =
            |text| Attempt { text, outcome: "resolve", retry: Retry::Temporary, weight: Weight::First };
        match tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(&self.name)).await {
            Ok(Ok(found)) => {
                let found: Vec<_> = found.collect();
                if !found.is_empty() {
                    self.last_good.lock().clone_from(&found);
                    return Ok(found);
                }
            }
            Ok(Err(error)) if self.last_good.lock().is_empty() => {
                return Err(failed(format!("the edge's name `{}` cannot be resolved: {error}", self.name)));
            }
            Ok(Err(_)) | Err(_) => {}
        }
        let known = self.last_good.lock().clone();
        if known.is_empty() {
            return Err(failed(format!("the edge's name `{}` has no address", self.name)));
        }
        Ok(known)
    }

    /// One attempt, for a person who waits for it.
    ///
    /// # Errors
    /// In words for that person.
    pub(crate) async fn try_once(&self, dialer: &Dialer, role: Role) -> Result<(Session, Control), String> {
        let plan = self.carriers.plan(*self.over.lock(), Need::First);
        self.attempt(dialer, role, &plan).await.map_err(|attempt| attempt.text)
    }

    /// Whether QUIC comes through: one attempt over it alone.
    pub(crate) async fn try_quic(&self, dialer: &Dialer, role: Role) -> Result<(Session, Control), String> {
        let quic = [(Transport::Quic, Duration::ZERO)];
        self.attempt(dialer, role, &quic).await.map_err(|attempt| attempt.text)
    }

    /// One attempt over each carrier; the first session wins. A proxy needs no address of the edge's: where there is one, nobody at
    /// home may know its name.
    async fn attempt(
        &self,
        dialer: &Dialer,
        role: Role,
        plan: &[(Transport, Duration)],
    ) -> Result<(Session, Control), Attempt> {
        let Some(proxy) = self.proxy.as_deref() else { return self.direct(dialer, role, plan).await };
        let (relayed, direct): (Vec<_>, Vec<_>) =
            plan.iter().copied().partition(|&(transport, _)| transport == Transport::Tcp);
        let through = |head_start| self.through(proxy, dialer, role, head_start);
        match (relayed.first(), direct.is_empty()) {
            (None, _) => self.direct(dialer, role, &direct).await,
            (Some(&(_, head_start)), true) => through(head_start).await,
            (Some(&(_, head_start)), false) => {
                let (direct, through) = (self.direct(dialer, role, &direct), through(head_start));
                match select(pin!(direct), pin!(through)).await {
                    Either::Left((Ok(session), _)) | Either::Right((Ok(session), _)) => Ok(session),
                    Either::Left((Err(failed), other)) => other.await.map_err(|attempt| attempt.or(failed)),
                    Either::Right((Err(failed), other)) => other.await.map_err(|attempt| attempt.or(failed)),
                }
            }
        }
    }

    /// All addresses, each a little after the other.
    async fn direct(
        &self,
        dialer: &Dialer,
        role: Role,
        plan: &[(Transport, Duration)],
    ) -> Result<(Session, Control), Attempt> {
        let addresses = self.addresses().await?;
        let mut dials = FuturesUnordered::new();
        for (index, address) in (0_u32..).zip(addresses) {
            for &(transport, head_start) in plan {
                dials.push(async move {
                    sleep(NEXT_ADDRESS_AFTER * index + head_start).await;
                    (transport, dialer.dial_over(transport, address, role).await)
                });
            }
        }
        let mut worst: Option<Attempt> = None;
        while let Some((transport, dialled)) = dials.next().await {
            match dialled {
                Ok(session) => return Ok(session),
                Err(error) => {
                    // On the TCP port of that number somebody else may listen.
                    let is_first = transport == plan[0].0;
                    let weight = if is_first { Weight::First } else { Weight::Second };
                    let attempt = Attempt::of(&error, weight, is_first);
                    worst = Some(match worst {
                        Some(worst) => attempt.or(worst),
                        None => attempt,
                    });
                }
            }
        }
        Err(worst.unwrap_or_else(|| Attempt {
            text: format!("the edge's name `{}` has no address", self.name),
            outcome: "resolve",
            retry: Retry::Temporary,
            weight: Weight::First,
        }))
    }

    /// Over TCP, through a proxy that knows the edge's name.
    async fn through(
        &self,
        proxy: &Proxy,
        dialer: &Dialer,
        role: Role,
        head_start: Duration,
    ) -> Result<(Session, Control), Attempt> {
        sleep(head_start).await;
        let relayed = proxy.open(&self.name).await.map_err(|error| Attempt {
            text: error.to_string(),
            outcome: "proxy",
            retry: Retry::Temporary,
            weight: Weight::Proxy,
        })?;
        dialer.dial_relayed(relayed, role).await.map_err(|error| {
            let is_all = self.carriers.protocol == Protocol::Tcp;
            let attempt = Attempt::of(&error, Weight::Proxy, is_all);
            match error {
                DialError::WrongEdge { .. } => Attempt { text: attempt.text + INSPECTED, ..attempt },
                _ => attempt,
            }
        })
    }
}

impl Attempt {
    /// `may_last`: whether it may stand for all ways to the edge.
    fn of(error: &DialError, weight: Weight, may_last: bool) -> Self {
        let is_refusal = matches!(error, DialError::Refused { .. });
        let retry = if may_last || is_refusal { error.retry() } else { Retry::Temporary };
        let weight = match retry {
            Retry::Permanent => Weight::Permanent,
            Retry::Temporary if is_refusal => Weight::Refusal,
            Retry::Temporary => weight,
        };
        Self { text: chain(error), outcome: outcome(error), retry, weight }
    }

    /// The one that says more; of two alike this.
    fn or(self, earlier: Self) -> Self {
        if self.weight >= earlier.weight { self } else { earlier }
    }
}

/// Dials until there is a session. Cancel safe.
pub(crate) async fn until_connected(
    edge: &EdgeName,
    dialer: &Dialer,
    role: Role,
    need: Need,
    metrics: &Metrics,
) -> (Session, Control) {
    let begun = Instant::now();
    let mut backoff = Backoff::new(BASE, CAP);
    let mut long = Backoff::new(BASE, LONG_CAP);
    let mut attempts = FuturesUnordered::new();
    let mut next = Instant::now();
    loop {
        tokio::select! {
            biased;
            Some(attempt) = attempts.next(), if !attempts.is_empty() => match attempt {
                Ok(dialled) => {
                    let (session, control): (Session, Control) = dialled;
                    *edge.trouble.lock() = None;
                    metrics.dialled("connected");
                    edge.went_over(session.transport());
                    return (session, control);
                }
                Err(Attempt { text, outcome, retry, .. }) => {
                    metrics.dialled(outcome);
                    complain(edge, &text, retry);
                    if retry == Retry::Permanent {
                        attempts.clear();
                        let pause = SLOW.mul_f64(rand::random_range(0.5..1.0));
                        next = Instant::now() + pause;
                    }
                }
            },
            () = sleep_until(next), if attempts.len() < MAX_OVERLAP => {
                let plan = edge.carriers.plan(*edge.over.lock(), need);
                attempts.push(async move { edge.attempt(dialer, role, &plan).await });
                let is_long = begun.elapsed() > LONG_OUTAGE;
                let pause = if is_long { &mut long } else { &mut backoff }.next(&mut rand::rng());
                next = Instant::now() + pause;
            }
        }
    }
}

/// Says a trouble once, and again only when it is another one.
fn complain(edge: &EdgeName, text: &str, retry: Retry) {
    let mut trouble = edge.trouble.lock();
    if trouble.as_deref() == Some(text) {
        tracing::debug!(edge = edge.name, reason = text, "still no session");
        return;
    }
    match retry {
        Retry::Permanent => {
            tracing::error!(edge = edge.name, "{text}; trying again about once a minute");
        }
        Retry::Temporary => tracing::warn!(edge = edge.name, "{text}; trying on"),
    }
    *trouble = Some(text.to_owned());
}

fn outcome(error: &DialError) -> &'static str {
    match error {
        DialError::Socket(_) => "socket",
        DialError::Unreachable { .. } => "unreachable",
        DialError::WrongEdge { .. } => "wrong_edge",
        DialError::Refused { .. } => "refused",
        DialError::Failed { .. } => "failed",
    }
}

const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// RFC 8305's connection attempt delay.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// Whose key it is then, as a rule.
const INSPECTED: &str = "; a proxy that opens TLS to look into it has to leave this edge alone";
/// Between the beginnings of two attempts: a link that was down for a second is used within one, and one that was
/// down for a minute within two, handshake included. Half of it is time enough for a handshake over most links, so that
/// no needless second one is begun.
const BASE: Duration = Duration::from_millis(700);
const CAP: Duration = Duration::from_millis(700);
/// After a long outage politeness weighs more: back within five seconds.
const LONG_OUTAGE: Duration = Duration::from_secs(180);
const LONG_CAP: Duration = Duration::from_secs(4);
/// Attempts under way at once.
const MAX_OVERLAP: usize = 3;
/// Around a refusal that only a person can mend.
const SLOW: Duration = Duration::from_secs(60);

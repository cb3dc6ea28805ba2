//! Dialling an edge until there is a session: for ever, with attempts that overlap.
//!
//! A lost link is tried again every few hundred milliseconds while earlier attempts still wait for their answers: so a
//! link that comes back is used within a second, whatever the retransmission timers of one attempt say.

use std::net::SocketAddr;
use std::time::Duration;

use causeway_daemon::backoff::Backoff;
use causeway_tunnel::dial::{DialError, Dialer};
use causeway_tunnel::message::Retry;
use causeway_tunnel::{Control, Role, Session, Transport};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::carriers::{Carriers, Need, Protocol};
use crate::failure::chain;
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
    /// What the last session went over.
    over: Mutex<Option<Transport>>,
}

/// An attempt that failed.
#[derive(Debug)]
struct Attempt {
    text: String,
    outcome: &'static str,
    retry: Retry,
}

impl EdgeName {
    pub(crate) fn new(name: String, carriers: Carriers) -> Self {
        Self {
            name,
            last_good: Mutex::default(),
            trouble: Mutex::default(),
            carriers,
            over: Mutex::default(),
        }
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
                    "QUIC does not come through, and sessions go over TCP: check that UDP to the edge's tunnel port is not blocked; trying QUIC again every {} s",
                    self.carriers.probe_every.as_secs()
                );
            }
            _ => {}
        }
    }

    /// Resolves anew at each dial.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, Attempt> {
        match tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(&self.name)).await {
            Ok(Ok(found)) => {
                let found: Vec<_> = found.collect();
                if !found.is_empty() {
                    self.last_good.lock().clone_from(&found);
                    return Ok(found);
                }
            }
            Ok(Err(error)) if self.last_good.lock().is_empty() => {
                let text = format!("the edge's name `{}` cannot be resolved: {error}", self.name);
                return Err(Attempt { text, outcome: "resolve", retry: Retry::Temporary });
            }
            Ok(Err(_)) | Err(_) => {}
        }
        let known = self.last_good.lock().clone();
        if known.is_empty() {
            let text = format!("the edge's name `{}` has no address", self.name);
            return Err(Attempt { text, outcome: "resolve", retry: Retry::Temporary });
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

    /// One attempt: all addresses, each a little after the other, over each carrier; the first session wins.
    async fn attempt(
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
        let mut worst: Option<((bool, bool, bool), Attempt)> = None;
        while let Some((transport, dialled)) = dials.next().await {
            match dialled {
                Ok(session) => return Ok(session),
                Err(error) => {
                    let is_first = transport == plan[0].0;
                    let is_refusal = matches!(error, DialError::Refused { .. });
                    // On the TCP port of that number somebody else may listen.
                    let retry = if is_first || is_refusal { error.retry() } else { Retry::Temporary };
                    let attempt = Attempt { text: chain(&error), outcome: outcome(&error), retry };
                    // A refusal says more than a silence, and what was tried first more than what stands in for it.
                    let weight = (retry == Retry::Permanent, is_refusal, is_first);
                    if worst.as_ref().is_none_or(|(heaviest, _)| weight >= *heaviest) {
                        worst = Some((weight, attempt));
                    }
                }
            }
        }
        Err(worst.map(|(_, attempt)| attempt).unwrap_or_else(|| Attempt {
            text: format!("the edge's name `{}` has no address", self.name),
            outcome: "resolve",
            retry: Retry::Temporary,
        }))
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
                Err(Attempt { text, outcome, retry }) => {
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

//! The life of a slot: a task of one of our shards that dials, has the session run, and dials again.
//!
//! ```text
//! dial ─ claim the edge's shard ─→ up ── ended ──────────────────────────────→ dial
//!   ▲          │taken: once more    ▲└── suspected ─→ dial beside it ─┬─ it is heard first: the dial is dropped, as before
//!   └──────────┘                    └────────── another is up ────────┘
//!                                        the old one: still silent for SUCCESSION → closed; heard → leaves when it is empty
//! ```
//! A dial beside a silent session takes a port of its own: a NAT may have lost the old one's mapping. One that is up over TCP looks
//! now and then whether QUIC comes through; then a session over that takes its place, as soon as it is announced.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use causeway_tunnel::limits::SUCCESSION;
use causeway_tunnel::{CloseCode, Role, Session};
use tokio::time::{sleep, timeout};

use crate::carriers::Need;
use crate::dial::until_connected;
use crate::session::{Running, STANDBY, Slot, Ties};
use crate::shard::Shard;

/// The life of a slot, until the drain or until the edge has fewer shards than the slot's number.
pub(crate) async fn keep(shard: Arc<Shard>, ties: Arc<Ties>, slot: Slot) {
    let mut silent = None;
    loop {
        if slot.number != STANDBY && slot.number >= *slot.edge.shards.borrow() as usize {
            return;
        }
        let Some(mut running) = next(&shard, &ties, &slot, silent.take()).await else { return };
        let ended = loop {
            let (session, succeeded) = (running.session.clone(), running.succeeded());
            tokio::select! {
                biased;
                ended = running.ended() => break Some(ended),
                () = session.suspected() => break None,
                new = at_successor(&shard, &ties, &slot, succeeded) => {
                    let old = std::mem::replace(&mut running, new);
                    // It serves its edge's process until that closes it.
                    drop(shard.drain.spawn_service("predecessor", until_closed(old)));
                }
                better = over_quic(&shard, &ties, &slot, &session) => {
                    std::mem::replace(&mut running, better).leave();
                }
            }
        };
        let Some(ended) = ended else {
            silent = Some(running);
            continue;
        };
        if shard.drain.is_draining() {
            return;
        }
        lost(&slot, &ended);
        // An edge that takes sessions and drops them at once is not to be hammered.
        if running.begun.elapsed() < SHORT_LIVED {
            sleep(SHORT_LIVED.mul_f64(rand::random_range(0.2..1.0))).await;
        }
    }
}

/// The session that the slot has next: a new one, or the silent one when that is heard first.
async fn next(
    shard: &Arc<Shard>,
    ties: &Arc<Ties>,
    slot: &Slot,
    mut silent: Option<Running>,
) -> Option<Running> {
    let need = if silent.is_some() { Need::Silence } else { Need::First };
    let dial = || until_connected(&slot.edge.name, &ties.dialer, slot.role(), need, &shard.metrics);
    let mut dialled = pin!(dial());
    let mut misses = 0;
    loop {
        let (session, control) = tokio::select! {
            biased;
            () = shard.drain.draining() => return None,
            sign = sign_of(&mut silent) => match sign {
                Sign::Heard => {
                    *slot.edge.name.trouble.lock() = None;
                    return silent;
                }
                Sign::Ended(reason) => {
                    silent = None;
                    lost(slot, &reason);
                    continue;
                }
            },
            connected = &mut dialled => connected,
        };
        let info = session.info();
        slot.edge.shards.send_if_modified(|known| std::mem::replace(known, info.shards) != info.shards);
        // The kernel chose the edge's shard by our port. Tried a few times; a shard without a session is served by its
        // neighbours.
        let claim = (slot.role() == Role::Primary).then(|| slot.claim(&session)).flatten();
        if slot.role() == Role::Primary && claim.is_none() {
            misses += 1;
            if misses <= MAX_MISSES * info.shards {
                session.close(CloseCode::Done, "this shard has a session already");
                dialled.set(dial());
                continue;
            }
        }
        if let Some(old) = silent {
            drop(shard.drain.spawn_service("succession", succeed(Arc::clone(shard), old)));
        }
        return Some(Running::start(shard, ties, slot, claim, session, control));
    }
}

/// A session with the edge's next process, once there is one: as soon as that sends requests on it. For ever where none comes.
async fn at_successor(
    shard: &Arc<Shard>,
    ties: &Arc<Ties>,
    slot: &Slot,
    succeeded: impl Future<Output = ()>,
) -> Running {
    succeeded.await;
    let mut misses = 0;
    loop {
        let edge = &slot.edge.name;
        let mut dialled = Err(String::new());
        // The first may still have come to the process before, which refuses it as soon as the next one can be had.
        for _ in 0..2 {
            if dialled.is_err() {
                dialled = edge.try_once(&ties.dialer, slot.role()).await;
            }
        }
        let (session, control) = match dialled {
            Ok(dialled) => dialled,
            Err(_) => until_connected(edge, &ties.dialer, slot.role(), Need::First, &shard.metrics).await,
        };
        // The same shard as before, in another process.
        let claim = (slot.role() == Role::Primary).then(|| slot.claim(&session)).flatten();
        if slot.role() == Role::Primary && claim.is_none() {
            misses += 1;
            if misses <= MAX_MISSES * session.info().shards {
                session.close(CloseCode::Done, "this shard has a session already");
                continue;
            }
        }
        let mut new = New(Some(Running::start(shard, ties, slot, claim, session, control)));
        if new.is_announced().await
            && let Some(running) = new.0.take()
        {
            return running;
        }
    }
}

async fn until_closed(mut old: Running) {
    old.ended().await;
}

/// A session over QUIC that stands in for one over TCP: as soon as QUIC comes through, and the edge sends requests on it. For ever
/// where there is no such need.
async fn over_quic(shard: &Arc<Shard>, ties: &Arc<Ties>, slot: &Slot, session: &Session) -> Running {
    let edge = &slot.edge.name;
    loop {
        let next = edge.carriers.next_probe(session.transport(), &mut rand::rng());
        let Some(next) = next else { return pending().await };
        sleep(next).await;
        for _ in 0..=MAX_MISSES * session.info().shards {
            let (session, control) = match edge.try_quic(&ties.dialer, slot.role()).await {
                Ok(dialled) => dialled,
                Err(reason) => {
                    tracing::debug!(edge = edge.name, reason, "QUIC does not come through yet");
                    break;
                }
            };
            let claim = (slot.role() == Role::Primary).then(|| slot.claim(&session)).flatten();
            if slot.role() == Role::Primary && claim.is_none() {
                session.close(CloseCode::Done, "this shard has a session already");
                continue;
            }
            let mut new = New(Some(Running::start(shard, ties, slot, claim, session, control)));
            if new.is_announced().await
                && let Some(running) = new.0.take()
            {
                edge.went_over(running.session.transport());
                return running;
            }
            break;
        }
    }
}

/// A session that is not needed unless it is announced in time. Dropped, it ends.
struct New(Option<Running>);

impl New {
    async fn is_announced(&self) -> bool {
        let Some(running) = &self.0 else { return false };
        timeout(ANNOUNCED_WITHIN, running.announced()).await.is_ok()
    }
}

impl Drop for New {
    fn drop(&mut self) {
        if let Some(running) = &self.0 {
            running.leave();
        }
    }
}

/// What became of a silent session.
enum Sign {
    Heard,
    Ended(String),
}

/// For ever, when there is none. Cancel safe.
async fn sign_of(silent: &mut Option<Running>) -> Sign {
    let Some(running) = silent else { return pending().await };
    let session = running.session.clone();
    tokio::select! {
        biased;
        ended = running.ended() => Sign::Ended(ended),
        () = session.heard() => Sign::Heard,
    }
}

/// The last of a silent session, now that another one is up.
async fn succeed(shard: Arc<Shard>, old: Running) {
    let mut old = Some(old);
    let sign = tokio::select! {
        sign = sign_of(&mut old) => Some(sign),
        () = sleep(SUCCESSION) => None,
    };
    let Some(old) = old else { return };
    match sign {
        Some(Sign::Ended(_)) => {}
        // The line was only slow. What it carries it carries to the end.
        Some(Sign::Heard) => old.leave(),
        None => {
            shard.metrics.given_up("successor");
            tracing::warn!(session = %old.session.info().id, "closing a session that is silent, while another one is not");
            old.session.close(CloseCode::Done, "it was silent, and another session is up");
        }
    }
}

fn lost(slot: &Slot, reason: &str) {
    tracing::warn!(edge = slot.edge.name.name, role = ?slot.role(), reason, "session lost: dialling again");
}

/// What a new session may take until the edge sends requests on it.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(5);
/// A session that lived shorter did not really succeed.
const SHORT_LIVED: Duration = Duration::from_millis(500);
/// Dials per shard of the edge that may land on a shard that has a session already.
const MAX_MISSES: u32 = 6;

//! Sessions with edges: kept up, announced on, drained.
//!
//! Each edge has slots: one primary for each of its shards and one standby. A slot is a task of one of our shards that
//! dials, runs the session, and dials again.
//! ```text
//! slot:  until_connected ─ claim the edge's shard ─┬─ accept streams → proxy::serve
//!            ▲                 │taken: once more   ├─ Announce at first and at each reload, Announced, Stats
//!            └─────────────────┴──── closed ───────┴─ Drain: ours when we stop, theirs when they do
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use causeway_tunnel::dial::Dialer;
use causeway_tunnel::limits::STATS_INTERVAL;
use causeway_tunnel::{CloseCode, Control, Message, RefusedRoute, Role, Session, Stats};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep, timeout};

use crate::dial::{EdgeName, until_connected};
use crate::proxy::serve;
use crate::rules::RuleSet;
use crate::shard::Shard;
use crate::status::{Board, SlotKey};

/// What all slots share.
#[derive(Debug)]
pub(crate) struct Ties {
    pub(crate) dialer: Dialer,
    pub(crate) rules: Arc<ArcSwap<RuleSet>>,
    /// Ticks when `rules` was swapped.
    pub(crate) reloaded: watch::Sender<u64>,
    pub(crate) board: Arc<Board>,
    pub(crate) started: Instant,
}

/// One edge and the standing of our slots with it.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) name: EdgeName,
    /// How many shards the edge said it has.
    pub(crate) shards: watch::Sender<u32>,
    /// Which of its shards a primary slot of ours has.
    claims: Mutex<HashMap<u32, usize>>,
}

/// A slot: its number among the edge's, where [`STANDBY`] is the one in reserve.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) edge: Arc<Edge>,
    pub(crate) number: usize,
}

pub(crate) const STANDBY: usize = usize::MAX;

impl Edge {
    pub(crate) fn new(name: String) -> Self {
        Self { name: EdgeName::new(name), shards: watch::Sender::new(1), claims: Mutex::default() }
    }

    /// Whether a primary slot may keep a session to this shard of the edge.
    fn claim(&self, shard: u32, slot: usize) -> bool {
        *self.claims.lock().entry(shard).or_insert(slot) == slot
    }

    fn release(&self, slot: usize) {
        self.claims.lock().retain(|_, holder| *holder != slot);
    }
}

impl Slot {
    fn role(&self) -> Role {
        if self.number == STANDBY { Role::Standby } else { Role::Primary }
    }

    fn key(&self) -> SlotKey {
        SlotKey { edge: self.edge.name.name.clone(), number: self.number }
    }
}

/// The life of a slot, until the drain or until the edge has fewer shards than the slot's number.
pub(crate) async fn keep(shard: Arc<Shard>, ties: Arc<Ties>, slot: Slot) {
    let mut misses = 0;
    loop {
        if slot.number != STANDBY && slot.number >= *slot.edge.shards.borrow() as usize {
            return;
        }
        let connected = tokio::select! {
            biased;
            () = shard.drain.draining() => return,
            connected = until_connected(&slot.edge.name, &ties.dialer, slot.role(), &shard.metrics) => connected,
        };
        let (session, control) = connected;
        let info = session.info();
        slot.edge.shards.send_if_modified(|known| std::mem::replace(known, info.shards) != info.shards);
        // The kernel chose the edge's shard by our port. Tried a few times; a shard without a session is served by its
        // neighbours.
        if slot.role() == Role::Primary && !slot.edge.claim(info.shard, slot.number) {
            misses += 1;
            if misses <= MAX_MISSES * info.shards {
                session.close(CloseCode::Done, "this shard has a session already");
                continue;
            }
        }
        misses = 0;
        let begun = Instant::now();
        let ended = run(&shard, &ties, &slot, session, control).await;
        slot.edge.release(slot.number);
        if shard.drain.is_draining() {
            return;
        }
        tracing::warn!(edge = slot.edge.name.name, role = ?slot.role(), reason = ended, "session lost: dialling again");
        // An edge that takes sessions and drops them at once is not to be hammered.
        if begun.elapsed() < SHORT_LIVED {
            sleep(SHORT_LIVED.mul_f64(rand::random_range(0.2..1.0))).await;
        }
    }
}

/// One session from its welcome to its end; says why it ended.
async fn run(shard: &Arc<Shard>, ties: &Ties, slot: &Slot, session: Session, control: Control) -> String {
    let info = session.info();
    tracing::info!(edge = slot.edge.name.name, session = %info.id, tunnel = info.tunnel_name, role = ?info.role,
        remote = %info.remote, shard = info.shard, software = info.peer_software, "session up");
    let _on_board = ties.board.up(slot.key(), &session);
    let accepting = {
        let (shard, session) = (Arc::clone(shard), session.clone());
        let drain = shard.drain.clone();
        drain.clone().spawn_service("accept", async move {
            while let Some((send, recv)) = session.accept().await {
                drop(drain.spawn("request", serve(Arc::clone(&shard), send, recv)));
            }
        })
    };
    let ended = converse(shard, ties, slot, &session, control).await;
    if session.is_alive() {
        session.close(CloseCode::Done, &ended);
    }
    // Ends by itself now that the session is closed.
    let _ = accepting.await;
    ended
}

/// The control stream, until the session is over or drained.
async fn converse(
    shard: &Shard,
    ties: &Ties,
    slot: &Slot,
    session: &Session,
    mut control: Control,
) -> String {
    let mut reloaded = ties.reloaded.subscribe();
    let mut stats = interval(STATS_INTERVAL);
    let mut announce = true;
    loop {
        if std::mem::take(&mut announce) {
            reloaded.mark_unchanged();
            let rules = ties.rules.load_full();
            let message = Message::Announce { generation: rules.generation, routes: rules.announcement() };
            if let Err(reason) = send(&mut control, &message).await {
                return reason;
            }
        }
        tokio::select! {
            biased;
            closed = session.closed() => return closed.to_string(),
            () = shard.drain.draining() => return leave(session, &mut control).await,
            message = control.recv() => match message {
                Ok(Some(message)) => heard(ties, slot, session, message),
                Ok(None) => return "the edge ended its control stream".to_owned(),
                Err(error) => return error.to_string(),
            },
            changed = reloaded.changed() => match changed {
                Ok(()) => announce = true,
                Err(_) => return "the connector stops".to_owned(),
            },
            _ = stats.tick() => {
                shard.stalls.look();
                let (requests, in_flight, origin_errors) = shard.metrics.totals();
                let stats = Stats {
                    requests,
                    in_flight,
                    origin_errors,
                    generation: ties.rules.load().generation,
                    config_error: ties.board.config_error(),
                    uptime_seconds: ties.started.elapsed().as_secs(),
                };
                if let Err(reason) = send(&mut control, &Message::Stats(stats)).await {
                    return reason;
                }
            }
        }
    }
}

fn heard(ties: &Ties, slot: &Slot, session: &Session, message: Message) {
    match message {
        Message::Announced { generation, accepted, refused } => {
            tracing::debug!(session = %session.info().id, generation, accepted = accepted.len(), "announced");
            if ties.board.announced(&slot.key(), &refused) {
                // One line however many they are: a refused rule file may have thousands.
                if let Some(RefusedRoute { reason, .. }) = refused.first() {
                    tracing::warn!(
                        edge = slot.edge.name.name,
                        refused = refused.len(),
                        hostnames = first_names(&refused),
                        "the edge does not serve these hostnames: {reason}"
                    );
                }
            }
        }
        Message::Drain { reason } => {
            // The edge stops. Its requests in flight go on here until it closes the session.
            tracing::info!(edge = slot.edge.name.name, session = %session.info().id, reason, "the edge drains this session");
            session.set_draining();
            ties.board.draining(&slot.key());
        }
        // Of a later version, or not for us.
        _ => {}
    }
}

/// For the log: the first few, and whether there are more; `status` shows them all.
fn first_names(refused: &[RefusedRoute]) -> String {
    let names: Vec<_> = refused.iter().take(NAMES_SHOWN).map(|route| route.hostname.as_str()).collect();
    let more = if refused.len() > NAMES_SHOWN { ", …" } else { "" };
    format!("{}{more}", names.join(", "))
}

/// Enough to know which rule file is meant, and one short line.
const NAMES_SHOWN: usize = 5;

/// Our own stop: tells the edge, and stays until what is in flight, and what was on its way, is done.
async fn leave(session: &Session, control: &mut Control) -> String {
    const STOPS: &str = "the connector stops";
    session.set_draining();
    if let Err(reason) = send(control, &Message::Drain { reason: STOPS.to_owned() }).await {
        return reason;
    }
    // A stream that the edge opened before it read our word is here after a round trip at the latest.
    let settle = (session.rtt() * 2).clamp(MIN_SETTLE, MAX_SETTLE);
    let mut idle_since = Instant::now();
    while session.is_alive() && idle_since.elapsed() < settle {
        sleep(LOOK_EVERY).await;
        if session.in_flight() > 0 {
            idle_since = Instant::now();
        }
    }
    STOPS.to_owned()
}

async fn send(control: &mut Control, message: &Message) -> Result<(), String> {
    match timeout(CONTROL_SEND_TIMEOUT, control.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the edge does not read its control stream".to_owned()),
    }
}

/// A session's streams share its send window, and the transport serves first who came last: behind a thousand downloads the
/// control stream may wait for long. An edge that is gone is noticed by its silence.
const CONTROL_SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// A session that lived shorter did not really succeed.
const SHORT_LIVED: Duration = Duration::from_millis(500);
/// Dials per shard of the edge that may land on a shard that has a session already.
const MAX_MISSES: u32 = 6;
/// How long a drained session is empty before it is closed.
const MIN_SETTLE: Duration = Duration::from_millis(30);
const MAX_SETTLE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(10);

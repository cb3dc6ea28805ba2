//! Sessions with edges: kept up, announced on, drained.
//!
//! Each edge has slots: one primary for each of its shards and one standby ([`crate::slot`]).
//! ```text
//! session ─┬─ accept streams → proxy::serve
//!          ├─ Announce at first and at each reload, Announced, Stats
//!          ├─ Drain: ours when we stop or another session took its place, theirs when they stop
//!          └─ silence::watch: Probe while the edge is silent
//! ```

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use causeway_tunnel::dial::Dialer;
use causeway_tunnel::limits::STATS_INTERVAL;
use causeway_tunnel::{CloseCode, Control, Message, RefusedRoute, Role, Session, Stats, Transport};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, timeout};

use crate::edges::{Claim, Edge, Edges};
use crate::proxy::{From, serve};
use crate::rules::RuleSet;
use crate::shard::Shard;
use crate::silence;
use crate::status::{Board, OnBoard, SlotKey};

/// What all slots share.
#[derive(Debug)]
pub(crate) struct Ties {
    pub(crate) dialer: Dialer,
    pub(crate) rules: Arc<ArcSwap<RuleSet>>,
    /// Ticks when `rules` was swapped.
    pub(crate) reloaded: watch::Sender<u64>,
    pub(crate) board: Arc<Board>,
    pub(crate) edges: Arc<Edges>,
    pub(crate) started: Instant,
}

/// A slot: its number among the edge's, where [`STANDBY`] is the one in reserve.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) edge: Arc<Edge>,
    pub(crate) number: usize,
}

pub(crate) const STANDBY: usize = usize::MAX;

impl Slot {
    /// The edge's shard for a session of this slot. A standby needs none of its own.
    pub(crate) fn claim(&self, session: &Session) -> Option<Claim> {
        self.edge.claim(session.info().shard, self.number)
    }

    pub(crate) fn role(&self) -> Role {
        if self.number == STANDBY { Role::Standby } else { Role::Primary }
    }

    fn key(&self) -> SlotKey {
        SlotKey { edge: self.edge.name.name.clone(), number: self.number }
    }
}

/// What is told to a session's task, and by it.
#[derive(Debug, Default)]
struct Words {
    leave: Notify,
    /// The edge has answered what we announced: from then on it sends requests.
    announced: Notify,
    /// The next process of the edge takes sessions.
    succeeded: Notify,
}

/// A session that a task runs; dropped, it runs on.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) session: Session,
    pub(crate) begun: Instant,
    words: Arc<Words>,
    /// Why it ended.
    ended: JoinHandle<Option<String>>,
}

impl Running {
    pub(crate) fn start(
        shard: &Arc<Shard>,
        ties: &Arc<Ties>,
        slot: &Slot,
        claim: Option<Claim>,
        session: Session,
        control: Control,
    ) -> Self {
        let words = Arc::<Words>::default();
        let life = {
            let (shard, ties, slot) = (Arc::clone(shard), Arc::clone(ties), slot.clone());
            let (session, words) = (session.clone(), Arc::clone(&words));
            async move {
                let _claim = claim;
                run(&shard, &ties, &slot, session, control, &words).await
            }
        };
        let ended = shard.drain.spawn("session", life);
        Self { session, begun: Instant::now(), words, ended }
    }

    /// Waits for its end; says why. Cancel safe, and not to be called again afterwards.
    pub(crate) async fn ended(&mut self) -> String {
        match (&mut self.ended).await {
            Ok(Some(reason)) => reason,
            Ok(None) | Err(_) => "its task ended".to_owned(),
        }
    }

    /// Has it finish what is in flight, and go.
    pub(crate) fn leave(&self) {
        self.words.leave.notify_one();
    }

    /// Waits until the edge sends requests on it. Cancel safe, and to be waited for once.
    pub(crate) async fn announced(&self) {
        self.words.announced.notified().await;
    }

    /// Waits until the edge says that its next process takes sessions. Cancel safe, and to be waited for once.
    pub(crate) fn succeeded(&self) -> impl Future<Output = ()> + use<> {
        let words = Arc::clone(&self.words);
        async move { words.succeeded.notified().await }
    }
}

/// One session from its welcome to its end; says why it ended.
async fn run(
    shard: &Arc<Shard>,
    ties: &Ties,
    slot: &Slot,
    session: Session,
    mut control: Control,
    words: &Words,
) -> String {
    let info = session.info();
    tracing::info!(edge = slot.edge.name.name, session = %info.id, tunnel = info.tunnel_name, role = ?info.role,
        remote = %info.remote, carrier = session.transport().map(Transport::as_str),
        proxy = slot.edge.name.proxy().filter(|_| session.transport() == Some(Transport::Tcp)).map(tracing::field::display), shard = info.shard, software = info.peer_software, "session up");
    ties.edges.told(&info.granted.fellows);
    let on_board = ties.board.up(slot.key(), &session);
    let accepting = {
        let (shard, session) = (Arc::clone(shard), session.clone());
        let drain = shard.drain.clone();
        drain.clone().spawn_service("accept", async move {
            while let Some((send, recv)) = session.accept().await {
                drop(drain.spawn("request", serve(Arc::clone(&shard), From::Edge, send, recv)));
            }
        })
    };
    let probe = Notify::new();
    let ended = tokio::select! {
        ended = converse(shard, ties, &on_board, &session, &mut control, words, &probe) => ended,
        // Beside it, since a word to a silent edge may wait for as long as the silence.
        never = silence::watch(&shard.metrics, &session, &on_board, &probe) => match never {},
    };
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
    on_board: &OnBoard,
    session: &Session,
    control: &mut Control,
    words: &Words,
    probe: &Notify,
) -> String {
    let mut reloaded = ties.reloaded.subscribe();
    let mut stats = interval(STATS_INTERVAL);
    let mut announce = true;
    loop {
        if std::mem::take(&mut announce) {
            reloaded.mark_unchanged();
            let rules = ties.rules.load_full();
            let message = Message::Announce { generation: rules.generation, routes: rules.announcement() };
            if let Err(reason) = send(control, &message).await {
                return reason;
            }
        }
        tokio::select! {
            biased;
            closed = session.closed() => {
                silence::ended(&shard.metrics, &closed);
                return closed.to_string();
            },
            () = shard.drain.draining() => return leave(session, control, "the connector stops").await,
            () = words.leave.notified() => return leave(session, control, "another session took its place").await,
            message = control.recv() => match message {
                Ok(Some(message)) => heard(on_board, session, words, message),
                Ok(None) => return "the edge ended its control stream".to_owned(),
                Err(error) => return error.to_string(),
            },
            changed = reloaded.changed() => match changed {
                Ok(()) => announce = true,
                Err(_) => return "the connector stops".to_owned(),
            },
            () = probe.notified() => if let Err(reason) = send(control, &Message::Probe { unheard: session.hears_nothing() }).await {
                return reason;
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
                if let Err(reason) = send(control, &Message::Stats(stats)).await {
                    return reason;
                }
            }
        }
    }
}

fn heard(on_board: &OnBoard, session: &Session, words: &Words, message: Message) {
    match message {
        Message::Announced { generation, accepted, refused } => {
            tracing::debug!(session = %session.info().id, generation, accepted = accepted.len(), "announced");
            words.announced.notify_one();
            if on_board.announced(&refused) {
                // One line however many they are: a refused rule file may have thousands.
                if let Some(RefusedRoute { reason, .. }) = refused.first() {
                    tracing::warn!(
                        edge = on_board.edge(),
                        refused = refused.len(),
                        hostnames = first_names(&refused),
                        "the edge does not serve these hostnames: {reason}"
                    );
                }
            }
        }
        Message::Drain { reason, succeeded } => {
            // The edge stops, or this process of it. Its requests in flight go on here until it closes the session.
            tracing::info!(edge = on_board.edge(), session = %session.info().id, reason, "the edge drains this session");
            session.set_draining();
            on_board.draining();
            if succeeded {
                words.succeeded.notify_one();
            }
        }
        Message::Probe { unheard } => session.set_unheard(unheard),
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

/// Our own end: tells the edge, and stays until what is in flight, and what was on its way, is done.
async fn leave(session: &Session, control: &mut Control, why: &str) -> String {
    session.set_draining();
    if let Err(reason) = send(control, &Message::Drain { reason: why.to_owned(), succeeded: false }).await {
        return reason;
    }
    // A stream that the edge opened before it read our word is here after a round trip at the latest.
    let settle = (session.rtt() * 2).clamp(MIN_SETTLE, MAX_SETTLE);
    let mut idle_since = Instant::now();
    while session.is_alive() && idle_since.elapsed() < settle {
        if session.in_flight() > 0 {
            sleep(LOOK_WHILE_BUSY).await;
            idle_since = Instant::now();
        } else {
            sleep(LOOK_EVERY).await;
        }
    }
    why.to_owned()
}

async fn send(control: &mut Control, message: &Message) -> Result<(), String> {
    match timeout(CONTROL_SEND_TIMEOUT, control.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the edge does not read its control stream".to_owned()),
    }
}

/// A session's streams share its send window, and the transport serves first who came last: behind a thousand downloads the
/// control stream may wait for long. An edge that is gone is noticed by its silence, which is not for this to end.
const CONTROL_SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a drained session is empty before it is closed.
const MIN_SETTLE: Duration = Duration::from_millis(30);
const MAX_SETTLE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What is in flight may be so for hours.
const LOOK_WHILE_BUSY: Duration = Duration::from_millis(50);

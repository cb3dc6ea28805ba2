//! Takes connectors in: proves them, gives their sessions to the registry, and keeps their control streams.
//!
//! ```text
//!   knock ─ Doorman (per address) ─ handshake (registry's keys) ─ join ─┬─ Announce → table → Announced
//!             │refused, counted        │refused with reason, counted    ├─ Stats, Drain
//!             ▼                        ▼                                └─ closed → leave
//! ```
//! A session is a service of the drain: it carries requests until the last of them ended, and only then goes.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use causeway_tunnel::handshake::{Authority, KnownKey, Proved};
use causeway_tunnel::limits::MAX_TOLD_GRANTS;
use causeway_tunnel::listen::{HandshakeError, Stranger};
use causeway_tunnel::message::{RefusalCode, Refused, Retry};
use causeway_tunnel::{
    CloseCode, Control, ControlError, Granted, KeyId, Message, Route, Transport, TunnelId,
};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::doorman::Pass;
use crate::keeper::Note;
use crate::registry::Live;
use crate::shard::Shard;
use crate::silence;
use causeway_front::session::Session;

/// A connector that does not read its control stream for so long is broken. Longer than a silence may be, which is not for
/// this to end.
const CONTROL_SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// A successor waits no longer for sessions before it takes the visitors.
const HELD_FOR_SUCCESSOR: Duration = Duration::from_secs(2);
/// Announcements may rebuild the table: a connector gets one in so much time.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(20);

/// Takes a connector in, and keeps its session to the end.
pub(crate) async fn receive(shard: &Shard, stranger: Stranger, pass: Pass) {
    // A future of its own, so that the session's task does not keep the room that the handshake took.
    if let Some((live, control)) = Box::pin(greet(shard, stranger)).await {
        let _known = pass.accepted();
        run(shard, live, control).await;
    }
}

/// The handshake, to a session that the registry knows.
async fn greet(shard: &Shard, stranger: Stranger) -> Option<(Joined, Control)> {
    let remote = stranger.remote();
    if shard.successor.is_there() {
        // By TCP, whose port is ours for a moment more: it would be refused until then. Held, it comes to the next process at once.
        let _ = timeout(HELD_FOR_SUCCESSOR, shard.drain.draining()).await;
    }
    let mut key = None;
    let result = stranger.handshake(shard, |proved| admit(shard, proved, &mut key)).await;
    let error = match (result, key) {
        (Ok((session, control)), Some(key)) => {
            let live = Arc::new(Live::new(Session::Causeway(session), key));
            shard.registry.join(&live);
            shard.registry.metrics().session_begun(live.session.transport());
            let info = live.session.info();
            tracing::info!(session = %info.id, tunnel = info.tunnel_name, connector = %info.connector, role = ?info.role,
                %remote, carrier = live.session.transport().map(Transport::as_str), host = info.peer_host, software = info.peer_software,
                "session up");
            shard.note(Note::Seen(info.tunnel));
            return Some((Joined { shard_registry: Arc::clone(&shard.registry), live }, control));
        }
        (Ok(_), None) => unreachable!("admit is asked before a session exists"),
        (Err(error), _) => error,
    };
    failed(shard, remote, &error);
    None
}

impl Authority for Shard {
    fn look_up(&self, tunnel: TunnelId, key: KeyId) -> Option<KnownKey> {
        self.registry.look_up(tunnel, key)
    }

    fn granted(&self, tunnel: TunnelId) -> Granted {
        let https_port = self.gate.https.map(NonZeroU16::get);
        let hostnames = self.registry.grants(tunnel, MAX_TOLD_GRANTS);
        Granted { hostnames, https_port, fellows: self.fellows.to_vec() }
    }
}

/// Takes account of a connection that did not become a session.
pub(crate) fn failed(shard: &Shard, remote: SocketAddr, error: &HandshakeError) {
    let reason = refusal_reason(error);
    shard.registry.metrics().handshake_refused(reason);
    match error {
        // Only he who holds the right key gets these answers: the operator wants to know.
        HandshakeError::Refused(refused) if refused.code != RefusalCode::Unauthorized => {
            tracing::warn!(%remote, reason, "refused a connector: {}", refused.reason);
        }
        error => tracing::debug!(%remote, reason, "a handshake failed: {error}"),
    }
    if is_hostile(error) {
        shard.doorman.failed(remote.ip(), Instant::now());
    }
}

fn admit(shard: &Shard, proved: &Proved, key: &mut Option<KeyId>) -> Result<(), Refused> {
    let later = |code, reason: String| Refused { code, reason, retry: Retry::Temporary };
    if shard.drain.is_draining() || shard.successor.is_there() {
        return Err(later(RefusalCode::Draining, "this process of the edge is stopping".to_owned()));
    }
    shard
        .registry
        .has_room(proved.hello.tunnel, shard.sessions_per_tunnel)
        .map_err(|full| later(RefusalCode::Overloaded, full.to_string()))?;
    *key = Some(proved.hello.key);
    Ok(())
}

/// Constant words: they are a metric's label.
fn refusal_reason(error: &HandshakeError) -> &'static str {
    match error {
        HandshakeError::Timeout => "timeout",
        HandshakeError::Connection(_) => "connection",
        HandshakeError::Control(_) | HandshakeError::NotHello => "protocol",
        HandshakeError::Refused(refused) => match refused.code {
            RefusalCode::Unauthorized => "unauthorized",
            RefusalCode::Revoked => "revoked",
            RefusalCode::Expired => "expired",
            RefusalCode::Version => "version",
            RefusalCode::Overloaded => "overloaded",
            RefusalCode::Draining => "draining",
            RefusalCode::Protocol | RefusalCode::Other => "protocol",
        },
    }
}

/// Whether the failure counts against the address: only what a peer did that had proved the address to be its own.
/// What breaks before may be a stranger writing in its name, or a bad line.
fn is_hostile(error: &HandshakeError) -> bool {
    match error {
        HandshakeError::Timeout | HandshakeError::Connection(_) => false,
        HandshakeError::NotHello => true,
        HandshakeError::Control(error) => !matches!(error, ControlError::Lost(_)),
        HandshakeError::Refused(refused) => refused.retry == Retry::Permanent,
    }
}

/// Takes the session out of the registry, however its task ends.
struct Joined {
    shard_registry: Arc<crate::registry::Registry>,
    live: Arc<Live>,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.shard_registry.leave(&self.live);
    }
}

async fn run(shard: &Shard, joined: Joined, mut control: Control) {
    let live = &joined.live;
    let info = live.session.info();
    let probe = Notify::new();
    let ended = tokio::select! {
        biased;
        ended = converse(shard, live, &mut control, &probe) => ended,
        // Beside it, since a word to a silent connector may wait for as long as the silence.
        given_up = silence::watch(shard, live, &probe) => given_up.to_owned(),
    };
    live.retire();
    if live.session.is_alive() {
        live.session.close(CloseCode::Protocol, &ended);
    }
    shard.note(Note::Seen(info.tunnel));
    tracing::info!(session = %info.id, tunnel = info.tunnel_name, remote = %info.remote, reason = ended,
        seconds = info.since.elapsed().as_secs(), "session down");
}

/// The control stream, until the session is over.
async fn converse(shard: &Shard, live: &Arc<Live>, control: &mut Control, probe: &Notify) -> String {
    let mut told_to_drain = false;
    let mut said = None;
    loop {
        tokio::select! {
            biased;
            closed = live.session.closed() => {
                silence::ended(shard.registry.metrics(), &closed);
                break closed.to_string();
            },
            succeeded = leaving(shard), if !told_to_drain => {
                told_to_drain = true;
                // The connector looks for other edges, or the next process of this one; what visitors still ask of us goes on.
                let reason = if succeeded { "another process of the edge takes over" } else { "the edge is stopping" };
                let message = Message::Drain { reason: reason.to_owned(), succeeded };
                if let Err(reason) = send(control, &message).await {
                    break reason;
                }
            }
            message = control.recv() => match message {
                Ok(Some(Message::Announce { generation, routes })) => {
                    if let Err(reason) = announce(shard, live, control, generation, &routes).await {
                        break reason;
                    }
                    said = Some((generation, routes));
                }
                Ok(Some(message)) => if let Err(reason) = handle(live, message) {
                    break reason;
                },
                Ok(None) => break "the connector ended its control stream".to_owned(),
                Err(error) => break error.to_string(),
            },
            () = live.regranted.notified() => if let Some((generation, routes)) = &said
                && let Err(reason) = announce(shard, live, control, *generation, routes).await
            {
                break reason;
            },
            () = probe.notified() => if let Err(reason) = send(control, &Message::Probe { unheard: live.session.hears_nothing() }).await {
                break reason;
            },
        }
    }
}

/// Waits until this process is to end; says whether another one goes on in its place. Cancel safe.
async fn leaving(shard: &Shard) -> bool {
    tokio::select! {
        biased;
        () = shard.successor.came() => true,
        () = shard.drain.draining() => false,
    }
}

/// Judges what a connector announces, and tells it.
async fn announce(
    shard: &Shard,
    live: &Live,
    control: &mut Control,
    generation: u64,
    routes: &[Route],
) -> Result<(), String> {
    let info = live.session.info();
    let answer = shard.registry.announce(live, generation, routes);
    for route in &answer.refused {
        tracing::warn!(session = %info.id, tunnel = info.tunnel_name, hostname = route.hostname.escape_default().to_string(),
            reason = route.reason, "refused an announced hostname");
    }
    if let Some(first) = answer.refused.first() {
        let detail = format!("{} ({} in all): {}", first.hostname, answer.refused.len(), first.reason);
        shard.note(Note::Refused { tunnel: info.tunnel_name.clone(), detail });
    }
    let (accepted, refused) = (answer.accepted, answer.refused);
    send(control, &Message::Announced { generation, accepted, refused }).await?;
    sleep(ANNOUNCE_INTERVAL).await;
    Ok(())
}

fn handle(live: &Live, message: Message) -> Result<(), String> {
    let info = live.session.info();
    match message {
        Message::Drain { reason, .. } => {
            tracing::info!(session = %info.id, tunnel = info.tunnel_name, reason, "the connector stops: no new requests on this session");
            live.session.set_draining();
        }
        Message::Stats(stats) => *live.stats.lock() = Some(stats),
        // Ours to say, not theirs.
        Message::Hello(_) | Message::Welcome(_) | Message::Refused(_) | Message::Announced { .. } => {
            return Err("a message that only the edge may send, or a second hello".to_owned());
        }
        Message::Probe { unheard } => live.session.set_unheard(unheard),
        Message::Announce { .. } | Message::Unknown => {}
    }
    Ok(())
}

async fn send(control: &mut Control, message: &Message) -> Result<(), String> {
    match timeout(CONTROL_SEND_TIMEOUT, control.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the connector does not read its control stream".to_owned()),
    }
}

//! The live picture of the edge: tunnels from the store, sessions of connectors, and the routing table made of both.
//!
//! ```text
//!   store snapshot ─┐                         ┌─ Table (ArcSwap): hostname → Route → Tunnel
//!   session comes ──┼─ Registry (one lock) ───┼─ Tunnel.connectors (ArcSwap): who can carry a request now
//!   announcement ───┘                         └─ Authority: which key is valid
//! ```
//! Writers are rare and take the lock; a request only loads snapshots. A pattern is in the table while its tunnel is
//! granted or announces it, with or without a session: so "no connector" is told apart from "no such site".

mod absence;
mod ends;
mod live;
mod snapshot;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Guard as Snapshot};
use causeway_tunnel::handshake::{KnownKey, SOFTWARE, Standing};
use causeway_tunnel::limits::MAX_ROUTES;
use causeway_tunnel::{
    CloseCode, Host, KeyId, Kind, RefusedRoute, Route as AnnouncedRoute, SessionId, TlsEnd, TunnelId,
};
use parking_lot::Mutex;
use tokio::sync::watch;

use ends::Elsewhere;
pub(crate) use live::{Announced, Connector, Live};
pub(crate) use snapshot::{Route, Tunnel};

use crate::declared::{Clash, Declared};
use crate::metrics::Metrics;
use crate::route::{Pattern, Table, admit};
use crate::store::TunnelRecord;

/// Series of one tunnel: a connector that changes its names for ever must not fill the memory (hazard 115).
const MAX_LABELLED_ROUTES: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Registry {
    state: Mutex<State>,
    table: ArcSwap<Table<Arc<Route>>>,
    /// Every tunnel that ever was, for the handshake's verdict: unknown, revoked or expired are different answers.
    keys: ArcSwap<HashMap<(TunnelId, KeyId), StoredKey>>,
    metrics: Metrics,
    /// Grows with every change of who is granted or announces what.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// As the store has them, revoked ones too.
    stored: Vec<TunnelRecord>,
    /// Those of edge.yaml.
    declared: Declared,
    tunnels: HashMap<TunnelId, Entry>,
    /// Patterns as granted: who may announce what.
    grants: Table<TunnelId>,
    sessions: HashMap<SessionId, Arc<Live>>,
}

/// One tunnel that is not revoked.
#[derive(Debug)]
struct Entry {
    tunnel: Arc<Tunnel>,
    /// How many live sessions announce each pattern that is not itself a grant.
    announced: HashMap<Pattern, usize>,
    elsewhere: Elsewhere,
    /// Kept while the tunnel lives, so that a pattern that comes back keeps its metrics.
    routes: HashMap<Pattern, Arc<Route>>,
}

#[derive(Clone, Debug)]
struct StoredKey {
    public_key: [u8; 32],
    not_after: Option<i64>,
    revoked: bool,
    tunnel_name: Arc<str>,
}

/// Why a connector that proved itself is turned away for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tunnel has {0} sessions already, which is the edge's limit (limits.sessionsPerTunnel)")]
pub(crate) struct TooManySessions(pub usize);

impl Registry {
    pub(crate) fn new(metrics: Metrics) -> Self {
        let (state, table, keys) = Default::default();
        Self { state, table, keys, metrics, changes: watch::Sender::default() }
    }

    /// Wakes when somebody is granted or announces something else.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The table as it is now. One atomic load.
    pub(crate) fn table(&self) -> Snapshot<Arc<Table<Arc<Route>>>> {
        self.table.load()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Takes over what the store holds and ends the sessions of keys that are not valid any more.
    pub(crate) fn apply(&self, records: Vec<TunnelRecord>, now: i64) {
        let mut state = self.state.lock();
        state.stored = records;
        self.settle(&mut state, now);
    }

    /// Whether these could be taken over.
    ///
    /// # Errors
    /// When the store has the same.
    pub(crate) fn check(&self, declared: &Declared) -> Result<(), Clash> {
        declared.check(&self.state.lock().stored)
    }

    /// Takes over what edge.yaml declares, in the place of what it declared before.
    ///
    /// # Errors
    /// When the store has the same: nothing is changed then.
    pub(crate) fn declare(&self, declared: Declared, now: i64) -> Result<(), Clash> {
        let mut state = self.state.lock();
        declared.check(&state.stored)?;
        state.declared = declared;
        self.settle(&mut state, now);
        Ok(())
    }

    /// Brings everything in line with the tunnels that there are.
    fn settle(&self, state: &mut State, now: i64) {
        let State { stored, declared, .. } = &*state;
        let is_clear = |record: &&TunnelRecord| {
            let Some(clash) = declared.clash(record) else { return true };
            // Made behind the file's back, while the edge could not be asked.
            tracing::error!("{clash}; until then the store's is not served");
            false
        };
        // The file has the last word: it may declare what was revoked in the store.
        let records: Vec<TunnelRecord> = stored.iter().filter(is_clear).chain(&declared.0).cloned().collect();
        let mut keys = HashMap::new();
        for record in &records {
            let tunnel_name: Arc<str> = record.name.as_str().into();
            for key in &record.keys {
                let (public_key, not_after) = (key.public_key, key.not_after);
                let (revoked, tunnel_name) = (record.revoked_at.is_some(), Arc::clone(&tunnel_name));
                keys.insert((record.id, key.id), StoredKey { public_key, not_after, revoked, tunnel_name });
            }
        }
        // Keys first: whoever proves himself from here on is judged by the new state.
        self.keys.store(Arc::new(keys));

        let active: HashMap<TunnelId, &TunnelRecord> = records
            .iter()
            .filter(|record| record.revoked_at.is_none())
            .map(|record| (record.id, record))
            .collect();
        // The sessions of those that go are ended below.
        state.tunnels.retain(|id, entry| {
            let stays = active.get(id).is_some_and(|record| *record.name == *entry.tunnel.name);
            if !stays {
                entry.routes.values().for_each(|route| route.forget());
                self.metrics.forget_tunnel(&entry.tunnel.name);
            }
            stays
        });
        state.grants = Table::default();
        for record in active.values() {
            for pattern in &record.hostnames {
                // Checked by the store's primary key and by `Declared`; should it happen, the first keeps it.
                let _ = state.grants.insert(pattern, record.id);
            }
            let entry = state.tunnels.entry(record.id).or_insert_with(|| Entry {
                tunnel: Arc::new(Tunnel::new(record, &self.metrics)),
                announced: HashMap::new(),
                elsewhere: Elsewhere::default(),
                routes: HashMap::new(),
            });
            entry.tunnel.declared.store(record.declared.as_deref().map(|place| Arc::new(place.to_owned())));
            if **entry.tunnel.grants.load() != record.hostnames {
                entry.tunnel.grants.store(Arc::new(record.hostnames.clone()));
                entry.tunnel.regranted();
            }
        }
        self.rebuild(state);
        self.cut_invalid(state, now);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Ends the sessions whose key expired meanwhile (the end of a rotation's overlap).
    pub(crate) fn expire(&self, now: i64) {
        self.cut_invalid(&self.state.lock(), now);
    }

    fn cut_invalid(&self, state: &State, now: i64) {
        let keys = self.keys.load();
        for live in state.sessions.values() {
            let info = live.session.info();
            let key = keys.get(&(info.tunnel, live.key));
            if !live.is_usable_or_draining() {
                continue;
            }
            if key.is_some_and(|key| key.standing(now) == Standing::Active) {
                if key.is_some_and(|key| *key.tunnel_name != *info.tunnel_name) {
                    tracing::info!(session = %info.id, tunnel = info.tunnel_name, "ending a session: its tunnel has another name now");
                    live.retire();
                    live.session.close(CloseCode::Done, "the tunnel has another name now");
                }
                continue;
            }
            tracing::warn!(session = %info.id, tunnel = info.tunnel_name, remote = %info.remote,
                "ending a session: its tunnel was revoked or its token expired");
            live.retire();
            live.session.close(CloseCode::Revoked, "the tunnel or its token was revoked");
        }
    }

    /// # Errors
    /// When the tunnel has `limit` sessions already.
    pub(crate) fn has_room(&self, tunnel: TunnelId, limit: usize) -> Result<(), TooManySessions> {
        let state = self.state.lock();
        let (mut heard, mut silent) = (0, 0);
        if let Some(entry) = state.tunnels.get(&tunnel) {
            for live in entry.tunnel.connectors.load().iter().flat_map(|connector| &connector.sessions) {
                *(if live.session.is_suspected() { &mut silent } else { &mut heard }) += 1;
            }
        }
        // The silent ones are those whose connectors are back already: they must not stand in their own way.
        if heard >= limit || silent > limit { Err(TooManySessions(heard + silent)) } else { Ok(()) }
    }

    /// Has the other sessions of the same connector show whether they live: who lost one has probably lost them all
    /// (hazard 152).
    pub(crate) fn doubt_others(&self, silent: &Live) {
        self.siblings(silent, |other| other.session.doubt());
    }

    /// Whether a newer session of the same connector and role is heard: the way is open then.
    pub(crate) fn has_successor(&self, live: &Live) -> bool {
        let (role, since) = (live.session.info().role, live.session.info().since);
        let mut found = false;
        self.siblings(live, |other| {
            let its = other.session.info();
            found |= its.role == role && its.since > since && other.is_well();
        });
        found
    }

    /// The other sessions of the same connector.
    fn siblings(&self, live: &Live, mut each: impl FnMut(&Live)) {
        let info = live.session.info();
        let connectors =
            self.state.lock().tunnels.get(&info.tunnel).map(|entry| entry.tunnel.connectors.load_full());
        let connectors = connectors.iter().flat_map(|all| all.iter());
        for other in connectors.filter(|one| one.id == info.connector).flat_map(|one| &one.sessions) {
            if other.session.info().id != info.id {
                each(other);
            }
        }
    }

    /// Adds a session that carries nothing until it announces.
    pub(crate) fn join(&self, live: &Arc<Live>) {
        let mut state = self.state.lock();
        let info = live.session.info();
        state.sessions.insert(info.id, Arc::clone(live));
        if let Some(entry) = state.tunnels.get(&info.tunnel) {
            entry.tunnel.sessions_gauge.inc();
            entry.tunnel.add(live);
        }
    }

    /// Removes a session that has ended.
    pub(crate) fn leave(&self, live: &Live) {
        live.retire();
        let mut state = self.state.lock();
        let info = live.session.info();
        if state.sessions.remove(&info.id).is_none() {
            return;
        }
        let old = live.announced.load_full();
        let Some(entry) = state.tunnels.get_mut(&info.tunnel) else { return };
        // A declared tunnel may have gone and come back meanwhile: the new one knows nothing of this session.
        if !entry.tunnel.remove(info.id) {
            return;
        }
        entry.tunnel.sessions_gauge.dec();
        entry.elsewhere.count(&old.elsewhere, &[]);
        let changed = entry.count(&old.patterns, &[]);
        entry.settle_ends();
        if changed {
            self.rebuild(&mut state);
        }
    }

    /// Replaces what a session announces; gives back what is refused. Requests follow the new names at once.
    pub(crate) fn announce(&self, live: &Live, generation: u64, routes: &[AnnouncedRoute]) -> Announcement {
        let mut state = self.state.lock();
        let info = live.session.info();
        let grants = std::mem::take(&mut state.grants);
        let entry = state.tunnels.get_mut(&info.tunnel).filter(|_| live.is_usable_or_draining());
        let Some(entry) = entry else {
            state.grants = grants;
            return Announcement::default();
        };
        let own = entry.tunnel.grants.load_full();
        let mut outcome = Announcement::default();
        let mut announced = Announced { generation, ..Announced::default() };
        for (index, route) in routes.iter().enumerate() {
            let verdict = if !matches!(route.kind, Kind::Request | Kind::Connect) {
                Err(format!(
                    "this edge ({SOFTWARE}) carries no `{}` streams: update it, or take the rule out",
                    route.kind
                ))
            } else if index < MAX_ROUTES {
                let admitted = admit(&grants, &info.tunnel, &own, &route.hostname);
                admitted.map_err(|refusal| refusal.to_string()).and_then(|pattern| {
                    let other = route.exclusive.then(|| entry.tunnel.server_of(&pattern, info.connector));
                    match other.flatten() {
                        Some(host) => Err(format!(
                            "a connector on `{host}` serves this name already: stop that one, or choose another name"
                        )),
                        None => Ok(pattern),
                    }
                })
            } else {
                Err(format!("a connector may announce {MAX_ROUTES} hostnames at most: use wildcards"))
            };
            match verdict {
                Ok(pattern) => {
                    outcome.accepted.push(route.id);
                    announced.add(route, pattern);
                }
                Err(reason) => {
                    outcome.refused.push(RefusedRoute {
                        id: route.id,
                        hostname: route.hostname.clone(),
                        reason,
                    });
                }
            }
        }
        announced.refused.clone_from(&outcome.refused);
        let announced = Arc::new(announced);
        let old = live.announced.swap(Arc::clone(&announced));
        let changed = entry.count(&old.patterns, &announced.patterns);
        entry.elsewhere.count(&old.elsewhere, &announced.elsewhere);
        entry.settle_ends();
        entry.tunnel.settled();
        state.grants = grants;
        if changed {
            self.rebuild(&mut state);
        }
        self.changes.send_modify(|count| *count += 1);
        self.metrics.names_refused(&info.tunnel_name, outcome.refused.len());
        outcome
    }

    /// What is known of a key, for the handshake.
    pub(crate) fn look_up(&self, tunnel: TunnelId, key: KeyId) -> Option<KnownKey> {
        let keys = self.keys.load();
        let known = keys.get(&(tunnel, key))?;
        Some(KnownKey {
            public_key: known.public_key,
            standing: known.standing(crate::unix_now()),
            tunnel_name: known.tunnel_name.to_string(),
        })
    }

    /// What a tunnel may announce, the first of it.
    pub(crate) fn grants(&self, tunnel: TunnelId, limit: usize) -> Vec<String> {
        let state = self.state.lock();
        let Some(entry) = state.tunnels.get(&tunnel) else { return Vec::new() };
        entry.tunnel.grants.load().iter().take(limit).map(Pattern::to_string).collect()
    }

    /// Every tunnel that is not revoked, and what it has.
    pub(crate) fn tunnels(&self) -> Vec<Arc<Tunnel>> {
        let mut all: Vec<_> =
            self.state.lock().tunnels.values().map(|entry| Arc::clone(&entry.tunnel)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The tunnels that somebody serves by QUIC.
    pub(crate) fn served_by_quic(&self) -> Vec<TunnelId> {
        self.tunnels().iter().filter(|tunnel| tunnel.is_served_by_quic()).map(|tunnel| tunnel.id).collect()
    }

    /// Whether somebody serves each of these that is still a tunnel.
    pub(crate) fn all_served(&self, tunnels: &[TunnelId]) -> bool {
        self.tunnels().iter().all(|tunnel| tunnel.is_served() || !tunnels.contains(&tunnel.id))
    }

    /// Whether somebody may serve this name at all; for those who make certificates on demand.
    pub(crate) fn is_granted(&self, host: &str) -> bool {
        self.table.load().find(host).is_some()
    }

    /// Where TLS of this name ends: elsewhere, what its visitors say has to pass through unread.
    pub(crate) fn end_of(&self, name: &Host) -> TlsEnd {
        self.table.load().find(name).map_or(TlsEnd::Edge, |route| route.tunnel.end_of(name))
    }

    /// [`Registry::is_granted`], of all names that the pattern stands for, by the grants of the store alone.
    pub(crate) fn is_granted_whole(&self, pattern: &Pattern) -> bool {
        self.state.lock().grants.owner(pattern).is_some()
    }

    fn rebuild(&self, state: &mut State) {
        let mut table = Table::default();
        let State { tunnels, grants: granted, .. } = state;
        for entry in tunnels.values_mut() {
            let grants = entry.tunnel.grants.load_full();
            // What was announced under a grant that is gone is not served from here on, whatever its session still says.
            let announced = entry.announced.keys();
            let announced = announced.filter(|pattern| granted.owner(pattern) == Some(&entry.tunnel.id));
            let patterns: HashSet<&Pattern> = grants.iter().chain(announced).collect();
            for pattern in patterns {
                let labelled = entry.routes.len() < MAX_LABELLED_ROUTES;
                let route = match entry.routes.get(pattern) {
                    Some(route) => Arc::clone(route),
                    None => {
                        let label = if labelled { pattern.to_string() } else { "other".to_owned() };
                        let route = Arc::new(Route::new(&entry.tunnel, &label, &self.metrics));
                        if labelled {
                            entry.routes.insert(pattern.clone(), Arc::clone(&route));
                        }
                        route
                    }
                };
                // Taken already: a name granted to another tunnel since it was announced. Grants come first.
                let is_own = grants.contains(pattern) || granted.at(pattern).is_none();
                if is_own {
                    let _ = table.insert(pattern, route);
                }
            }
        }
        self.table.store(Arc::new(table));
    }
}

/// The edge's answer to an announcement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub accepted: Vec<u32>,
    pub refused: Vec<RefusedRoute>,
}

impl Entry {
    /// Counts announced patterns out and in; says whether one appeared or vanished.
    fn count(&mut self, out: &[Pattern], into: &[Pattern]) -> bool {
        let mut changed = false;
        for pattern in into.iter().filter(|pattern| **pattern != Pattern::Any) {
            let count = self.announced.entry(pattern.clone()).or_default();
            *count += 1;
            changed |= *count == 1;
        }
        for pattern in out {
            if let Some(count) = self.announced.get_mut(pattern) {
                *count -= 1;
                if *count == 0 {
                    self.announced.remove(pattern);
                    changed = true;
                }
            }
        }
        changed
    }

    /// Brings up to date where TLS ends. While nobody is there to say otherwise it stays as it was: an edge that began to end TLS
    /// itself, because a connector is away for a moment, would read what it was not to read.
    fn settle_ends(&self) {
        if self.elsewhere.is_empty() && self.tunnel.ends.load().is_empty() {
            return;
        }
        let connectors = self.tunnel.connectors.load();
        let mut sessions = connectors.iter().flat_map(|connector| &connector.sessions);
        if sessions.any(|live| live.announced.load().generation > 0) {
            self.tunnel.ends.store(Arc::new(self.elsewhere.table(self.announced.keys())));
        }
    }
}

impl StoredKey {
    fn standing(&self, now: i64) -> Standing {
        match self.not_after {
            _ if self.revoked => Standing::Revoked,
            Some(end) if end <= now => Standing::Expired,
            _ => Standing::Active,
        }
    }
}

/// When a session was last there, for `status`; monotonic.
pub(crate) fn ago(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_secs()).unwrap_or(i64::MAX)
}

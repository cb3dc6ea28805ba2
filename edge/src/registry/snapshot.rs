//! What a request reads: the route that its name belongs to, and the tunnel behind it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, ArcSwapOption};
use causeway_tunnel::limits;
use causeway_tunnel::{ConnectorId, PlainHttp, SessionId, TlsEnd, Transport, TunnelId};
use prometheus_client::metrics::gauge::Gauge;

use super::absence::Absence;
use super::{Connector, Live};
use crate::balance::{Candidate, Place};
use crate::metrics::{Metrics, PassingMetrics, RouteMetrics};
use crate::route::{Pattern, Table};
use crate::store::TunnelRecord;
use crate::unix_now;
use causeway_front::observe::Observers;

const MAX_STREAMS: usize = limits::MAX_STREAMS as usize;

/// A tunnel that is not revoked.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub id: TunnelId,
    pub name: Arc<str>,
    pub grants: ArcSwap<Vec<Pattern>>,
    /// Where in edge.yaml it stands, when it is declared there.
    pub declared: ArcSwapOption<String>,
    /// Who can carry a request now. Swapped whole when a session comes or goes.
    pub connectors: ArcSwap<Vec<Connector>>,
    /// Where TLS of its names ends, when it is not the edge for all of them.
    pub(super) ends: ArcSwap<Table<TlsEnd>>,
    pub(super) sessions_gauge: Gauge,
    /// Unix seconds of the last session's coming or going; 0 when there never was one.
    last_seen: AtomicI64,
    absence: Absence,
}

impl Tunnel {
    pub(super) fn new(record: &TunnelRecord, metrics: &Metrics) -> Self {
        Self {
            id: record.id,
            name: record.name.as_str().into(),
            grants: ArcSwap::from_pointee(record.hostnames.clone()),
            declared: ArcSwapOption::empty(),
            connectors: ArcSwap::default(),
            ends: ArcSwap::default(),
            sessions_gauge: metrics.sessions(&record.name),
            last_seen: AtomicI64::new(record.last_seen_at.unwrap_or(0)),
            // Of a declared one nobody keeps when it was seen.
            absence: Absence::new(record.last_seen_at.is_some() || record.declared.is_some()),
        }
    }

    /// Whether somebody is there whose names are known.
    pub(super) fn is_served(&self) -> bool {
        self.is_served_by(|_| true)
    }

    pub(super) fn is_served_by_quic(&self) -> bool {
        self.is_served_by(|live| live.session.transport() == Some(Transport::Quic))
    }

    fn is_served_by(&self, fits: impl Fn(&Live) -> bool) -> bool {
        let connectors = self.connectors.load();
        let mut sessions = connectors.iter().flat_map(|connector| &connector.sessions);
        sessions.any(|live| live.is_usable() && live.announced.load().generation > 0 && fits(live))
    }

    /// Whether nobody serves it now and somebody is likely to soon: its last session ended a moment ago, or leaves, or has just come.
    pub(crate) fn is_between(&self) -> bool {
        !self.is_served() && (self.absence.is_short() || !self.connectors.load().is_empty())
    }

    /// Waits until somebody serves it, or for as long as that is likely. Cancel safe.
    pub(crate) async fn wait(&self) {
        self.absence.wait(|| self.is_served()).await;
    }

    /// What a session serves is another now.
    pub(super) fn settled(&self) {
        self.absence.end();
    }

    /// Streams that its sessions can still carry, all together; a standby counts only when there is nothing else,
    /// and a suspected one only when there is nothing better. None: there is no session.
    pub(crate) fn free_streams(&self) -> Option<usize> {
        let connectors = self.connectors.load();
        let free = |is_standby, is_suspected| {
            let sessions = connectors.iter().flat_map(|connector| &connector.sessions);
            let fit = sessions
                .filter(|live| live.is_usable() && live.is_suspected() == is_suspected)
                .filter(|live| (live.place() == Place::Standby) == is_standby)
                .map(|live| MAX_STREAMS.saturating_sub(live.in_flight()));
            fit.reduce(|all, free| all + free)
        };
        free(false, false)
            .or_else(|| free(true, false))
            .or_else(|| free(false, true))
            .or_else(|| free(true, true))
    }

    /// Where TLS of a name of its ends.
    pub(crate) fn end_of(&self, host: &str) -> TlsEnd {
        self.ends.load().find(host).copied().unwrap_or_default()
    }

    /// The same of a pattern; its narrower ones may differ.
    pub(crate) fn end_of_pattern(&self, pattern: &Pattern) -> TlsEnd {
        self.ends.load().owner(pattern).copied().unwrap_or_default()
    }

    /// What becomes of a visitor of this name who comes unencrypted. None: nobody who is connected has the name. Connectors
    /// that disagree, while a change of their rules goes round, mean the safer of the two.
    pub(crate) fn plain_http(&self, host: &str) -> Option<PlainHttp> {
        let connectors = self.connectors.load();
        let sessions = connectors.iter().flat_map(|connector| &connector.sessions);
        let said = sessions.filter(|live| live.is_usable()).filter_map(|live| live.offer(host));
        said.map(|offer| offer.http).reduce(|all, one| if one == PlainHttp::Serve { all } else { one })
    }

    /// When a session was last seen, in Unix seconds.
    pub(crate) fn last_seen(&self) -> Option<i64> {
        Some(self.last_seen.load(Ordering::Relaxed)).filter(|&at| at > 0)
    }

    /// What its connectors have the edge end TLS for now: their names, and all granted ones where a rule takes every name.
    pub(crate) fn announced(&self) -> HashSet<Pattern> {
        let mut names = HashSet::new();
        for connector in self.connectors.load().iter() {
            // All sessions of a connector announce the same.
            let Some(live) = connector.sessions.iter().find(|live| live.is_usable()) else { continue };
            names.extend(live.announced.load().patterns.iter().cloned());
        }
        if names.remove(&Pattern::Any) {
            names.extend(self.grants.load().iter().cloned());
        }
        names.retain(|name| self.end_of_pattern(name).is_edge());
        names
    }

    /// The machine of another connector that serves this very name: it announced it, or all that is granted, of which it is one.
    pub(super) fn server_of(&self, pattern: &Pattern, except: ConnectorId) -> Option<String> {
        let is_granted = self.grants.load().contains(pattern);
        let serves = |live: &&Arc<Live>| {
            let announced = live.announced.load();
            let covers = |known: &Pattern| known == pattern || (is_granted && known.covers(pattern));
            live.is_well() && announced.patterns.iter().any(covers)
        };
        let connectors = self.connectors.load();
        let mut others = connectors.iter().filter(|connector| connector.id != except);
        let found = others.find_map(|connector| connector.sessions.iter().find(serves))?;
        Some(found.session.info().peer_host.clone())
    }

    /// Its grants are others now: what its sessions announced is to be judged anew.
    pub(super) fn regranted(&self) {
        for live in self.connectors.load().iter().flat_map(|connector| &connector.sessions) {
            live.regranted.notify_one();
        }
    }

    /// Called under the registry's lock.
    pub(super) fn add(&self, live: &Arc<Live>) {
        self.last_seen.store(unix_now(), Ordering::Relaxed);
        let id = live.session.info().connector;
        let mut connectors = (**self.connectors.load()).clone();
        match connectors.iter_mut().find(|connector| connector.id == id) {
            Some(connector) => connector.sessions.push(Arc::clone(live)),
            None => connectors.push(Connector { id, sessions: vec![Arc::clone(live)] }),
        }
        self.connectors.store(Arc::new(connectors));
    }

    /// Says whether it was there. Called under the registry's lock.
    pub(super) fn remove(&self, session: SessionId) -> bool {
        let mut connectors = (**self.connectors.load()).clone();
        let count = |connectors: &[Connector]| connectors.iter().map(|one| one.sessions.len()).sum::<usize>();
        let before = count(&connectors);
        for connector in &mut connectors {
            connector.sessions.retain(|live| live.session.info().id != session);
        }
        if count(&connectors) == before {
            return false;
        }
        self.last_seen.store(unix_now(), Ordering::Relaxed);
        connectors.retain(|connector| !connector.sessions.is_empty());
        self.absence.begin();
        self.connectors.store(Arc::new(connectors));
        true
    }
}

/// One pattern in the table.
#[derive(Debug)]
pub(crate) struct Route {
    /// The pattern as text, or `other`: a metric's label.
    pub label: Arc<str>,
    pub tunnel: Arc<Tunnel>,
    families: Metrics,
    /// Made by the first request: most of ten thousand routes sleep.
    awake: OnceLock<Awake>,
    /// The same of connections that pass through, by where their TLS ends.
    passing: [OnceLock<(Arc<PassingMetrics>, Observers)>; 2],
}

/// What a route has that requests come in by.
#[derive(Debug)]
struct Awake {
    metrics: Arc<RouteMetrics>,
    observers: Observers,
}

impl Route {
    pub(super) fn new(tunnel: &Arc<Tunnel>, label: &str, metrics: &Metrics) -> Self {
        Self {
            label: label.into(),
            tunnel: Arc::clone(tunnel),
            families: metrics.clone(),
            awake: OnceLock::new(),
            passing: Default::default(),
        }
    }

    /// Who hears of the requests that come in by it.
    pub(crate) fn observers(&self) -> &Observers {
        let awake = self.awake.get_or_init(|| {
            let metrics = Arc::new(RouteMetrics::new(&self.families, &self.tunnel.name, &self.label));
            Awake { observers: Observers::new([Arc::clone(&metrics) as _]), metrics }
        });
        &awake.observers
    }

    /// Who hears of the connections that pass through by it.
    pub(crate) fn passing_observers(&self, end: TlsEnd) -> &Observers {
        let (_, observers) = self.passing[usize::from(end == TlsEnd::Connector)].get_or_init(|| {
            let metrics = Arc::new(PassingMetrics::new(&self.families, &self.tunnel.name, &self.label, end));
            let observers = Observers::new([Arc::clone(&metrics) as _]);
            (metrics, observers)
        });
        observers
    }

    pub(super) fn forget(&self) {
        for (metrics, _) in self.passing.iter().filter_map(OnceLock::get) {
            metrics.forget();
        }
        if let Some(awake) = self.awake.get() {
            awake.metrics.forget();
        }
    }
}

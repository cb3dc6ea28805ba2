//! One live session as the registry sees it, and the connector that it belongs to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use causeway_tunnel::{ConnectorId, KeyId, Kind, PlainHttp, RefusedRoute, Role, Route, Stats, TlsEnd};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::balance::{self, Candidate, Place};
use crate::route::{Pattern, Table};
use causeway_front::forward::Line;
use causeway_front::household::Stalled;
use causeway_front::session::Session;

#[derive(Debug)]
pub(crate) struct Live {
    pub session: Session,
    /// The key that it proved: when that ends, the session ends.
    pub key: KeyId,
    /// The session's id, for logs.
    pub label: Arc<str>,
    /// Empty until the first announcement: the session carries nothing before it.
    pub announced: ArcSwap<Announced>,
    /// Told when what was announced is to be judged anew.
    pub regranted: Notify,
    /// What the connector last said of itself.
    pub stats: Mutex<Option<Stats>>,
    /// What visitors who do not read keep waiting in it.
    pub(crate) stalled: Arc<Stalled>,
    place: Place,
    /// Set as soon as its end is known; asking the transport costs a lock.
    gone: AtomicBool,
}

/// What a session serves.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    pub generation: u64,
    /// What is said of each name, for requests.
    pub table: Table<Offer>,
    /// Pattern to the connector's route id, for connections that pass through.
    pub passing: Table<u32>,
    /// All of both.
    pub patterns: Vec<Pattern>,
    /// Those whose TLS does not end here.
    pub elsewhere: Vec<(Pattern, TlsEnd)>,
    pub refused: Vec<RefusedRoute>,
}

impl Announced {
    /// Takes in a route of a kind that is carried.
    pub(super) fn add(&mut self, route: &Route, pattern: Pattern) {
        let is_known = self.table.at(&pattern).is_some() || self.passing.at(&pattern).is_some();
        // The same name twice in one file: rules with different paths; the first stands for all.
        let is_new = if route.kind == Kind::Connect {
            self.passing.insert(&pattern, route.id).is_ok()
        } else {
            let offer = Offer { id: route.id, http: route.http, hsts: route.hsts };
            self.table.insert(&pattern, offer).is_ok()
        };
        if !is_new {
            return;
        }
        if route.kind == Kind::Connect {
            // Whoever passes it on unread cannot end it at the edge, whatever he says.
            let end = if route.tls.is_edge() { TlsEnd::Passthrough } else { route.tls };
            self.elsewhere.push((pattern.clone(), end));
        }
        if !is_known {
            self.patterns.push(pattern);
        }
    }
}

/// What a connector says of one of its names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// The connector's route id.
    pub id: u32,
    pub http: PlainHttp,
    pub hsts: Option<u32>,
}

impl Live {
    /// As what carries a request.
    pub(crate) fn line(&self) -> Line<'_> {
        Line { session: &self.session, stalled: &self.stalled }
    }

    pub(crate) fn new(session: Session, key: KeyId) -> Self {
        let info = session.info();
        let place = match info.role {
            Role::Primary => Place::Shard(u16::try_from(info.shard).unwrap_or(u16::MAX)),
            Role::Standby => Place::Standby,
        };
        let label = info.id.to_string().into();
        let announced = ArcSwap::default();
        let (stats, stalled, gone) = (Mutex::new(None), Arc::default(), AtomicBool::new(false));
        let regranted = Notify::new();
        Self { session, key, label, announced, regranted, stats, stalled, place, gone }
    }

    /// What the connector said of this name, if it announced it.
    pub(crate) fn offer(&self, host: &str) -> Option<Offer> {
        self.announced.load().table.find(host).copied()
    }

    /// The same for a connection that passes through.
    pub(crate) fn passing_id(&self, host: &str) -> Option<u32> {
        self.announced.load().passing.find(host).copied()
    }

    /// Never chosen again; what is in flight runs on.
    pub(crate) fn retire(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// It serves: it is neither gone nor leaving nor silent.
    pub(crate) fn is_well(&self) -> bool {
        !self.gone.load(Ordering::Relaxed) && !self.session.is_draining() && !self.session.is_suspected()
    }

    pub(super) fn is_usable_or_draining(&self) -> bool {
        !self.gone.load(Ordering::Relaxed)
    }
}

impl Candidate for Arc<Live> {
    fn place(&self) -> Place {
        self.place
    }

    fn is_usable(&self) -> bool {
        !self.gone.load(Ordering::Relaxed) && !self.session.is_draining()
    }

    fn is_suspected(&self) -> bool {
        self.session.is_suspected()
    }

    fn last_heard(&self) -> Instant {
        self.session.last_heard()
    }

    fn in_flight(&self) -> usize {
        self.session.in_flight()
    }
}

/// One run of a connector process and its sessions to this edge.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub id: ConnectorId,
    pub sessions: Vec<Arc<Live>>,
}

impl balance::Connector for Connector {
    type Session = Arc<Live>;

    fn sessions(&self) -> &[Arc<Live>] {
        &self.sessions
    }
}

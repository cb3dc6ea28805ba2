//! What `status` shows: the sessions with edges and the rules in force.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use causeway_acme::View;
use causeway_daemon::readiness::{Hold, Readiness};
use causeway_tunnel::{Pattern, RefusedRoute, Role, Session, TlsEnd, Transport};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::kubernetes::Discovery;

/// The live sessions, kept by those who run them.
#[derive(Debug)]
pub(crate) struct Board {
    inner: Mutex<Inner>,
    readiness: Readiness,
    sessions: Gauge,
    suspected: Gauge,
}

#[derive(Debug)]
struct Inner {
    /// By the slot, and by the order in which its sessions came up: beside a silent one there may be another.
    sessions: BTreeMap<(SlotKey, u64), Live>,
    next: u64,
    /// Per edge: so that replicas of one refusal are said once.
    refused: BTreeMap<String, Vec<RefusedRoute>>,
    config_error: Option<String>,
    /// Held while no session is heard of whose edge has answered what we announced: until then it sends nothing.
    unready: Option<Hold>,
}

#[derive(Debug)]
struct Live {
    session: Session,
    announced: bool,
    draining: bool,
}

/// Names a slot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SlotKey {
    pub(crate) edge: String,
    pub(crate) number: usize,
}

/// Keeps a session on the board.
#[derive(Debug)]
pub(crate) struct OnBoard {
    board: Arc<Board>,
    key: (SlotKey, u64),
}

/// What waits unread, or may come, and what that is kept below (`bufferBytes`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffers {
    pub held_bytes: usize,
    pub limit_bytes: usize,
}

/// One moment of the connector, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub connector: String,
    pub tunnel: String,
    pub uptime_seconds: u64,
    pub draining: bool,
    pub config: ConfigStatus,
    pub edges: Vec<EdgeStatus>,
    /// Those that are ordered for names whose TLS ends here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<View>,
    pub requests: u64,
    pub in_flight: u64,
    pub origin_errors: u64,
    #[serde(default)]
    pub buffers: Buffers,
    pub metrics: Option<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigStatus {
    pub file: String,
    /// Counts the versions of the rules since the start.
    pub generation: u64,
    pub rules: usize,
    /// Why the file on disk is not the one in force, if so.
    pub error: Option<String>,
    /// The cluster whose Services become rules, where one is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterStatus>,
    /// Names whose TLS does not end at the edge.
    #[serde(default)]
    pub tls: Vec<TlsElsewhere>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Its API server, and the namespace if it is one.
    pub place: String,
    /// How many of the rules are Services'.
    pub rules: usize,
    /// Why it is not followed, while that is so: the last known rules are in force.
    pub error: Option<String>,
    /// What Services ask for and do not get, each with its mend.
    pub remarks: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsElsewhere {
    pub hostname: String,
    /// `passthrough` or `connector`.
    pub tls: TlsEnd,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeStatus {
    pub address: String,
    pub sessions: Vec<SessionStatus>,
    pub refused: Vec<RefusedHostname>,
    /// The proxy that sessions over TCP go through, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// The last failure to connect, while there is one.
    pub trouble: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionStatus {
    pub id: String,
    pub remote: SocketAddr,
    /// What it goes over; none: it does not leave the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Transport>,
    pub role: String,
    pub shard: u32,
    pub shards: u32,
    pub since_seconds: u64,
    pub rtt_ms: f64,
    pub in_flight: usize,
    pub draining: bool,
    /// Nothing is heard of the edge on it.
    #[serde(default)]
    pub suspected: bool,
    pub software: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusedHostname {
    pub hostname: String,
    pub reason: String,
}

impl ClusterStatus {
    pub(crate) fn of(discovery: &Discovery, config: &Config) -> Self {
        Self {
            place: discovery.place.to_string(),
            rules: config.rules.iter().filter(|rule| rule.found.is_some()).count(),
            error: discovery.trouble(),
            remarks: config.remarks.clone(),
        }
    }
}

impl Board {
    /// The gauges are of all sessions, and of those that are suspected.
    pub(crate) fn new(readiness: Readiness, sessions: Gauge, suspected: Gauge) -> Arc<Self> {
        let unready = Some(readiness.hold(NO_SESSION));
        let inner = Inner {
            sessions: BTreeMap::new(),
            next: 0,
            refused: BTreeMap::new(),
            config_error: None,
            unready,
        };
        Arc::new(Self { inner: Mutex::new(inner), readiness, sessions, suspected })
    }

    /// From now until the returned guard is dropped the session is up.
    pub(crate) fn up(self: &Arc<Self>, key: SlotKey, session: &Session) -> OnBoard {
        let mut inner = self.inner.lock();
        let live = Live { session: session.clone(), announced: false, draining: false };
        let key = (key, inner.next);
        inner.next += 1;
        inner.sessions.insert(key.clone(), live);
        self.weigh(&mut inner);
        OnBoard { board: Arc::clone(self), key }
    }

    /// Brings what is made of the sessions up to date.
    fn weigh(&self, inner: &mut Inner) {
        let suspected = inner.sessions.values().filter(|live| live.session.is_suspected()).count();
        self.sessions.set(i64::try_from(inner.sessions.len()).unwrap_or(i64::MAX));
        self.suspected.set(i64::try_from(suspected).unwrap_or(i64::MAX));
        let is_ready = inner.sessions.values().any(|live| live.announced && !live.session.is_suspected());
        if is_ready {
            inner.unready = None;
        } else if inner.unready.is_none() {
            inner.unready = Some(self.readiness.hold(NO_SESSION));
        }
    }

    pub(crate) fn set_config_error(&self, error: Option<String>) {
        self.inner.lock().config_error = error;
    }

    pub(crate) fn config_error(&self) -> Option<String> {
        self.inner.lock().config_error.clone()
    }

    /// Whether an edge has taken this name.
    pub(crate) fn is_served(&self, name: &Pattern) -> bool {
        let name = name.to_string();
        let inner = self.inner.lock();
        inner.sessions.iter().any(|((key, _), live)| {
            let refused = inner.refused.get(&key.edge);
            live.announced && !refused.is_some_and(|refused| refused.iter().any(|one| one.hostname == name))
        })
    }

    /// What is on the board of an edge.
    pub(crate) fn edge(&self, address: &str) -> EdgeStatus {
        let inner = self.inner.lock();
        let sessions =
            inner.sessions.iter().filter(|((key, _), _)| key.edge == address).map(|(_, live)| live.status());
        let refused = inner.refused.get(address).into_iter().flatten();
        EdgeStatus {
            address: address.to_owned(),
            sessions: sessions.collect(),
            refused: refused
                .map(|route| RefusedHostname {
                    hostname: route.hostname.clone(),
                    reason: route.reason.clone(),
                })
                .collect(),
            proxy: None,
            trouble: None,
        }
    }
}

impl Live {
    fn status(&self) -> SessionStatus {
        let info = self.session.info();
        SessionStatus {
            id: info.id.to_string(),
            remote: info.remote,
            carrier: self.session.transport(),
            role: match info.role {
                Role::Primary => "primary".to_owned(),
                Role::Standby => "standby".to_owned(),
            },
            shard: info.shard,
            shards: info.shards,
            since_seconds: info.since.elapsed().as_secs(),
            rtt_ms: (self.session.rtt().as_secs_f64() * 1e6).round() / 1e3,
            in_flight: self.session.in_flight(),
            draining: self.draining,
            suspected: self.session.is_suspected(),
            software: info.peer_software.clone(),
        }
    }
}

impl OnBoard {
    /// The edge's name.
    pub(crate) fn edge(&self) -> &str {
        &self.key.0.edge
    }

    pub(crate) fn draining(&self) {
        if let Some(live) = self.board.inner.lock().sessions.get_mut(&self.key) {
            live.draining = true;
        }
    }

    /// The session is suspected, or is not any more.
    pub(crate) fn suspicion_changed(&self) {
        self.board.weigh(&mut self.board.inner.lock());
    }

    /// Has the other sessions with the same edge show whether they live.
    pub(crate) fn doubt_others(&self) {
        let inner = self.board.inner.lock();
        let others =
            inner.sessions.iter().filter(|(key, _)| key.0.edge == self.key.0.edge && **key != self.key);
        others.for_each(|(_, live)| live.session.doubt());
    }

    /// Takes note of what the edge refused; says whether that is news.
    pub(crate) fn announced(&self, refused: &[RefusedRoute]) -> bool {
        let mut inner = self.board.inner.lock();
        if let Some(live) = inner.sessions.get_mut(&self.key) {
            live.announced = true;
        }
        self.board.weigh(&mut inner);
        let known = inner.refused.entry(self.edge().to_owned()).or_default();
        let is_news = known != refused;
        refused.clone_into(known);
        is_news
    }
}

impl Drop for OnBoard {
    fn drop(&mut self) {
        let mut inner = self.board.inner.lock();
        inner.sessions.remove(&self.key);
        self.board.weigh(&mut inner);
    }
}

impl Status {
    /// For people.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let heard = |edge: &EdgeStatus| edge.sessions.iter().filter(|session| !session.suspected).count();
        let sessions: usize = self.edges.iter().map(heard).sum();
        let state = match (self.draining, sessions) {
            (true, _) => "STOPPING",
            (false, 0) => "DOWN",
            (false, _) if self.edges.iter().any(|edge| heard(edge) == 0) => "DEGRADED",
            (false, _) => "CONNECTED",
        };
        let write = |out: &mut String| {
            writeln!(
                out,
                "{state}  tunnel {}  connector {}  up {} s",
                self.tunnel, self.connector, self.uptime_seconds
            )?;
            writeln!(
                out,
                "rules  {} from {} (version {})",
                self.config.rules, self.config.file, self.config.generation
            )?;
            if let Some(error) = &self.config.error {
                writeln!(out, "       the file on disk is not in force: {error}")?;
            }
            if let Some(cluster) = &self.config.cluster {
                writeln!(out, "       {} of them from Services of {}", cluster.rules, cluster.place)?;
                if let Some(error) = &cluster.error {
                    writeln!(out, "       the last known are in force: {error}")?;
                }
                for remark in &cluster.remarks {
                    writeln!(out, "       {remark}")?;
                }
            }
            for name in &self.config.tls {
                writeln!(out, "tls    {}: {}", name.hostname, name.tls.as_str())?;
            }
            for certificate in &self.certificates {
                let days = certificate.days_left(unix_now()).map(|days| format!(", {days} days left"));
                let error = certificate.last_error.as_ref().map(|error| format!(": {error}"));
                writeln!(
                    out,
                    "cert   {}: {:?}{}{}",
                    certificate.name,
                    certificate.state,
                    days.unwrap_or_default(),
                    error.unwrap_or_default()
                )?;
            }
            writeln!(
                out,
                "requests  {} served, {} in flight, {} failed by origins",
                self.requests, self.in_flight, self.origin_errors
            )?;
            for edge in &self.edges {
                let proxy = edge.proxy.as_ref().map(|proxy| format!(" (over TCP through the proxy {proxy})"));
                writeln!(out, "edge {}{}", edge.address, proxy.unwrap_or_default())?;
                for s in &edge.sessions {
                    let drains = if s.draining { ", draining" } else { "" };
                    let silent = if s.suspected { ", suspected: the edge is silent" } else { "" };
                    writeln!(
                        out,
                        "  {}  {:8} {}  shard {}/{}  {} s  rtt {} ms  {} in flight{drains}{silent}",
                        s.id,
                        s.role,
                        s.remote,
                        s.shard + 1,
                        s.shards,
                        s.since_seconds,
                        s.rtt_ms,
                        s.in_flight
                    )?;
                }
                if let Some(trouble) = &edge.trouble {
                    writeln!(out, "  no session: {trouble}")?;
                }
                for route in &edge.refused {
                    writeln!(out, "  {} is not served: {}", route.hostname, route.reason)?;
                }
            }
            std::fmt::Result::Ok(())
        };
        write(&mut out).expect("a String takes everything");
        out
    }
}

pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

const NO_SESSION: &str = "a session with an edge that is heard and has answered what is announced";

//! What `status` tells: each tunnel with its state, connectors and hostnames, and where the edge listens.
//!
//! The one shape that the control socket sends, the command line shows and programs read.

use std::net::SocketAddr;
use std::time::Instant;

use causeway_tunnel::{TlsEnd, Transport};
use serde::{Deserialize, Serialize};

use crate::certified::Certified;
use crate::registry::{Connector, Registry, Tunnel, ago};
use crate::route::Pattern;
use crate::unix_now;
use causeway_front::session::Session;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub version: String,
    /// Of the process; 0: its version does not tell.
    #[serde(default)]
    pub pid: u32,
    pub ready: bool,
    /// What readiness waits for.
    pub pending: Vec<String>,
    pub uptime_seconds: i64,
    pub shards: u16,
    #[serde(default)]
    pub buffers: Buffers,
    /// Why the store does not work now: the edge runs on with what it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_error: Option<String>,
    pub listening: Listening,
    /// What new tokens carry.
    pub address: Vec<String>,
    pub tunnels: Vec<TunnelStatus>,
    /// Those that the edge orders by itself.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
    /// Those from files, by the names that they are good for.
    #[serde(default)]
    pub certificate_files: Vec<FileCertificate>,
}

/// A name that a certificate from a file is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileCertificate {
    pub name: String,
    /// Unix seconds.
    pub not_after: i64,
}

pub use causeway_acme::View as CertificateStatus;

/// What waits unread, or may come, and what that is kept below (`limits.bufferBytes`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Buffers {
    pub held_bytes: usize,
    pub limit_bytes: usize,
}

/// The addresses in use: port 0 of the configuration is a real port here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    pub https: Vec<SocketAddr>,
    pub http: Vec<SocketAddr>,
    pub tunnel: Vec<SocketAddr>,
    pub admin: Option<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TunnelStatus {
    pub name: String,
    pub id: String,
    pub state: State,
    /// Unix seconds: when the oldest session began, or when the last one was seen.
    pub since: Option<i64>,
    /// Where in edge.yaml it stands, when it is declared there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<String>,
    pub hostnames: Vec<HostnameStatus>,
    pub connectors: Vec<ConnectorStatus>,
}

/// How well a tunnel is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Every connector has a session to each shard and one to spare, and all that it announces is served.
    Healthy,
    /// It serves, but something is missing.
    Degraded,
    /// It was connected, and is not now.
    Down,
    /// It never was.
    Inactive,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostnameStatus {
    pub hostname: String,
    pub state: HostnameState,
    /// Whether the name itself is granted, or announced under a granted wildcard.
    pub granted: bool,
    /// Where TLS of its visitors ends: `edge`, `connector`, `passthrough`.
    #[serde(default)]
    pub tls: TlsEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HostnameState {
    Served,
    /// A rule has it, but no certificate does: HTTPS visitors are turned away.
    NoCertificate,
    /// The tunnel is connected, but no rule of its connectors has this name.
    NotAnnounced,
    Down,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectorStatus {
    pub id: String,
    pub host: String,
    /// Name and version of the program.
    pub version: String,
    pub address: String,
    pub since: i64,
    pub draining: bool,
    pub generation: u64,
    pub requests: u64,
    /// Why the last change of its file was not taken, if so.
    pub config_error: Option<String>,
    pub refused: Vec<RefusedName>,
    pub sessions: Vec<SessionStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedName {
    pub hostname: String,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionStatus {
    pub id: String,
    pub role: String,
    pub shard: u32,
    pub remote: SocketAddr,
    pub since: i64,
    pub in_flight: usize,
    pub rtt_milliseconds: f64,
    /// What it goes over; none: it does not leave the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Transport>,
    /// The largest packet that the way is known to take, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_mtu: Option<u16>,
    /// Nothing is heard of it: it gets nothing new while there is another.
    #[serde(default)]
    pub suspected: bool,
}

/// The tunnels as they are now.
pub(crate) fn tunnels(registry: &Registry, certified: &Certified, shards: u16) -> Vec<TunnelStatus> {
    registry.tunnels().iter().map(|tunnel| tunnel_status(tunnel, certified, shards)).collect()
}

fn tunnel_status(tunnel: &Tunnel, certified: &Certified, shards: u16) -> TunnelStatus {
    let connectors = tunnel.connectors.load();
    let shown: Vec<ConnectorStatus> = connectors.iter().filter_map(connector_status).collect();
    let views: Vec<View> = connectors.iter().map(|connector| View::of(connector, &shown)).collect();
    let last_seen = tunnel.last_seen();
    let hostnames = hostnames(tunnel, &connectors, certified);
    let mut state = state(&views, last_seen.is_some(), usize::from(shards) + 1);
    if state == State::Healthy && hostnames.iter().any(|name| name.state == HostnameState::NoCertificate) {
        state = State::Degraded;
    }
    let since = shown.iter().map(|connector| connector.since).min().or(last_seen);
    TunnelStatus {
        name: tunnel.name.to_string(),
        id: tunnel.id.to_string(),
        state,
        since,
        declared: tunnel.declared.load().as_deref().cloned(),
        hostnames,
        connectors: shown,
    }
}

/// What decides about a connector's health.
#[derive(Clone, Copy, Debug)]
struct View {
    usable: usize,
    has_complaint: bool,
}

impl View {
    fn of(connector: &Connector, shown: &[ConnectorStatus]) -> Self {
        let usable = connector.sessions.iter().filter(|live| live.is_well()).count();
        let id = connector.id.to_string();
        let has_complaint = shown
            .iter()
            .any(|shown| shown.id == id && (!shown.refused.is_empty() || shown.config_error.is_some()));
        Self { usable, has_complaint }
    }
}

fn state(connectors: &[View], was_seen: bool, expected: usize) -> State {
    let serves = connectors.iter().any(|connector| connector.usable > 0);
    match serves {
        true if connectors.iter().all(|c| c.usable >= expected && !c.has_complaint) => State::Healthy,
        true => State::Degraded,
        false if was_seen => State::Down,
        false => State::Inactive,
    }
}

fn hostnames(tunnel: &Tunnel, connectors: &[Connector], certified: &Certified) -> Vec<HostnameStatus> {
    let usable = || connectors.iter().flat_map(|c| &c.sessions).filter(|live| live.is_well());
    let grants = tunnel.grants.load();
    let announced = usable().flat_map(|live| live.announced.load().patterns.clone());
    let mut all: Vec<Pattern> =
        grants.iter().cloned().chain(announced.filter(|p| *p != Pattern::Any)).collect();
    all.sort_unstable();
    all.dedup();
    let state = |pattern: &Pattern| {
        if usable().next().is_none() {
            return HostnameState::Down;
        }
        // A granted wildcard is served when a rule covers it, or any name below it.
        let serves = |known: &Pattern| known.covers(pattern) || pattern.covers(known);
        match usable().any(|live| live.announced.load().patterns.iter().any(serves)) {
            true if !tunnel.end_of_pattern(pattern).is_edge() => HostnameState::Served,
            true if certified.covers(pattern) => HostnameState::Served,
            true => HostnameState::NoCertificate,
            false => HostnameState::NotAnnounced,
        }
    };
    all.iter()
        .map(|pattern| HostnameStatus {
            hostname: pattern.to_string(),
            state: state(pattern),
            granted: grants.contains(pattern),
            tls: tunnel.end_of_pattern(pattern),
        })
        .collect()
}

fn connector_status(connector: &Connector) -> Option<ConnectorStatus> {
    let newest = connector.sessions.iter().max_by_key(|live| live.session.info().since)?;
    let oldest = connector.sessions.iter().map(|live| live.session.info().since).min()?;
    let info = newest.session.info();
    let announced = newest.announced.load();
    let stats = connector
        .sessions
        .iter()
        .filter_map(|live| live.stats.lock().clone())
        .max_by_key(|s| s.uptime_seconds);
    let refused = announced
        .refused
        .iter()
        .map(|route| RefusedName { hostname: route.hostname.clone(), reason: route.reason.clone() });
    Some(ConnectorStatus {
        id: connector.id.to_string(),
        host: info.peer_host.clone(),
        version: info.peer_software.clone(),
        address: info.remote.ip().to_canonical().to_string(),
        since: wall(oldest),
        draining: connector.sessions.iter().all(|live| live.session.is_draining()),
        generation: announced.generation,
        requests: stats.as_ref().map_or(0, |stats| stats.requests),
        config_error: stats.and_then(|stats| stats.config_error),
        refused: refused.collect(),
        sessions: connector.sessions.iter().map(|live| session_status(&live.session)).collect(),
    })
}

fn session_status(session: &Session) -> SessionStatus {
    let info = session.info();
    SessionStatus {
        id: info.id.to_string(),
        role: format!("{:?}", info.role).to_lowercase(),
        shard: info.shard,
        remote: info.remote,
        since: wall(info.since),
        in_flight: session.in_flight(),
        rtt_milliseconds: session.rtt().as_secs_f64() * 1e3,
        carrier: session.transport(),
        path_mtu: session.path_mtu(),
        suspected: session.is_suspected(),
    }
}

fn wall(since: Instant) -> i64 {
    unix_now().saturating_sub(ago(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: View = View { usable: 2, has_complaint: false };

    #[test]
    fn healthy_means_that_nothing_is_missing() {
        assert_eq!(state(&[GOOD, GOOD], true, 2), State::Healthy);
        assert_eq!(state(&[GOOD, View { usable: 1, ..GOOD }], true, 2), State::Degraded);
        assert_eq!(state(&[View { has_complaint: true, ..GOOD }], true, 2), State::Degraded);
        assert_eq!(state(&[GOOD], true, 4), State::Degraded, "a session to each shard is expected");
        assert_eq!(state(&[View { usable: 0, ..GOOD }], true, 2), State::Down, "draining is not serving");
        assert_eq!(state(&[], true, 2), State::Down);
        assert_eq!(state(&[], false, 2), State::Inactive);
    }
}

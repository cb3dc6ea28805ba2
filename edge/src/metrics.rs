//! The edge's metrics: registered once, handed to constructors, with labels bounded by what tunnels are granted.
//!
//! A request touches only handles resolved beforehand ([`RouteMetrics`]); names that visitors invent never become labels.

mod passing;
mod route;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use causeway_front::metrics::{ReasonLabels, Visitors};
use causeway_tunnel::Transport;

pub(crate) use passing::PassingMetrics;
pub(crate) use route::RouteMetrics;

/// Cheap to clone; clones share the figures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    requests: Family<ClassLabels, Counter>,
    duration: Durations,
    bytes: Family<DirectionLabels, Counter>,
    in_flight: Family<RouteLabels, Gauge>,
    failures: Family<FailureLabels, Counter>,
    passing: passing::Families,
    retries: Family<TunnelLabels, Counter>,
    waits: Family<TunnelLabels, Counter>,
    sessions: Family<TunnelLabels, Gauge>,
    sessions_suspected: Family<TunnelLabels, Gauge>,
    session_suspicions: Family<TunnelLabels, Counter>,
    sessions_given_up: Family<ReasonLabels, Counter>,
    sessions_begun: Family<CarrierLabels, Counter>,
    handshakes_refused: Family<ReasonLabels, Counter>,
    names_refused: Family<TunnelLabels, Counter>,
    unrouted: Family<ReasonLabels, Counter>,
    /// Stands still while the store cannot be read.
    pub store_errors: Counter,
    pub reload_errors: Counter,
    pub visitors: Visitors,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TunnelLabels {
    tunnel: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CarrierLabels {
    carrier: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    tunnel: String,
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    tunnel: String,
    route: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabels {
    tunnel: String,
    route: String,
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    tunnel: String,
    reason: &'static str,
}

#[derive(Clone, Debug)]
struct Durations(Family<RouteLabels, Histogram, Buckets>);

impl Default for Durations {
    fn default() -> Self {
        Self(Family::new_with_constructor(Buckets))
    }
}

#[derive(Clone, Copy, Debug)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    /// From a cached answer on the LAN to the response header timeout.
    fn new_metric(&self) -> Histogram {
        Histogram::new([
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 100.0,
        ])
    }
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let edge = registry.sub_registry_with_prefix("causeway_edge");
        edge.register(
            "requests",
            "Requests that reached a route, by class of the answer",
            self.requests.clone(),
        );
        edge.register_with_unit(
            "request_duration",
            "From the request's head to the last byte of the response",
            Unit::Seconds,
            self.duration.0.clone(),
        );
        edge.register_with_unit(
            "request_body",
            "Body bytes: in from visitors, out to visitors",
            Unit::Bytes,
            self.bytes.clone(),
        );
        edge.register("streams_in_flight", "Requests being carried now", self.in_flight.clone());
        edge.register(
            "request_failures",
            "Requests that the edge itself answered with an error, or broke off",
            self.failures.clone(),
        );
        self.passing.register(edge);
        edge.register("request_retries", "Requests sent again on another session", self.retries.clone());
        edge.register(
            "request_waits",
            "Requests that waited for a session, the last one having just ended",
            self.waits.clone(),
        );
        edge.register("sessions", "Live sessions of connectors", self.sessions.clone());
        edge.register(
            "sessions_suspected",
            "Sessions of which nothing is heard now",
            self.sessions_suspected.clone(),
        );
        edge.register(
            "session_suspicions",
            "How often a session fell silent",
            self.session_suspicions.clone(),
        );
        edge.register(
            "sessions_given_up",
            "Sessions ended because nothing was heard of them, by what decided it",
            self.sessions_given_up.clone(),
        );
        edge.register(
            "sessions_begun",
            "Sessions that came up, by their carrier",
            self.sessions_begun.clone(),
        );
        edge.register(
            "handshakes_refused",
            "Connectors that were turned away",
            self.handshakes_refused.clone(),
        );
        edge.register(
            "names_refused",
            "Announced hostnames that a tunnel may not serve",
            self.names_refused.clone(),
        );
        edge.register(
            "requests_unrouted",
            "Requests for names that no tunnel is granted",
            self.unrouted.clone(),
        );
        edge.register("store_errors", "Failed reads and writes of the store", self.store_errors.clone());
        edge.register(
            "reload_errors",
            "Reloads that changed nothing because something was wrong",
            self.reload_errors.clone(),
        );
        self.visitors.register(edge);
    }

    pub(crate) fn failure(&self, tunnel: &str, reason: &'static str) {
        self.failures.get_or_create(&FailureLabels { tunnel: tunnel.to_owned(), reason }).inc();
    }

    pub(crate) fn unrouted(&self, reason: &'static str) {
        self.unrouted.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(crate) fn waited(&self, tunnel: &str) {
        self.waits.get_or_create(&TunnelLabels { tunnel: tunnel.to_owned() }).inc();
    }

    pub(crate) fn retry(&self, tunnel: &str) {
        self.retries.get_or_create(&TunnelLabels { tunnel: tunnel.to_owned() }).inc();
    }

    pub(crate) fn session_begun(&self, over: Option<Transport>) {
        let carrier = over.map_or("process", Transport::as_str);
        self.sessions_begun.get_or_create(&CarrierLabels { carrier }).inc();
    }

    pub(crate) fn handshake_refused(&self, reason: &'static str) {
        self.handshakes_refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(crate) fn names_refused(&self, tunnel: &str, count: usize) {
        self.names_refused.get_or_create(&TunnelLabels { tunnel: tunnel.to_owned() }).inc_by(count as u64);
    }

    pub(crate) fn sessions(&self, tunnel: &str) -> Gauge {
        self.sessions.get_or_create_owned(&TunnelLabels { tunnel: tunnel.to_owned() })
    }

    /// A session of this tunnel fell silent.
    pub(crate) fn suspected(&self, tunnel: &str) {
        let labels = TunnelLabels { tunnel: tunnel.to_owned() };
        self.session_suspicions.get_or_create(&labels).inc();
        self.sessions_suspected.get_or_create(&labels).inc();
    }

    /// It was heard again, or has ended.
    pub(crate) fn suspected_no_more(&self, tunnel: &str) {
        self.sessions_suspected.get_or_create(&TunnelLabels { tunnel: tunnel.to_owned() }).dec();
    }

    pub(crate) fn given_up(&self, reason: &'static str) {
        self.sessions_given_up.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// A revoked tunnel's series end.
    pub(crate) fn forget_tunnel(&self, tunnel: &str) {
        let labels = TunnelLabels { tunnel: tunnel.to_owned() };
        self.sessions.remove(&labels);
        self.sessions_suspected.remove(&labels);
        self.session_suspicions.remove(&labels);
        self.retries.remove(&labels);
        self.waits.remove(&labels);
        self.names_refused.remove(&labels);
    }
}

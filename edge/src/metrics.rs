//! The edge's metrics: registered once, handed to constructors, with labels bounded by what tunnels are granted.
//!
//! A request touches only handles resolved beforehand ([`RouteMetrics`]); names that visitors invent never become labels.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use http::{HeaderMap, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::observe::{Finished, Observer, Start};

/// Cheap to clone; clones share the figures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    requests: Family<ClassLabels, Counter>,
    duration: Durations,
    bytes: Family<DirectionLabels, Counter>,
    in_flight: Family<RouteLabels, Gauge>,
    failures: Family<FailureLabels, Counter>,
    retries: Family<TunnelLabels, Counter>,
    sessions: Family<TunnelLabels, Gauge>,
    handshakes_refused: Family<ReasonLabels, Counter>,
    names_refused: Family<TunnelLabels, Counter>,
    unrouted: Family<ReasonLabels, Counter>,
    /// Stands still while the store cannot be read.
    pub store_errors: Counter,
    pub reload_errors: Counter,
    pub visitors: Visitors,
}

/// Connections of visitors; for the listeners.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visitors {
    pub accepted: Family<ListenerLabels, Counter>,
    pub open: Family<ListenerLabels, Gauge>,
    pub refused: Family<ReasonLabels, Counter>,
    pub requests_refused: Family<ReasonLabels, Counter>,
    pub readers_evicted: Family<ReasonLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ListenerLabels {
    /// `https` or `http`.
    pub listener: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabels {
    pub reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TunnelLabels {
    tunnel: String,
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
        edge.register("request_retries", "Requests sent again on another session", self.retries.clone());
        edge.register("sessions", "Live sessions of connectors", self.sessions.clone());
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
        edge.register(
            "connections_accepted",
            "Visitors' connections accepted",
            self.visitors.accepted.clone(),
        );
        edge.register("connections_open", "Visitors' connections open now", self.visitors.open.clone());
        edge.register(
            "connections_refused",
            "Visitors' connections closed at once",
            self.visitors.refused.clone(),
        );
        edge.register(
            "requests_refused",
            "Requests of visitors that have as much in flight as one address may have",
            self.visitors.requests_refused.clone(),
        );
        edge.register(
            "readers_evicted",
            "Downloads given up because their visitors took nothing and too much waited for them",
            self.visitors.readers_evicted.clone(),
        );
    }

    pub(crate) fn route(&self, tunnel: &str, route: &str) -> RouteMetrics {
        let labels = RouteLabels { tunnel: tunnel.to_owned(), route: route.to_owned() };
        let bytes = |direction| {
            let (tunnel, route) = (tunnel.to_owned(), route.to_owned());
            self.bytes.get_or_create_owned(&DirectionLabels { tunnel, route, direction })
        };
        RouteMetrics {
            requests: std::array::from_fn(|_| OnceLock::new()),
            duration: self.duration.0.get_or_create_owned(&labels),
            bytes_in: bytes("in"),
            bytes_out: bytes("out"),
            in_flight: self.in_flight.get_or_create_owned(&labels),
            families: self.clone(),
            labels,
        }
    }

    pub(crate) fn failure(&self, tunnel: &str, reason: &'static str) {
        self.failures.get_or_create(&FailureLabels { tunnel: tunnel.to_owned(), reason }).inc();
    }

    pub(crate) fn unrouted(&self, reason: &'static str) {
        self.unrouted.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(crate) fn retry(&self, tunnel: &str) {
        self.retries.get_or_create(&TunnelLabels { tunnel: tunnel.to_owned() }).inc();
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

    /// A revoked tunnel's series end.
    pub(crate) fn forget_tunnel(&self, tunnel: &str) {
        let labels = TunnelLabels { tunnel: tunnel.to_owned() };
        self.sessions.remove(&labels);
        self.retries.remove(&labels);
        self.names_refused.remove(&labels);
    }
}

/// The handles of one route, resolved once.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    /// By class of the answer; made when first seen, since most routes answer with one or two.
    requests: [OnceLock<Counter>; CLASSES.len()],
    duration: Histogram,
    bytes_in: Counter<u64, AtomicU64>,
    bytes_out: Counter<u64, AtomicU64>,
    in_flight: Gauge,
    families: Metrics,
    labels: RouteLabels,
}

/// `none`: the visitor went away before there was an answer.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

impl Observer for RouteMetrics {
    fn begin(&self, _: &Start, _: &HeaderMap) {
        self.in_flight.inc();
    }

    fn end(&self, request: &Finished<'_>) {
        self.in_flight.dec();
        self.class(request.status).inc();
        self.duration.observe(request.duration.as_secs_f64());
        self.bytes_in.inc_by(request.bytes_in);
        self.bytes_out.inc_by(request.bytes_out);
    }
}

impl RouteMetrics {
    /// Removes the series; requests still in flight count into the void.
    pub(crate) fn forget(&self) {
        let RouteLabels { tunnel, route } = &self.labels;
        let families = &self.families;
        families.duration.0.remove(&self.labels);
        families.in_flight.remove(&self.labels);
        for direction in ["in", "out"] {
            families.bytes.remove(&DirectionLabels {
                tunnel: tunnel.clone(),
                route: route.clone(),
                direction,
            });
        }
        for status in CLASSES {
            families.requests.remove(&ClassLabels { tunnel: tunnel.clone(), route: route.clone(), status });
        }
    }

    fn class(&self, status: Option<StatusCode>) -> &Counter {
        let index = status.map_or(0, |status| usize::from(status.as_u16() / 100).min(CLASSES.len() - 1));
        self.requests[index].get_or_init(|| {
            let RouteLabels { tunnel, route } = self.labels.clone();
            self.families.requests.get_or_create_owned(&ClassLabels { tunnel, route, status: CLASSES[index] })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use causeway_tunnel::{RequestId, Scheme};
    use http::{Method, Uri, Version};

    use super::*;

    fn begin(route: &RouteMetrics) -> Start {
        let start = Start {
            id: RequestId([7; 16]),
            visitor: "192.0.2.1:1".parse().unwrap(),
            scheme: Scheme::Https,
            version: Version::HTTP_11,
            method: Method::GET,
            host: "a.example".into(),
            uri: Uri::from_static("/"),
        };
        route.begin(&start, &HeaderMap::new());
        start
    }

    fn end(route: &RouteMetrics, start: &Start, status: Option<StatusCode>) {
        let (bytes_in, bytes_out, duration) = (5, 7, Duration::from_millis(3));
        let (first_byte, tunnel, session, failure) = (None, None, None, None);
        route.end(&Finished {
            start,
            status,
            bytes_in,
            bytes_out,
            duration,
            first_byte,
            tunnel,
            session,
            failure,
        });
    }

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn a_request_shows_in_every_figure_of_its_route() {
        let mut registry = Registry::default();
        let metrics = Metrics::default();
        metrics.register(&mut registry);
        let route = metrics.route("home", "*.example.net");
        let request = begin(&route);
        assert!(
            text(&registry)
                .contains("causeway_edge_streams_in_flight{tunnel=\"home\",route=\"*.example.net\"} 1")
        );
        end(&route, &request, Some(StatusCode::NOT_FOUND));
        let shown = text(&registry);
        for line in [
            "causeway_edge_streams_in_flight{tunnel=\"home\",route=\"*.example.net\"} 0",
            "causeway_edge_requests_total{tunnel=\"home\",route=\"*.example.net\",status=\"4xx\"} 1",
            "causeway_edge_request_body_bytes_total{tunnel=\"home\",route=\"*.example.net\",direction=\"out\"} 7",
            "causeway_edge_request_duration_seconds_bucket{le=\"0.005\",tunnel=\"home\",route=\"*.example.net\"} 1",
        ] {
            assert!(shown.contains(line), "{line} in\n{shown}");
        }
    }

    #[test]
    fn hazard_115_a_revoked_tunnel_leaves_no_series() {
        let mut registry = Registry::default();
        let metrics = Metrics::default();
        metrics.register(&mut registry);
        let route = metrics.route("home", "a.example");
        let request = begin(&route);
        end(&route, &request, None);
        metrics.sessions("home").inc();
        route.forget();
        metrics.forget_tunnel("home");
        assert!(!text(&registry).contains("home"));
    }
}

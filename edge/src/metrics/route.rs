//! The figures of one route: an observer of its requests, with handles resolved beforehand.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use http::{HeaderMap, StatusCode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::{ClassLabels, DirectionLabels, Metrics, RouteLabels};
use causeway_front::observe::{Finished, Observer, Start};

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

impl RouteMetrics {
    pub(crate) fn new(families: &Metrics, tunnel: &str, route: &str) -> Self {
        let labels = RouteLabels { tunnel: tunnel.to_owned(), route: route.to_owned() };
        let bytes = |direction| {
            let (tunnel, route) = (tunnel.to_owned(), route.to_owned());
            families.bytes.get_or_create_owned(&DirectionLabels { tunnel, route, direction })
        };
        Self {
            requests: std::array::from_fn(|_| OnceLock::new()),
            duration: families.duration.0.get_or_create_owned(&labels),
            bytes_in: bytes("in"),
            bytes_out: bytes("out"),
            in_flight: families.in_flight.get_or_create_owned(&labels),
            families: families.clone(),
            labels,
        }
    }

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use causeway_tunnel::{RequestId, Scheme, TlsEnd};
    use http::{Method, Uri, Version};
    use prometheus_client::registry::Registry;

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
            tls: TlsEnd::Edge,
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
        let route = RouteMetrics::new(&metrics, "home", "*.example.net");
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
        let route = RouteMetrics::new(&metrics, "home", "a.example");
        let request = begin(&route);
        end(&route, &request, None);
        metrics.sessions("home").inc();
        route.forget();
        metrics.forget_tunnel("home");
        assert!(!text(&registry).contains("home"));
    }
}

//! The figures of the connections that pass through by one route: an observer of them, with handles resolved beforehand.

use std::sync::atomic::AtomicU64;

use causeway_tunnel::TlsEnd;
use http::HeaderMap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;
use causeway_front::observe::{Finished, Observer, Start};

/// Of all routes.
#[derive(Clone, Debug, Default)]
pub(super) struct Families {
    connections: Family<ModeLabels, Counter>,
    open: Family<ModeLabels, Gauge>,
    bytes: Family<BytesLabels, Counter<u64, AtomicU64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModeLabels {
    tunnel: String,
    route: String,
    /// `passthrough` or `connector`.
    mode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BytesLabels {
    tunnel: String,
    route: String,
    mode: &'static str,
    direction: &'static str,
}

/// The handles of one route and mode.
#[derive(Debug)]
pub(crate) struct PassingMetrics {
    connections: Counter,
    open: Gauge,
    bytes_in: Counter<u64, AtomicU64>,
    bytes_out: Counter<u64, AtomicU64>,
    families: Families,
    labels: ModeLabels,
}

impl Families {
    pub(super) fn register(&self, edge: &mut Registry) {
        edge.register(
            "passed_connections",
            "Visitors' connections whose TLS ends elsewhere, by where",
            self.connections.clone(),
        );
        edge.register("passed_connections_open", "Of them those that are open now", self.open.clone());
        edge.register("passed_bytes", "Their bytes: in from visitors, out to visitors", self.bytes.clone());
    }
}

impl ModeLabels {
    fn of_bytes(&self, direction: &'static str) -> BytesLabels {
        let Self { tunnel, route, mode } = self.clone();
        BytesLabels { tunnel, route, mode, direction }
    }
}

impl PassingMetrics {
    pub(crate) fn new(metrics: &Metrics, tunnel: &str, route: &str, end: TlsEnd) -> Self {
        let labels = ModeLabels { tunnel: tunnel.to_owned(), route: route.to_owned(), mode: end.as_str() };
        let families = metrics.passing.clone();
        Self {
            connections: families.connections.get_or_create_owned(&labels),
            open: families.open.get_or_create_owned(&labels),
            bytes_in: families.bytes.get_or_create_owned(&labels.of_bytes("in")),
            bytes_out: families.bytes.get_or_create_owned(&labels.of_bytes("out")),
            families,
            labels,
        }
    }

    /// Removes the series; connections still open count into the void.
    pub(crate) fn forget(&self) {
        self.families.connections.remove(&self.labels);
        self.families.open.remove(&self.labels);
        for direction in ["in", "out"] {
            self.families.bytes.remove(&self.labels.of_bytes(direction));
        }
    }
}

impl Observer for PassingMetrics {
    fn begin(&self, _: &Start, _: &HeaderMap) {
        self.open.inc();
    }

    fn end(&self, connection: &Finished<'_>) {
        self.open.dec();
        self.connections.inc();
        self.bytes_in.inc_by(connection.bytes_in);
        self.bytes_out.inc_by(connection.bytes_out);
    }
}

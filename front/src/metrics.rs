//! What is counted of visitors' connections, whichever program serves them.

pub mod certificates;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Connections of visitors; for the listeners.
#[derive(Clone, Debug, Default)]
pub struct Visitors {
    pub accepted: Family<ListenerLabels, Counter>,
    pub open: Family<ListenerLabels, Gauge>,
    pub refused: Family<ReasonLabels, Counter>,
    pub requests_refused: Family<ReasonLabels, Counter>,
    pub readers_evicted: Family<ReasonLabels, Counter>,
    pub overload: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListenerLabels {
    /// `https` or `http`.
    pub listener: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    pub reason: &'static str,
}

impl Visitors {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("connections_accepted", "Visitors' connections accepted", self.accepted.clone());
        registry.register("connections_open", "Visitors' connections open now", self.open.clone());
        registry.register(
            "connections_refused",
            "Visitors' connections closed at once",
            self.refused.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests of visitors that have as much in flight as one address may have",
            self.requests_refused.clone(),
        );
        registry.register(
            "readers_evicted",
            "Downloads given up because their visitors took nothing and too much waited for them",
            self.readers_evicted.clone(),
        );
        registry.register(
            "overload_step",
            "How near memory is to its end: 1 closes what idles, 2 answers 503, 3 lets nobody in",
            self.overload.clone(),
        );
    }
}

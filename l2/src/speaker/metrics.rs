//! The speaker's metrics: MetalLB's names where it has them, ours for what it does not count.

use std::net::IpAddr;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Ip {
    pub(super) ip: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Announced {
    pub(super) service: String,
    pub(super) protocol: &'static str,
    pub(super) node: String,
    pub(super) ip: String,
}

/// Counters that MetalLB names without `_total` are gauges here: the text format would append it.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) announced: Family<Announced, Gauge>,
    pub(super) requests: Family<Ip, Gauge>,
    pub(super) responses: Family<Ip, Gauge>,
    pub(super) gratuitous: Family<Ip, Gauge>,
    /// From the last sign of life of a dead owner to the announcement from here.
    pub(super) take_over: Histogram,
    pub(super) members: Gauge,
    pub(super) fences: Gauge,
    pub(super) conflicts: Gauge,
    /// Frames that the codecs refused.
    pub(super) malformed: Gauge,
    /// Datagrams that were not from a speaker with our secret.
    pub(super) refused: Gauge,
    /// Answers withheld by the rate limit.
    pub(super) limited: Gauge,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let seconds = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0];
        let metrics = Self {
            announced: Family::default(),
            requests: Family::default(),
            responses: Family::default(),
            gratuitous: Family::default(),
            take_over: Histogram::new(seconds),
            members: Gauge::default(),
            fences: Gauge::default(),
            conflicts: Gauge::default(),
            malformed: Gauge::default(),
            refused: Gauge::default(),
            limited: Gauge::default(),
        };
        let mut add = |name, help, metric: &Family<Ip, Gauge>| registry.register(name, help, metric.clone());
        add("metallb_layer2_requests_received", "ARP and NDP questions for owned VIPs", &metrics.requests);
        add("metallb_layer2_responses_sent", "Answers to them", &metrics.responses);
        add("metallb_layer2_gratuitous_sent", "Unasked announcements", &metrics.gratuitous);
        let announced = "Services announced from this node";
        registry.register("metallb_speaker_announced", announced, metrics.announced.clone());
        registry.register(
            "causeway_speaker_take_over_seconds",
            "From the last sign of life of a dead owner to the first announcement from here",
            metrics.take_over.clone(),
        );
        let mut add = |name, help, metric: &Gauge| registry.register(name, help, metric.clone());
        add("causeway_speaker_members", "Speakers alive, this one included", &metrics.members);
        add(
            "causeway_speaker_fences",
            "Times that nothing was answered until the peers were asked",
            &metrics.fences,
        );
        add("causeway_speaker_conflicts", "Claims of VIPs by hosts that are no speakers", &metrics.conflicts);
        add("causeway_speaker_malformed_frames", "Frames that were dropped as malformed", &metrics.malformed);
        add("causeway_speaker_refused_datagrams", "Datagrams that our secret did not open", &metrics.refused);
        add("causeway_speaker_limited_answers", "Answers withheld by the rate limit", &metrics.limited);
        metrics
    }

    /// Forgets what was counted for a VIP that nobody wants any more.
    pub(super) fn forget(&self, vip: IpAddr) {
        let ip = Ip { ip: vip.to_string() };
        for family in [&self.requests, &self.responses, &self.gratuitous] {
            family.remove(&ip);
        }
    }

    pub(super) fn count(family: &Family<Ip, Gauge>, vip: IpAddr, by: i64) {
        family.get_or_create(&Ip { ip: vip.to_string() }).inc_by(by);
    }
}

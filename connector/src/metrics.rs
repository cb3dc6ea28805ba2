//! The connector's figures. Labels are bounded: rules of the file, classes of status, codes of abort.

use causeway_tunnel::{AbortCode, TlsEnd};
use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Everything that is counted. Clones share the figures.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    aborts: Family<AbortLabels, Counter>,
    passed: Family<PassedLabels, Counter>,
    bytes: Family<BytesLabels, Counter>,
    time_to_head: Family<RuleLabels, Histogram, fn() -> Histogram>,
    /// Streams being served.
    pub(crate) in_flight: Gauge,
    /// Connections made to origins, and requests that found one kept.
    pub(crate) origin_dials: Counter,
    pub(crate) origin_reuses: Counter,
    pub(crate) origin_retries: Counter,
    pub(crate) origin_errors: Counter,
    pub(crate) bodies_evicted: Counter,
    pub(crate) requests_total: Counter,
    pub(crate) websockets: Gauge,
    pub(crate) sessions: Gauge,
    pub(crate) sessions_suspected: Gauge,
    pub(crate) suspicions: Counter,
    given_up: Family<ReasonLabels, Counter>,
    pub(crate) dials: Family<DialLabels, Counter>,
    pub(crate) reloads: Family<ReloadLabels, Counter>,
    pub(crate) config_generation: Gauge,
    pub(crate) config_valid: Gauge,
    /// Rules that take any certificate: an insecure setting is to be seen (hazard 129).
    pub(crate) insecure_rules: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    rule: String,
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AbortLabels {
    rule: String,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PassedLabels {
    rule: String,
    /// `passthrough` or `connector`.
    mode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BytesLabels {
    rule: String,
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    rule: String,
}

/// How a dial of an edge ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DialLabels {
    pub(crate) outcome: &'static str,
}

/// What decided that a session was given up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// How a reload ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReloadLabels {
    pub(crate) outcome: &'static str,
}

/// The counters of one rule, looked up once, so that a request touches no table.
#[derive(Clone, Debug)]
pub(crate) struct RuleMetrics {
    classes: [Counter; 5],
    up: Counter,
    down: Counter,
    time_to_head: Histogram,
    label: String,
    all: Metrics,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0005, 2.5, 14));
        Self {
            requests: Family::default(),
            aborts: Family::default(),
            passed: Family::default(),
            bytes: Family::default(),
            time_to_head: Family::new_with_constructor(seconds),
            in_flight: Gauge::default(),
            origin_dials: Counter::default(),
            origin_reuses: Counter::default(),
            origin_retries: Counter::default(),
            origin_errors: Counter::default(),
            bodies_evicted: Counter::default(),
            requests_total: Counter::default(),
            websockets: Gauge::default(),
            sessions: Gauge::default(),
            sessions_suspected: Gauge::default(),
            suspicions: Counter::default(),
            given_up: Family::default(),
            dials: Family::default(),
            reloads: Family::default(),
            config_generation: Gauge::default(),
            config_valid: Gauge::default(),
            insecure_rules: Gauge::default(),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("causeway_connector");
        registry.register(
            "requests",
            "Requests answered, by rule and class of status",
            self.requests.clone(),
        );
        registry.register(
            "aborts",
            "Requests that ended without a whole answer, by rule and reason",
            self.aborts.clone(),
        );
        registry.register(
            "passed_connections",
            "Connections whose TLS does not end at the edge, by rule and where it ends",
            self.passed.clone(),
        );
        registry.register("body_bytes", "Bytes of bodies carried, by rule and direction", self.bytes.clone());
        registry.register(
            "time_to_head_seconds",
            "From a request's head to its answer's, by rule",
            self.time_to_head.clone(),
        );
        registry.register("in_flight", "Requests being served", self.in_flight.clone());
        registry.register("origin_dials", "Connections made to origins", self.origin_dials.clone());
        registry.register(
            "origin_reuses",
            "Requests that found a kept connection",
            self.origin_reuses.clone(),
        );
        registry.register(
            "origin_retries",
            "Requests sent to an origin once more",
            self.origin_retries.clone(),
        );
        registry.register("origin_errors", "Requests that an origin failed", self.origin_errors.clone());
        registry.register("websockets", "Upgraded connections open", self.websockets.clone());
        registry.register("sessions", "Sessions with edges", self.sessions.clone());
        registry.register(
            "sessions_suspected",
            "Sessions whose edge is not heard now",
            self.sessions_suspected.clone(),
        );
        registry.register("session_suspicions", "How often a session fell silent", self.suspicions.clone());
        registry.register(
            "sessions_given_up",
            "Sessions ended because nothing was heard of their edge, by what decided it",
            self.given_up.clone(),
        );
        registry.register("edge_dials", "Dials of edges, by outcome", self.dials.clone());
        registry.register("config_reloads", "Changes of the rule file, by outcome", self.reloads.clone());
        registry.register(
            "config_generation",
            "Which version of the rules is in force",
            self.config_generation.clone(),
        );
        registry.register(
            "config_valid",
            "1 while the file on disk is the one in force",
            self.config_valid.clone(),
        );
        registry.register(
            "bodies_evicted",
            "Uploads and answers given up because nobody took them and too much waited for their likes",
            self.bodies_evicted.clone(),
        );
        registry.register("insecure_rules", "Rules with noTLSVerify", self.insecure_rules.clone());
    }

    pub(crate) fn rule(&self, label: &str) -> RuleMetrics {
        let class =
            |class| self.requests.get_or_create(&RequestLabels { rule: label.to_owned(), class }).clone();
        let bytes =
            |direction| self.bytes.get_or_create(&BytesLabels { rule: label.to_owned(), direction }).clone();
        RuleMetrics {
            classes: CLASSES.map(class),
            up: bytes(DIRECTIONS[0]),
            down: bytes(DIRECTIONS[1]),
            time_to_head: self.time_to_head.get_or_create(&RuleLabels { rule: label.to_owned() }).clone(),
            label: label.to_owned(),
            all: self.clone(),
        }
    }

    /// Drops the figures of a rule that is no more: names of Services come and go for as long as the process lives.
    pub(crate) fn forget(&self, label: &str) {
        let rule = || label.to_owned();
        for class in CLASSES {
            self.requests.remove(&RequestLabels { rule: rule(), class });
        }
        for direction in DIRECTIONS {
            self.bytes.remove(&BytesLabels { rule: rule(), direction });
        }
        self.time_to_head.remove(&RuleLabels { rule: rule() });
        for mode in [TlsEnd::Passthrough, TlsEnd::Connector] {
            self.passed.remove(&PassedLabels { rule: rule(), mode: mode.as_str() });
        }
        for code in AbortCode::ALL {
            self.aborts.remove(&AbortLabels { rule: rule(), code: code.as_str() });
        }
    }

    pub(crate) fn aborted(&self, rule: &str, code: AbortCode) {
        self.aborts.get_or_create(&AbortLabels { rule: rule.to_owned(), code: code.as_str() }).inc();
    }

    pub(crate) fn passed(&self, rule: &str, end: TlsEnd) {
        self.passed.get_or_create(&PassedLabels { rule: rule.to_owned(), mode: end.as_str() }).inc();
    }

    pub(crate) fn dialled(&self, outcome: &'static str) {
        self.dials.get_or_create(&DialLabels { outcome }).inc();
    }

    pub(crate) fn given_up(&self, reason: &'static str) {
        self.given_up.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(crate) fn reloaded(&self, outcome: &'static str) {
        self.reloads.get_or_create(&ReloadLabels { outcome }).inc();
    }

    /// For the connector's Stats message and `status`.
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        (
            self.requests_total.get(),
            u64::try_from(self.in_flight.get()).unwrap_or(0),
            self.origin_errors.get(),
        )
    }
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const DIRECTIONS: [&str; 2] = ["to_origin", "to_visitor"];

impl RuleMetrics {
    pub(crate) fn answered(&self, status: StatusCode, seconds: f64) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.classes[class].inc();
        self.time_to_head.observe(seconds);
    }

    pub(crate) fn carried(&self, up: u64, down: u64) {
        self.up.inc_by(up);
        self.down.inc_by(down);
    }

    pub(crate) fn aborted(&self, code: AbortCode) {
        self.all.aborted(&self.label, code);
    }
}

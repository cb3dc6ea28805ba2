//! What the allocator counts; MetalLB's names where it has them.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::Index;

/// One set per process, registered once.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Addresses of a pool, both families, and each.
    addresses: Family<Pool, Gauge>,
    v4: Family<Pool, Gauge>,
    v6: Family<Pool, Gauge>,
    in_use: Family<Pool, Gauge>,
    v4_in_use: Family<Pool, Gauge>,
    v6_in_use: Family<Pool, Gauge>,
    services: Family<Pool, Gauge>,
    /// Updates taken in from watches.
    pub(super) updates: Counter,
    /// Writes that failed.
    pub(super) update_errors: Counter,
    config_loaded: Gauge,
    config_stale: Gauge,
    leader: Gauge,
    pending: Gauge,
    /// Services whose address somebody else writes again and again.
    contested: Gauge,
    /// Calls that write to the API server.
    pub(super) writes: Family<Written, Counter>,
    /// From the update that is the cause to the written status, in seconds.
    pub(super) latency: Histogram,
    pub(super) events_dropped: Counter,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Pool {
    pool: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Written {
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelValue)]
pub(super) enum Kind {
    Service,
    Pool,
    ConfigurationState,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            addresses: Family::default(),
            v4: Family::default(),
            v6: Family::default(),
            in_use: Family::default(),
            v4_in_use: Family::default(),
            v6_in_use: Family::default(),
            services: Family::default(),
            updates: Counter::default(),
            update_errors: Counter::default(),
            config_loaded: Gauge::default(),
            config_stale: Gauge::default(),
            leader: Gauge::default(),
            pending: Gauge::default(),
            contested: Gauge::default(),
            writes: Family::default(),
            latency: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            events_dropped: Counter::default(),
        };
        let per_pool = [
            ("addresses_total", "Number of usable IP addresses, per pool", &metrics.addresses),
            ("ipv4_addresses_total", "Number of usable IPv4 addresses, per pool", &metrics.v4),
            ("ipv6_addresses_total", "Number of usable IPv6 addresses, per pool", &metrics.v6),
            ("addresses_in_use_total", "Number of IP addresses in use, per pool", &metrics.in_use),
            ("ipv4_addresses_in_use_total", "Number of IPv4 addresses in use, per pool", &metrics.v4_in_use),
            ("ipv6_addresses_in_use_total", "Number of IPv6 addresses in use, per pool", &metrics.v6_in_use),
            ("services_allocated_total", "Number of services allocated, per pool", &metrics.services),
        ];
        for (name, help, family) in per_pool {
            registry.register(format!("metallb_allocator_{name}"), help, family.clone());
        }
        let client = "metallb_k8s_client";
        registry.register(
            format!("{client}_updates"),
            "Updates taken in from the API server",
            metrics.updates.clone(),
        );
        registry.register(
            format!("{client}_update_errors"),
            "Writes that failed",
            metrics.update_errors.clone(),
        );
        let (loaded, stale) = (metrics.config_loaded.clone(), metrics.config_stale.clone());
        registry.register(format!("{client}_config_loaded_bool"), "1 if pools were loaded", loaded);
        registry.register(format!("{client}_config_stale_bool"), "1 if a pool is refused", stale);
        let ours = "causeway_allocator";
        registry.register(format!("{ours}_leader_bool"), "1 if this replica leads", metrics.leader.clone());
        registry.register(
            format!("{ours}_services_pending"),
            "Services without what they ask for",
            metrics.pending.clone(),
        );
        registry.register(
            format!("{ours}_services_contested"),
            "Services whose address somebody else writes as well",
            metrics.contested.clone(),
        );
        registry.register(format!("{ours}_writes"), "Writes to the API server", metrics.writes.clone());
        registry.register(
            format!("{ours}_latency_seconds"),
            "Update to written status",
            metrics.latency.clone(),
        );
        let dropped = metrics.events_dropped.clone();
        registry.register(format!("{ours}_events_dropped"), "Events that the queue had no room for", dropped);
        metrics
    }

    /// Sets the gauges from the index. Pools that are gone leave no trace.
    pub(super) fn observe(&self, index: &Index) {
        self.leader.set(i64::from(index.is_leading()));
        self.pending.set(i64::try_from(index.waiting()).unwrap_or(i64::MAX));
        self.contested.set(i64::try_from(index.contested()).unwrap_or(i64::MAX));
        let families = [
            &self.addresses,
            &self.v4,
            &self.v6,
            &self.in_use,
            &self.v4_in_use,
            &self.v6_in_use,
            &self.services,
        ];
        families.iter().for_each(|family| family.clear());
        let table = index.table();
        for pool in table.pools().iter() {
            let label = Pool { pool: pool.name.to_string() };
            let (capacity, usage) = (pool.capacity, table.usage(&pool.name));
            let values = [
                capacity.v4.saturating_add(capacity.v6),
                capacity.v4,
                capacity.v6,
                usage.v4 + usage.v6,
                usage.v4,
                usage.v6,
                usage.services,
            ];
            for (family, value) in families.iter().zip(values) {
                family.get_or_create(&label).set(value);
            }
        }
        self.config_loaded.set(i64::from(!table.pools().is_empty()));
        self.config_stale.set(i64::from(table.pools().iter().any(|pool| !pool.gives())));
    }
}

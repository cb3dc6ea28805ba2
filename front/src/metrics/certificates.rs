//! Certificates as metrics: read when somebody looks, so that days pass by themselves. The names are granted ones, or the
//! operator's.

use std::fmt;
use std::sync::Arc;

use causeway_acme::Handle;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::tls::Tls;
use crate::unix_now;

/// Registers `certificate_…`. Without `handle` there are none but those from files.
pub fn register(registry: &mut Registry, handle: Option<Handle>, tls: Arc<Tls>) {
    registry.register_collector(Box::new(Certificates { handle, tls }));
}

#[derive(Debug)]
struct Certificates {
    handle: Option<Handle>,
    tls: Arc<Tls>,
}

const DAY: i64 = 86_400;

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (overview, now) = (self.handle.as_ref().map(Handle::overview), unix_now());
        let kind = ConstGauge::new(0_i64).metric_type();
        let help = "Whole days until a certificate ends; negative when it has";
        let mut family = encoder.encode_descriptor("certificate_days_left", help, None, kind)?;
        let mut days_left = |hostname: &str, source, days: i64| {
            let labels = [("hostname", hostname), ("source", source)];
            ConstGauge::new(days).encode(family.encode_family(&labels)?)
        };
        for (name, not_after) in self.tls.ends_of_files() {
            days_left(&name, "file", (not_after - now).div_euclid(DAY))?;
        }
        let Some(overview) = overview else { return Ok(()) };
        for view in &overview.names {
            if let Some(days) = view.days_left(now) {
                days_left(&view.name, "acme", days)?;
            }
        }
        let help = "Attempts in vain since a certificate was last obtained; the reason is in status";
        let mut family = encoder.encode_descriptor("certificate_failures", help, None, kind)?;
        for view in &overview.names {
            let labels = [("hostname", view.name.as_str())];
            ConstGauge::new(i64::from(view.failures)).encode(family.encode_family(&labels)?)?;
        }
        let kind = ConstCounter::new(0_u64).metric_type();
        let help = "Orders of certificates, by what they came to";
        let mut family = encoder.encode_descriptor("certificate_orders", help, None, kind)?;
        for (outcome, count) in &overview.orders {
            ConstCounter::new(*count).encode(family.encode_family(&[("outcome", *outcome)])?)?;
        }
        Ok(())
    }
}

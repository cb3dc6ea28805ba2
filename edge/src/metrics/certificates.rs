//! Automatic certificates as metrics: read when somebody looks, so that days pass by themselves. The names are granted ones.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::issuing::Issuing;
use crate::unix_now;

/// Registers `causeway_edge_certificate_…`, where certificates are ordered.
pub(crate) fn register(registry: &mut Registry, issuing: Issuing) {
    registry.sub_registry_with_prefix("causeway_edge").register_collector(Box::new(Certificates { issuing }));
}

#[derive(Debug)]
struct Certificates {
    issuing: Issuing,
}

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(handle) = self.issuing.handle() else { return Ok(()) };
        let (overview, now) = (handle.overview(), unix_now());
        let kind = ConstGauge::new(0_i64).metric_type();
        let help = "Whole days until a certificate ends; negative when it has";
        let mut family = encoder.encode_descriptor("certificate_days_left", help, None, kind)?;
        for view in &overview.names {
            if let Some(days) = view.days_left(now) {
                let labels = [("hostname", view.name.as_str())];
                ConstGauge::new(days).encode(family.encode_family(&labels)?)?;
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

//! What a program may hold unread and unsent, and what it holds now, as metrics: read when somebody looks.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Registers `PREFIX_buffers_held_bytes` and `PREFIX_buffers_limit_bytes`.
pub fn register(
    registry: &mut Registry,
    prefix: &str,
    limit: usize,
    held: impl Fn() -> usize + Send + Sync + 'static,
) {
    let buffers = Buffers { limit, held: Box::new(held) };
    registry.sub_registry_with_prefix(prefix).register_collector(Box::new(buffers));
}

struct Buffers {
    limit: usize,
    held: Box<dyn Fn() -> usize + Send + Sync>,
}

impl Collector for Buffers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let gauge = |bytes: usize| ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
        let held = gauge((self.held)());
        let help = "Bytes that wait unread, or may come, and windows beyond where all begin";
        held.encode(encoder.encode_descriptor("buffers_held_bytes", help, None, held.metric_type())?)?;
        let limit = gauge(self.limit);
        let help = "What buffers_held_bytes is kept below";
        limit.encode(encoder.encode_descriptor("buffers_limit_bytes", help, None, limit.metric_type())?)
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_figures_are_on_the_page() {
        let mut registry = Registry::default();
        register(&mut registry, "causeway_test", 64, || 7);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        assert!(page.contains("causeway_test_buffers_held_bytes 7\n"), "{page}");
        assert!(page.contains("causeway_test_buffers_limit_bytes 64\n"), "{page}");
    }
}

//! The drain's tasks and panics as metrics, read when somebody looks: nothing is counted on the way of a request.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::drain::Drain;

/// Registers `PREFIX_tasks` and `PREFIX_task_panics`.
pub fn register(registry: &mut Registry, prefix: &str, drain: &Drain) {
    registry.sub_registry_with_prefix(prefix).register_collector(Box::new(Tasks(drain.clone())));
}

#[derive(Debug)]
struct Tasks(Drain);

impl Collector for Tasks {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let tasks = ConstGauge::new(i64::try_from(self.0.tasks()).unwrap_or(i64::MAX));
        let help = "Tasks that a planned stop waits for: connections, requests, sessions";
        tasks.encode(encoder.encode_descriptor("tasks", help, None, tasks.metric_type())?)?;
        let panics = ConstCounter::new(self.0.panics());
        let help = "Tasks that ended by a panic: each is a fault of this program";
        panics.encode(encoder.encode_descriptor("task_panics", help, None, panics.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_are_counted_while_they_run() {
        let drain = Drain::new();
        let mut registry = Registry::default();
        register(&mut registry, "causeway_test", &drain);
        let page = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        assert!(page().contains("causeway_test_tasks 0\n"), "{}", page());
        let shard = drain.child();
        drop(shard.spawn("waits", std::future::pending::<()>()));
        assert!(page().contains("causeway_test_tasks 1\n"), "{}", page());
        assert!(page().contains("causeway_test_task_panics_total 0\n"), "{}", page());
    }
}

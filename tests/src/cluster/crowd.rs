//! Many Services at once: how long until all have an address, what it costs to hold them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::api::{eventually, pause};
use super::objects::{TEST, path, service, with};
use super::{Cluster, SOON};

/// So many of a crowd have pods behind them and are announced; kube-proxy has limits of its own.
const ANNOUNCED: u16 = 10;
/// Statuses, counters and events have been written by then.
const SETTLED: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// How long the test took to create them.
    pub creating: Duration,
    /// From the first creation until all had addresses.
    pub given: Duration,
    /// Requests per second that the API server answered afterwards, from everybody.
    pub api_calls: f64,
    /// Resident memory of the largest allocator and speaker, in MiB.
    pub allocator_mib: f64,
    pub speaker_mib: f64,
}

impl Cluster {
    /// Creates `count` Services on a pool that holds them, and measures for `rest` once they have settled.
    pub fn crowd(&mut self, count: u16, rest: Duration) -> Result<Crowd> {
        self.announce_pool("pool", &["10.77.128.0/17"])?;
        let start = Instant::now();
        for n in 0..count {
            let selector = if n < ANNOUNCED { "web" } else { "none" };
            let one =
                with(service(&format!("many-{n}")), json!({ "spec": { "selector": { "app": selector } } }));
            self.create(&[&one])?;
        }
        let creating = start.elapsed();
        eventually(12 * SOON, "all have addresses", || {
            let all = self.api.list(&path("Service", TEST, ""))?;
            let has = |s: &serde_json::Value| s["status"]["loadBalancer"]["ingress"][0]["ip"].is_string();
            let given = all.iter().filter(|s| has(s)).count();
            ensure!(given == usize::from(count), "{given} have");
            Ok(())
        })?;
        let given = start.elapsed();
        for n in 0..ANNOUNCED {
            let ip = self.wait_ip(&format!("many-{n}"))?;
            self.wait_owner(&ip)?;
        }
        pause(SETTLED);
        let before = self.api_requests()?;
        pause(rest);
        let api_calls = (self.api_requests()? - before) / rest.as_secs_f64();
        let mib = |bytes: u64| f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) / 1024.0;
        let largest = |rss: &mut dyn Iterator<Item = u64>| mib(rss.max().unwrap_or(0));
        Ok(Crowd {
            creating,
            given,
            api_calls,
            allocator_mib: largest(&mut self.allocators.iter().map(super::Process::rss_bytes)),
            speaker_mib: largest(
                &mut self.nodes.iter().filter_map(|n| n.speaker.as_ref()).map(super::Process::rss_bytes),
            ),
        })
    }
}

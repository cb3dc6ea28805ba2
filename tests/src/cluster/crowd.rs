//! Many Services at once: how long until all have an address and are announced, what it costs to hold them, and how
//! long until all that one node had are announced by others when it dies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::api::{eventually, pause};
use super::objects::{SYSTEM, TEST, path, service};
use super::wire::Said;
use super::{Cluster, Process, SOON};

/// So many of a crowd are announced and reached from the first; the others once they have a pod, and kube-proxy, which
/// has limits of its own, never hears of them.
const REACHED: u16 = 10;
const NOT_FOR_KUBE_PROXY: &str = "service.kubernetes.io/service-proxy-name";
/// Statuses, counters and events have been written by then.
const SETTLED: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// How long the test took to create them.
    pub creating: Duration,
    /// From the first creation until all had addresses.
    pub given: Duration,
    /// From the moment in which the others got their pod until the speakers had said of all that they announce them.
    pub announced: Duration,
    /// Requests per second that the API server answered afterwards, from everybody.
    pub api_calls: f64,
    /// Resident memory of the largest allocator and speaker, in MiB, with a few announced.
    pub allocator_mib: f64,
    pub speaker_mib: f64,
    /// Of the largest speaker once all are announced.
    pub announcing_mib: f64,
}

impl fmt::Display for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { creating, given, announced, api_calls, allocator_mib, speaker_mib, announcing_mib } = self;
        write!(
            f,
            "created in {creating:.1?}, the last address after {given:.1?}; at rest {api_calls:.2} API calls/s in the whole \
             cluster, allocator {allocator_mib:.1} MiB, speaker {speaker_mib:.1} MiB; all have pods: announced within \
             {announced:.1?}, speaker {announcing_mib:.1} MiB"
        )
    }
}

impl Cluster {
    /// Creates `count` Services on a pool that holds them, and measures for `rest` once they have settled.
    pub fn crowd(&mut self, count: u16, rest: Duration) -> Result<Crowd> {
        self.announce_pool("pool", &["10.77.128.0/17"])?;
        let start = Instant::now();
        for n in 0..count {
            let mut one = service(&format!("many-{n}"));
            if n >= REACHED {
                one["spec"]["selector"] = json!({ "crowd": "yes" });
                one["metadata"]["labels"][NOT_FOR_KUBE_PROXY] = "nobody".into();
            }
            self.create(&[&one])?;
        }
        let creating = start.elapsed();
        eventually(12 * SOON, "all have addresses", || {
            let all = self.api.list(&path("Service", TEST, ""))?;
            let has = |s: &Value| s["status"]["loadBalancer"]["ingress"][0]["ip"].is_string();
            let given = all.iter().filter(|s| has(s)).count();
            ensure!(given == usize::from(count), "{given} have");
            Ok(())
        })?;
        let given = start.elapsed();
        for n in 0..REACHED {
            let ip = self.wait_ip(&format!("many-{n}"))?;
            self.wait_owner(&ip)?;
            self.wait_reached(&ip, 80)?;
        }
        // kube-controller-manager works through the crowd at a pace of its own; its calls are not what is measured.
        eventually(30 * SOON, "every Service has its EndpointSlice", || {
            let slices = self.api.list(&path("EndpointSlice", TEST, ""))?.len();
            ensure!(slices >= usize::from(count), "{slices} have");
            Ok(())
        })?;
        pause(SETTLED);
        let before = self.api_requests()?;
        pause(rest);
        let api_calls = (self.api_requests()? - before) / rest.as_secs_f64();
        let (allocator_mib, speaker_mib) = (largest(self.allocators.iter()), self.largest_speaker());

        let start = Instant::now();
        let has_pod = json!({ "metadata": { "labels": { "crowd": "yes" } } });
        self.api.merge(&path("Pod", TEST, "safe"), &has_pod)?;
        eventually(30 * SOON, "all are announced", || {
            let told = self.announcers()?.values().map(BTreeSet::len).sum::<usize>();
            ensure!(told == usize::from(count), "{told} are");
            Ok(())
        })?;
        let announced = start.elapsed();
        pause(SETTLED);
        let announcing_mib = self.largest_speaker();
        Ok(Crowd { creating, given, announced, api_calls, allocator_mib, speaker_mib, announcing_mib })
    }

    fn largest_speaker(&self) -> f64 {
        largest(self.nodes.iter().filter_map(|node| node.speaker.as_ref()))
    }

    /// Takes the node that announces most away, process and link: how many VIPs it had, and how long until others had
    /// announced the last of them.
    pub fn crowd_loses_a_node(&mut self, limit: Duration) -> Result<(usize, Duration)> {
        let announcers = self.announcers()?;
        let (name, services) =
            announcers.into_iter().max_by_key(|(_, services)| services.len()).context("nobody announces")?;
        let (node, all) = (self.node(&name)?, self.api.list(&path("Service", TEST, ""))?);
        let address = |s: &Value| -> Option<IpAddr> {
            s["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()?.parse().ok()
        };
        let had = all.iter().filter(|s| s["metadata"]["name"].as_str().is_some_and(|n| services.contains(n)));
        let had: BTreeSet<IpAddr> = had.filter_map(address).collect();
        let lost = self.mac(node);
        let at = Instant::now();
        self.kill_speaker(node);
        self.lan.cut(&name, 0)?;
        let moved = eventually(limit, &format!("others announce what {name} had"), || {
            let mut claimed = BTreeMap::new();
            for heard in self.wire.heard_since(at) {
                if let Said::Claims { address, mac, .. } = heard.said
                    && mac != lost
                    && had.contains(&address)
                {
                    claimed.entry(address).or_insert(heard.at);
                }
            }
            ensure!(claimed.len() == had.len(), "{} of {} are announced", claimed.len(), had.len());
            Ok(claimed.into_values().max().unwrap_or(at) - at)
        });
        self.lan.mend(&name, 0)?;
        Ok((had.len(), moved?))
    }

    /// Which Services each node announces, as the speakers wrote it down.
    fn announcers(&self) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let mut announcers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for status in self.api.list(&path("ServiceL2Status", SYSTEM, ""))? {
            let text = |field: &str| status["status"][field].as_str().unwrap_or_default().to_owned();
            announcers.entry(text("node")).or_default().insert(text("serviceName"));
        }
        Ok(announcers)
    }
}

/// Resident memory of the largest of these, in MiB.
fn largest<'a>(processes: impl Iterator<Item = &'a Process>) -> f64 {
    let kib = processes.map(|process| process.rss_bytes() >> 10).max().unwrap_or(0);
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}

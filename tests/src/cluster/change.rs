//! The change from MetalLB to Causeway on a running cluster, and back, by the steps of docs/coming-from-metallb.md.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::api::eventually;
use super::objects::{SYSTEM, path};
use super::strike::Vip;
use super::visits::{Outage, Visits, outage, take_straddlers};
use super::{Cluster, SOON, UnderTest, add_pod, ours};
use crate::programs::here;

/// Of a program that was asked to end; MetalLB's pods have two seconds.
const GRACE: Duration = Duration::from_secs(10);
/// MetalLB's controller and speakers need seconds for their first look at the cluster.
const LIMIT: Duration = Duration::from_secs(60);

/// What a client lived through while all programs were changed.
#[derive(Clone, Copy, Debug)]
pub struct Changed {
    /// From the first program's end to the first announcement by one of the new ones.
    pub unannounced: Duration,
    pub outage: Outage,
    /// See [`take_straddlers`].
    pub straddlers: usize,
}

impl Cluster {
    /// Changes all programs while a client visits `vip`.
    ///
    /// # Errors
    /// When a step fails, or the new programs do not announce the VIP.
    pub fn change_to(&mut self, next: UnderTest, vip: Vip) -> Result<Changed> {
        let visits = Visits::start(&self.lan.client.namespace, vip.ip, 80);
        let succeeded = |since: Instant| {
            visits.so_far().iter().filter(|v| v.started >= since && v.outcome.is_ok()).count()
        };
        let start = Instant::now();
        eventually(SOON, "visits succeed before the change", || {
            ensure!(succeeded(start) > 5, "not yet");
            Ok(())
        })?;
        let at = Instant::now();
        self.end_all()?;
        self.renew_pods()?;
        let ended = Instant::now();
        self.under_test = next;
        // On the way back nothing is applied: what MetalLB needs was never taken away.
        if next == UnderTest::Causeway {
            let manifest = here().join("../deploy/kubernetes/causeway.yaml");
            let manifest = manifest.to_str().context("the path is not UTF-8")?;
            let apply = ["apply", "--server-side", "--force-conflicts", "-f", manifest];
            self.control.kubectl(&apply, "")?;
        }
        self.start_all()?;
        let claim = self.wire.wait_claim(ended, LIMIT, vip.ip, |_| true)?;
        eventually(SOON, "visits succeed after the change", || {
            ensure!(succeeded(claim.at) > 20, "not yet");
            Ok(())
        })?;
        let mut list = visits.finish();
        let straddlers = take_straddlers(&mut list, claim.at);
        Ok(Changed { unannounced: claim.at - at, outage: outage(&list, at)?, straddlers })
    }

    /// First who gives addresses, then all speakers at once, as a deleted DaemonSet's pods end.
    fn end_all(&mut self) -> Result<()> {
        for mut allocator in self.allocators.drain(..) {
            allocator.stop(GRACE)?;
        }
        let mut speakers: Vec<_> = self.nodes.iter_mut().filter_map(|node| node.speaker.take()).collect();
        for speaker in &speakers {
            speaker.signal(super::Signal::TERM)?;
        }
        speakers.iter_mut().try_for_each(|speaker| speaker.wait(GRACE).map(drop))
    }

    /// The pods go with their programs, and the statuses that they own with them; others come.
    fn renew_pods(&self) -> Result<()> {
        for node in &self.nodes {
            let name = format!("speaker-{}", node.name);
            // At once: there is no kubelet here that would confirm the end.
            self.api.delete(&format!("{}?gracePeriodSeconds=0", path("Pod", SYSTEM, &name)))?;
            add_pod(&self.api, &name, SYSTEM, "speaker", &node.host)?;
        }
        Ok(())
    }

    /// Starts the allocators and a speaker on every node.
    pub fn start_all(&mut self) -> Result<()> {
        let replicas = match self.under_test {
            UnderTest::Causeway => ours::REPLICAS,
            UnderTest::MetalLb => 1,
        };
        for replica in 0..replicas {
            let process = self.allocator(replica)?;
            self.allocators.push(process);
        }
        (0..self.nodes.len()).try_for_each(|node| self.start_speaker(node))
    }
}

//! A real cluster in network namespaces: etcd, kube-apiserver, kube-controller-manager, a kube-proxy and a pod on every
//! node, clients on the segment, and the allocator and speakers under test.
//!
//! Everything is named by test and process id and belongs to the `Cluster` value: dropping it ends every process and
//! deletes every namespace. Several clusters may stand at once, in one process or in several.

mod api;
mod audit;
mod change;
mod control;
mod crowd;
mod door;
mod kubelet;
mod lan;
mod metallb;
mod objects;
mod ours;
mod pod;
mod process;
mod questions;
pub mod scenarios;
mod strike;
mod visits;
mod wire;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
pub use rustix::process::Signal;
use serde_json::{Value, json};

pub use crate::netns::Namespace;
pub use api::{Api, eventually, is_status, pause, throughout};
pub use audit::Asked;
pub use change::Changed;
pub use control::{Control, Programs};
pub use crowd::Crowd;
pub use door::forward;
pub use kubelet::Kubelet;
pub use lan::{Host, Lan, NodeHost};
pub use metallb::find as metallb_is_here;
pub use objects::{SYSTEM, TEST, advertisement, annotate, path, pool, service, service_of, with};
pub use ours::allocator;
pub use pod::PodServer;
pub use process::Process;
pub use strike::{FAULT_P95, FAULT_WORST, Fault, Moved, Struck, Vip, report};
pub use visits::{Outage, Visit, Visits, outage, visit, visit_udp};
pub use wire::{Heard, Kind, Mac, Said, Wire};
pub mod frames {
    //! Frames to put on the wire.
    pub use super::wire::{arp, arp_claim, arp_request, neighbour, solicitation};
}

/// Enough for any step that takes well under a second on an idle machine.
pub const SOON: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Cluster {
    // Fields end in this order: the programs first, their namespaces last.
    pub allocators: Vec<Process>,
    pub nodes: Vec<Node>,
    pub control: Control,
    pub api: Api,
    /// An ear on the first LAN, at the client.
    pub wire: Wire,
    /// An ear on the second LAN.
    pub wire2: Wire,
    pub lan: Lan,
    under_test: UnderTest,
    /// Of the allocators; without any they live beside the control plane.
    homes: Vec<Host>,
    _safe: PodServer,
    folder: tempfile::TempDir,
    kept: Option<PathBuf>,
    ranges: u8,
}

/// Whose programs give and announce the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnderTest {
    Causeway,
    /// For the comparison side by side.
    MetalLb,
}

#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub host: NodeHost,
    pub speaker: Option<Process>,
    pub proxy: Process,
    _pod: PodServer,
}

impl Cluster {
    /// A cluster with our programs in it: two replicas of the allocator and a speaker on every node.
    pub fn start(test: &str, nodes: u8) -> Result<Self> {
        Self::start_with(test, nodes, UnderTest::Causeway)
    }

    pub fn start_with(test: &str, nodes: u8, under_test: UnderTest) -> Result<Self> {
        let mut cluster = Self::bare(test, nodes)?;
        cluster.under_test = under_test;
        match under_test {
            UnderTest::Causeway => ours::install(&cluster.control)?,
            UnderTest::MetalLb => metallb::install(&cluster.control)?,
        }
        cluster.start_all()?;
        Ok(cluster)
    }

    /// A cluster with nobody in it who gives or announces addresses.
    pub fn bare(test: &str, nodes: u8) -> Result<Self> {
        crate::netns::sweep();
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::Builder::new().prefix(&format!("causeway-{test}-")).tempdir()?;
        // The servers and the test's short name share the limits of a namespace's name with nobody.
        let lan = Lan::new(test, nodes)?;
        let control = Control::start(&lan.control, &folder.path().join("control"), Programs::find()?)?;
        let api = control.api.clone();
        for name in [SYSTEM, TEST] {
            api.create(&path("Namespace", "", ""), &objects::namespace(name))?;
        }
        let mut started = Vec::new();
        for (number, host) in (1u8..).zip(&lan.nodes) {
            let name = host.host.name.clone();
            api.create(&path("Node", "", ""), &objects::node(host, number))?;
            api.merge(&format!("{}/status", path("Node", "", &name)), &objects::node_status(host))?;
            let web = format!("web-{number}");
            add_pod(&api, &web, TEST, "web", host)?;
            add_pod(&api, &format!("speaker-{name}"), SYSTEM, "speaker", host)?;
            started.push(Node {
                name: name.clone(),
                host: host.clone(),
                speaker: None,
                proxy: control::start_proxy(&control, &host.host, folder.path())?,
                _pod: PodServer::start(&host.pod, &name)?,
            });
        }
        for replica in 0..2 {
            add_pod(&api, &format!("controller-{replica}"), SYSTEM, "controller", &lan.nodes[0])?;
        }
        // A pod that no node takes along when it dies: it has the control host's address.
        let safe = [lan.control.v4.to_string(), lan.control.v6.to_string()];
        add_pod_at(&api, "safe", TEST, "safe", &lan.nodes[0], &safe)?;
        let safe = PodServer::start(&lan.control.namespace, "safe")?;
        let (wire, wire2) = (Wire::new(&lan.client)?, Wire::new(&lan.client2)?);
        Ok(Self {
            allocators: Vec::new(),
            nodes: started,
            control,
            api,
            wire,
            wire2,
            lan,
            under_test: UnderTest::Causeway,
            homes: Vec::new(),
            _safe: safe,
            folder,
            kept: None,
            ranges: 0,
        })
    }

    /// See [`ours::explain`].
    pub fn explain(&self, account: &str, service: &str) -> Result<String> {
        ours::explain(&self.control, &self.lan.control, account, &format!("{TEST}/{service}"))
    }

    /// Applies the manifests once more, as after an upgrade or a removal of the definitions.
    pub fn install(&self) -> Result<()> {
        ours::install(&self.control)
    }

    /// From their next start on the allocators live on these hosts, as pods have a network of their own.
    pub fn house_allocators(&mut self, homes: Vec<Host>) {
        self.homes = homes;
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts all replicas of the allocator anew, after the old ones were crashed.
    pub fn restart_allocators(&mut self) -> Result<()> {
        let replicas = u8::try_from(self.allocators.len())?;
        self.allocators.clear();
        for replica in 0..replicas {
            let process = self.allocator(replica)?;
            self.allocators.push(process);
        }
        Ok(())
    }

    fn allocator(&self, replica: u8) -> Result<Process> {
        match self.under_test {
            UnderTest::Causeway => {
                let hosts = (self.homes.get(usize::from(replica)), &self.lan.control);
                ours::start_allocator(&self.control, hosts, self.folder.path(), replica)
            }
            UnderTest::MetalLb => {
                metallb::start_controller(&self.control, &self.lan.control, self.folder.path())
            }
        }
    }

    pub fn start_speaker(&mut self, node: usize) -> Result<()> {
        let host = &self.nodes[node].host.host;
        let process = match self.under_test {
            UnderTest::Causeway => ours::start_speaker(&self.control, host, self.folder.path())?,
            UnderTest::MetalLb => metallb::start_speaker(&self.control, host, self.folder.path())?,
        };
        self.nodes[node].speaker = Some(process);
        Ok(())
    }

    /// Crashes the speaker of a node.
    pub fn kill_speaker(&mut self, node: usize) {
        self.nodes[node].speaker = None;
    }

    /// Ends the speaker of a node as a rolling update does.
    pub fn stop_speaker(&mut self, node: usize) -> Result<()> {
        let mut speaker = self.nodes[node].speaker.take().context("the speaker is running")?;
        let status = speaker.stop(Duration::from_secs(10))?;
        ensure!(status.success(), "the speaker ended with {status}\n{}", speaker.tail(10));
        Ok(())
    }

    pub fn signal_speaker(&self, node: usize, signal: Signal) -> Result<()> {
        self.nodes[node].speaker.as_ref().context("the speaker is running")?.signal(signal)
    }

    pub fn node(&self, name: &str) -> Result<usize> {
        self.nodes.iter().position(|n| n.name == name).with_context(|| format!("no node is called {name}"))
    }

    /// Back to the state in which every scenario begins: no pools, advertisements or Services; every cable in; every
    /// speaker running; nodes and pods as they were made.
    pub fn reset(&mut self) -> Result<()> {
        for kind in ["L2Advertisement", "IPAddressPool"] {
            self.api.delete(&path(kind, SYSTEM, ""))?;
        }
        for namespace in [TEST, "other"] {
            // A thousand take longer than one call may.
            let all = path("Service", namespace, "");
            eventually(12 * SOON, "all Services are deleted", || self.api.delete(&all))?;
        }
        let labels = json!({ "metadata": { "labels": { "team": null, "tier": null, "phase": null } } });
        self.api.merge(&path("Namespace", "", TEST), &labels)?;
        self.api
            .merge(&path("Pod", TEST, "safe"), &json!({ "metadata": { "labels": { "crowd": null } } }))?;
        for node in 0..self.nodes.len() {
            let name = self.nodes[node].name.clone();
            for lan in [0, 1] {
                self.lan.mend(&name, lan)?;
            }
            self.lan.give_address(&name)?;
            self.reset_node(node)?;
            if self.nodes[node].speaker.as_mut().is_none_or(|s| s.check().is_err()) {
                self.start_speaker(node)?;
            }
        }
        for replica in 0..self.allocators.len() {
            if self.allocators[replica].check().is_err() {
                self.allocators[replica] = self.allocator(u8::try_from(replica)?)?;
            }
        }
        self.wire.forget();
        self.wire2.forget();
        Ok(())
    }

    fn reset_node(&self, index: usize) -> Result<()> {
        let node = &self.nodes[index];
        let at = path("Node", "", &node.name);
        let now = self.api.get(&at)?;
        let labels = now["metadata"]["labels"].as_object().into_iter().flatten();
        let extra: serde_json::Map<String, Value> = labels
            .filter(|(key, _)| *key != "kubernetes.io/hostname")
            .map(|(key, _)| (key.clone(), Value::Null))
            .collect();
        if !extra.is_empty() {
            self.api.merge(&at, &json!({ "metadata": { "labels": extra } }))?;
        }
        self.api.merge(&format!("{at}/status"), &objects::node_status(&node.host))?;
        self.set_pod(index, true)
    }

    /// Says whether the web pod of a node is ready.
    pub fn set_pod(&self, node: usize, ready: bool) -> Result<()> {
        let host = &self.nodes[node].host;
        let at = format!("{}/status", path("Pod", TEST, &format!("web-{}", node + 1)));
        self.api.merge(&at, &objects::pod_status(&pod_ips(host), host, ready)).map(drop)
    }

    /// A pod of the app `app` in the pod network of a node, beside the one that is there; whoever adds it runs its program.
    pub fn add_pod(&self, app: &str, node: usize) -> Result<()> {
        let host = &self.nodes[node].host;
        add_pod_at(&self.api, app, TEST, app, host, &pod_ips(host))
    }

    pub fn label_node(&self, node: usize, key: &str, value: Option<&str>) -> Result<()> {
        let patch = json!({ "metadata": { "labels": { key: value } } });
        self.api.merge(&path("Node", "", &self.nodes[node].name), &patch).map(drop)
    }

    /// A part of the first LAN that no other scenario has used: `10.77.N.`.
    pub fn fresh(&mut self) -> Net {
        self.ranges += 1;
        Net(self.ranges)
    }

    /// The ends of all logs, for a failure's report.
    pub fn tails(&self, lines: usize) -> String {
        let speakers = self.nodes.iter().filter_map(|n| n.speaker.as_ref());
        self.allocators.iter().chain(speakers).map(|p| p.tail(lines)).collect()
    }

    /// Leaves the folder of the logs behind and says where it is.
    pub fn keep_logs(&mut self) -> &Path {
        self.folder.disable_cleanup(true);
        self.kept.insert(self.folder.path().to_owned())
    }
}

/// The third octet of a /24 inside the first LAN, and of a /112 for the other family.
#[derive(Clone, Copy, Debug)]
pub struct Net(u8);

impl Net {
    pub fn v4(self, last: u8) -> String {
        format!("10.77.{}.{last}", self.0)
    }

    pub fn v6(self, last: u8) -> String {
        format!("fd77::{:x}:{last:x}", self.0)
    }

    pub fn range4(self, from: u8, to: u8) -> String {
        format!("{}-{}", self.v4(from), self.v4(to))
    }

    pub fn range6(self, from: u8, to: u8) -> String {
        format!("{}-{}", self.v6(from), self.v6(to))
    }

    pub fn ip4(self, last: u8) -> IpAddr {
        self.v4(last).parse().expect("an address")
    }

    pub fn ip6(self, last: u8) -> IpAddr {
        self.v6(last).parse().expect("an address")
    }
}

fn pod_ips(host: &NodeHost) -> [String; 2] {
    [host.pod_v4.to_string(), host.pod_v6.to_string()]
}

fn add_pod(api: &Api, name: &str, namespace: &str, app: &str, host: &NodeHost) -> Result<()> {
    // A speaker shares its node's network.
    let ips = if app == "web" { pod_ips(host) } else { [host.host.v4.to_string(), host.host.v6.to_string()] };
    add_pod_at(api, name, namespace, app, host, &ips)
}

fn add_pod_at(
    api: &Api,
    name: &str,
    namespace: &str,
    app: &str,
    host: &NodeHost,
    ips: &[String],
) -> Result<()> {
    api.create(&path("Pod", namespace, ""), &objects::pod(name, namespace, &host.host.name, app))?;
    let status = format!("{}/status", path("Pod", namespace, name));
    api.merge(&status, &objects::pod_status(ips, host, true)).map(drop)
}

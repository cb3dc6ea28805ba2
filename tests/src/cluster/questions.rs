//! What scenarios ask a cluster: a Service's addresses, its events, and who answers for an address on the wire.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::api::{eventually, is_status, pause, throughout};
use super::objects::{self, SYSTEM, TEST, path};
use super::visits::visit;
use super::{Cluster, Mac, Namespace, SOON, UnderTest, audit, ours};

/// How long answers to one question are gathered: a host on this wire needs well under a millisecond.
const ANSWERS: Duration = Duration::from_millis(60);

impl Cluster {
    /// Creates objects of any kind.
    pub fn create(&self, objects: &[&Value]) -> Result<()> {
        objects.iter().try_for_each(|object| self.api.create(&objects::home(object), object).map(drop))
    }

    pub fn patch_service(&self, name: &str, patch: &Value) -> Result<()> {
        self.api.merge(&path("Service", TEST, name), patch).map(drop)
    }

    pub fn delete_service(&self, name: &str) -> Result<()> {
        self.api.delete(&path("Service", TEST, name))
    }

    /// Replaces the spec of an IPAddressPool or L2Advertisement.
    pub fn respec(&self, kind: &str, name: &str, spec: &Value) -> Result<()> {
        let at = path(kind, SYSTEM, name);
        loop {
            let mut object = self.api.get(&at)?;
            object["spec"] = spec.clone();
            match self.api.replace(&at, &object) {
                // The allocator wrote its status meanwhile: read again.
                Err(error) if is_status(&error, 409) => {}
                replaced => return replaced.map(drop),
            }
        }
    }

    /// The addresses in a Service's status, in their order.
    pub fn ips(&self, service: &str) -> Result<Vec<String>> {
        let object = self.api.get(&path("Service", TEST, service))?;
        let ingress = object["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
        Ok(ingress.iter().filter_map(|i| i["ip"].as_str().map(str::to_owned)).collect())
    }

    /// Waits until the Service has `count` addresses.
    pub fn wait_ips(&self, service: &str, count: usize) -> Result<Vec<String>> {
        eventually(SOON, &format!("{service} has {count} addresses"), || {
            let ips = self.ips(service)?;
            ensure!(ips.len() == count, "it has {ips:?}; events: {:?}", self.events(service)?);
            Ok(ips)
        })
    }

    /// Waits until the Service has its only address.
    pub fn wait_ip(&self, service: &str) -> Result<String> {
        Ok(self.wait_ips(service, 1)?.remove(0))
    }

    /// Waits until the Service has exactly these addresses, in any order.
    pub fn wait_exactly(&self, service: &str, expected: &[&str]) -> Result<()> {
        let expected: BTreeSet<&str> = expected.iter().copied().collect();
        eventually(SOON, &format!("{service} has {expected:?}"), || {
            let ips = self.ips(service)?;
            ensure!(
                ips.iter().map(String::as_str).collect::<BTreeSet<_>>() == expected,
                "it has {ips:?}; events: {:?}",
                self.messages(service)?
            );
            Ok(())
        })
    }

    /// Waits until the allocator said that it refused, and sees no address then.
    pub fn wait_refused(&self, service: &str) -> Result<()> {
        self.wait_event(service, "AllocationFailed")?;
        let ips = self.ips(service)?;
        ensure!(ips.is_empty(), "{service} was refused, yet has {ips:?}");
        Ok(())
    }

    /// The reasons of all events about a Service as it is now: an older one of that name is another one.
    pub fn events(&self, service: &str) -> Result<BTreeSet<String>> {
        let uid = self.api.get(&path("Service", TEST, service))?["metadata"]["uid"].clone();
        let all = self.api.list(&path("Event", TEST, ""))?;
        let about = all.iter().filter(|e| e["involvedObject"]["uid"] == uid);
        Ok(about.filter_map(|e| e["reason"].as_str().map(str::to_owned)).collect())
    }

    /// What the events about a Service say.
    fn messages(&self, service: &str) -> Result<Vec<String>> {
        let uid = self.api.get(&path("Service", TEST, service))?["metadata"]["uid"].clone();
        let all = self.api.list(&path("Event", TEST, ""))?;
        let about = all.iter().filter(|e| e["involvedObject"]["uid"] == uid);
        Ok(about.map(|e| format!("{}: {}", e["reason"], e["message"])).collect())
    }

    pub fn wait_event(&self, service: &str, reason: &str) -> Result<()> {
        eventually(SOON, &format!("event {reason} about {service}"), || {
            let events = self.events(service)?;
            ensure!(events.contains(reason), "there are {events:?}");
            Ok(())
        })
    }

    /// The name of a MAC's owner: a node (`node1`, its second interface `node1/eth1`), else the MAC.
    pub fn name_of(&self, mac: Mac) -> String {
        for node in &self.nodes {
            if node.host.host.mac == mac {
                return node.name.clone();
            }
            if node.host.mac1 == mac {
                return format!("{}/eth1", node.name);
            }
        }
        mac.map(|b| format!("{b:02x}")).join(":")
    }

    /// All who answer for `ip` on the first LAN now.
    pub fn answers(&self, ip: IpAddr) -> Result<BTreeSet<String>> {
        Ok(self.wire.ask(ip, ANSWERS)?.into_iter().map(|mac| self.name_of(mac)).collect())
    }

    pub fn answers2(&self, ip: IpAddr) -> Result<BTreeSet<String>> {
        Ok(self.wire2.ask(ip, ANSWERS)?.into_iter().map(|mac| self.name_of(mac)).collect())
    }

    /// Waits until exactly one node answers for `ip`, and returns its name.
    pub fn wait_owner(&self, ip: &str) -> Result<String> {
        self.wait_owner_that(ip, "any node", |_| true)
    }

    /// Waits until exactly one node answers for `ip` and `accept` takes it.
    pub fn wait_owner_that(&self, ip: &str, who: &str, accept: impl Fn(&str) -> bool) -> Result<String> {
        let address: IpAddr = ip.parse()?;
        // MetalLB needs seconds for what it does of itself.
        let limit = if self.under_test == UnderTest::MetalLb { 6 * SOON } else { SOON };
        eventually(limit, &format!("{who} alone answers for {ip}"), || {
            let owners = self.answers(address)?;
            let owner = owners.first().context("nobody answers")?;
            ensure!(owners.len() == 1 && accept(owner), "{owners:?} answer");
            Ok(owner.clone())
        })
    }

    pub fn wait_owner_is(&self, ip: &str, node: &str) -> Result<()> {
        self.wait_owner_that(ip, node, |owner| owner == node).map(drop)
    }

    /// Waits until nobody answers for `ip`.
    pub fn wait_silence(&self, ip: &str) -> Result<()> {
        let address: IpAddr = ip.parse()?;
        eventually(SOON, &format!("nobody answers for {ip}"), || {
            let owners = self.answers(address)?;
            ensure!(owners.is_empty(), "{owners:?} answer");
            Ok(())
        })
    }

    /// Nobody answers for `ip` during `span`.
    pub fn stays_silent(&self, ip: &str, span: Duration) -> Result<()> {
        let address: IpAddr = ip.parse()?;
        throughout(span, &format!("nobody answers for {ip}"), || {
            let owners = self.answers(address)?;
            ensure!(owners.is_empty(), "{owners:?} answer");
            Ok(())
        })
    }

    /// The owner of `ip` stays the same during `span`, and is alone.
    pub fn stays_with(&self, ip: &str, node: &str, span: Duration) -> Result<()> {
        let address: IpAddr = ip.parse()?;
        throughout(span, &format!("{node} alone answers for {ip}"), || {
            let owners = self.answers(address)?;
            ensure!(owners.len() == 1 && owners.contains(node), "{owners:?} answer");
            Ok(())
        })
    }

    /// Waits until the client reaches a pod through `ip`; the name of the pod's node.
    pub fn wait_reached(&self, ip: &str, port: u16) -> Result<String> {
        let address: IpAddr = ip.parse()?;
        eventually(SOON, &format!("the client reaches a pod through {ip}:{port}"), || {
            visit(&self.lan.client.namespace, address, port)
        })
    }

    /// The ServiceL2Status objects of a Service: node and interfaces, sorted by name.
    pub fn l2_statuses(&self, service: &str) -> Result<Vec<(String, Vec<String>)>> {
        let all = self.api.list(&path("ServiceL2Status", SYSTEM, ""))?;
        let ours = all.into_iter().filter(|s| s["status"]["serviceName"] == service);
        Ok(ours
            .map(|s| {
                let node = s["status"]["node"].as_str().unwrap_or_default().to_owned();
                let interfaces = s["status"]["interfaces"].as_array().cloned().unwrap_or_default();
                let mut names: Vec<String> =
                    interfaces.iter().filter_map(|i| i["name"].as_str().map(str::to_owned)).collect();
                names.sort();
                (node, names)
            })
            .collect())
    }

    /// `node` does not answer for `ip` during `span`.
    pub fn stays_silent_from(&self, ip: &str, node: &str, span: Duration) -> Result<()> {
        let address: IpAddr = ip.parse()?;
        throughout(span, &format!("{node} does not answer for {ip}"), || {
            let owners = self.answers(address)?;
            ensure!(!owners.contains(node), "{owners:?} answer");
            Ok(())
        })
    }

    /// How many requests the API server has answered that change or read anything, watches apart.
    pub fn api_requests(&self) -> Result<f64> {
        let text = self.api.text("/metrics")?;
        let ours = |line: &&str| {
            line.starts_with("apiserver_request_total{")
                && !line.contains("verb=\"WATCH\"")
                // With the comma: "subresource" ends in the same word, and is empty in most lines.
                && !line.contains(",resource=\"\"")
        };
        Ok(text.lines().filter(ours).filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// The programs were never refused what they asked of the API server: their roles are enough.
    ///
    /// # Errors
    /// Names what was refused.
    pub fn was_never_refused(&self) -> Result<()> {
        for account in ["causeway-allocator", "causeway-speaker"] {
            let asked = self.control.audited(account)?;
            let refused = audit::refused(&asked);
            ensure!(refused.is_empty(), "{account} was refused (403): {refused:?}");
        }
        Ok(())
    }

    /// The metrics of the allocator that leads; waits until one does, and until it finds time to answer.
    pub fn allocator_metrics(&self) -> Result<String> {
        eventually(3 * SOON, "an allocator leads", || {
            let ports = (ours::ADMIN..).take(self.allocators.len());
            let mut texts =
                ports.filter_map(|port| http_get(&self.lan.control.namespace, port, "/metrics").ok());
            texts
                .find(|text| text.lines().any(|l| l == "causeway_allocator_leader_bool 1"))
                .context("none does")
        })
    }

    pub fn speaker_metrics(&self, node: usize) -> Result<String> {
        self.speaker_page(node, "/metrics")
    }

    /// A page of a speaker's admin server; an error says what another status than 200 came with.
    pub fn speaker_page(&self, node: usize, page: &str) -> Result<String> {
        http_get(&self.nodes[node].host.host.namespace, ours::ADMIN, page)
    }

    /// Waits until the speaker of a node takes part: it is ready, and all speakers know of each other.
    pub fn wait_member(&self, node: usize) -> Result<()> {
        if self.under_test == UnderTest::MetalLb {
            // It says nothing of the kind; it joins at its start, or within a second of an answer.
            pause(Duration::from_secs(3));
            return Ok(());
        }
        let running: Vec<usize> =
            (0..self.nodes.len()).filter(|n| self.nodes[*n].speaker.is_some()).collect();
        let all = format!("causeway_speaker_members {}", running.len());
        eventually(2 * SOON, &format!("{} is a member", self.nodes[node].name), || {
            http_get(&self.nodes[node].host.host.namespace, ours::ADMIN, "/ready")?;
            for node in &running {
                let text = self.speaker_metrics(*node)?;
                ensure!(
                    text.lines().any(|l| l == all),
                    "{} does not know all members",
                    self.nodes[*node].name
                );
            }
            Ok(())
        })
    }

    /// A pool with these addresses and an advertisement of it, both called `name`.
    pub fn announce_pool(&self, name: &str, addresses: &[&str]) -> Result<()> {
        let advertisement = objects::advertisement(name, json!({ "ipAddressPools": [name] }));
        self.create(&[&objects::pool(name, addresses), &advertisement])
    }
}

/// GET from a loopback port inside a namespace; the body of a 200.
fn http_get(namespace: &Namespace, port: u16, path: &str) -> Result<String> {
    namespace.enter(|| {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes(),
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no whole answer")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{head} {body}");
        Ok(body.to_owned())
    })
}

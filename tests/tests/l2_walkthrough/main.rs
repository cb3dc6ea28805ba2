//! What the documents tell people to type works as it is written, and shows what they say: docs/kubernetes.md from nothing
//! to a reachable address, docs/coming-from-metallb.md there and back, and the roads that people know (journeys.md).

mod ingress;
mod reader;

use anyhow::{Context, Result};
use causeway_tests::cluster::{Cluster, Kubelet, scenarios};
use causeway_tests::programs::here;
use causeway_tests::{needs, page};

use ingress::Ingress;
use reader::Reader;

const NAME: &str = "walk";
/// The networks of the pages, beside the LAN's own.
const NETWORKS: [([u8; 3], u8); 2] = [([192, 168, 1], 24), ([10, 0, 0], 16)];

/// What somebody has who comes from MetalLB, as far as the page touches it: its programs and the way of the change are
/// the business of l2_beside.
const METALLB: &str = "
{apiVersion: v1, kind: ConfigMap, metadata: {name: config, namespace: metallb-system},
 data: {config: 'address-pools: [{name: default, protocol: layer2, addresses: [192.168.1.60-192.168.1.69]}]'}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: controller, namespace: metallb-system}, spec: {
  selector: {matchLabels: {app: metallb}}, template: {metadata: {labels: {app: metallb}},
  spec: {containers: [{name: controller, image: none}]}}}}
---
{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: speaker, namespace: metallb-system}, spec: {
  selector: {matchLabels: {app: metallb-speaker}}, template: {metadata: {labels: {app: metallb-speaker}},
  spec: {containers: [{name: speaker, image: none}]}}}}
---
{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration,
 metadata: {name: metallb-webhook-configuration}, webhooks: []}
";

#[test]
fn the_commands_of_the_walkthroughs_do_what_the_pages_say() -> Result<()> {
    if let Some(reason) = scenarios::missing() {
        eprintln!("SKIPPED l2_walkthrough: {reason}");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nothing is skipped in CI");
        return Ok(());
    }
    if ["nginx", "nc", "arp", "curl", "helm"].into_iter().any(|tool| needs(tool).is_none()) {
        return Ok(());
    }
    let mut cluster = Cluster::bare(NAME, 3)?;
    let walked = walk(&mut cluster);
    if walked.is_err() {
        println!("{}logs are in {}", cluster.tails(20), cluster.keep_logs().display());
    }
    walked
}

fn walk(c: &mut Cluster) -> Result<()> {
    c.control.start_manager(Kubelet::CONTROLLERS)?;
    for (octets, prefix) in NETWORKS {
        c.lan.add_network(octets, prefix)?;
    }
    let kubelet = Kubelet::start(NAME, &c.api, &c.lan)?;
    let reader = Reader::new(c)?;
    let manual = std::fs::read_to_string(here().join("../docs/kubernetes.md"))?;
    // Helm leaves the cluster as it found it.
    for block in page::blocks(&manual, "With Helm")? {
        reader.follow(c, &block).with_context(|| format!("docs/kubernetes.md:{}", block.line))?;
    }
    for block in page::blocks(&manual, "From nothing to a reachable address")? {
        reader.follow(c, &block).with_context(|| format!("docs/kubernetes.md:{}", block.line))?;
        // What the manifests ask for runs: as far as a kubelet is missing here, the harness is it.
        if c.allocators.is_empty() {
            c.start_all()?;
        }
    }
    for section in ["With kubectl: your own settings, upgrade, removal", "The connector in the cluster"] {
        for block in page::blocks(&manual, section)? {
            reader.follow(c, &block).with_context(|| format!("docs/kubernetes.md:{}", block.line))?;
        }
    }
    let change = std::fs::read_to_string(here().join("../docs/coming-from-metallb.md"))?;
    reader.lay("metallb-native.yaml", METALLB)?;
    c.control.kubectl(&["apply"], METALLB)?;
    for section in ["Your manifests, as they are", "The change, without losing an address", "The way back"] {
        for block in page::blocks(&change, section)? {
            reader
                .follow(c, &block)
                .with_context(|| format!("docs/coming-from-metallb.md:{}", block.line))?;
        }
    }
    c.reset()?;
    let mut ingress = Ingress::default();
    for block in page::blocks(include_str!("journeys.md"), "")? {
        ingress.look(c, &kubelet)?;
        reader.follow(c, &block).with_context(|| format!("journeys.md:{}", block.line))?;
    }
    Ok(())
}

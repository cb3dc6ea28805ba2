//! The allocator's commands beside a real API server: `explain`, `check`, `convert` (S15.5, S15.6).

use super::POOL;
use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::{
    Cluster, SOON, advertisement, allocator, annotate, eventually, pool, service, with,
};
use serde_json::json;

const ALLOCATOR: &str = "causeway-allocator";
const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

fn wait_explained(c: &Cluster, words: &str) -> Result<()> {
    eventually(SOON, &format!("explain says {words:?}"), || {
        let text = c.explain(ALLOCATOR, "web")?;
        ensure!(text.contains(words), "{text}");
        Ok(())
    })
}

pub(super) fn explain_reasons(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("pool", &[&net.range4(10, 12)]), &service("web")])?;
    let ip = c.wait_ip("web")?;
    wait_explained(c, "there is no L2Advertisement: make one that selects pool `pool`")?;
    let node = c.nodes[0].name.clone();
    c.create(&[&advertisement("pool", json!({ "ipAddressPools": ["other"] }))])?;
    wait_explained(c, "no L2Advertisement selects pool `pool`")?;
    let selects = |more| with(json!({ "ipAddressPools": ["pool"] }), more);
    let labels = json!([{ "matchLabels": { "no": "such" } }]);
    c.respec("L2Advertisement", "pool", &selects(json!({ "serviceSelectors": labels })))?;
    wait_explained(c, "selects this Service by its labels")?;
    c.respec("L2Advertisement", "pool", &selects(json!({ "nodeSelectors": labels })))?;
    wait_explained(c, "select no node")?;
    c.respec("L2Advertisement", "pool", &selects(json!({})))?;
    c.wait_owner_is(&ip, &node)?;
    wait_explained(c, &format!("announced  node {node}"))?;
    c.set_pod(0, false)?;
    wait_explained(c, "no endpoint is ready")?;
    c.set_pod(0, true)?;
    c.label_node(0, EXCLUDE, Some(""))?;
    wait_explained(c, &format!("no node may announce: {node} has the label {EXCLUDE}"))?;
    c.label_node(0, EXCLUDE, None)?;
    wait_explained(c, &format!("announced  node {node}"))
}

pub(super) fn explain_refused(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("pool", &[&net.range4(10, 12)]), &service("web")])?;
    c.wait_ip("web")?;
    // An account that is in no role here.
    let error = c.explain("causeway-connector", "web").err().context("explain knows nothing and says so")?;
    let text = format!("{error:#}");
    ensure!(text.contains("may not `list` the resource `"), "{text}");
    Ok(())
}

/// Manifests, and whether the API server takes them.
const MANIFESTS: &[(&str, bool)] = &[
    (
        "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: a}, spec: {addresses: [10.0.0.0/24]}}",
        true,
    ),
    (
        "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: a.b-1}, spec: {addresses: [10.0.0.1-10.0.0.1], autoAssign: false, avoidBuggyIPs: true, serviceAllocation: {priority: 1, namespaces: [x]}}}",
        true,
    ),
    ("{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: a}}", true),
    (
        "{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: a}, spec: {nodeSelectors: [{matchExpressions: [{key: a, operator: In, values: [b]}]}], interfaces: [eth0]}}",
        true,
    ),
    (
        "{apiVersion: metallb.io/v1beta2, kind: IPAddressPool, metadata: {name: a}, spec: {addresses: [10.0.0.0/24]}}",
        false,
    ),
    (
        "{apiVersion: metallb.io/v1beta1, kind: IPAddresPool, metadata: {name: a}, spec: {addresses: [10.0.0.0/24]}}",
        false,
    ),
    (
        "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: my_pool}, spec: {addresses: [10.0.0.0/24]}}",
        false,
    ),
    (
        "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: Default}, spec: {addresses: [10.0.0.0/24]}}",
        false,
    ),
    (
        "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: a}, spec: {adresses: [10.0.0.0/24]}}",
        false,
    ),
    (
        "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: a}, spec: {addresses: 10.0.0.0/24}}",
        false,
    ),
    (
        "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: a}, spec: {addresses: [10.0.0.0/24], autoAsign: false}}",
        false,
    ),
    (
        "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: a}, spec: {addresses: [10.0.0.0/24], autoAssign: \"no\"}}",
        false,
    ),
    (
        "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: a}, spec: {addresses: [10.0.0.0/24], serviceAllocation: {priority: 1.5}}}",
        false,
    ),
    (
        "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: a}, spec: {addresses: [10.0.0.0]}}",
        false,
    ),
    (
        "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: a}, spec: {addresses: []}}",
        false,
    ),
    ("{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: a}}", false),
    (
        "{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: a}, spec: {nodeSelectors: [{matchExpressions: [{key: a, operator: in}]}]}}",
        false,
    ),
    (
        "{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: a}, spec: {nodeSelectors: {matchLabels: {a: b}}}}",
        false,
    ),
    (
        "{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: a}, spec: {preferredNodeSelectors: [{weight: 200, preference: {}}]}}",
        false,
    ),
    (
        "{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: a}, spec: {preferredNodeSelectors: [{weight: 2}]}}",
        false,
    ),
];

pub(super) fn check_agrees(c: &mut Cluster) -> Result<()> {
    let file = c.folder().join("manifest.yaml");
    let file = file.to_str().context("path")?.to_owned();
    for (manifest, taken) in MANIFESTS {
        std::fs::write(&file, manifest)?;
        let ask = ["create", "--dry-run=server", "--validate=strict", "-n", "metallb-system"];
        let server = c.control.kubectl(&ask, manifest);
        ensure!(server.is_ok() == *taken, "the API server says {server:?} of {manifest}");
        let ours = allocator(&["check", &file]);
        ensure!(ours.is_ok() == *taken, "check says {ours:?} of {manifest}; the API server: {server:?}");
    }
    Ok(())
}

const OLD: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: config, namespace: metallb-system}
data:
  config: |
    address-pools:
    - name: my_pool
      protocol: layer2
      addresses: [10.77.220.1-10.77.220.2]
    - name: Default
      protocol: layer2
      auto-assign: false
      addresses: [10.77.221.1-10.77.221.2]
";

pub(super) fn convert_mends_names(c: &mut Cluster) -> Result<()> {
    let file = c.folder().join("old.yaml");
    std::fs::write(&file, OLD)?;
    let converted = allocator(&["convert", file.to_str().context("path")?])?;
    c.control.kubectl(&["apply"], &converted)?;
    c.create(&[&service("web"), &annotate(service("named"), POOL, "default")])?;
    c.wait_exactly("web", &["10.77.220.1"])?;
    c.wait_exactly("named", &["10.77.221.1"])?;
    let node = c.nodes[0].name.clone();
    c.wait_owner_is("10.77.220.1", &node)
}

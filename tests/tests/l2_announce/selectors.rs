//! Which Services are announced at all, and manifests as people have them (54-57, 62, S1-S3).

use super::A_WHILE;
use super::given::{advertised, only};
use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::{Cluster, TEST, advertisement, annotate, path, pool, service, with};
use serde_json::json;

pub(super) fn service_selector(c: &mut Cluster) -> Result<()> {
    let ip = advertised(c, &[json!({ "serviceSelectors": [{ "matchLabels": { "app": "web" } }] })])?;
    c.create(&[&with(service("other"), json!({ "metadata": { "labels": { "app": "other" } } }))])?;
    let other = c.wait_ip("other")?;
    c.wait_owner(&ip)?;
    c.stays_silent(&other, A_WHILE)?;
    // Matching the selector without the pool is not enough either.
    let net = c.fresh();
    c.create(&[&pool("apart", &[&net.range4(10, 10)])])?;
    c.create(&[&annotate(
        with(service("apart"), json!({ "metadata": { "labels": { "app": "web" } } })),
        "metallb.io/address-pool",
        "apart",
    )])?;
    let apart = c.wait_ip("apart")?;
    c.stays_silent(&apart, A_WHILE)
}

pub(super) fn one_announcer(c: &mut Cluster) -> Result<()> {
    let select = json!([{ "matchLabels": { "app": "web" } }]);
    let ip = advertised(
        c,
        &[
            json!({ "serviceSelectors": select, "nodeSelectors": only("node1") }),
            json!({ "serviceSelectors": select, "nodeSelectors": only("node2") }),
        ],
    )?;
    let owner = c.wait_owner_that(&ip, "node1 or node2", |n| n != "node3")?;
    c.stays_with(&ip, &owner, A_WHILE)
}

pub(super) fn no_announcer(c: &mut Cluster) -> Result<()> {
    let ip = advertised(
        c,
        &[
            json!({ "serviceSelectors": [{ "matchLabels": { "app": "web" } }], "nodeSelectors": only("no-such-node") }),
            json!({ "serviceSelectors": [{ "matchLabels": { "app": "other" } }], "nodeSelectors": only("node1") }),
        ],
    )?;
    c.stays_silent(&ip, A_WHILE)
}

pub(super) fn selector_alternatives(c: &mut Cluster) -> Result<()> {
    let selectors = json!([{ "matchLabels": { "app": "web" } }, { "matchExpressions": [{ "key": "tier", "operator": "Exists" }] }]);
    let ip = advertised(c, &[json!({ "serviceSelectors": selectors })])?;
    c.create(&[
        &with(service("tiered"), json!({ "metadata": { "labels": { "tier": "1" } } })),
        &service("plain"),
    ])?;
    let (tiered, plain) = (c.wait_ip("tiered")?, c.wait_ip("plain")?);
    c.wait_owner(&ip)?;
    c.wait_owner(&tiered)?;
    c.stays_silent(&plain, A_WHILE)
}

pub(super) fn advertisement_elsewhere(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let stray = with(advertisement("stray", json!({})), json!({ "metadata": { "namespace": TEST } }));
    c.create(&[&pool("pool", &[&net.range4(10, 20)]), &stray, &service("web")])?;
    let ip = c.wait_ip("web")?;
    let silent = c.stays_silent(&ip, A_WHILE);
    c.api.delete(&path("L2Advertisement", TEST, "stray"))?;
    silent
}

pub(super) fn samples(c: &mut Cluster) -> Result<()> {
    let manifests = include_str!("samples.yaml");
    c.control.kubectl(&["apply"], manifests)?;
    let web = c.wait_ip("nginx")?;
    ensure!(web == "10.77.200.10", "{web}");
    c.wait_owner(&web)?;
    c.wait_reached(&web, 80)?;
    let pair = c.wait_ips("dual", 2)?;
    for ip in &pair {
        c.wait_owner(ip)?;
        c.wait_reached(ip, 80)?;
    }
    let asked = c.wait_ip("asked-for")?;
    ensure!(asked == "10.77.201.77", "{asked}");
    c.wait_owner_is(&asked, "node2")?;
    c.wait_reached(&asked, 80).map(drop)
}

const OLD: &str = "\
apiVersion: v1
kind: ConfigMap
metadata:
  namespace: metallb-system
  name: config
data:
  config: |
    address-pools:
    - name: old
      protocol: layer2
      avoid-buggy-ips: true
      addresses:
      - 10.77.210.0/30
      - 10.77.211.10-10.77.211.12
    - name: by-hand
      protocol: layer2
      auto-assign: false
      addresses: [10.77.212.1-10.77.212.1]
";

pub(super) fn old_config_map(c: &mut Cluster) -> Result<()> {
    let converted = convert(OLD)?;
    c.control.kubectl(&["apply"], &converted)?;
    c.create(&[&service("web"), &annotate(service("named"), "metallb.io/address-pool", "by-hand")])?;
    let web = c.wait_ip("web")?;
    ensure!(web == "10.77.210.1", "{web}: .0 is avoided, .1 is the next");
    c.wait_exactly("named", &["10.77.212.1"])?;
    c.wait_owner(&web)?;
    c.wait_reached(&web, 80).map(drop)
}

pub(super) fn not_advertised(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("pool", &[&net.range4(10, 20)]), &service("web")])?;
    let ip = c.wait_ip("web")?;
    c.stays_silent(&ip, A_WHILE)?;
    c.create(&[&advertisement("all", json!({}))])?;
    c.wait_owner(&ip).map(drop)
}

/// What `causeway-allocator convert` makes of a manifest.
pub(super) fn convert(manifest: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("old.yaml");
    std::fs::write(&file, manifest)?;
    causeway_tests::cluster::allocator(&["convert", file.to_str().context("path")?])
}

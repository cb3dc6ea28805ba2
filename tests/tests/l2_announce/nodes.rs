//! Which node announces (43-53, S4, S5).

use super::given::{advertised, only, readvertise, vip};
use super::{A_WHILE, EXCLUDE};
use anyhow::{Result, ensure};
use causeway_tests::cluster::{Cluster, SYSTEM, path, service, with};
use serde_json::{Value, json};

pub(super) fn one_node(c: &mut Cluster) -> Result<()> {
    let ip = advertised(c, &[json!({ "nodeSelectors": only("node2") })])?;
    c.wait_owner_is(&ip, "node2")?;
    readvertise(c, "ad0", &json!({ "nodeSelectors": only("node3") }))?;
    c.wait_owner_is(&ip, "node3")?;
    c.wait_reached(&ip, 80).map(drop)
}

pub(super) fn node_alternatives(c: &mut Cluster) -> Result<()> {
    let selectors = json!([
        { "matchLabels": { "kubernetes.io/hostname": "node1" } },
        { "matchExpressions": [{ "key": "kubernetes.io/hostname", "operator": "In", "values": ["node3"] }] }
    ]);
    let ip = advertised(c, &[json!({ "nodeSelectors": selectors })])?;
    let owner = c.wait_owner_that(&ip, "node1 or node3", |n| n != "node2")?;
    let other = if owner == "node1" { "node3" } else { "node1" };
    c.stop_speaker(c.node(&owner)?)?;
    c.wait_owner_is(&ip, other)
}

pub(super) fn labels_at_run_time(c: &mut Cluster) -> Result<()> {
    let ip = advertised(c, &[json!({ "nodeSelectors": [{ "matchLabels": { "lan": "yes" } }] })])?;
    c.stays_silent(&ip, A_WHILE)?;
    c.label_node(1, "lan", Some("yes"))?;
    c.wait_owner_is(&ip, "node2")?;
    c.label_node(2, "lan", Some("yes"))?;
    c.stays_with(&ip, "node2", A_WHILE)?;
    c.label_node(1, "lan", None)?;
    c.wait_owner_is(&ip, "node3")
}

pub(super) fn prefer(label: &str, weight: u8) -> Value {
    json!({ "weight": weight, "preference": { "matchLabels": { label: "yes" } } })
}

/// A node that does not own `ip` now.
pub(super) fn another(c: &Cluster, owner: &str) -> Result<usize> {
    Ok((c.node(owner)? + 1) % c.nodes.len())
}

pub(super) fn preferred(c: &mut Cluster) -> Result<()> {
    let ip = advertised(c, &[json!({ "preferredNodeSelectors": [prefer("best", 50)] })])?;
    let node = another(c, &c.wait_owner(&ip)?)?;
    c.label_node(node, "best", Some("yes"))?;
    c.wait_owner_is(&ip, &c.nodes[node].name)?;
    c.label_node(node, "best", None)?;
    c.wait_owner(&ip)?;
    c.wait_reached(&ip, 80).map(drop)
}

pub(super) fn nobody_preferred(c: &mut Cluster) -> Result<()> {
    let ip = advertised(c, &[json!({ "preferredNodeSelectors": [prefer("no-node-has-this", 100)] })])?;
    c.wait_owner(&ip)?;
    c.wait_reached(&ip, 80).map(drop)
}

pub(super) fn preferred_reclaims(c: &mut Cluster) -> Result<()> {
    c.label_node(2, "best", Some("yes"))?;
    let ip = advertised(c, &[json!({ "preferredNodeSelectors": [prefer("best", 50)] })])?;
    c.wait_owner_is(&ip, "node3")?;
    c.label_node(2, EXCLUDE, Some(""))?;
    c.wait_owner_that(&ip, "another node", |n| n != "node3")?;
    c.label_node(2, EXCLUDE, None)?;
    c.wait_owner_is(&ip, "node3")
}

pub(super) fn preference_at_run_time(c: &mut Cluster) -> Result<()> {
    let ip = advertised(c, &[json!({})])?;
    let node = another(c, &c.wait_owner(&ip)?)?;
    c.label_node(node, "best", Some("yes"))?;
    readvertise(c, "ad0", &json!({ "preferredNodeSelectors": [prefer("best", 1)] }))?;
    c.wait_owner_is(&ip, &c.nodes[node].name)
}

pub(super) fn hard_filter(c: &mut Cluster) -> Result<()> {
    c.label_node(0, "best", Some("yes"))?;
    let ip = advertised(
        c,
        &[json!({ "nodeSelectors": only("node2"), "preferredNodeSelectors": [prefer("best", 100)] })],
    )?;
    c.wait_owner_is(&ip, "node2")?;
    c.stays_with(&ip, "node2", A_WHILE)
}

pub(super) fn disjoint_preference(c: &mut Cluster) -> Result<()> {
    c.label_node(2, "best", Some("yes"))?;
    // The preference stands in an advertisement that does not select the node it prefers.
    let ip = advertised(
        c,
        &[
            json!({ "nodeSelectors": only("node1"), "preferredNodeSelectors": [prefer("best", 100)] }),
            json!({ "nodeSelectors": only("node2") }),
        ],
    )?;
    c.wait_owner_that(&ip, "node1 or node2", |n| n != "node3")?;
    c.stays_silent_from(&ip, "node3", A_WHILE)
}

pub(super) fn weights_add_up(c: &mut Cluster) -> Result<()> {
    c.label_node(0, "a", Some("yes"))?;
    c.label_node(1, "b", Some("yes"))?;
    let ip = advertised(
        c,
        &[
            json!({ "preferredNodeSelectors": [prefer("a", 30), prefer("b", 50)] }),
            json!({ "preferredNodeSelectors": [prefer("a", 30)] }),
        ],
    )?;
    c.wait_owner_is(&ip, "node1")?;
    c.api.delete(&path("L2Advertisement", SYSTEM, "ad1"))?;
    c.wait_owner_is(&ip, "node2")
}

pub(super) fn scoped_preference(c: &mut Cluster) -> Result<()> {
    c.label_node(0, "a", Some("yes"))?;
    c.label_node(1, "b", Some("yes"))?;
    let select = |tier: &str, node: &str| json!({ "serviceSelectors": [{ "matchLabels": { "tier": tier } }], "preferredNodeSelectors": [prefer(node, 80)] });
    advertised(c, &[select("front", "a"), select("back", "b")])?;
    let tier = |name: &str| with(service(name), json!({ "metadata": { "labels": { "tier": name } } }));
    c.create(&[&tier("front"), &tier("back")])?;
    let (front, back) = (c.wait_ip("front")?, c.wait_ip("back")?);
    c.wait_owner_is(&front, "node1")?;
    c.wait_owner_is(&back, "node2")
}

pub(super) fn moved_by_hand(c: &mut Cluster) -> Result<()> {
    let (_, ip, owner) = vip(c)?;
    let to = c.nodes[another(c, &owner)?].name.clone();
    c.patch_service("web", &json!({ "metadata": { "annotations": { "metallb.io/owner": to } } }))?;
    c.wait_owner_is(&ip, &to)?;
    c.stays_with(&ip, &to, A_WHILE)
}

pub(super) fn spread(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.announce_pool("pool", &[&net.range4(10, 30)])?;
    let names: Vec<String> = (0..9).map(|n| format!("web{n}")).collect();
    for name in &names {
        c.create(&[&service(name)])?;
    }
    let mut owned = std::collections::BTreeMap::new();
    for name in &names {
        let owner = c.wait_owner(&c.wait_ip(name)?)?;
        *owned.entry(owner).or_insert(0u32) += 1;
    }
    // The fair share of three nodes is three each; nobody has more than one above it.
    ensure!(owned.values().all(|n| *n <= 4), "{owned:?}");
    Ok(())
}

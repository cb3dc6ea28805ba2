//! What several scenarios begin with.

use anyhow::Result;
use causeway_tests::cluster::{Cluster, Net, advertisement, pool, service, with};
use serde_json::{Value, json};

/// A Service with an address that is announced.
pub(super) fn vip(c: &mut Cluster) -> Result<(Net, String, String)> {
    let net = c.fresh();
    c.announce_pool("pool", &[&net.range4(10, 30)])?;
    c.create(&[&service("web")])?;
    let ip = c.wait_ip("web")?;
    let owner = c.wait_owner(&ip)?;
    Ok((net, ip, owner))
}

/// A pool with these advertisements, and a Service with an address from it.
pub(super) fn advertised(c: &mut Cluster, advertisements: &[Value]) -> Result<String> {
    let net = c.fresh();
    c.create(&[&pool("pool", &[&net.range4(10, 30)])])?;
    for (index, spec) in advertisements.iter().enumerate() {
        c.create(&[&advertisement(
            &format!("ad{index}"),
            with(json!({ "ipAddressPools": ["pool"] }), spec.clone()),
        )])?;
    }
    c.create(&[&with(service("web"), json!({ "metadata": { "labels": { "app": "web" } } }))])?;
    c.wait_ip("web")
}

pub(super) fn readvertise(c: &Cluster, name: &str, spec: &Value) -> Result<()> {
    c.respec("L2Advertisement", name, &with(json!({ "ipAddressPools": ["pool"] }), spec.clone()))
}

pub(super) fn only(node: &str) -> Value {
    json!([{ "matchLabels": { "kubernetes.io/hostname": node } }])
}

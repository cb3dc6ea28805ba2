//! Which interfaces announce (37-42).

use super::A_WHILE;
use super::given::{advertised, only, readvertise};
use anyhow::{Result, ensure};
use causeway_tests::cluster::{Cluster, SOON, eventually};
use serde_json::json;

/// Waits until `node` alone answers on the first LAN (or nobody does), and likewise on the second.
pub(super) fn wait_on_both(c: &Cluster, ip: &str, first: bool, second: bool) -> Result<String> {
    let address = ip.parse()?;
    eventually(SOON, &format!("{ip} is answered for on the right LANs"), || {
        let (on1, on2) = (c.answers(address)?, c.answers2(address)?);
        ensure!(
            on1.len() == usize::from(first) && on2.len() == usize::from(second),
            "{on1:?} and {on2:?} answer"
        );
        let mut nodes: Vec<&str> = on1.iter().chain(&on2).map(|n| n.split('/').next().unwrap_or(n)).collect();
        nodes.dedup();
        ensure!(nodes.len() == 1, "{nodes:?} answer");
        ensure!(on2.iter().all(|n| n.ends_with("/eth1")), "{on2:?} answer on the second LAN");
        Ok(nodes[0].to_owned())
    })
}

pub(super) fn status_interfaces(c: &mut Cluster) -> Result<()> {
    let ip = advertised(c, &[json!({ "interfaces": ["eth0"] })])?;
    let owner = c.wait_owner(&ip)?;
    let expect = |interfaces: &[&str]| {
        eventually(SOON, "the status lists the interfaces", || {
            let statuses = c.l2_statuses("web")?;
            ensure!(statuses.len() == 1 && statuses[0].1 == interfaces, "{statuses:?}, not {interfaces:?}");
            Ok(statuses[0].0.clone())
        })
    };
    ensure!(expect(&["eth0"])? == owner, "another node is named");
    readvertise(c, "ad0", &json!({ "interfaces": ["eth0", "eth1"] }))?;
    expect(&["eth0", "eth1"]).map(drop)
}

pub(super) fn chosen_interface(c: &mut Cluster) -> Result<()> {
    let ip = advertised(c, &[json!({ "interfaces": ["eth1"] })])?;
    wait_on_both(c, &ip, false, true).map(drop)
}

pub(super) fn other_interface(c: &mut Cluster) -> Result<()> {
    let ip = advertised(c, &[json!({ "interfaces": ["eth0"] })])?;
    wait_on_both(c, &ip, true, false)?;
    readvertise(c, "ad0", &json!({ "interfaces": ["eth1"] }))?;
    wait_on_both(c, &ip, false, true).map(drop)
}

pub(super) fn no_such_interface(c: &mut Cluster) -> Result<()> {
    let ip = advertised(c, &[json!({ "interfaces": ["nosuch0"] })])?;
    c.wait_event("web", "announceFailed")?;
    c.stays_silent(&ip, A_WHILE)?;
    readvertise(c, "ad0", &json!({ "interfaces": ["nosuch0", "eth0"] }))?;
    c.wait_owner(&ip).map(drop)
}

pub(super) fn union_of_interfaces(c: &mut Cluster) -> Result<()> {
    let ip = advertised(c, &[json!({ "interfaces": ["eth0"] }), json!({ "interfaces": ["eth1"] })])?;
    wait_on_both(c, &ip, true, true).map(drop)
}

pub(super) fn interface_and_node(c: &mut Cluster) -> Result<()> {
    let ip = advertised(c, &[json!({ "interfaces": ["eth1"], "nodeSelectors": only("node3") })])?;
    ensure!(wait_on_both(c, &ip, false, true)? == "node3", "another node announces");
    readvertise(c, "ad0", &json!({ "interfaces": ["eth0"], "nodeSelectors": only("node1") }))?;
    eventually(SOON, "node1 announces on eth0", || {
        ensure!(wait_on_both(c, &ip, true, false)? == "node1", "another node announces");
        Ok(())
    })
}

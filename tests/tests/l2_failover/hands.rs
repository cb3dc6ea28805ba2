//! What other people's hands and programs do to what the speakers wrote or rely on (F4-F7).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::{
    Cluster, Process, SOON, SYSTEM, TEST, Vip, eventually, path, service, throughout,
};
use serde_json::json;

/// What was deleted is back within this.
const BACK: Duration = Duration::from_secs(3);

pub(super) fn statuses_deleted(c: &mut Cluster) -> Result<()> {
    let vip = c.vip()?;
    let owner = c.nodes[vip.owner].name.clone();
    let expected = [(owner, Vec::new())];
    wait_statuses(c, &expected, SOON)?;
    for _ in 0..3 {
        c.api.delete(&path("ServiceL2Status", SYSTEM, ""))?;
        wait_statuses(c, &expected, BACK)?;
    }
    // One that somebody edits says again what is.
    let all = c.api.list(&path("ServiceL2Status", SYSTEM, ""))?;
    let name = all[0]["metadata"]["name"].as_str().context("a name")?.to_owned();
    let at = path("ServiceL2Status", SYSTEM, &name);
    let claims = all[0]["metadata"]["annotations"]["metallb.io/claims"].clone();
    c.api.merge(&at, &json!({ "metadata": { "annotations": { "metallb.io/claims": null } } }))?;
    eventually(BACK, "the claims are written again", || {
        let now = c.api.get(&at)?["metadata"]["annotations"]["metallb.io/claims"].clone();
        ensure!(now == claims, "{now}");
        Ok(())
    })
}

/// A link that flaps twice: each owner takes its successor's status away, and the last one's stays.
pub(super) fn flapping_link(c: &mut Cluster) -> Result<()> {
    let vip = c.vip()?;
    let mut owner = vip.owner;
    for _ in 0..4 {
        let name = c.nodes[owner].name.clone();
        let moved = c.strike(Vip { owner, ..vip }, |c| c.lan.cut(&name, 0));
        c.lan.mend(&name, 0)?;
        owner = moved?.owner;
    }
    (0..c.nodes.len()).try_for_each(|node| c.wait_member(node))?;
    let last = c.wait_owner(&vip.ip.to_string())?;
    let expected = [(last, Vec::new())];
    wait_statuses(c, &expected, SOON)?;
    throughout(Duration::from_secs(1), "the status stays", || {
        let found = c.l2_statuses("web")?;
        ensure!(found == expected, "{found:?}");
        Ok(())
    })
}

pub(super) fn configuration_states_deleted(c: &mut Cluster) -> Result<()> {
    c.vip()?;
    let names: Vec<_> = c.nodes.iter().map(|node| format!("speaker-{}", node.name)).collect();
    for _ in 0..2 {
        wait_states(c, &names, SOON)?;
        c.api.delete(&path("ConfigurationState", SYSTEM, ""))?;
        wait_states(c, &names, BACK)?;
    }
    // What the allocator relies on is also put right when it was only changed.
    let at = path("ConfigurationState", SYSTEM, &names[0]);
    let lies = json!({ "metadata": { "annotations": { "metallb.io/gateways": "10.99.99.99" } } });
    c.api.merge(&at, &lies)?;
    wait_states(c, &names, BACK)
}

pub(super) fn rival_writer(c: &mut Cluster) -> Result<()> {
    let vip = c.vip()?;
    let owner = c.nodes[vip.owner].name.clone();
    // As k3s's servicelb: the nodes' addresses, again whenever they are not there.
    let rival = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": c.nodes[0].host.host.v4 }] } } });
    let at = format!("{}/status?fieldManager=k3s", path("Service", TEST, "web"));
    throughout(Duration::from_secs(5), "the owner answers while another controller writes the status", || {
        let object = c.api.get(&path("Service", TEST, "web"))?;
        if object["status"]["loadBalancer"]["ingress"][0]["ip"] == vip.ip.to_string() {
            c.api.merge(&at, &rival)?;
        }
        let owners = c.answers(vip.ip)?;
        ensure!(owners.len() == 1 && owners.contains(&owner), "{owners:?} answer");
        Ok(())
    })
}

pub(super) fn shrunk_while_nobody_leads(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.announce_pool("pool", &[&net.range4(10, 12)])?;
    c.create(&[&service("web")])?;
    c.wait_exactly("web", &[&net.v4(10)])?;
    let owner = c.wait_owner(&net.v4(10))?;
    c.allocators.iter_mut().for_each(Process::kill);
    let kept = c
        .respec("IPAddressPool", "pool", &json!({ "addresses": [net.range4(11, 12)] }))
        .and_then(|()| c.stays_with(&net.v4(10), &owner, Duration::from_secs(3)));
    c.restart_allocators()?;
    kept?;
    // Then it is the allocator's to move it. A Lease of the crashed ones runs out first.
    eventually(4 * SOON, "it is moved into the pool", || {
        let ips = c.ips("web")?;
        ensure!(ips == [net.v4(11)], "{ips:?}");
        Ok(())
    })?;
    c.wait_owner(&net.v4(11))?;
    c.wait_silence(&net.v4(10))
}

fn wait_statuses(c: &Cluster, expected: &[(String, Vec<String>)], limit: Duration) -> Result<()> {
    eventually(limit, "ServiceL2Status names the owner", || {
        let found = c.l2_statuses("web")?;
        ensure!(found == expected, "{found:?}");
        Ok(())
    })
}

/// Waits until each has its gateway.
fn wait_states(c: &Cluster, names: &[String], limit: Duration) -> Result<()> {
    eventually(limit, "every speaker's ConfigurationState is there", || {
        for name in names {
            let state = c.api.get(&path("ConfigurationState", SYSTEM, name))?;
            let gateways = &state["metadata"]["annotations"]["metallb.io/gateways"];
            ensure!(gateways == "10.77.0.1", "{name}: {gateways}");
            ensure!(state["status"]["result"] == "Valid", "{name}: {}", state["status"]);
        }
        Ok(())
    })
}

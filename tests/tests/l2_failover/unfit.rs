//! Nodes that go on running and are no match for the others: without their address, with another one, unheard (F1-F3).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::scenarios::is_long;
use causeway_tests::cluster::{Cluster, SOON, SYSTEM, TEST, Vip, eventually, path, throughout};
use serde_json::{Value, json};

use super::WORST;
use super::crashes::bounded_overlap;

/// A node that has another address is a member again within this.
const REJOINED: Duration = Duration::from_secs(1);
/// Who yielded to another comes back after 20 s, and asks first.
const NEXT_ROUND: Duration = Duration::from_secs(24);

pub(super) fn address_lost(c: &mut Cluster) -> Result<()> {
    let vip = c.vip()?;
    let name = c.nodes[vip.owner].name.clone();
    let moved = c.strike(vip, |c| c.lan.take_address(&name))?;
    println!("    announced by another after {:.0?}, {:?}", moved.claimed, moved.outage);
    ensure!(moved.took() <= WORST, "{moved:?}");
    let now = c.nodes[moved.owner].name.clone();
    // What comes back every 20 s would show in the second round.
    let span = if is_long() { NEXT_ROUND * 2 } else { Duration::from_secs(4) };
    c.stays_with(&vip.ip.to_string(), &now, span)?;
    ensure!(ready(c, vip.owner)?.contains("node-address"), "/ready does not say that there is no address");
    c.lan.give_address(&name)?;
    c.wait_member(vip.owner)?;
    c.stays_with(&vip.ip.to_string(), &now, Duration::from_secs(1))?;
    wait_node_event(c, &name, "speakerRejoined", "no interface has this node's address")
}

pub(super) fn address_changed(c: &mut Cluster) -> Result<()> {
    let vip = c.vip()?;
    let name = c.nodes[vip.owner].name.clone();
    let before = c.nodes[vip.owner].host.host.v4;
    // A lease that ends and another one that begins; the kubelet tells the control plane later.
    let host = &c.nodes[vip.owner].host.host.namespace;
    host.ip("addr add 10.77.0.99/16 dev eth0\n")?;
    c.lan.take_address(&name)?;
    let changed = Instant::now();
    host.ip("addr replace 10.77.0.99/16 dev eth0\nroute replace default via 10.77.0.1\n")?;
    let rejoined = readdressed(c, vip, changed);
    let survived = rejoined.and_then(|took| {
        println!("    a member at its new address after {took:.0?}");
        ensure!(took <= REJOINED, "a member again after {took:?}");
        c.wait_member(vip.owner)?;
        c.wait_owner(&vip.ip.to_string())
    });
    // Whoever has it now dies, while the Node object still has the old address.
    let owner = survived.and_then(|owner| c.node(&owner));
    let moved = owner.and_then(|owner| {
        let next = Vip { owner, ..vip };
        let dead = c.nodes[owner].name.clone();
        let moved = c.strike(next, |c| {
            c.kill_speaker(owner);
            c.lan.cut(&dead, 0)
        });
        c.lan.mend(&dead, 0)?;
        moved
    });
    c.nodes[vip.owner].host.host.namespace.ip("addr del 10.77.0.99/16 dev eth0\n")?;
    c.lan.give_address(&name)?;
    let moved = moved?;
    ensure!(moved.took() <= WORST, "{moved:?}");
    // And back, as after the next lease.
    for node in 0..c.nodes.len() {
        if c.nodes[node].speaker.is_none() {
            c.start_speaker(node)?;
        }
    }
    (0..c.nodes.len()).try_for_each(|node| c.wait_member(node))?;
    ensure!(c.nodes[vip.owner].host.host.v4 == before, "the harness knows the old address");
    Ok(())
}

/// How long it took until every other speaker had this node as a member at its new address.
fn readdressed(c: &Cluster, vip: Vip, changed: Instant) -> Result<Duration> {
    let name = &c.nodes[vip.owner].name;
    eventually(SOON, "the others have it at its new address", || {
        for other in (0..c.nodes.len()).filter(|other| *other != vip.owner) {
            let status = c.speaker_page(other, "/status")?;
            let status: Value = serde_json::from_str(&status)?;
            let members = status["members"].as_array().context("no members")?;
            let member = members.iter().find(|member| member["node"] == **name).context("no such member")?;
            let is_there = member["up"] == true && member["address"] == "10.77.0.99:7946";
            ensure!(is_there, "{} has it as {member}", c.nodes[other].name);
        }
        Ok(())
    })?;
    Ok(changed.elapsed())
}

pub(super) fn unheard(c: &mut Cluster) -> Result<()> {
    for highest in [false, true] {
        c.reset()?;
        let vip = c.vip()?;
        // The order of the nodes once decided who yields: either way the node that hears nobody does.
        let node = if highest { c.nodes.len() - 1 } else { 0 };
        pin(c, json!(c.nodes[node].name))?;
        c.wait_owner_is(&vip.ip.to_string(), &c.nodes[node].name)?;
        pin(c, json!(null))?;
        let name = c.nodes[node].name.clone();
        let host = c.nodes[node].host.host.namespace.clone();
        host.nft(
            "table inet deaf {\n chain in {\n  type filter hook input priority 0;\n  \
             meta l4proto { tcp, udp } th dport 7946 drop\n  meta l4proto tcp th sport 7946 drop\n }\n \
             chain out {\n  type filter hook output priority 0;\n  \
             meta l4proto { tcp, udp } th dport 7946 drop\n }\n}\n",
        )?;
        let watched = bounded_overlap(c, vip.ip, Duration::from_secs(6)).and_then(|()| {
            let owner =
                c.wait_owner_that(&vip.ip.to_string(), "a node that is heard", |owner| owner != name)?;
            let span = if is_long() { NEXT_ROUND } else { Duration::from_secs(2) };
            c.stays_with(&vip.ip.to_string(), &owner, span)?;
            eventually(SOON, "/ready says that it is alone", || {
                ensure!(ready(c, node)?.contains("other-speakers"), "it does not");
                Ok(())
            })?;
            wait_condition(c, &name, "False", "Alone")?;
            wait_node_event(c, &name, "speakerIsolated", "none of the speakers")?;
            if highest { restarted_unheard(c, node, &owner) } else { Ok(()) }
        });
        host.nft("delete table inet deaf\n")?;
        watched?;
        c.wait_member(node)?;
        c.wait_owner(&vip.ip.to_string())?;
        wait_condition(c, &name, "True", "Heard")?;
    }
    Ok(())
}

/// The first thing that people try. The speaker that starts has never heard of the owner, and takes it for no stranger.
fn restarted_unheard(c: &mut Cluster, node: usize, owner: &str) -> Result<()> {
    let ips = c.ips("web")?;
    c.kill_speaker(node);
    c.start_speaker(node)?;
    throughout(Duration::from_secs(6), "nothing moves", || {
        let service = c.api.get(&path("Service", TEST, "web"))?;
        let conditions = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let conflict = conditions.iter().find(|one| one["type"] == "metallb.io/AddressConflict");
        ensure!(conflict.is_none(), "{conflict:?}");
        ensure!(c.ips("web")? == ips, "it has {:?}", c.ips("web")?);
        let owners = c.answers(ips[0].parse()?)?;
        ensure!(owners.contains(owner) && owners.len() == 1, "{owners:?} answer");
        Ok(())
    })
}

/// Moves the Service to a node, or lets it go again.
fn pin(c: &Cluster, node: Value) -> Result<()> {
    c.patch_service("web", &json!({ "metadata": { "annotations": { "metallb.io/owner": node } } }))
}

/// What `/ready` says, ready or not.
fn ready(c: &Cluster, node: usize) -> Result<String> {
    match c.speaker_page(node, "/ready") {
        Ok(text) => Ok(text),
        Err(error) => Ok(format!("{error:#}")),
    }
}

/// Waits until the ConfigurationState of a node's speaker says so of its peers.
fn wait_condition(c: &Cluster, node: &str, status: &str, reason: &str) -> Result<()> {
    eventually(SOON, &format!("peersReached of {node} is {status}"), || {
        let state = c.api.get(&path("ConfigurationState", SYSTEM, &format!("speaker-{node}")))?;
        let conditions = state["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found =
            conditions.iter().find(|one| one["type"] == "peersReached").context("no such condition")?;
        ensure!(found["status"] == *status && found["reason"] == *reason, "{found}");
        Ok(())
    })
}

fn wait_node_event(c: &Cluster, node: &str, reason: &str, says: &str) -> Result<()> {
    eventually(SOON, &format!("event {reason} about {node}"), || {
        let all = c.api.list(&path("Event", "default", ""))?;
        let about = |event: &&Value| {
            event["involvedObject"]["kind"] == "Node"
                && event["involvedObject"]["name"] == *node
                && event["reason"] == *reason
                && event["message"].as_str().is_some_and(|message| message.contains(says))
        };
        all.iter().find(about).map(drop).with_context(|| format!("there is none among {}", all.len()))
    })
}

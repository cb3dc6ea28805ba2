//! What people's hands do to it: states, definitions, pools and types that come and go (S15.3, S15.7-S15.9).

use super::{ADDRESSES, FROM};
use anyhow::{Result, ensure};
use causeway_tests::cluster::{
    Cluster, SOON, SYSTEM, TEST, annotate, eventually, path, pool, service, throughout, with,
};
use serde_json::{Value, json};
use std::time::Duration;

/// A node that no speaker runs on: its state is what the scenario writes.
const GHOST: &str = "ghost";
const GHOST_STATE: &str = "speaker-ghost";
/// Longer than anything takes that the allocator does at once.
const A_WHILE: Duration = Duration::from_millis(1500);
const DEFINITIONS: [&str; 4] =
    ["ipaddresspools", "l2advertisements", "servicel2statuses", "configurationstates"];

/// A node whose speaker says that `gateway` is its default gateway.
fn ghost(c: &Cluster, gateway: &str) -> Result<()> {
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": GHOST } });
    let state = json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "ConfigurationState",
        "metadata": { "name": GHOST_STATE, "namespace": SYSTEM, "annotations": { "metallb.io/gateways": gateway },
            "labels": { "metallb.io/component-type": "speaker", "metallb.io/node-name": GHOST } },
    });
    c.create(&[&node])?;
    c.api.create(&path("ConfigurationState", SYSTEM, ""), &state).map(drop)
}

fn exorcise(c: &Cluster) -> Result<()> {
    c.api.delete(&path("ConfigurationState", SYSTEM, GHOST_STATE))?;
    c.api.delete(&path("Node", "", GHOST))
}

pub(super) fn gateway_is_remembered(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    ghost(c, &net.v4(10))?;
    let outcome = (|| {
        c.create(&[&pool("pool", &[&net.range4(10, 12)])])?;
        wait_pool_says(c, "pool", &net.v4(10))?;
        c.api.delete(&path("ConfigurationState", SYSTEM, GHOST_STATE))?;
        c.create(&[&service("web"), &annotate(service("asks"), ADDRESSES, &net.v4(10))])?;
        c.wait_exactly("web", &[&net.v4(11)])?;
        c.wait_refused("asks")?;
        throughout(A_WHILE, "nobody is given the gateway's address", || {
            let has = [c.ips("web")?, c.ips("asks")?];
            ensure!(has == [vec![net.v4(11)], vec![]], "{has:?}");
            Ok(())
        })?;
        // With the node its gateway is nobody's any more.
        c.api.delete(&path("Node", "", GHOST))?;
        c.wait_exactly("asks", &[&net.v4(10)])
    })();
    let cleaned = exorcise(c);
    outcome.and(cleaned)
}

pub(super) fn gateway_is_taken_off(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("single", &[&net.range4(10, 10)]), &service("web")])?;
    c.wait_exactly("web", &[&net.v4(10)])?;
    ghost(c, &net.v4(10))?;
    let outcome = c.wait_exactly("web", &[]).and_then(|()| {
        wait_message(
            c,
            "web",
            "ClearAssignment",
            &format!("{} is the gateway of node `{GHOST}`", net.v4(10)),
        )?;
        // And where there is another one it moves.
        c.respec("IPAddressPool", "single", &json!({ "addresses": [net.range4(10, 11)] }))?;
        c.wait_exactly("web", &[&net.v4(11)])
    });
    let cleaned = exorcise(c);
    outcome.and(cleaned)
}

pub(super) fn statuses_come_back(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.announce_pool("pool", &[&net.range4(10, 12)])?;
    c.create(&[&service("web")])?;
    c.wait_exactly("web", &[&net.v4(10)])?;
    wait_counted(c, "pool")?;
    let at = format!("{}/status", path("IPAddressPool", SYSTEM, "pool"));
    for wrong in [json!({ "assignedIPv4": 77 }), json!({ "conditions": null }), Value::Null] {
        c.api.merge(&at, &json!({ "status": wrong }))?;
        wait_counted(c, "pool")?;
    }
    super::configuration::wait_all_valid(c)?;
    let state = path("ConfigurationState", SYSTEM, "controller");
    let broken = json!({ "status": { "result": "Invalid", "errorSummary": "by hand", "conditions": null } });
    c.api.merge(&format!("{state}/status"), &broken)?;
    super::configuration::wait_all_valid(c)?;
    c.api.merge(&state, &json!({ "metadata": { "labels": { "metallb.io/component-type": null } } }))?;
    super::configuration::wait_all_valid(c)?;
    let by_hand = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "10.77.250.9" }] } } });
    c.api.merge(&format!("{}/status", path("Service", TEST, "web")), &by_hand)?;
    c.wait_exactly("web", &[&net.v4(10)])
}

pub(super) fn definitions_come_back(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.announce_pool("pool", &[&net.range4(11, 12)])?;
    c.create(&[&service("web")])?;
    c.wait_exactly("web", &[&net.v4(11)])?;
    let wide = with(pool("pool", &[&net.range4(10, 12)]), json!({}));
    let definition = |name: &str| path("CustomResourceDefinition", "", &format!("{name}.metallb.io"));
    for name in DEFINITIONS {
        c.api.delete(&definition(name))?;
    }
    eventually(3 * SOON, "the definitions are gone", || {
        for name in DEFINITIONS {
            ensure!(c.api.find(&definition(name))?.is_none(), "{name} is still there");
        }
        Ok(())
    })?;
    // With the last pool the address goes, as MetalLB's contract has it.
    c.wait_exactly("web", &[])?;
    c.install()?;
    eventually(3 * SOON, "pools can be made again", || c.create(&[&wide]))?;
    eventually(3 * SOON, "web has its address again", || {
        let ips = c.ips("web")?;
        ensure!(ips == [net.v4(11)], "it has {ips:?}");
        Ok(())
    })?;
    eventually(3 * SOON, "the pool has its status again", || counted(c, "pool"))?;
    eventually(3 * SOON, "the allocator's state is there again", || {
        let state = c.api.get(&path("ConfigurationState", SYSTEM, "controller"))?;
        ensure!(state["status"]["result"] == "Valid", "{}", state["status"]);
        Ok(())
    })
}

pub(super) fn pool_made_again(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("pool", &[&net.range4(11, 12)]), &service("web")])?;
    c.wait_exactly("web", &[&net.v4(11)])?;
    let wide = pool("pool", &[&net.range4(10, 12)]);
    c.respec("IPAddressPool", "pool", &wide["spec"])?;
    c.api.delete(&path("IPAddressPool", SYSTEM, "pool"))?;
    c.wait_exactly("web", &[])?;
    c.create(&[&wide])?;
    c.wait_exactly("web", &[&net.v4(11)])
}

pub(super) fn type_flips(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("pool", &[&net.range4(10, 12)]), &service("web")])?;
    c.wait_exactly("web", &[&net.v4(10)])?;
    for _ in 0..20 {
        for kind in ["ClusterIP", "LoadBalancer"] {
            c.patch_service("web", &json!({ "spec": { "type": kind } }))?;
        }
        c.wait_exactly("web", &[&net.v4(10)])?;
        noted(c, "web", Some("pool"))?;
    }
    throughout(A_WHILE, "no late patch takes the address", || {
        ensure!(c.ips("web")? == [net.v4(10)], "it has {:?}", c.ips("web")?);
        noted_now(c, "web", Some("pool"))
    })
}

pub(super) fn type_changed_meanwhile(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let theirs =
        annotate(with(service("theirs"), json!({ "spec": { "type": "ClusterIP" } })), FROM, "of-another");
    let class = annotate(
        with(service("class"), json!({ "spec": { "loadBalancerClass": "example.net/x" } })),
        FROM,
        "pool",
    );
    c.create(&[&pool("pool", &[&net.range4(10, 12)]), &service("web"), &theirs, &class])?;
    c.wait_exactly("web", &[&net.v4(10)])?;
    noted(c, "web", Some("pool"))?;
    for allocator in &mut c.allocators {
        allocator.kill();
    }
    c.patch_service("web", &json!({ "spec": { "type": "ClusterIP" } }))?;
    c.restart_allocators()?;
    eventually(3 * SOON, "the note goes", || noted_now(c, "web", None))?;
    noted_now(c, "theirs", Some("of-another"))?;
    noted_now(c, "class", Some("pool"))
}

pub(super) fn foreign_address(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&service("web")])?;
    c.wait_refused("web")?;
    let foreign = net.v4(77);
    let status = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": foreign }] } } });
    c.api.merge(&format!("{}/status", path("Service", TEST, "web")), &status)?;
    let stays = || {
        ensure!(c.ips("web")? == [foreign.clone()], "it has {:?}", c.ips("web")?);
        Ok(())
    };
    throughout(A_WHILE, "nobody touches it", stays)?;
    // A pool that has not got it judges it.
    c.create(&[&pool("pool", &[&net.range4(10, 12)])])?;
    c.wait_exactly("web", &[&net.v4(10)])
}

fn noted(c: &Cluster, name: &str, pool: Option<&str>) -> Result<()> {
    eventually(SOON, &format!("{name} is noted as of {pool:?}"), || noted_now(c, name, pool))
}

fn noted_now(c: &Cluster, name: &str, pool: Option<&str>) -> Result<()> {
    let object = c.api.get(&path("Service", TEST, name))?;
    let note = object["metadata"]["annotations"][FROM].as_str();
    ensure!(note == pool, "{name} is noted as of {note:?}");
    Ok(())
}

/// One address of the pool is counted, and every condition is there.
fn counted(c: &Cluster, name: &str) -> Result<()> {
    let status = c.api.get(&path("IPAddressPool", SYSTEM, name))?["status"].clone();
    let conditions = status["conditions"].as_array().map_or(0, Vec::len);
    ensure!(status["assignedIPv4"] == 1 && conditions == 3, "{status}");
    Ok(())
}

fn wait_counted(c: &Cluster, name: &str) -> Result<()> {
    eventually(SOON, &format!("the status of {name} is whole"), || counted(c, name))
}

fn wait_pool_says(c: &Cluster, name: &str, word: &str) -> Result<()> {
    eventually(SOON, &format!("the pool {name} names {word}"), || {
        let status = c.api.get(&path("IPAddressPool", SYSTEM, name))?["status"].clone();
        ensure!(status.to_string().contains(word), "{status}");
        Ok(())
    })
}

/// Waits for an event of this reason whose message has the words.
pub(super) fn wait_message(c: &Cluster, name: &str, reason: &str, words: &str) -> Result<()> {
    eventually(SOON, &format!("an event {reason} about {name} says {words:?}"), || {
        let all = c.api.list(&path("Event", TEST, ""))?;
        let about = all.iter().filter(|e| e["involvedObject"]["name"] == name && e["reason"] == reason);
        let texts: Vec<&str> = about.filter_map(|e| e["message"].as_str()).collect();
        ensure!(texts.iter().any(|text| text.contains(words)), "there are {texts:?}");
        Ok(())
    })
}

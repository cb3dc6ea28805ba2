//! What visitors and operators see of an announced Service (1-6, 9-12, 59).

use super::given::vip;
use super::{A_WHILE, EXCLUDE, SHARE};
use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::{
    Cluster, SOON, annotate, eventually, path, service, service_of, visit, visit_udp, with,
};
use serde_json::{Value, json};

pub(super) fn reached(c: &mut Cluster) -> Result<()> {
    let (_, ip, _) = vip(c)?;
    c.wait_reached(&ip, 80)?;
    // Any node's pod may answer, and with policy Cluster several do.
    let mut pods = std::collections::BTreeSet::new();
    for _ in 0..40 {
        pods.insert(visit(&c.lan.client.namespace, ip.parse()?, 80)?);
    }
    ensure!(pods.len() > 1, "only {pods:?} answered");
    // From behind the router as well.
    eventually(SOON, "a client behind the router gets there", || visit(&c.lan.far, ip.parse()?, 80)).map(drop)
}

pub(super) fn l2_status(c: &mut Cluster) -> Result<()> {
    let (_, _, owner) = vip(c)?;
    eventually(SOON, "a ServiceL2Status names the owner", || {
        let statuses = c.l2_statuses("web")?;
        ensure!(statuses.len() == 1 && statuses[0].0 == owner, "{statuses:?}, owner {owner}");
        Ok(())
    })?;
    c.delete_service("web")?;
    eventually(SOON, "the ServiceL2Status goes", || {
        let statuses = c.l2_statuses("web")?;
        ensure!(statuses.is_empty(), "{statuses:?}");
        Ok(())
    })
}

pub(super) fn local_service(name: &str) -> Value {
    with(service(name), json!({ "spec": { "externalTrafficPolicy": "Local" } }))
}

pub(super) fn local(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    for node in [0, 2] {
        c.set_pod(node, false)?;
    }
    c.announce_pool("pool", &[&net.range4(10, 30)])?;
    c.create(&[&local_service("web")])?;
    let ip = c.wait_ip("web")?;
    c.wait_owner_is(&ip, "node2")?;
    ensure!(c.wait_reached(&ip, 80)? == "node2", "another pod answered");
    // The pod moves: so does the VIP.
    c.set_pod(0, true)?;
    c.set_pod(1, false)?;
    c.wait_owner_is(&ip, "node1")?;
    eventually(SOON, "the pod on node1 answers", || {
        let pod = visit(&c.lan.client.namespace, ip.parse()?, 80)?;
        ensure!(pod == "node1", "{pod} answered");
        Ok(())
    })?;
    // Without any endpoint nobody announces.
    c.set_pod(0, false)?;
    c.wait_silence(&ip)
}

pub(super) fn mixed_protocols(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.announce_pool("pool", &[&net.range4(10, 30)])?;
    let ports = json!({ "spec": { "ports": [
        { "name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080 },
        { "name": "udp", "protocol": "UDP", "port": 80, "targetPort": 8053 }
    ] } });
    c.create(&[&with(service("web"), ports)])?;
    let ip = c.wait_ip("web")?;
    c.wait_reached(&ip, 80)?;
    eventually(SOON, "the pod answers over UDP", || visit_udp(&c.lan.client.namespace, ip.parse()?, 80))
        .map(drop)
}

/// `leave` takes a node out of the choice, `back` brings it in again: its VIP moves, and may move back when the others are out.
pub(super) fn leaves_and_may_return(
    c: &mut Cluster,
    leave: impl Fn(&Cluster, usize) -> Result<()>,
    back: impl Fn(&Cluster, usize) -> Result<()>,
) -> Result<()> {
    let (_, ip, owner) = vip(c)?;
    let first = c.node(&owner)?;
    leave(c, first)?;
    let second = c.wait_owner_that(&ip, "another node", |node| node != owner)?;
    c.wait_reached(&ip, 80)?;
    back(c, first)?;
    // It moves once, not twice: the new owner keeps it,
    c.stays_with(&ip, &second, A_WHILE)?;
    // until the first is the only one left.
    for node in (0..3).filter(|n| *n != first) {
        leave(c, node)?;
    }
    c.wait_owner_is(&ip, &owner)?;
    c.wait_reached(&ip, 80).map(drop)
}

pub(super) fn network_unavailable(c: &mut Cluster) -> Result<()> {
    let set = |c: &Cluster, node: usize, on: bool| {
        let at = format!("{}/status", path("Node", "", &c.nodes[node].name));
        let mut conditions =
            c.api.get(&path("Node", "", &c.nodes[node].name))?["status"]["conditions"].clone();
        for condition in conditions.as_array_mut().context("conditions")? {
            if condition["type"] == "NetworkUnavailable" {
                condition["status"] = if on { "True" } else { "False" }.into();
            }
        }
        c.api.merge(&at, &json!({ "status": { "conditions": conditions } })).map(drop)
    };
    leaves_and_may_return(c, |c, node| set(c, node, true), |c, node| set(c, node, false))
}

pub(super) fn excluded(c: &mut Cluster) -> Result<()> {
    leaves_and_may_return(
        c,
        |c, node| c.label_node(node, EXCLUDE, Some("")),
        |c, node| c.label_node(node, EXCLUDE, None),
    )
}

pub(super) fn speaker_away(c: &mut Cluster) -> Result<()> {
    let (_, ip, owner) = vip(c)?;
    let first = c.node(&owner)?;
    c.stop_speaker(first)?;
    let second = c.wait_owner_that(&ip, "another node", |node| node != owner)?;
    c.wait_reached(&ip, 80)?;
    c.start_speaker(first)?;
    c.stays_with(&ip, &second, A_WHILE)?;
    for node in (0..3).filter(|n| *n != first) {
        c.stop_speaker(node)?;
    }
    c.wait_owner_is(&ip, &owner)?;
    c.wait_reached(&ip, 80).map(drop)
}

pub(super) fn shared(c: &mut Cluster, family: &str) -> Result<()> {
    let net = c.fresh();
    let ip = if family == "IPv4" { net.v4(10) } else { net.v6(10) };
    c.announce_pool("pool", &[&format!("{ip}/{}", if family == "IPv4" { 32 } else { 128 })])?;
    let shared = |name: &str, port: u16| {
        let ports = json!({ "spec": { "ports": [{ "name": "http", "port": port, "targetPort": 8080 }] } });
        annotate(with(service_of(name, "SingleStack", &[family]), ports), SHARE, "key")
    };
    c.create(&[&shared("one", 80), &shared("two", 81)])?;
    c.wait_exactly("one", &[&ip])?;
    c.wait_exactly("two", &[&ip])?;
    c.wait_owner(&ip)?;
    c.wait_reached(&ip, 80)?;
    c.wait_reached(&ip, 81)?;
    eventually(SOON, "both statuses name one node", || {
        let nodes: Vec<String> =
            ["one", "two"].iter().flat_map(|s| c.l2_statuses(s).unwrap_or_default()).map(|s| s.0).collect();
        ensure!(nodes.len() == 2 && nodes[0] == nodes[1], "{nodes:?}");
        Ok(())
    })
}

pub(super) fn metrics(c: &mut Cluster, family: &str) -> Result<()> {
    let net = c.fresh();
    let four = family == "IPv4";
    c.announce_pool("metered", &[&if four { net.range4(10, 14) } else { net.range6(10, 14) }])?;
    c.create(&[&service_of("web", "SingleStack", &[family])])?;
    let ip = c.wait_ip("web")?;
    let owner = c.node(&c.wait_owner(&ip)?)?;
    c.wait_reached(&ip, 80)?;
    let gauges: &[(&str, u64)] = if four {
        &[
            ("addresses_total", 5),
            ("addresses_in_use_total", 1),
            ("ipv4_addresses_total", 5),
            ("ipv4_addresses_in_use_total", 1),
        ]
    } else {
        &[
            ("addresses_total", 5),
            ("addresses_in_use_total", 1),
            ("ipv6_addresses_total", 5),
            ("ipv6_addresses_in_use_total", 1),
        ]
    };
    eventually(SOON, "the allocator's gauges", || {
        let text = c.allocator_metrics()?;
        for (name, expected) in gauges {
            let line = format!("metallb_allocator_{name}{{pool=\"metered\"}} {expected}");
            ensure!(text.lines().any(|l| l == line), "no line {line}");
        }
        Ok(())
    })?;
    eventually(SOON, "the speaker's counters", || {
        let text = c.speaker_metrics(owner)?;
        for name in ["requests_received", "responses_sent", "gratuitous_sent"] {
            let value = sample(&text, &format!("metallb_layer2_{name}"), &format!("ip=\"{ip}\""));
            ensure!(value.is_some_and(|v| v > 0.0), "metallb_layer2_{name} of {ip}: {value:?}");
        }
        let announced = sample(&text, "metallb_speaker_announced", &format!("ip=\"{ip}\""));
        ensure!(announced == Some(1.0), "metallb_speaker_announced of {ip}: {announced:?}");
        Ok(())
    })?;
    c.delete_service("web")?;
    eventually(SOON, "nothing of the Service is left in the metrics", || {
        let text = c.speaker_metrics(owner)?;
        let left = sample(&text, "metallb_speaker_announced", &format!("ip=\"{ip}\""));
        ensure!(left.is_none_or(|v| v == 0.0), "still announced: {left:?}");
        let line = "metallb_allocator_addresses_in_use_total{pool=\"metered\"} 0";
        ensure!(c.allocator_metrics()?.lines().any(|l| l == line), "no line {line}");
        Ok(())
    })
}

/// The value of the first sample of this name (exactly: no suffix) with this label.
pub(super) fn sample(text: &str, name: &str, label: &str) -> Option<f64> {
    let line = text
        .lines()
        .find(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')) && l.contains(label))?;
    line.rsplit(' ').next()?.parse().ok()
}

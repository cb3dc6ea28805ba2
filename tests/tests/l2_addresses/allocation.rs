//! Pools that serve some Services only: `serviceAllocation` (23-28).

use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::{Cluster, SOON, TEST, eventually, path, pool, service, with};
use serde_json::{Value, json};

/// A pool of one address with a `serviceAllocation`.
pub(super) fn reserved_pool(name: &str, ip: &str, allocation: Value) -> Value {
    with(pool(name, &[&format!("{ip}/32")]), json!({ "spec": { "serviceAllocation": allocation } }))
}

/// Creates Services in order, and expects each to have the address beside it.
pub(super) fn expect_in_order(c: &Cluster, expected: &[(Value, &str)]) -> Result<()> {
    for (service, ip) in expected {
        c.create(&[service])?;
        let at = path(
            "Service",
            service["metadata"]["namespace"].as_str().context("a namespace")?,
            service["metadata"]["name"].as_str().context("a name")?,
        );
        eventually(SOON, &format!("{at} gets {ip}"), || {
            let ingress = c.api.get(&at)?["status"]["loadBalancer"]["ingress"].clone();
            ensure!(ingress == json!([{ "ip": ip }]) || ingress[0]["ip"] == *ip, "it has {ingress}");
            Ok(())
        })?;
    }
    Ok(())
}

pub(super) fn by_namespace(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let (low, high, last) = (net.v4(10), net.v4(20), net.v4(30));
    c.create(&[
        &reserved_pool("low", &low, json!({ "priority": 20, "namespaces": [TEST] })),
        &reserved_pool("high", &high, json!({ "priority": 10, "namespaces": [TEST] })),
        &reserved_pool("last", &last, json!({ "namespaces": [TEST] })),
        &reserved_pool("foreign", &net.v4(40), json!({ "priority": 1, "namespaces": ["elsewhere"] })),
    ])?;
    expect_in_order(c, &[(service("s1"), &high), (service("s2"), &low), (service("s3"), &last)])?;
    c.create(&[&service("s4")])?;
    c.wait_refused("s4")
}

pub(super) fn by_priority(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let (low, high, none) = (net.v4(10), net.v4(20), net.v4(30));
    c.create(&[
        &reserved_pool("low", &low, json!({ "priority": 20 })),
        &reserved_pool("high", &high, json!({ "priority": 10 })),
        &pool("none", &[&format!("{none}/32")]),
    ])?;
    expect_in_order(c, &[(service("s1"), &high), (service("s2"), &low), (service("s3"), &none)])
}

pub(super) fn label_namespace(c: &Cluster, name: &str, labels: &Value) -> Result<()> {
    c.api.merge(&path("Namespace", "", name), &json!({ "metadata": { "labels": labels } })).map(drop)
}

pub(super) fn by_namespace_or_labels(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let (named, labelled) = (net.v4(10), net.v4(20));
    label_namespace(c, TEST, &json!({ "team": "blue", "tier": "front" }))?;
    let selector = json!([{ "matchLabels": { "team": "blue" }, "matchExpressions": [{ "key": "tier", "operator": "In", "values": ["front"] }] }]);
    c.create(&[
        &reserved_pool("named", &named, json!({ "priority": 20, "namespaces": [TEST] })),
        &reserved_pool("labelled", &labelled, json!({ "priority": 10, "namespaceSelectors": selector })),
        &reserved_pool(
            "foreign",
            &net.v4(30),
            json!({ "priority": 1, "namespaceSelectors": [{ "matchLabels": { "team": "red" } }] }),
        ),
    ])?;
    expect_in_order(c, &[(service("s1"), &labelled), (service("s2"), &named)])?;
    c.create(&[&service("s3")])?;
    c.wait_refused("s3")
}

pub(super) fn labelled(name: &str, label: &str) -> Value {
    with(service(name), json!({ "metadata": { "labels": { "speed": label } } }))
}

pub(super) fn by_service_label(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let (fast, other) = (net.v4(10), net.v4(20));
    let selector = json!({ "priority": 10, "serviceSelectors": [{ "matchExpressions": [{ "key": "speed", "operator": "In", "values": ["fast"] }] }] });
    c.create(&[&reserved_pool("fast", &fast, selector), &pool("other", &[&format!("{other}/32")])])?;
    expect_in_order(c, &[(labelled("s1", "slow"), &other), (labelled("s2", "fast"), &fast)])
}

pub(super) fn by_namespace_and_label(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let (both, other) = (net.v4(10), net.v4(20));
    let select = |namespace: &str| json!({ "priority": 10, "namespaces": [namespace], "serviceSelectors": [{ "matchLabels": { "speed": "fast" } }] });
    c.create(&[
        &reserved_pool("both", &both, select(TEST)),
        &reserved_pool("foreign", &net.v4(30), select("elsewhere")),
        &pool("other", &[&format!("{other}/32")]),
    ])?;
    expect_in_order(c, &[(labelled("s1", "slow"), &other), (labelled("s2", "fast"), &both)])?;
    c.create(&[&labelled("s3", "fast")])?;
    c.wait_refused("s3")
}

pub(super) fn by_changing_labels(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let (before, after) = (net.v4(10), net.v4(20));
    let select = |value: &str, priority: u8| json!({ "priority": priority, "namespaceSelectors": [{ "matchLabels": { "phase": value } }] });
    label_namespace(c, TEST, &json!({ "phase": "before" }))?;
    c.create(&[
        &reserved_pool("before", &before, select("before", 10)),
        &reserved_pool("after", &after, select("after", 5)),
    ])?;
    expect_in_order(c, &[(service("s1"), &before)])?;
    c.create(&[&service("s2")])?;
    c.wait_refused("s2")?;
    label_namespace(c, TEST, &json!({ "phase": "after" }))?;
    // The pool "after" has one address: one of the two has it now, and none is without reason in "before".
    eventually(SOON, "an address of the pool that the labels select now", || {
        let ips = [c.ips("s1")?, c.ips("s2")?].concat();
        ensure!(ips.contains(&after), "{ips:?}");
        Ok(())
    })
}

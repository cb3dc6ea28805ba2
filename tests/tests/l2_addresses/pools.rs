//! Which address of which pool, and what frees one (7, 8, 13-22, N4-N7).

use super::{ADDRESSES, FROM, POOL, SHARE};
use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::scenarios::is_long;
use causeway_tests::cluster::{
    Cluster, Net, SOON, SYSTEM, TEST, annotate, eventually, path, pool, service, service_of, throughout, with,
};
use serde_json::json;
use std::time::Duration;

pub(super) fn range(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("range", &[&net.range4(10, 12)]), &service("web")])?;
    c.wait_exactly("web", &[&net.v4(10)])?;
    c.wait_event("web", "IPAllocated")?;
    eventually(SOON, "the pool's name is noted on the Service", || {
        let web = c.api.get(&path("Service", TEST, "web"))?;
        ensure!(web["metadata"]["annotations"][FROM] == "range", "{}", web["metadata"]["annotations"]);
        Ok(())
    })
}

pub(super) fn prefix(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("prefix", &[&format!("{}/30", net.v4(20))]), &service("web")])?;
    let ip = c.wait_ip("web")?;
    ensure!((20..24).any(|last| net.v4(last) == ip), "{ip} is not in the prefix");
    Ok(())
}

pub(super) fn picks_pool(c: &mut Cluster, family: &str, auto: bool) -> Result<()> {
    let (one, two) = (c.fresh(), c.fresh());
    let addresses = |net: Net| {
        if family == "IPv4" { net.range4(10, 14) } else { net.range6(10, 14) }
    };
    let chosen = with(pool("chosen", &[&addresses(two)]), json!({ "spec": { "autoAssign": auto } }));
    c.create(&[&pool("default", &[&addresses(one)]), &chosen])?;
    c.create(&[&annotate(service_of("picky", "SingleStack", &[family]), POOL, "chosen")])?;
    c.wait_exactly("picky", &[&if family == "IPv4" { two.v4(10) } else { two.v6(10) }])?;
    // Without the annotation a pool that does not assign by itself is never taken.
    c.create(&[&service_of("plain", "SingleStack", &[family])])?;
    let plain = c.wait_ip("plain")?;
    let expected = if family == "IPv4" { one.v4(10) } else { one.v6(10) };
    ensure!(auto || plain == expected, "{plain} comes from a pool without autoAssign");
    Ok(())
}

/// A pool of one address, a Service that has it and one that waits for it.
pub(super) fn one_has_one_waits(c: &mut Cluster) -> Result<String> {
    let ip = c.fresh().v4(10);
    c.create(&[&pool("single", &[&format!("{ip}/32")]), &service("has")])?;
    c.wait_exactly("has", &[&ip])?;
    c.create(&[&service("waits")])?;
    c.wait_refused("waits")?;
    Ok(ip)
}

pub(super) fn frees_by_type(c: &mut Cluster) -> Result<()> {
    let ip = one_has_one_waits(c)?;
    c.patch_service("has", &json!({ "spec": { "type": "ClusterIP" } }))?;
    c.wait_exactly("waits", &[&ip])?;
    c.wait_exactly("has", &[])
}

pub(super) fn frees_by_deletion(c: &mut Cluster) -> Result<()> {
    let ip = one_has_one_waits(c)?;
    c.delete_service("has")?;
    c.wait_exactly("waits", &[&ip])
}

pub(super) fn restart_moves_nothing(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("pair", &[&net.range4(10, 11)]), &service("a")])?;
    c.wait_exactly("a", &[&net.v4(10)])?;
    c.create(&[&service("b")])?;
    c.wait_exactly("b", &[&net.v4(11)])?;
    c.create(&[&service("c"), &service("d")])?;
    c.wait_refused("c")?;
    for _ in 0..if is_long() { 5 } else { 1 } {
        c.restart_allocators()?;
        // A restarted allocator that had forgotten anything would give an address to one that waits.
        throughout(Duration::from_millis(1500), "nothing moves", || {
            let now = [c.ips("a")?, c.ips("b")?, c.ips("c")?, c.ips("d")?];
            ensure!(now == [vec![net.v4(10)], vec![net.v4(11)], vec![], vec![]], "{now:?}");
            Ok(())
        })?;
    }
    // And they are at work again.
    c.delete_service("a")?;
    eventually(2 * SOON, "one that waited gets the freed address", || {
        ensure!(c.ips("c")?.len() + c.ips("d")?.len() == 1, "both still wait");
        Ok(())
    })
}

pub(super) fn sharing_is_judged_anew(c: &mut Cluster) -> Result<()> {
    let ip = c.fresh().v4(10);
    c.create(&[&pool("single", &[&format!("{ip}/32")])])?;
    let shared = |name: &str, port: u16| {
        annotate(
            with(
                service(name),
                json!({ "spec": { "ports": [{ "name": "http", "port": port, "targetPort": 8080 }] } }),
            ),
            SHARE,
            "key",
        )
    };
    let policy = |name: &str, policy: &str| {
        c.patch_service(name, &json!({ "spec": { "externalTrafficPolicy": policy } }))
    };
    let select =
        |name: &str, app: &str| c.patch_service(name, &json!({ "spec": { "selector": { "app": app } } }));
    c.create(&[&shared("first", 80)])?;
    c.wait_exactly("first", &[&ip])?;
    c.create(&[&shared("second", 81)])?;
    c.wait_exactly("second", &[&ip])?;
    // Local and Cluster never share.
    policy("second", "Local")?;
    c.wait_exactly("second", &[])?;
    c.wait_exactly("first", &[&ip])?;
    // Local and Local share with the same selector,
    policy("first", "Local")?;
    c.wait_exactly("second", &[&ip])?;
    c.wait_exactly("first", &[&ip])?;
    // but not with another: then the one that changed loses it.
    select("first", "other")?;
    c.wait_exactly("first", &[])?;
    c.wait_exactly("second", &[&ip])?;
    select("second", "other")?;
    c.wait_exactly("first", &[&ip])?;
    c.wait_exactly("second", &[&ip])
}

pub(super) fn no_pools_no_address(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("a", &[&net.range4(10, 11)]), &pool("b", &[&net.range4(20, 21)]), &service("web")])?;
    c.wait_ip("web")?;
    c.api.delete(&path("IPAddressPool", SYSTEM, ""))?;
    c.wait_exactly("web", &[])?;
    c.wait_event("web", "ClearAssignment")
}

pub(super) fn deleted_pool(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let first = with(
        pool("first", &[&net.range4(10, 10)]),
        json!({ "spec": { "serviceAllocation": { "priority": 1 } } }),
    );
    c.create(&[&first, &pool("second", &[&net.range4(20, 20)]), &service("web")])?;
    c.wait_exactly("web", &[&net.v4(10)])?;
    c.api.delete(&path("IPAddressPool", SYSTEM, "first"))?;
    c.wait_exactly("web", &[&net.v4(20)])
}

pub(super) fn replaced_before_taken(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("pool", &[&net.range4(10, 12)]), &service("taken")])?;
    c.wait_exactly("taken", &[&net.v4(10)])?;
    c.create(&[&service("web")])?;
    c.wait_exactly("web", &[&net.v4(11)])?;
    let ask = |ip: &str| c.patch_service("web", &json!({ "metadata": { "annotations": { ADDRESSES: ip } } }));
    ask(&net.v4(10))?;
    c.wait_event("web", "AllocationFailed")?;
    c.wait_exactly("web", &[&net.v4(11)])?;
    ask(&net.v4(12))?;
    c.wait_exactly("web", &[&net.v4(12)])
}

pub(super) fn standby_takes_over(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("pool", &[&net.range4(10, 20)]), &service("before")])?;
    c.wait_ip("before")?;
    let holder = |c: &Cluster| -> Result<String> {
        let leases = c.api.list(&path("Lease", SYSTEM, ""))?;
        let mut holders = leases.iter().filter_map(|l| l["spec"]["holderIdentity"].as_str());
        Ok(holders.find(|h| h.contains("controller-")).context("nobody leads")?.to_owned())
    };
    let leader = holder(c)?;
    let index = usize::from(leader.contains("controller-1"));
    c.allocators[index].kill();
    c.create(&[&service("after")])?;
    c.wait_exactly("after", &[&net.v4(11)])?;
    c.wait_exactly("before", &[&net.v4(10)])
}

pub(super) fn exhausted(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("pool", &[&net.range4(10, 10)]), &service("a")])?;
    c.wait_ip("a")?;
    c.create(&[&service("b")])?;
    c.wait_refused("b")?;
    c.respec("IPAddressPool", "pool", &json!({ "addresses": [net.range4(10, 11)] }))?;
    c.wait_exactly("b", &[&net.v4(11)])
}

pub(super) fn two_ask(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let ask = |name: &str| annotate(service(name), ADDRESSES, &net.v4(15));
    c.create(&[&pool("pool", &[&net.range4(10, 20)]), &ask("first")])?;
    c.wait_exactly("first", &[&net.v4(15)])?;
    c.create(&[&ask("second")])?;
    c.wait_refused("second")?;
    c.wait_exactly("first", &[&net.v4(15)])?;
    c.delete_service("first")?;
    c.wait_exactly("second", &[&net.v4(15)])
}

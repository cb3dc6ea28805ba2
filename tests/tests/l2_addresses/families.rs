//! Services of two families, and the counters of both (29-36).

use anyhow::{Result, ensure};
use causeway_tests::cluster::{Cluster, Net, SOON, SYSTEM, eventually, path, pool, service_of, with};
use serde_json::{Value, json};

pub(super) fn both(net: Net, last: u8) -> Vec<String> {
    vec![net.range4(last, last), net.range6(last, last)]
}

pub(super) fn dual_pool(name: &str, net: Net, last: u8) -> Value {
    let addresses = both(net, last);
    pool(name, &[&addresses[0], &addresses[1]])
}

pub(super) const BOTH: &[&str] = &["IPv4", "IPv6"];

pub(super) fn prefers_dual_pool(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[
        &pool("v4", &[&net.range4(10, 10)]),
        &pool("v6", &[&net.range6(10, 10)]),
        &dual_pool("dual", net, 20),
    ])?;
    c.create(&[&service_of("web", "PreferDualStack", BOTH)])?;
    let ips = c.wait_ips("web", 2)?;
    ensure!(ips == [net.v4(20), net.v6(20)], "{ips:?}");
    Ok(())
}

pub(super) fn prefers_family(c: &mut Cluster, families: &[&str], which: usize) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("v6", &[&net.range6(10, 10)]), &pool("v4", &[&net.range4(10, 10)])])?;
    c.create(&[&service_of("web", "PreferDualStack", families)])?;
    c.wait_exactly("web", &[&[net.v4(10), net.v6(10)][which]])
}

pub(super) fn becomes_dual(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("pool", &[&net.range4(10, 10)]), &service_of("web", "PreferDualStack", BOTH)])?;
    c.wait_exactly("web", &[&net.v4(10)])?;
    c.respec("IPAddressPool", "pool", &json!({ "addresses": [net.range4(5, 12), net.range6(10, 12)] }))?;
    c.wait_exactly("web", &[&net.v4(10), &net.v6(10)])
}

pub(super) fn prefer_require(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let policy = |policy: &str| c.patch_service("web", &json!({ "spec": { "ipFamilyPolicy": policy } }));
    c.create(&[&pool("pool", &[&net.range4(10, 10)]), &service_of("web", "PreferDualStack", BOTH)])?;
    c.wait_exactly("web", &[&net.v4(10)])?;
    policy("RequireDualStack")?;
    // MetalLB would take the address away; it stays until both families can be given, and the trouble is told.
    c.wait_event("web", "AllocationFailed")?;
    c.wait_exactly("web", &[&net.v4(10)])?;
    policy("PreferDualStack")?;
    c.wait_exactly("web", &[&net.v4(10)])?;
    // A new one that requires both gets nothing at all.
    c.create(&[&service_of("strict", "RequireDualStack", BOTH)])?;
    c.wait_refused("strict")
}

pub(super) fn no_jump(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("v4", &[&net.range4(10, 10)]), &service_of("web", "PreferDualStack", BOTH)])?;
    c.wait_exactly("web", &[&net.v4(10)])?;
    c.create(&[&dual_pool("dual", net, 20), &service_of("later", "PreferDualStack", BOTH)])?;
    c.wait_exactly("later", &[&net.v4(20), &net.v6(20)])?;
    c.wait_exactly("web", &[&net.v4(10)])
}

pub(super) fn becomes_single(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let first =
        with(dual_pool("first", net, 10), json!({ "spec": { "serviceAllocation": { "priority": 1 } } }));
    c.create(&[&first, &dual_pool("second", net, 20), &service_of("web", "RequireDualStack", BOTH)])?;
    c.wait_exactly("web", &[&net.v4(10), &net.v6(10)])?;
    c.respec(
        "IPAddressPool",
        "first",
        &json!({ "addresses": [net.range4(10, 10)], "serviceAllocation": { "priority": 1 } }),
    )?;
    c.wait_exactly("web", &[&net.v4(20), &net.v6(20)])
}

pub(super) fn counters(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let expect = |assigned: [u8; 2], available: [u8; 2]| {
        eventually(SOON, "the pool's counters", || {
            let status = c.api.get(&path("IPAddressPool", SYSTEM, "pool"))?["status"].clone();
            let now = ["assignedIPv4", "assignedIPv6", "availableIPv4", "availableIPv6"]
                .map(|k| status[k].as_u64());
            let expected = [assigned[0], assigned[1], available[0], available[1]].map(|n| Some(u64::from(n)));
            ensure!(now == expected, "{now:?}, not {expected:?}");
            Ok(())
        })
    };
    c.create(&[&pool("pool", &[&net.range4(10, 13), &net.range6(10, 11)])])?;
    expect([0, 0], [4, 2])?;
    c.create(&[
        &service_of("dual", "RequireDualStack", BOTH),
        &service_of("single", "SingleStack", &["IPv4"]),
    ])?;
    c.wait_ips("dual", 2)?;
    c.wait_ip("single")?;
    expect([2, 1], [2, 1])?;
    c.delete_service("single")?;
    expect([1, 1], [3, 1])?;
    c.respec("IPAddressPool", "pool", &json!({ "addresses": [net.range4(10, 17), net.range6(10, 11)] }))?;
    expect([1, 1], [7, 1])
}

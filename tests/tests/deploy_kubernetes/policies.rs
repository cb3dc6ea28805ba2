//! The shipped NetworkPolicies as filters of the hosts that stand for pods: what a network plugin makes of them, so that
//! a program that needs more than its policy lets through does not do its work.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::{Cluster, Host, Namespace, PodServer, SOON, eventually};
use serde_json::Value;

/// A port that no policy names.
const OTHER: u16 = 9999;
/// A packet that is dropped is not answered: long enough on the test's own wire.
const NO_ANSWER: Duration = Duration::from_secs(1);

/// Lets through what the policy does, and nothing else; what has no ports (ARP) passes, and its like for IPv6.
pub(super) fn enforce(namespace: &Namespace, policy: &Value) -> Result<()> {
    let spec = &policy["spec"];
    let mut rules = String::from("table inet shipped {\n");
    for (hook, direction, device) in [("input", "ingress", "iif"), ("output", "egress", "oif")] {
        let types = spec["policyTypes"].as_array().context("no policyTypes")?;
        ensure!(types.iter().any(|one| one.as_str().is_some_and(|one| one.eq_ignore_ascii_case(direction))));
        // The second: kube-proxy's connections are older than the filter, which takes them for new ones.
        let _ = writeln!(
            rules,
            " chain {hook} {{\n  type filter hook {hook} priority 0; policy drop;\n  {device} lo accept\n  \
             ct state established,related accept\n  tcp flags & syn != syn accept\n  \
             icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept"
        );
        for rule in spec[direction].as_array().into_iter().flatten() {
            ensure!(
                rule.as_object().is_some_and(|rule| rule.len() == 1),
                "this test knows ports only: {rule}"
            );
            for port in rule["ports"].as_array().context("no ports")? {
                let protocol = port["protocol"].as_str().context("no protocol")?.to_lowercase();
                let _ = writeln!(rules, "  {protocol} dport {} accept", port["port"]);
            }
        }
        rules.push_str(" }\n");
    }
    namespace.nft(&(rules + "}\n"))
}

/// Whoever scrapes metrics reaches the allocator's port, and no other; it reaches nobody but the API server.
pub(super) fn are_felt(c: &Cluster, home: &Host) -> Result<()> {
    let (client, peer) = (&c.lan.client, &home.v4);
    let metrics = format!("http://{peer}:17472/metrics");
    eventually(SOON, "Prometheus has the allocator's metrics", || {
        let text = client.namespace.output("curl", &["-sSm5", &metrics])?;
        ensure!(text.contains("causeway_allocator_leader_bool"), "{text}");
        Ok(())
    })?;
    let _inside = PodServer::start_on(&home.namespace, &[OTHER], "inside")?;
    let _outside = PodServer::start_on(&client.namespace, &[OTHER], "outside")?;
    let ask = |from: &Namespace, to: &Host| {
        let limit = NO_ANSWER.as_secs().to_string();
        from.output("curl", &["-sSm", &limit, &format!("http://{}:{OTHER}/", to.v4)])
    };
    // Both servers answer where nothing is in the way.
    ensure!(ask(&home.namespace, home)? == "inside" && ask(&client.namespace, client)? == "outside");
    for (from, to) in [(client, home), (home, client)] {
        let answer = ask(&from.namespace, to);
        ensure!(answer.is_err(), "{} reaches {}: {answer:?}", from.name, to.name);
    }
    Ok(())
}

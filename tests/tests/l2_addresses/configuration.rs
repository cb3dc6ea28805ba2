//! What is asked for wrongly, how people learn of it (58, 60-65, N1-N3), and what the programs may do at all (H190).

use super::families::BOTH;
use super::{ADDRESSES, POOL};
use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::{
    Api, Cluster, SOON, SYSTEM, TEST, annotate, eventually, is_status, path, pool, service, service_of, with,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(super) fn foreign_class(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let foreign = with(service("foreign"), json!({ "spec": { "loadBalancerClass": "example.net/other" } }));
    c.create(&[&pool("pool", &[&net.range4(10, 12)]), &foreign])?;
    // One created later has its address: the foreign one was seen and left alone.
    c.create(&[&service("ours")])?;
    c.wait_exactly("ours", &[&net.v4(10)])?;
    ensure!(c.ips("foreign")?.is_empty(), "it has {:?}", c.ips("foreign")?);
    ensure!(c.events("foreign")?.is_empty(), "there are events about it: {:?}", c.events("foreign")?);
    Ok(())
}

pub(super) fn overlap(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("one", &[&net.range4(10, 20)]), &service("web")])?;
    c.wait_ip("web")?;
    c.create(&[&pool("two", &[&net.range4(15, 30)])])?;
    wait_pool_invalid(c, "two", "one")?;
    c.create(&[&annotate(service("asks"), POOL, "two")])?;
    c.wait_refused("asks")?;
    // The first is not disturbed.
    c.create(&[&annotate(service("fine"), POOL, "one")])?;
    c.wait_exactly("fine", &[&net.v4(11)])
}

/// Waits for a condition on the pool that says it cannot be used, in words that name `word`.
pub(super) fn wait_pool_invalid(c: &Cluster, name: &str, word: &str) -> Result<()> {
    eventually(SOON, &format!("the pool {name} says what is wrong"), || {
        let status = c.api.get(&path("IPAddressPool", SYSTEM, name))?["status"].clone();
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let told = conditions.iter().any(|c| {
            c["type"] == "Valid"
                && c["status"] == "False"
                && c["message"].as_str().is_some_and(|m| m.contains(word))
        });
        ensure!(told, "{status}");
        Ok(())
    })
}

pub(super) fn pool_elsewhere(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let stray = with(pool("stray", &[&net.range4(10, 20)]), json!({ "metadata": { "namespace": TEST } }));
    c.create(&[&stray, &service("web")])?;
    let refused = c.wait_refused("web");
    c.api.delete(&path("IPAddressPool", TEST, "stray"))?;
    refused
}

pub(super) fn states(c: &Cluster) -> Result<Vec<Value>> {
    c.api.list(&path("ConfigurationState", SYSTEM, ""))
}

pub(super) fn wait_all_valid(c: &Cluster) -> Result<()> {
    eventually(SOON, "every ConfigurationState is Valid", || {
        let states = states(c)?;
        let kinds = |kind: &str| {
            states.iter().filter(|s| s["metadata"]["labels"]["metallb.io/component-type"] == kind).count()
        };
        ensure!(
            kinds("controller") >= 1 && kinds("speaker") == c.nodes.len(),
            "there are {} states",
            states.len()
        );
        for state in &states {
            ensure!(
                state["status"]["result"] == "Valid",
                "{}: {}",
                state["metadata"]["name"],
                state["status"]
            );
        }
        Ok(())
    })
}

pub(super) fn all_valid(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.announce_pool("good", &[&net.range4(10, 20)])?;
    wait_all_valid(c)
}

pub(super) fn wait_one_invalid(c: &Cluster) -> Result<Value> {
    eventually(SOON, "a ConfigurationState is Invalid and says why", || {
        let states = states(c)?;
        let invalid = states.iter().find(|s| s["status"]["result"] == "Invalid").context("all are well")?;
        let summary = invalid["status"]["errorSummary"].as_str().unwrap_or_default();
        ensure!(!summary.is_empty(), "no errorSummary");
        Ok(invalid.clone())
    })
}

pub(super) fn invalid_then_valid(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("one", &[&net.range4(10, 20)]), &pool("two", &[&net.range4(15, 30)])])?;
    let state = wait_one_invalid(c)?;
    let summary = state["status"]["errorSummary"].as_str().unwrap_or_default();
    ensure!(summary.contains("one") && summary.contains("two"), "{summary}");
    c.api.delete(&path("IPAddressPool", SYSTEM, "two"))?;
    wait_all_valid(c)
}

pub(super) fn state_heals(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("one", &[&net.range4(10, 20)]), &pool("two", &[&net.range4(15, 30)])])?;
    let state = wait_one_invalid(c)?;
    let name = state["metadata"]["name"].as_str().context("a name")?;
    c.api.delete(&path("ConfigurationState", SYSTEM, name))?;
    let uid = state["metadata"]["uid"].clone();
    eventually(SOON, "it comes back, still Invalid", || {
        let again = wait_one_invalid(c)?;
        ensure!(again["metadata"]["uid"] != uid, "it is the old one");
        Ok(())
    })
}

pub(super) fn ways_to_ask(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let address = |last: u8| net.v4(last);
    c.create(&[&pool("pool", &[&net.range4(10, 40), &net.range6(10, 40)])])?;
    let old = |key: &str| format!("metallb.universe.tf/{key}");
    c.create(&[
        &annotate(service("new"), ADDRESSES, &address(30)),
        &annotate(service("old"), &old("loadBalancerIPs"), &address(31)),
        &with(service("spec"), json!({ "spec": { "loadBalancerIP": address(32) } })),
        &annotate(
            service_of("pair", "RequireDualStack", BOTH),
            ADDRESSES,
            &format!("{},{}", net.v6(33), address(33)),
        ),
        &annotate(
            with(service("both"), json!({ "spec": { "loadBalancerIP": address(34) } })),
            ADDRESSES,
            &address(34),
        ),
        &annotate(service("family"), ADDRESSES, &net.v6(35)),
        &annotate(service("outside"), ADDRESSES, "10.77.250.1"),
        &annotate(service("unknown"), &old("address-pool"), "no-such-pool"),
    ])?;
    c.wait_exactly("new", &[&address(30)])?;
    c.wait_exactly("old", &[&address(31)])?;
    c.wait_event("old", "deprecatedAnnotation")?;
    c.wait_exactly("spec", &[&address(32)])?;
    c.wait_exactly("pair", &[&address(33), &net.v6(33)])?;
    for refused in ["both", "family", "outside", "unknown"] {
        c.wait_refused(refused)?;
    }
    // Two ways at once are refused, and what it has stays.
    c.patch_service("new", &json!({ "spec": { "loadBalancerIP": address(36) } }))?;
    c.wait_event("new", "LoadBalancerFailed")?;
    c.wait_exactly("new", &[&address(30)])
}

pub(super) fn bad_ranges(c: &mut Cluster) -> Result<()> {
    let bad: &[&[&str]] = &[
        &[],
        &["10.77.1.1"],
        &["10.77.1.9-10.77.1.1"],
        &["10.77.1.0/33"],
        &["10.77.1.1-fd77::1"],
        &["fd77::/129"],
        &["nonsense"],
        &["10.77.1.1-10.77.1.2-10.77.1.3"],
        &[""],
        &["300.1.1.1/32"],
    ];
    for addresses in bad {
        let refused = c.api.create(&path("IPAddressPool", SYSTEM, ""), &pool("bad", addresses));
        match refused {
            Err(error) if is_status(&error, 422) => {}
            Err(error) => return Err(error.context(format!("{addresses:?}"))),
            Ok(_) => anyhow::bail!("the API server took {addresses:?}"),
        }
    }
    let net = c.fresh();
    let good = [
        net.range4(1, 2),
        format!("{} - {}", net.v4(10), net.v4(12)),
        format!("{}/30", net.v4(21)),
        net.range6(1, 2),
        "fd77:0:0:1::/64".into(),
    ];
    let good: Vec<&str> = good.iter().map(String::as_str).collect();
    c.create(&[&pool("good", &good)])
}

pub(super) fn reserved(c: &mut Cluster) -> Result<()> {
    // The router, the client, the control plane and every node are in this one.
    c.create(&[&pool("wide", &["10.77.0.0/28"])])?;
    eventually(SOON, "the pool tells of the overlap", || {
        let status = c.api.get(&path("IPAddressPool", SYSTEM, "wide"))?["status"].clone();
        ensure!(status.to_string().contains("10.77.0.11"), "{status}");
        Ok(())
    })?;
    let node = annotate(service("node"), ADDRESSES, "10.77.0.11");
    let gateway = annotate(service("gateway"), ADDRESSES, "10.77.0.1");
    c.create(&[&node, &gateway])?;
    c.wait_refused("node")?;
    c.wait_refused("gateway")
}

/// What an account may do: verbs, API group, resources; the only object, or any; the only namespace, or all.
type Grant = (&'static str, &'static str, &'static str, &'static str, &'static str);

const METALLB: &str = "metallb.io";
const LEASES: &str = "coordination.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

/// All that a speaker does at the API server.
const SPEAKER: &[Grant] = &[
    ("list watch", "", "services nodes", "", ""),
    ("list watch", "discovery.k8s.io", "endpointslices", "", ""),
    ("patch", "", "services/status", "", ""),
    ("create", "", "events", "", ""),
    ("list watch", METALLB, "ipaddresspools l2advertisements", "", SYSTEM),
    ("list watch create patch delete", METALLB, "servicel2statuses", "", SYSTEM),
    ("list watch create patch", METALLB, "configurationstates", "", SYSTEM),
    ("patch", METALLB, "servicel2statuses/status configurationstates/status", "", SYSTEM),
];

const ALLOCATOR: &[Grant] = &[
    ("get list watch", "", "services", "", ""),
    ("list watch", "", "namespaces nodes", "", ""),
    ("patch", "", "services/status", "", ""),
    ("create", "", "events", "", ""),
    ("list", "networking.k8s.io", "servicecidrs", "", ""),
    ("list", "discovery.k8s.io", "endpointslices", "", ""),
    ("list watch", METALLB, "ipaddresspools l2advertisements configurationstates", "", SYSTEM),
    ("list", METALLB, "bgpadvertisements bgppeers bfdprofiles communities", "", SYSTEM),
    ("list", METALLB, "servicel2statuses", "", SYSTEM),
    ("patch", METALLB, "ipaddresspools/status", "", SYSTEM),
    ("create", METALLB, "configurationstates", "", SYSTEM),
    ("patch", METALLB, "configurationstates configurationstates/status", "controller", SYSTEM),
    ("create", "", "secrets", "", SYSTEM),
    ("create", LEASES, "leases", "", SYSTEM),
    ("get list watch update", LEASES, "leases", "causeway-allocator", SYSTEM),
];

/// What somebody who has a token would like to do.
const TEMPTING: &[Grant] = &[
    ("get list watch create update patch delete", "", "secrets", "", ""),
    ("get", "", "secrets", "memberlist", ""),
    (
        "create update patch delete deletecollection",
        "",
        "services nodes namespaces configmaps endpoints",
        "",
        "",
    ),
    ("update", "", "services/status nodes/status", "", ""),
    ("get create update patch delete", "", "pods", "", ""),
    ("get create", "", "pods/exec pods/attach pods/portforward pods/log nodes/proxy services/proxy", "", ""),
    ("create", "", "serviceaccounts serviceaccounts/token pods/eviction bindings", "", ""),
    ("impersonate", "", "users groups serviceaccounts", "", ""),
    ("get update patch delete deletecollection", "", "events", "", ""),
    ("create update patch delete", "discovery.k8s.io", "endpointslices", "", ""),
    ("create update patch delete", METALLB, "ipaddresspools l2advertisements bgppeers", "", ""),
    ("update patch", METALLB, "ipaddresspools/status l2advertisements/status", "", ""),
    ("deletecollection", METALLB, "servicel2statuses configurationstates", "", ""),
    ("create update patch delete", LEASES, "leases", "", ""),
    ("update", LEASES, "leases", "causeway-allocator", ""),
    ("create update patch delete bind escalate", RBAC, "roles clusterroles", "", ""),
    ("create update patch delete", RBAC, "rolebindings clusterrolebindings", "", ""),
    ("create patch", "apps", "daemonsets deployments", "", ""),
    ("create patch", "apiextensions.k8s.io", "customresourcedefinitions", "", ""),
    ("create patch", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "", ""),
    ("create approve", "certificates.k8s.io", "certificatesigningrequests signers", "", ""),
    ("*", "*", "*", "", ""),
];

pub(super) fn stolen_token(c: &mut Cluster) -> Result<()> {
    c.create(&[&service("web")])?;
    for (account, grants) in [("causeway-speaker", SPEAKER), ("causeway-allocator", ALLOCATOR)] {
        let outcome = judged(c, account, grants)
            .and_then(|()| nothing_else(c, account, grants))
            .and_then(|()| tried(c, account));
        outcome.with_context(|| account.to_owned())?;
    }
    Ok(())
}

/// Verb, group, resource, and the object's name or nothing.
type Action = [String; 4];

/// Everything that the grants say of a namespace.
fn within(grants: &[Grant], namespace: &str) -> BTreeSet<Action> {
    let here = grants.iter().filter(|(.., only)| only.is_empty() || *only == namespace);
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    here.flat_map(|(verbs, group, resources, name, _)| {
        combined(&[words(verbs), words(group), words(resources), words(name)])
    })
    .collect()
}

/// Asks the API server about each thing that is needed or tempting, here and elsewhere.
fn judged(c: &Cluster, account: &str, grants: &[Grant]) -> Result<()> {
    let groups =
        ["system:serviceaccounts", &format!("system:serviceaccounts:{SYSTEM}"), "system:authenticated"];
    for namespace in [SYSTEM, TEST, "kube-system"] {
        let granted = within(grants, namespace);
        for action in granted.union(&within(TEMPTING, namespace)) {
            let [verb, group, resource, name] = action;
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                "spec": {
                    "user": format!("system:serviceaccount:{SYSTEM}:{account}"), "groups": groups,
                    "resourceAttributes": {
                        "verb": verb, "group": group, "resource": resource, "subresource": subresource,
                        "name": name, "namespace": namespace,
                    },
                },
            });
            let answer = c.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review)?;
            let allowed = answer["status"]["allowed"] == true;
            ensure!(allowed == granted.contains(action), "{action:?} in {namespace}: allowed is {allowed}");
        }
    }
    Ok(())
}

/// The account's rules in a namespace are those that are listed here, and no more.
fn nothing_else(c: &Cluster, account: &str, grants: &[Grant]) -> Result<()> {
    for namespace in [SYSTEM, TEST] {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
            "spec": { "namespace": namespace },
        });
        let answer =
            thief(c, account)?.create("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &review)?;
        ensure!(answer["status"]["incomplete"] == false, "{}", answer["status"]);
        let list = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let mut rules: BTreeSet<Action> = BTreeSet::new();
        for rule in answer["status"]["resourceRules"].as_array().context("no rules")? {
            let mut names = list(&rule["resourceNames"]);
            if names.is_empty() {
                names.push(String::new());
            }
            let lists = [list(&rule["verbs"]), list(&rule["apiGroups"]), list(&rule["resources"]), names];
            rules.extend(combined(&lists));
        }
        // Whoever has a token may ask what it is good for.
        rules.retain(|[_, _, resource, _]| !resource.starts_with("selfsubject"));
        let expected = within(grants, namespace);
        let (more, less) = (rules.difference(&expected), expected.difference(&rules));
        let (more, less): (Vec<_>, Vec<_>) = (more.collect(), less.collect());
        ensure!(more.is_empty() && less.is_empty(), "in {namespace}: too much: {more:?}; missing: {less:?}");
    }
    Ok(())
}

/// One of each list, in all ways.
fn combined([verbs, groups, resources, names]: &[Vec<String>; 4]) -> BTreeSet<Action> {
    let mut all = BTreeSet::new();
    for (verb, group) in verbs.iter().flat_map(|verb| groups.iter().map(move |group| (verb, group))) {
        for (resource, name) in resources.iter().flat_map(|one| names.iter().map(move |name| (one, name))) {
            all.insert([verb, group, resource, name].map(String::clone));
        }
    }
    all
}

/// The API server as one sees it who has the account's token.
fn thief(c: &Cluster, account: &str) -> Result<Api> {
    let control = &c.lan.control;
    Api::new(&control.namespace, &format!("https://{}:6443", control.v4), account)
}

/// The same in deeds: a Secret is not read, and no way leads to a Service's spec.
fn tried(c: &Cluster, account: &str) -> Result<()> {
    let thief = thief(c, account)?;
    let at = path("Service", TEST, "web");
    let evil =
        json!({ "spec": { "ports": [{ "port": 80, "targetPort": 22 }], "externalIPs": ["10.77.0.1"] } });
    let refused = [
        thief.get(&path("Secret", SYSTEM, "memberlist")),
        thief.get(&path("Secret", TEST, "")),
        thief.merge(&at, &evil),
        thief.create(&path("Service", TEST, ""), &service("more")),
    ];
    for answer in refused {
        ensure!(answer.as_ref().is_err_and(|error| is_status(error, 403)), "{answer:?}");
    }
    let before = c.api.get(&at)?["spec"].clone();
    // Allowed, and of no use: what is not status is left out.
    thief.merge(&format!("{at}/status"), &evil)?;
    let after = c.api.get(&at)?["spec"].clone();
    ensure!(after == before, "the spec was {before}, and is {after}");
    Ok(())
}

//! Allocator and speakers at work under the shipped roles and network policies, and what of the roles they used.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::{Asked, Cluster, SOON, SYSTEM, TEST, annotate, eventually, path, service};
use serde_json::{Value, json};

use super::policies;
use super::rendered::{folder, kustomize};

/// Verb, group, resource and name as a rule has them.
type Allowed = (String, String, String, String);

pub(super) fn walk() -> Result<()> {
    let mut cluster = Cluster::bare("roles", 3)?;
    let walked = live(&mut cluster).and_then(|()| used(&cluster));
    if walked.is_err() {
        println!("{}logs are in {}", cluster.tails(20), cluster.keep_logs().display());
    }
    walked
}

fn live(c: &mut Cluster) -> Result<()> {
    c.install()?;
    let shipped = kustomize(&folder())?;
    let policy = |name: &str| shipped.get(&format!("NetworkPolicy/{name}")).context("no policy");
    let homes = vec![c.lan.plug_host("alloc1", 4)?, c.lan.plug_host("alloc2", 5)?];
    for home in &homes {
        policies::enforce(&home.namespace, policy("causeway-allocator")?)?;
    }
    for node in &c.nodes {
        policies::enforce(&node.host.host.namespace, policy("causeway-speaker")?)?;
    }
    c.house_allocators(homes.clone());
    c.start_all()?;
    policies::are_felt(c, &homes[0])?;
    c.wait_member(0)?;

    let owner = announced(c)?;
    told(c)?;
    restored(c)?;
    owner_dies(c, &owner)?;
    conflict(c)?;
    given_back(c)?;
    leader_ends(c)
}

/// A Service gets an address, somebody answers for it, and the client reaches a pod.
fn announced(c: &mut Cluster) -> Result<String> {
    let net = c.fresh();
    c.announce_pool("home", &[&net.range4(10, 20)])?;
    c.create(&[&service("web")])?;
    let ip = c.wait_ip("web")?;
    let owner = c.wait_owner(&ip)?;
    c.wait_reached(&ip, 80)?;
    Ok(owner)
}

/// What people look at: events, statuses, the Lease, `explain`.
fn told(c: &Cluster) -> Result<()> {
    for reason in ["IPAllocated", "nodeAssigned"] {
        c.wait_event("web", reason)?;
    }
    let at = path("IPAddressPool", SYSTEM, "home");
    eventually(SOON, "the pool counts", || {
        let status = c.api.get(&at)?["status"].clone();
        ensure!(status["assignedIPv4"] == 1, "{status}");
        Ok(())
    })?;
    eventually(SOON, "explain says who announces", || {
        let said = c.explain("causeway-allocator", "web")?;
        ensure!(said.contains("announced  node"), "{said}");
        Ok(())
    })
}

/// What somebody deletes comes back.
fn restored(c: &Cluster) -> Result<()> {
    for kind in ["ServiceL2Status", "ConfigurationState"] {
        let at = path(kind, SYSTEM, "");
        let (before, uids) = eventually(SOON, "there are some", || {
            let all = c.api.list(&at)?;
            ensure!(!all.is_empty() && all.iter().all(|one| !one["status"].is_null()), "{all:?}");
            Ok((all.len(), all.iter().map(|one| one["metadata"]["uid"].clone()).collect::<Vec<_>>()))
        })?;
        c.api.delete(&at)?;
        eventually(SOON, &format!("every {kind} is restored"), || {
            let all = c.api.list(&at)?;
            let new = all.iter().filter(|one| !uids.contains(&one["metadata"]["uid"]));
            let whole = new.filter(|one| !one["status"].is_null()).count();
            ensure!(whole == before, "{whole} of {before}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Another node takes over, and clears away what the dead one said.
fn owner_dies(c: &mut Cluster, owner: &str) -> Result<()> {
    let ip = c.wait_ip("web")?;
    let index = c.node(owner)?;
    c.kill_speaker(index);
    let next = c.wait_owner_that(&ip, "another node", |node| node != owner)?;
    eventually(2 * SOON, "the status names the new owner alone", || {
        let nodes: Vec<_> = c.l2_statuses("web")?.into_iter().map(|(node, _)| node).collect();
        ensure!(nodes == [next.clone()], "{nodes:?}");
        Ok(())
    })?;
    c.start_speaker(index)
}

/// Another host has the address that a Service asks for: a condition says so.
fn conflict(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let laptop = c.lan.plug_host("laptop", 99)?;
    laptop.namespace.ip(&format!("addr add {}/16 dev eth0\n", net.v4(20)))?;
    c.announce_pool("taken", &[&net.range4(10, 30)])?;
    c.create(&[&annotate(service("asked"), "metallb.io/loadBalancerIPs", &net.v4(20))])?;
    eventually(2 * SOON, "a condition names the conflict", || {
        let status = c.api.get(&path("Service", TEST, "asked"))?["status"].clone();
        ensure!(status["conditions"].to_string().contains("AddressConflict"), "{status}");
        Ok(())
    })?;
    // Why nobody announces it takes a look at everything.
    let said = c.explain("causeway-allocator", "asked")?;
    ensure!(said.contains("asked"), "{said}");
    Ok(())
}

/// A Service that wants no address any more is left without a trace of it.
fn given_back(c: &Cluster) -> Result<()> {
    c.patch_service("web", &json!({ "spec": { "type": "ClusterIP" } }))?;
    eventually(SOON, "no note is left on the Service", || {
        let notes = c.api.get(&path("Service", TEST, "web"))?["metadata"]["annotations"].clone();
        ensure!(!notes.to_string().contains("ip-allocated-from-pool"), "{notes}");
        Ok(())
    })
}

/// The allocator that leads ends; the other one gives the next address.
fn leader_ends(c: &mut Cluster) -> Result<()> {
    let lease = "/apis/coordination.k8s.io/v1/namespaces/metallb-system/leases/causeway-allocator";
    let holder = c.api.get(lease)?["spec"]["holderIdentity"].as_str().context("nobody leads")?.to_owned();
    // As in `controller-1_e419cab1`: the pod, and which life of it.
    let pod = holder.split('_').next().unwrap_or_default();
    let index: usize = pod.trim_start_matches("controller-").parse().context("whose is the Lease?")?;
    let status = c.allocators[index].stop(SOON)?;
    ensure!(status.success(), "the leader ended with {status}");
    c.create(&[&service("next")])?;
    let ip = eventually(2 * SOON, "the other replica gives an address", || c.wait_ip("next"))?;
    c.wait_reached(&ip, 80).map(drop)
}

/// Nothing was refused, and each thing that the roles allow was done.
fn used(c: &Cluster) -> Result<()> {
    c.was_never_refused()?;
    let shipped = kustomize(&folder())?;
    let mut idle = Vec::new();
    for account in ["causeway-allocator", "causeway-speaker"] {
        let asked = c.control.audited(account)?;
        ensure!(asked.len() > 20, "the audit log has next to nothing of {account}: {asked:?}");
        for kind in ["ClusterRole", "Role"] {
            let role = shipped.get(&format!("{kind}/{account}")).context("no role")?;
            for allowed in allowances(&role["rules"])? {
                if !asked.iter().any(|one| uses(one, &allowed)) {
                    idle.push((account, kind, allowed));
                }
            }
        }
    }
    ensure!(idle.is_empty(), "allowed, and never done: {idle:#?}");
    Ok(())
}

fn uses(asked: &Asked, (verb, group, resource, name): &Allowed) -> bool {
    // An apply that makes its object is a patch in the log, and is asked whether it may create as well.
    let made = verb == "create" && asked.verb == "patch" && asked.status == 201;
    !asked.is_refused()
        && (asked.verb == *verb || made)
        && (&asked.group, &asked.resource) == (group, resource)
        && (name.is_empty() || *name == asked.name)
}

/// Every single thing that the rules of a role allow.
fn allowances(rules: &Value) -> Result<BTreeSet<Allowed>> {
    let words = |rule: &Value, key: &str| -> Vec<String> {
        rule[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut all = BTreeSet::new();
    for rule in rules.as_array().context("no rules")? {
        let mut names = words(rule, "resourceNames");
        if names.is_empty() {
            names.push(String::new());
        }
        for verb in words(rule, "verbs") {
            for group in words(rule, "apiGroups") {
                for resource in words(rule, "resources") {
                    for name in &names {
                        all.insert((verb.clone(), group.clone(), resource.clone(), name.clone()));
                    }
                }
            }
        }
    }
    Ok(all)
}

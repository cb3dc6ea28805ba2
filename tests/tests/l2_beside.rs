//! MetalLB's own programs on the same cluster: the change from them to ours and back, and, in the long form, the same
//! faults and the same crowd side by side; with the argument `crowd` or `faults`, that part alone, and with `metallb` or
//! `causeway` of one of them. `CAUSEWAY_ROUNDS` says how often each fault strikes.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::scenarios::{self, is_long};
use causeway_tests::cluster::{
    Changed, Cluster, FAULT_P95, FAULT_WORST, Fault, SYSTEM, TEST, UnderTest, Vip, allocator, annotate,
    metallb_is_here, path, report, service, with,
};
use serde_json::json;

const ROUNDS: usize = 100;
const SERVICES: u16 = 1000;
const REST: Duration = Duration::from_secs(30);
/// MetalLB needs its time.
const LIMIT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let name = "l2_beside";
    let args: Vec<String> = std::env::args().skip(1).collect();
    let ignored = args.iter().any(|a| a == "--ignored");
    if args.iter().any(|a| a == "--list") {
        if !ignored {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if ignored {
        return ExitCode::SUCCESS;
    }
    if let Some(reason) = scenarios::missing().or_else(|| metallb_is_here().err().map(|e| format!("{e:#}"))) {
        return scenarios::skip(name, &reason);
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{name} failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    if is_wanted("change", &["change", "crowd", "faults"]) {
        rehearse()?;
    }
    if !is_long() {
        return Ok(());
    }
    for (who, under_test) in [("metallb", UnderTest::MetalLb), ("causeway", UnderTest::Causeway)] {
        if is_wanted(who, &["metallb", "causeway"]) {
            println!("{who}");
            compare(under_test)?;
        }
    }
    Ok(())
}

/// Whether the arguments name it, or none of `all`.
fn is_wanted(part: &str, all: &[&str]) -> bool {
    let named = |part: &str| std::env::args().skip(1).any(|a| a == part);
    named(part) || !all.iter().any(|part| named(part))
}

fn rehearse() -> Result<()> {
    let mut cluster = Cluster::start_with("change", 3, UnderTest::MetalLb)?;
    let changed = change_and_back(&mut cluster);
    if changed.is_err() {
        println!("{}logs are in {}", cluster.tails(20), cluster.keep_logs().display());
    }
    changed
}

/// Every Service keeps its address through the change, and through the way back, while a client visits one of them.
fn change_and_back(c: &mut Cluster) -> Result<()> {
    c.control.kubectl(&["apply"], include_str!("l2_announce/samples.yaml"))?;
    let shared = |name: &str, port: u16| {
        let ports = json!({ "spec": { "ports": [{ "name": "http", "port": port, "targetPort": 8080 }] } });
        annotate(with(service(name), ports), "metallb.io/allow-shared-ip", "pair")
    };
    c.create(&[&shared("pair-a", 8001), &shared("pair-b", 8002)])?;
    // Its pod lives on no node: what its visitors lose, they lose to the change.
    let web = c.vip()?;
    // Every one has what it asks for before anything changes: none kept is no proof.
    for (name, count) in
        [("nginx", 1), ("dual", 2), ("asked-for", 1), ("pair-a", 1), ("pair-b", 1), ("web", 1)]
    {
        c.wait_ips(name, count)?;
    }
    let before = addresses(c)?;
    ensure!(before.len() == 6 && before.values().all(|ips| !ips.is_empty()), "{before:?}");

    let configuration = ["get", "ipaddresspools,l2advertisements", "-n", SYSTEM, "-o", "yaml"];
    let file = c.folder().join("metallb.yaml");
    std::fs::write(&file, c.control.kubectl(&configuration, "")?)?;
    allocator(&["check", file.to_str().context("path")?]).context("its configuration is not accepted")?;

    tell("MetalLB to Causeway", expect_kept(c, UnderTest::Causeway, web, &before)?);
    // It serves: a new Service, and what the old ones keep outlives the controller that gave it.
    c.create(&[&service("new")])?;
    c.wait_reached(&c.wait_ip("new")?, 80)?;
    let before = addresses(c)?;
    tell("and back", expect_kept(c, UnderTest::MetalLb, web, &before)?);
    Ok(())
}

fn expect_kept(
    c: &mut Cluster,
    next: UnderTest,
    web: Vip,
    before: &BTreeMap<String, Vec<String>>,
) -> Result<Changed> {
    let changed = c.change_to(next, web)?;
    for ip in before.values().flatten() {
        c.wait_owner(ip)?;
    }
    let after = addresses(c)?;
    ensure!(after == *before, "the addresses were {before:?} and are {after:?}");
    ensure!(changed.outage.failed == 0, "visits failed during the change: {changed:?}");
    Ok(changed)
}

/// The addresses of every Service.
fn addresses(c: &Cluster) -> Result<BTreeMap<String, Vec<String>>> {
    let all = c.api.list(&path("Service", TEST, ""))?;
    let name = |s: &serde_json::Value| s["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    all.iter().map(name).map(|name| Ok((name.clone(), c.ips(&name)?))).collect()
}

fn tell(what: &str, changed: Changed) {
    let Changed { unannounced, outage, straddlers } = changed;
    println!(
        "{what}: announced again after {unannounced:.1?}; {} visits failed, {straddlers} were reset in the instant of the move",
        outage.failed
    );
}

fn compare(under_test: UnderTest) -> Result<()> {
    const PARTS: &[&str] = &["crowd", "faults"];
    let mut cluster = Cluster::start_with("beside", 3, under_test)?;
    if is_wanted("faults", PARTS) {
        let compared = faults(&mut cluster, under_test);
        if compared.is_err() {
            println!("{}logs are in {}", cluster.tails(20), cluster.keep_logs().display());
        }
        compared?;
        cluster.reset()?;
    }
    if is_wanted("crowd", PARTS) {
        crowd(&mut cluster)?;
    }
    Ok(())
}

/// The same faults for both; only ours are held to the promise.
fn faults(cluster: &mut Cluster, under_test: UnderTest) -> Result<()> {
    let rounds = std::env::var("CAUSEWAY_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let (times, failed, straddlers) = cluster.hand_overs(rounds)?;
    report("stop to new owner", times);
    println!(
        "    connections failed in {rounds} hand-overs: {failed}; {straddlers} more were reset in the instant of a move"
    );
    let mut broken = Vec::new();
    for fault in Fault::ALL {
        cluster.reset()?;
        match cluster.strikes(fault, rounds)?.report(fault.name()) {
            Ok((p95, worst)) if p95 <= FAULT_P95 && worst <= FAULT_WORST => {}
            Ok((p95, worst)) => broken.push(format!("{}: p95 {p95:.0?}, max {worst:.0?}", fault.name())),
            Err(error) => broken.push(format!("{error:#}")),
        }
    }
    if failed > 0 {
        broken.push(format!("{failed} connections failed in hand-overs"));
    }
    ensure!(under_test == UnderTest::MetalLb || broken.is_empty(), "{broken:?}");
    Ok(())
}

fn crowd(cluster: &mut Cluster) -> Result<()> {
    let crowd = cluster.crowd(SERVICES, REST)?;
    println!("    {SERVICES} Services: {crowd}");
    let (moved, took) = cluster.crowd_loses_a_node(LIMIT)?;
    println!("    a node with {moved} VIPs died: the last was announced by another after {took:.1?}");
    Ok(())
}

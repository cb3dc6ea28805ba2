//! MetalLB's own programs on the same cluster: the change from them to ours and back, and, in the long form, the same
//! kills and the same crowd side by side; with the argument `crowd`, the crowd alone.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::scenarios::{self, is_long};
use causeway_tests::cluster::{
    Changed, Cluster, SYSTEM, TEST, UnderTest, Vip, allocator, annotate, metallb_is_here, path, report,
    service, with,
};
use serde_json::json;

const KILLS: usize = 20;
const HAND_OVERS: usize = 10;
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
    let mut cluster = Cluster::start_with("change", 3, UnderTest::MetalLb)?;
    let changed = change_and_back(&mut cluster);
    if changed.is_err() {
        println!("{}logs are in {}", cluster.tails(20), cluster.keep_logs().display());
    }
    changed?;
    drop(cluster);
    if !is_long() {
        return Ok(());
    }
    for (who, under_test) in [("MetalLB", UnderTest::MetalLb), ("Causeway", UnderTest::Causeway)] {
        println!("{who}");
        compare(under_test)?;
    }
    Ok(())
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
    let mut cluster = Cluster::start_with("beside", 3, under_test)?;
    if std::env::args().any(|a| a == "crowd") {
        return crowd(&mut cluster);
    }
    let [crashes, cuts] = cluster.kills(KILLS)?;
    report("process killed", crashes);
    report("link cut", cuts);
    cluster.reset()?;
    let (times, failed, straddlers) = cluster.hand_overs(HAND_OVERS)?;
    report("stop to new owner", times);
    println!(
        "    connections failed in {HAND_OVERS} hand-overs: {failed}; {straddlers} more were reset in the instant of a move"
    );
    cluster.reset()?;
    crowd(&mut cluster)
}

fn crowd(cluster: &mut Cluster) -> Result<()> {
    let crowd = cluster.crowd(SERVICES, REST)?;
    println!("    {SERVICES} Services: {crowd}");
    let (moved, took) = cluster.crowd_loses_a_node(LIMIT)?;
    println!("    a node with {moved} VIPs died: the last was announced by another after {took:.1?}");
    Ok(())
}

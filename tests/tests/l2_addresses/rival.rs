//! A second controller that writes the same status, as k3s's servicelb or an old MetalLB does (S15.4).

use super::FROM;
use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::{Api, Cluster, SOON, TEST, eventually, path, pause, pool, service, throughout};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

const THEIRS: &str = "10.77.0.11";
/// How long it is fought: at one second, doubled each time, four or five rounds.
const WAR: Duration = Duration::from_secs(12);
/// Of the rival's writes; without a pause there are hundreds.
const MOST_ROUNDS: u32 = 9;

pub(super) fn named_and_outlasted(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.create(&[&pool("pool", &[&net.range4(10, 12)]), &service("web")])?;
    c.wait_exactly("web", &[&net.v4(10)])?;
    let (stop, rounds) = (AtomicBool::new(false), AtomicU32::new(0));
    let calls = c.api_requests()?;
    thread::scope(|scope| {
        let fighting = scope.spawn(|| fight(&c.api, &stop, &rounds));
        let outcome = war(c);
        stop.store(true, Relaxed);
        let fought = fighting.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the rival panicked")));
        outcome.and(fought)
    })?;
    let rounds = rounds.load(Relaxed);
    println!(
        "    {rounds} rounds in {WAR:?}, {:.0} API calls with the scenario's own",
        c.api_requests()? - calls
    );
    ensure!((2..=MOST_ROUNDS).contains(&rounds), "{rounds} rounds in {WAR:?}");
    let metrics = c.allocator_metrics()?;
    ensure!(metrics.lines().any(|l| l == "causeway_allocator_services_contested 1"), "{metrics}");
    // The rival has left: ours is written when its turn comes, and stands.
    eventually(4 * SOON, "ours is there again", || {
        let ips = c.ips("web")?;
        ensure!(ips == [net.v4(10)], "it has {ips:?}");
        Ok(())
    })
}

/// While it is fought: told once, named in a condition, and the note of the pool stays for the speakers.
fn war(c: &Cluster) -> Result<()> {
    c.wait_event("web", "StatusContested")?;
    let note = || -> Result<Value> { c.api.get(&path("Service", TEST, "web")) };
    throughout(WAR, "the note of the pool stays", || {
        let web = note()?;
        ensure!(web["metadata"]["annotations"][FROM] == "pool", "{}", web["metadata"]["annotations"]);
        Ok(())
    })?;
    let web = note()?;
    let conditions = web["status"]["conditions"].as_array().context("no conditions")?;
    let told =
        conditions.iter().find(|one| one["type"] == "metallb.io/StatusContested").context("no condition")?;
    let message = told["message"].as_str().unwrap_or_default();
    for word in ["`k3s`", THEIRS, "--disable servicelb", "loadBalancerClass"] {
        ensure!(told["status"] == "True" && message.contains(word), "{word}: {told}");
    }
    let events = c.api.list(&path("Event", TEST, ""))?;
    let uid = &web["metadata"]["uid"];
    let told =
        events.iter().filter(|e| e["involvedObject"]["uid"] == *uid && e["reason"] == "StatusContested");
    ensure!(told.count() == 1, "it is told more than once");
    let explained = c.explain("causeway-allocator", "web")?;
    ensure!(explained.contains("`k3s` also writes"), "{explained}");
    Ok(())
}

/// Writes its own address whenever it is not there.
fn fight(api: &Api, stop: &AtomicBool, rounds: &AtomicU32) -> Result<()> {
    let at = path("Service", TEST, "web");
    let mine = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": THEIRS }] } } });
    while !stop.load(Relaxed) {
        if api.get(&at)?["status"]["loadBalancer"]["ingress"][0]["ip"] != THEIRS {
            api.merge(&format!("{at}/status?fieldManager=k3s"), &mine)?;
            rounds.fetch_add(1, Relaxed);
        }
        pause(Duration::from_millis(5));
    }
    Ok(())
}

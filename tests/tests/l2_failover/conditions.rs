//! Load, time, a wrongly set kube-proxy, and a control plane that is slow or away (A10-A15).

use super::WORST;
use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::scenarios::is_long;
use causeway_tests::cluster::{
    Cluster, Kind, SOON, SYSTEM, Said, Signal, eventually, path, pause, service, throughout,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;
use std::time::Instant;

pub(super) fn many_services(c: &mut Cluster) -> Result<()> {
    let (count, rest) = if is_long() { (1000, 30) } else { (100, 4) };
    let crowd = c.crowd(count, Duration::from_secs(rest))?;
    println!("    {count} Services: {crowd}");
    let behind = crowd.given.saturating_sub(crowd.creating);
    ensure!(behind < Duration::from_secs(5), "the last address came {behind:?} after the last Service");
    // Less than one call per second and program: two allocators, three speakers.
    ensure!(crowd.api_calls < 5.0, "{} API calls per second at rest", crowd.api_calls);
    // The goals are for the programs as they are shipped: `tests/run --long` builds them so, and says it.
    let shipped = std::env::var_os("CAUSEWAY_SHIPPED").is_some();
    let goals = if shipped { (25.0, 10.0, 15.0) } else { (60.0, 20.0, 25.0) };
    ensure!(crowd.allocator_mib <= goals.0, "the allocator has {} MiB", crowd.allocator_mib);
    ensure!(crowd.speaker_mib <= goals.1, "the speaker has {} MiB", crowd.speaker_mib);
    ensure!(crowd.announcing_mib <= goals.2, "the speaker has {} MiB, announcing", crowd.announcing_mib);
    let before = fences(c)?;
    let (moved, took) = c.crowd_loses_a_node(SOON)?;
    println!("    a node with {moved} VIPs died: the last was announced by another after {took:.0?}");
    ensure!(took <= WORST, "the last of {moved} VIPs was announced after {took:?}");
    let stood_still: Vec<_> =
        fences(c)?.into_iter().filter(|(node, n)| before.get(node) != Some(n)).collect();
    ensure!(stood_still.is_empty(), "so many VIPs made speakers stand still: {stood_still:?}");
    Ok(())
}

/// How often each speaker had to ask its peers before it answered on.
fn fences(c: &Cluster) -> Result<BTreeMap<usize, String>> {
    let running = c.nodes.iter().enumerate().filter(|(_, node)| node.speaker.is_some());
    running
        .map(|(node, _)| {
            let metrics = c.speaker_metrics(node)?;
            let line = metrics.lines().find(|line| line.starts_with("causeway_speaker_fences "));
            Ok((node, line.context("no such metric")?.to_owned()))
        })
        .collect()
}

pub(super) fn short_of_cpu(c: &mut Cluster) -> Result<()> {
    let vip = c.vip()?;
    let name = c.nodes[vip.owner].name.clone();
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let busy = thread::available_parallelism().map_or(2, usize::from) * 2;
        for _ in 0..busy {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let kept = throughout(Duration::from_secs(4), "the owner keeps its VIP", || {
            // Asked with patience: the machine has no time to spare, and that is the point.
            let owners = c.wire.ask(vip.ip, Duration::from_millis(400))?;
            ensure!(owners.iter().all(|m| *m == c.mac(vip.owner)) && owners.len() == 1, "{owners:?} answer");
            Ok(())
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        kept
    })?;
    c.wait_owner_is(&vip.ip.to_string(), &name)
}

pub(super) fn api_away(c: &mut Cluster) -> Result<()> {
    let vip = c.vip()?;
    let name = c.nodes[vip.owner].name.clone();
    c.control.kill_server();
    let span = Duration::from_secs(if is_long() { 600 } else { 4 });
    let kept = c.stays_with(&vip.ip.to_string(), &name, span);
    let moved = kept.and_then(|()| {
        c.strike(vip, |c| {
            c.kill_speaker(vip.owner);
            c.lan.cut(&name, 0)
        })
    });
    c.lan.mend(&name, 0)?;
    c.control.start_server()?;
    let moved = moved?;
    let now = c.nodes[moved.owner].name.clone();
    ensure!(moved.outage.lasted <= WORST, "{moved:?}");
    // The server's return moves nothing.
    c.stays_with(&vip.ip.to_string(), &now, Duration::from_secs(2))?;
    // And the next Service is served: the allocators' Lease runs out first, then the watches are tried again.
    c.create(&[&service("after")])?;
    eventually(4 * SOON, "a Service is served once the API server is back", || {
        let ip = c.wait_ip("after")?;
        c.wait_owner(&ip)
    })
    .map(drop)
}

pub(super) fn ipvs_without_strict_arp(c: &mut Cluster) -> Result<()> {
    // What kube-proxy in IPVS mode leaves behind, as far as this kernel goes: its link, and ARP answered on every interface.
    let node = c.nodes[0].host.host.namespace.clone();
    node.ip("link add kube-ipvs0 type bridge")?;
    let told = c.vip().and_then(|_| expect_state(c, "Invalid", "strictARP: true"));
    node.sysctl(&[("ipv4/conf/all/arp_ignore", "1")])?;
    // Looked at again with the next change.
    let mended =
        told.and_then(|()| c.create(&[&service("other")])).and_then(|()| expect_state(c, "Valid", ""));
    node.sysctl(&[("ipv4/conf/all/arp_ignore", "0")])?;
    node.ip("link del kube-ipvs0")?;
    mended
}

fn expect_state(c: &Cluster, result: &str, says: &str) -> Result<()> {
    let name = format!("speaker-{}", c.nodes[0].name);
    eventually(SOON, &format!("{name} is {result}"), || {
        let state = c.api.get(&path("ConfigurationState", SYSTEM, &name))?;
        let (is, summary) =
            (&state["status"]["result"], state["status"]["errorSummary"].as_str().unwrap_or_default());
        ensure!(is == result && summary.contains(says), "{}", state["status"]);
        Ok(())
    })
}

pub(super) fn repeated(c: &mut Cluster) -> Result<()> {
    let start = Instant::now();
    let vip = c.vip()?;
    let own = c.mac(vip.owner);
    // At 0, 100, 300, 1000 and 2000 ms, a request and a reply each time; for ever after once a minute.
    let span = Duration::from_secs(if is_long() { 150 } else { 3 });
    pause(span);
    let claims = c.wire.claims_since(start, vip.ip);
    let claims: Vec<Duration> = claims
        .iter()
        .filter(|h| h.from == own && matches!(h.said, Said::Claims { kind: Kind::Gratuitous, .. }))
        .map(|h| h.at - start)
        .collect();
    println!(
        "    {} announcements, the last after {:.1?}",
        claims.len(),
        claims.last().copied().unwrap_or_default()
    );
    ensure!(
        claims.len() >= if is_long() { 12 } else { 10 },
        "only {} announcements: {claims:?}",
        claims.len()
    );
    ensure!(!is_long() || claims.last().is_some_and(|last| *last > Duration::from_secs(60)), "{claims:?}");
    Ok(())
}

pub(super) fn shrink_slowly(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.announce_pool("pool", &[&net.range4(10, 12)])?;
    c.create(&[&service("web")])?;
    c.wait_exactly("web", &[&net.v4(10)])?;
    c.wait_owner(&net.v4(10))?;
    c.respec("IPAddressPool", "pool", &json!({ "addresses": [net.range4(11, 12)] }))?;
    // Slow: for a second it says nothing at all.
    c.control.signal_server(Signal::STOP)?;
    pause(Duration::from_secs(1));
    c.control.signal_server(Signal::CONT)?;
    c.wait_exactly("web", &[&net.v4(11)])?;
    c.wait_owner(&net.v4(11))?;
    c.wait_silence(&net.v4(10))?;
    c.wait_reached(&net.v4(11), 80).map(drop)
}

//! Nodes and links that fail, and planned moves (A1-A5, A9, K, L, H).

use super::{OVERLAP, WORST};
use anyhow::{Result, ensure};
use causeway_tests::cluster::scenarios::is_long;
use causeway_tests::cluster::{
    Cluster, FAULT_P95, FAULT_WORST, Fault, SOON, Signal, Visits, eventually, outage, pause, report,
};
use std::net::IpAddr;
use std::time::Duration;
use std::time::Instant;

pub(super) fn power_off(c: &mut Cluster) -> Result<()> {
    let vip = c.vip()?;
    let far = Visits::start(&c.lan.far, vip.ip, 80);
    eventually(SOON, "the far client gets there", || {
        ensure!(far.so_far().iter().any(|v| v.outcome.is_ok()), "not yet");
        Ok(())
    })?;
    let at = Instant::now();
    let name = c.nodes[vip.owner].name.clone();
    let moved = c.strike(vip, |c| {
        c.lan.cut(&name, 0)?;
        c.kill_speaker(vip.owner);
        Ok(())
    })?;
    let behind = outage(&far.finish(), at)?;
    println!("    on the segment {:?}, behind the router {:?}", moved.outage.lasted, behind.lasted);
    ensure!(moved.outage.lasted <= WORST && behind.lasted <= WORST, "{moved:?}, {behind:?}");
    Ok(())
}

pub(super) fn graceful_stop(c: &mut Cluster) -> Result<()> {
    let vip = c.vip()?;
    let moved = c.strike(vip, |c| c.stop_speaker(vip.owner))?;
    ensure!(moved.outage.failed == 0, "{moved:?}");
    ensure!(moved.claimed < Duration::from_secs(1), "{moved:?}");
    Ok(())
}

pub(super) fn uplink_down(c: &mut Cluster) -> Result<()> {
    let vip = c.vip()?;
    let name = c.nodes[vip.owner].name.clone();
    let moved = c.strike(vip, |c| c.lan.cut(&name, 0))?;
    ensure!(moved.outage.lasted <= WORST, "{moved:?}");
    let now = c.nodes[moved.owner].name.clone();
    c.lan.mend(&name, 0)?;
    bounded_overlap(c, vip.ip, Duration::from_secs(3))?;
    c.wait_owner_is(&vip.ip.to_string(), &now)
}

/// Watches who answers for `span`: twice at once for no longer than the promise allows.
pub(super) fn bounded_overlap(c: &Cluster, ip: IpAddr, span: Duration) -> Result<()> {
    let start = Instant::now();
    let (mut first, mut last) = (None, None);
    while start.elapsed() < span {
        let at = Instant::now();
        if c.answers(ip)?.len() > 1 {
            first = first.or(Some(at));
            last = Some(at);
        }
    }
    if let (Some(first), Some(last)) = (first, last) {
        println!("    two answered for {:?}", last - first);
        ensure!(last - first <= OVERLAP, "two nodes answered for {:?}", last - first);
    }
    Ok(())
}

pub(super) fn partition(c: &mut Cluster) -> Result<()> {
    let vip = c.vip()?;
    let owner = c.nodes[vip.owner].name.clone();
    let others: Vec<String> = c.nodes.iter().map(|n| n.name.clone()).filter(|n| *n != owner).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    // The worst kind: the nodes do not hear each other, and the client hears them all.
    c.lan.part(&[&owner], &others)?;
    let watched = bounded_overlap(c, vip.ip, Duration::from_secs(6));
    let alone = c.answers(vip.ip);
    c.lan.join()?;
    watched?;
    ensure!(alone?.len() == 1, "the partition left not one owner");
    c.wait_owner(&vip.ip.to_string())?;
    Ok(())
}

pub(super) fn partition_heals(c: &mut Cluster) -> Result<()> {
    let vip = c.vip()?;
    let owner = c.nodes[vip.owner].name.clone();
    let mut right: Vec<String> = c.nodes.iter().map(|n| n.name.clone()).filter(|n| *n != owner).collect();
    right.extend(["control", "router"].map(str::to_owned));
    let right: Vec<&str> = right.iter().map(String::as_str).collect();
    // A switch falls in two: the owner and the client on one side, the rest on the other.
    c.lan.part(&[&owner, "client"], &right)?;
    let watched = bounded_overlap(c, vip.ip, Duration::from_secs(4));
    let healed = Instant::now();
    c.lan.join()?;
    watched?;
    bounded_overlap(c, vip.ip, Duration::from_secs(2))?;
    let one = c.wait_owner(&vip.ip.to_string())?;
    println!("    {one} alone, {:?} after it healed", healed.elapsed());
    c.stays_with(&vip.ip.to_string(), &one, Duration::from_secs(1))?;
    c.wait_reached(&vip.ip.to_string(), 80).map(drop)
}

pub(super) fn one_move(c: &mut Cluster) -> Result<()> {
    let vip = c.vip()?;
    let name = c.nodes[vip.owner].name.clone();
    let moved = c.strike(vip, |c| {
        c.lan.cut(&name, 0)?;
        c.kill_speaker(vip.owner);
        Ok(())
    })?;
    let now = c.nodes[moved.owner].name.clone();
    c.lan.mend(&name, 0)?;
    c.start_speaker(vip.owner)?;
    c.wait_member(vip.owner)?;
    c.stays_with(&vip.ip.to_string(), &now, Duration::from_secs(2))
}

pub(super) fn paused_owner(c: &mut Cluster) -> Result<()> {
    let vip = c.vip()?;
    let moved = c.strike(vip, |c| c.signal_speaker(vip.owner, Signal::STOP))?;
    // It sleeps on for a while: the others have long agreed when it wakes.
    pause(Duration::from_secs(2));
    let woken = Instant::now();
    c.signal_speaker(vip.owner, Signal::CONT)?;
    bounded_overlap(c, vip.ip, Duration::from_secs(2))?;
    let now = c.wait_owner(&vip.ip.to_string())?;
    println!("    {now} alone, {:?} after it woke; it had {}", woken.elapsed(), c.nodes[moved.owner].name);
    c.stays_with(&vip.ip.to_string(), &now, Duration::from_millis(500))
}

pub(super) fn kills(c: &mut Cluster) -> Result<()> {
    let kills = strikes(c, Fault::Crash);
    c.reset()?;
    let cuts = strikes(c, Fault::Cut);
    kills?;
    cuts
}

pub(super) fn address_losses(c: &mut Cluster) -> Result<()> {
    strikes(c, Fault::AddressLoss)
}

fn strikes(c: &mut Cluster, fault: Fault) -> Result<()> {
    let rounds = if is_long() { 100 } else { 3 };
    let (p95, worst) = c.strikes(fault, rounds)?.report(fault.name())?;
    // Of three the 95th of a hundred is the worst.
    ensure!(worst <= FAULT_WORST && (rounds < 20 || p95 <= FAULT_P95), "p95 {p95:?}, max {worst:?}");
    Ok(())
}

pub(super) fn hand_overs(c: &mut Cluster) -> Result<()> {
    let rounds = if is_long() { 100 } else { 6 };
    let (times, failed, straddlers) = c.hand_overs(rounds)?;
    report("stop to new owner", times);
    println!("    {failed} connections failed; {straddlers} more were reset in the instant of a move");
    // The longer a visit takes, the more of them meet a move: on a busy machine that says nothing.
    let most = if is_long() { rounds.div_ceil(20) } else { rounds / 2 };
    ensure!(straddlers <= most, "{straddlers} connections were reset in {rounds} moves");
    ensure!(failed == 0, "{failed} connections failed in {rounds} hand-overs");
    Ok(())
}

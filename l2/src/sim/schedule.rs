//! A random schedule of faults from a seed, and the verdict on the invariants.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::{Life, Node, World};
use crate::ownership::Demands;

/// Overlap after any single fault.
const MAX_OVERLAP: Duration = Duration::from_secs(1);
/// Every VIP has one owner again within this: detection, the second look, take-over, lost datagrams.
const WHOLE_AGAIN: Duration = Duration::from_millis(3500);

/// Runs the schedule of this seed. Returns what went wrong.
pub(super) fn run(seed: u64, nodes: usize) -> Result<World, String> {
    let mut world = World::new(seed, nodes, 1 + nodes.min(8) * usize::try_from(seed % 3).unwrap() / 2);
    if std::env::var_os("CAUSEWAY_SIM_LOG").is_some() {
        world.log = Some(Vec::new());
    }
    match play(&mut world) {
        Ok(()) => Ok(world),
        Err(reason) => {
            let log = world.log.take().map(|log| log.join("\n")).unwrap_or_default();
            Err(format!("seed {seed}, {nodes} nodes: {reason}\n{log}"))
        }
    }
}

fn play(world: &mut World) -> Result<(), String> {
    world.delay_micros.1 = 500 + world.chance.below(8_000);
    world.run_while(Duration::from_secs(6), World::is_whole).ok_or("no whole state after the start")?;
    for _ in 0..1 + world.chance.below(3) {
        fault(world)?;
        if let Some((vip, at)) = world.unprovoked {
            return Err(format!("two owners of {vip} at {:?} without a fault", at - world.start));
        }
        if world.longest_overlap > MAX_OVERLAP {
            return Err(format!("two owners for {:?}", world.longest_overlap));
        }
    }
    // Steady: nothing changes any more.
    world.run_for(Duration::from_millis(500));
    // But for a planned move: there the new owner speaks before the old one is silent.
    if world.run_while(Duration::from_millis(50), World::is_whole).is_some() {
        Ok(())
    } else {
        Err(format!("not whole in the steady state: {:?}", state(world)))
    }
}

/// One fault, its end, and the time to be whole again.
fn fault(world: &mut World) -> Result<(), String> {
    let running: Vec<_> = (0..world.nodes.len()).filter(|n| world.nodes[*n].life == Life::Running).collect();
    let node = running[world.chance.below(running.len())];
    let last = running.len() == 1;
    let span = Duration::from_millis(50 + u64::try_from(world.chance.below(3000)).unwrap());
    world.last_fault = world.now;
    let kind = world.chance.below(15);
    let note = format!("--- fault {kind} on node{node} for {span:?}");
    if let Some(log) = &mut world.log {
        log.push(format!("{:>8.3} {note}", (world.now - world.start).as_secs_f64()));
    }
    match kind {
        0 if !last => world.nodes[node].life = Life::Off,
        1 if !last => {
            world.nodes[node].life = Life::Killed;
            world.run_for(span);
            world.last_fault = world.now;
            world.restart(node);
        }
        2 => {
            world.nodes[node].life = Life::Paused;
            world.run_for(span);
            world.resume(node);
            world.last_fault = world.now;
        }
        3 | 9 => {
            // Some nodes behind a broken switch, their clients with them; or, the worst kind, clients that hear all.
            let part: fn(&mut Node) -> &mut usize =
                if kind == 3 { |node| &mut node.group } else { |node| &mut node.side };
            let cut = 1 + world.chance.below(world.nodes.len().div_ceil(2));
            for other in 0..cut {
                let other = (node + other) % world.nodes.len();
                *part(&mut world.nodes[other]) = 1;
            }
            world.run_for(span);
            world.last_fault = world.now;
            world.nodes.iter_mut().for_each(|node| *part(node) = 0);
            if kind == 9 {
                // A death before they meet again would be a second fault.
                world.run_while(limit(world), World::is_reunited).ok_or("nodes did not meet again")?;
            }
        }
        4 => {
            world.nodes[node].slow = Duration::from_millis(u64::try_from(world.chance.below(120)).unwrap());
            world.run_for(span);
            world.last_fault = world.now;
            world.nodes[node].slow = Duration::ZERO;
        }
        5 => {
            world.loss_percent = 5 + u32::try_from(world.chance.below(25)).unwrap();
            world.run_for(span);
            world.last_fault = world.now;
            world.loss_percent = 0;
        }
        6 => world.nodes[node].ahead += span,
        7 if !last => {
            let local = world.local(node);
            world.nodes[node].core.handle_drain(local);
            world.drain(node);
            let gone = world.run_while(Duration::from_secs(3), |w| w.nodes[node].core.owned().count() == 0);
            gone.ok_or("a draining node was left with VIPs")?;
            let local = world.local(node);
            world.nodes[node].core.handle_leave(local);
            world.drain(node);
            world.run_for(Duration::from_millis(20));
            world.nodes[node].life = Life::Killed;
        }
        8 => world.delay_micros.1 = 500 + world.chance.below(30_000),
        10 if !last => deaf(world, node, span)?,
        11 | 12 if !last => address(world, node, span, kind == 12)?,
        13 => {
            // Those who hear each other at the API server only, and somebody who deletes what they wrote there.
            reunited(world)?;
            world.nodes[node].side = usize::from(!last);
            world.run_for(span);
            world.delete_written();
            world.run_for(Duration::from_secs(2));
            world.last_fault = world.now;
            world.nodes[node].side = 0;
            world.run_while(limit(world), World::is_reunited).ok_or("nodes did not meet again")?;
        }
        14 => rival_writer(world, span),
        _ => {}
    }
    whole_again(world, &note)
}

/// Frames pass, datagrams and the second path do not: while it lasts one of the others, or this one, stays the owner.
fn deaf(world: &mut World, node: usize, span: Duration) -> Result<(), String> {
    reunited(world)?;
    world.nodes[node].deaf = true;
    if world.chance.percent(20) {
        // The first thing that people try.
        world.nodes[node].life = Life::Killed;
        world.restart(node);
    }
    // It is found on the wire for a while; then the others take it for dead.
    world.run_while(limit(world) * 2, |world| world.longest_overlap > MAX_OVERLAP);
    world.last_fault = world.now;
    world.run_for(span);
    if !world.is_whole() {
        return Err("not one owner each beside a deaf node".into());
    }
    world.nodes[node].deaf = false;
    reunited(world)
}

/// A death before they meet again would be a second fault.
fn reunited(world: &mut World) -> Result<(), String> {
    let met = world.run_while(limit(world), World::is_reunited);
    met.map(drop).ok_or_else(|| "nodes did not meet again".into())
}

/// The node's address goes, the carrier stays; later it, or another one, comes.
fn address(world: &mut World, node: usize, span: Duration, other: bool) -> Result<(), String> {
    reunited(world)?;
    let at_once = other && world.chance.percent(30);
    if !at_once {
        world.set_lost(node, true);
        if span > Duration::from_millis(1500) {
            whole_again(world, "--- without its address")?;
        } else {
            world.run_for(span);
        }
    }
    world.last_fault = world.now;
    if other {
        world.readdress(node);
    }
    if !at_once {
        world.set_lost(node, false);
    }
    world
        .run_while(Duration::from_secs(1), World::is_reunited)
        .ok_or("it was not a member again after a second")?;
    let seeds: Vec<_> = world.nodes.iter().map(|node| node.addr).collect();
    world.nodes.iter_mut().for_each(|node| node.core.handle_seeds(seeds.clone()));
    Ok(())
}

/// A second controller rewrites the status of Services: each node sees them with and without their address, in its own time.
fn rival_writer(world: &mut World, span: Duration) {
    let all = Arc::new(world.demands());
    let until = world.now + span;
    while world.now < until {
        let node = world.chance.below(world.nodes.len());
        let gone = world.vips[world.chance.below(world.vips.len())];
        let mut seen = Demands::clone(&all);
        seen.remove(&gone);
        world.demand(node, Arc::new(seen));
        let wait = Duration::from_millis(u64::try_from(1 + world.chance.below(150)).unwrap());
        world.run_for(wait);
        world.demand(node, all.clone());
        world.last_fault = world.now;
    }
}

fn state(world: &World) -> Vec<(IpAddr, Vec<usize>)> {
    world.vips.iter().map(|vip| (*vip, world.owners(*vip))).collect()
}

fn limit(world: &World) -> Duration {
    if world.nodes.len() > 20 { WHOLE_AGAIN * 2 } else { WHOLE_AGAIN }
}

fn whole_again(world: &mut World, note: &str) -> Result<(), String> {
    let limit = limit(world);
    world
        .run_while(limit, World::is_whole)
        .map(drop)
        .ok_or_else(|| format!("{note}: not whole {limit:?} later: {:?}", state(world)))
}

use std::{net::IpAddr, time::Duration};

use super::{Life, World, schedule};

/// As many as a run of the tests has time for; CAUSEWAY_SIM_RUNS and CAUSEWAY_SIM_SEED change it.
const RUNS: u64 = 10_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn whole(world: &mut World) {
    world.run_while(Duration::from_secs(8), World::is_whole).expect("whole after the start");
}

/// Mostly the sizes of homes; sometimes larger.
fn size(seed: u64) -> usize {
    let larger = usize::try_from(seed / 100).unwrap_or(0);
    match seed % 1000 {
        0..=989 => 3 + usize::try_from(seed % 5).expect("below 5"),
        990..=998 => 10 + larger % 15,
        _ => 30 + larger % 171,
    }
}

#[test]
fn ownership_holds_its_invariants_in_random_schedules() {
    let first = number("CAUSEWAY_SIM_SEED", 1);
    let last = first + number("CAUSEWAY_SIM_RUNS", RUNS);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let step = u64::try_from(workers).expect("a few");
        let worker = |offset: u64| {
            (first + offset..last)
                .step_by(workers)
                .filter_map(|seed| schedule::run(seed, size(seed)).err())
                .take(3)
                .collect::<Vec<_>>()
        };
        let handles: Vec<_> = (0..step).map(|offset| scope.spawn(move || worker(offset))).collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("no panic")).collect()
    });
    assert!(failures.is_empty(), "CAUSEWAY_SIM_LOG=1 shows each step\n{}", failures.join("\n\n"));
}

/// Crash of the owner's host until another node answers, over `runs` seeds; sorted.
fn take_overs(nodes: usize, runs: u64, life: Life) -> Vec<Duration> {
    let mut times = Vec::new();
    for seed in 0..runs {
        let mut world = World::new(seed, nodes, 3);
        whole(&mut world);
        let more = Duration::from_millis(u64::try_from(world.chance.below(900)).unwrap());
        world.run_for(more);
        let vip = world.vips[0];
        let owner = world.owners(vip)[0];
        world.nodes[owner].life = life;
        let time =
            world.run_while(Duration::from_secs(5), |w| !w.owners(vip).is_empty()).expect("taken over");
        times.push(time);
    }
    times.sort_unstable();
    times
}

#[test]
fn hazard_178_a_crash_is_taken_over_in_700_ms_at_3_nodes_and_1_5_s_at_50() {
    for (nodes, runs, limit) in [(3, 200, 700), (10, 50, 900), (50, 12, 1500)] {
        let times = take_overs(nodes, runs, Life::Off);
        let (p50, max) = (times[times.len() / 2], times[times.len() - 1]);
        println!("{nodes} nodes, host off: p50 {p50:?}, max {max:?}");
        assert!(max <= Duration::from_millis(limit), "{nodes} nodes: {max:?}");
    }
    let times = take_overs(3, 100, Life::Killed);
    println!("3 nodes, process killed: p50 {:?}, max {:?}", times[50], times[99]);
    assert!(times[99] <= Duration::from_millis(600), "{:?}", times[99]);
}

#[test]
fn two_hundred_nodes_take_over_a_dead_peers_addresses() {
    let times = take_overs(200, 1, Life::Off);
    println!("200 nodes, host off: {times:?}");
    assert!(times[0] <= Duration::from_millis(2500));
}

#[test]
fn hazard_176_a_continued_process_answers_nothing_before_it_has_asked() {
    let mut world = World::new(4, 3, 2);
    whole(&mut world);
    let vip = world.vips[0];
    let owner = world.owners(vip)[0];
    world.nodes[owner].life = Life::Paused;
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.owners(vip).len(), 1, "another node took over");
    world.resume(owner); // asserts that it answers nothing
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.longest_overlap, Duration::ZERO);
    assert!(!world.owners(vip).contains(&owner));
}

#[test]
fn hazard_176_a_clock_jump_costs_a_moment_and_no_move() {
    let mut world = World::new(5, 3, 3);
    whole(&mut world);
    let before: Vec<_> = world.vips.iter().map(|vip| world.owners(*vip)).collect();
    for node in 0..3 {
        world.nodes[node].ahead += Duration::from_secs(3600);
        world.run_for(Duration::from_millis(400));
    }
    let after: Vec<_> = world.vips.iter().map(|vip| world.owners(*vip)).collect();
    assert_eq!(before, after);
}

#[test]
fn hazard_187_a_draining_node_hands_over_without_a_gap() {
    for seed in 0..50 {
        let mut world = World::new(seed, 3, 6);
        whole(&mut world);
        let local = world.local(0);
        world.nodes[0].core.handle_drain(local);
        world.drain(0);
        for _ in 0..1000 {
            world.run_for(Duration::from_millis(1));
            let silent: Vec<&IpAddr> =
                world.vips.iter().filter(|vip| world.owners(**vip).is_empty()).collect();
            assert!(silent.is_empty(), "seed {seed}: nobody answers for {silent:?}");
        }
        assert_eq!(world.nodes[0].core.owned().count(), 0);
    }
}

#[test]
fn a_node_that_restarts_moves_its_addresses_once() {
    let mut world = World::new(9, 3, 3);
    whole(&mut world);
    world.nodes[0].life = Life::Off;
    world.run_for(Duration::from_secs(2));
    let after_death: Vec<_> = world.vips.iter().map(|vip| world.owners(*vip)).collect();
    world.restart(0);
    world.run_for(Duration::from_secs(10));
    let after_return: Vec<_> = world.vips.iter().map(|vip| world.owners(*vip)).collect();
    assert_eq!(after_death, after_return, "a return moves nothing while the spread is fair");
}

#[test]
fn hazard_188_a_slow_node_keeps_its_addresses() {
    let mut world = World::new(11, 3, 3);
    whole(&mut world);
    let before: Vec<_> = world.vips.iter().map(|vip| world.owners(*vip)).collect();
    world.nodes[1].slow = Duration::from_millis(60);
    world.run_for(Duration::from_secs(10));
    world.nodes[1].slow = Duration::ZERO;
    world.run_for(Duration::from_secs(2));
    let after: Vec<_> = world.vips.iter().map(|vip| world.owners(*vip)).collect();
    assert_eq!(before, after);
    assert_eq!(world.longest_overlap, Duration::ZERO);
}

#[test]
fn datagrams_cut_on_a_shared_wire_do_not_make_a_second_owner_while_the_second_path_holds() {
    let mut world = World::new(12, 3, 3);
    whole(&mut world);
    let before: Vec<_> = world.vips.iter().map(|vip| world.owners(*vip)).collect();
    world.log = Some(Vec::new());
    world.nodes[0].mute = true;
    world.run_for(Duration::from_millis(1500));
    world.nodes[0].mute = false;
    world.run_for(Duration::from_secs(2));
    let after: Vec<_> = world.vips.iter().map(|vip| world.owners(*vip)).collect();
    assert_eq!(before, after, "{}", world.log.unwrap_or_default().join("\n"));
    assert_eq!(world.longest_overlap, Duration::ZERO);
}

#[test]
fn nodes_that_do_not_hear_each_other_settle_at_the_api_server() {
    for seed in 0..50 {
        let mut world = World::new(seed, 3, 6);
        whole(&mut world);
        world.nodes[0].side = 1;
        world.run_for(Duration::from_secs(20));
        assert!(world.longest_overlap < Duration::from_secs(1), "seed {seed}: {:?}", world.longest_overlap);
        assert!(world.is_whole(), "seed {seed}: one owner each, on either side");
        world.nodes[0].side = 0;
        whole(&mut world);
    }
}

#[test]
fn a_node_that_does_not_know_a_service_keeps_nobody_waiting() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3, 6);
        let local = world.local(1);
        world.nodes[1].core.handle_demands(Default::default(), local);
        let took = world.run_while(Duration::from_secs(5), World::is_whole).expect("the others take all");
        assert!(took < Duration::from_secs(3), "seed {seed}: {took:?}");
        world.run_for(Duration::from_secs(20));
        assert!(world.is_whole() && world.longest_overlap == Duration::ZERO, "seed {seed}");
    }
}

#[test]
fn idle_speakers_say_little() {
    let mut world = World::new(13, 3, 10);
    whole(&mut world);
    world.run_for(Duration::from_secs(3));
    let before = world.datagrams;
    world.run_for(Duration::from_secs(10));
    let rate = (world.datagrams - before) / 30;
    println!("{rate} datagrams a second and node");
    assert!(rate <= 60, "{rate}");
}

//! The work of a decision, measured in time with wide margins: what must not happen is a walk over everything.

use super::*;

const SERVICES: usize = 5_000;
const POOLS: usize = 50;

fn world() -> World {
    let pools: Vec<IPAddressPool> =
        (0..POOLS).map(|i| pool(&format!("p{i:02}"), &[&format!("10.{i}.0.0-10.{i}.0.199")])).collect();
    World::new(&pools)
}

#[test]
fn a_new_service_among_5000_and_50_pools_is_decided_within_a_few_milliseconds() {
    let mut world = world();
    let start = Instant::now();
    for i in 0..SERVICES {
        assert_eq!(world.decide(&service(&format!("s{i}"))).change, Change::Granted);
    }
    let all = start.elapsed();
    assert!(all < Duration::from_secs(5), "a restart must decide all within 5 s, took {all:?}");

    let start = Instant::now();
    assert_eq!(world.decide(&service("new")).change, Change::Granted);
    assert!(start.elapsed() < Duration::from_millis(50), "one more took {:?}", start.elapsed());
    assert_eq!(world.table.len(), SERVICES + 1);
}

#[test]
fn full_pools_are_not_walked_again_for_each_service() {
    let mut world = world();
    for i in 0..POOLS * 200 {
        assert_eq!(world.decide(&service(&format!("s{i}"))).change, Change::Granted);
    }
    let start = Instant::now();
    for i in 0..SERVICES {
        assert!(world.decide(&service(&format!("late{i}"))).holding.is_none());
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{SERVICES} refusals took {:?}", start.elapsed());
}

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::api::{IPAddressPool, IPAddressPoolSpec, LabelSelector, ServiceAllocation};
use crate::pool::{Pools, Reserved, Use};
use crate::range::Family;

mod against_metallb;
mod cost;
mod hazards;

const COOL: Duration = Duration::from_secs(60);

pub(super) fn pool(name: &str, addresses: &[&str]) -> IPAddressPool {
    let addresses = addresses.iter().map(|text| (*text).to_owned()).collect();
    IPAddressPool::new(
        name,
        IPAddressPoolSpec { addresses, auto_assign: Some(true), ..IPAddressPoolSpec::default() },
    )
}

pub(super) fn service(name: &str) -> Request {
    Request {
        key: ServiceKey::new("default", name),
        created: 0,
        labels: BTreeMap::new(),
        namespace_labels: Arc::default(),
        families: Families::Single(Family::V4),
        addresses: Vec::new(),
        pool: None,
        sharing: None,
        ports: vec![Port { protocol: Protocol::Tcp, number: 80 }],
        held: Vec::new(),
        held_from: None,
        contested: None,
    }
}

fn sharing(key: &str) -> Option<Sharing> {
    Some(Sharing { key: key.to_owned(), backend: String::new() })
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A table, the time, and the pools, with the steps that tests take.
struct World {
    table: Table,
    now: Instant,
}

impl World {
    fn new(pools: &[IPAddressPool]) -> Self {
        let mut world = Self { table: Table::new(COOL), now: Instant::now() };
        world.pools(pools);
        world
    }

    fn pools(&mut self, pools: &[IPAddressPool]) {
        self.table.set_pools(Arc::new(Pools::compile(pools, &Reserved::default())), Arc::default());
    }

    fn decide(&mut self, request: &Request) -> Decision {
        self.table.decide(request, self.now)
    }

    fn held(&mut self, request: &Request) -> Vec<String> {
        let holding = self.decide(request).holding;
        holding.map_or_else(Vec::new, |holding| holding.addresses.iter().map(ToString::to_string).collect())
    }

    fn release(&mut self, request: &Request) {
        assert!(self.table.release(&request.key, self.now));
    }
}

#[test]
fn the_first_address_of_the_range_comes_first_zero_included() {
    let mut world = World::new(&[pool("default", &["10.0.42.0/24"])]);
    assert_eq!(world.held(&service("a")), ["10.0.42.0"]);
    assert_eq!(world.held(&service("b")), ["10.0.42.1"]);
}

#[test]
fn deciding_twice_changes_nothing() {
    let mut world = World::new(&[pool("default", &["10.0.0.1-10.0.0.9"])]);
    let first = world.decide(&service("a"));
    assert_eq!(first.change, Change::Granted);
    let again = world.decide(&service("a"));
    assert_eq!((again.change, again.holding), (Change::None, first.holding));
}

#[test]
fn a_replacement_is_granted_before_the_old_address_is_taken_away() {
    let mut world = World::new(&[pool("a", &["10.0.0.1/32"]), pool("b", &["10.0.1.1/32"])]);
    let mut moving = service("moving");
    assert_eq!(world.held(&moving), ["10.0.0.1"]);
    let mut blocker = service("blocker");
    blocker.pool = Some("b".to_owned());
    assert_eq!(world.held(&blocker), ["10.0.1.1"]);

    moving.pool = Some("b".to_owned());
    let decision = world.decide(&moving);
    assert_eq!(decision.change, Change::None, "it keeps what it has");
    assert!(
        matches!(decision.trouble, Some(Trouble::Allocation(Failure::PoolExhausted(..)))),
        "{decision:?}"
    );
    assert_eq!(world.held(&moving), ["10.0.0.1"]);

    world.release(&blocker);
    let decision = world.decide(&moving);
    assert_eq!(decision.change, Change::Replaced(Reason::OtherPool("b".to_owned())));
    assert_eq!(world.held(&moving), ["10.0.1.1"]);
}

#[test]
fn a_released_address_cools_down_unless_the_pool_is_full() {
    let mut world = World::new(&[pool("a", &["10.0.0.1-10.0.0.2"])]);
    let (first, second, third) = (service("first"), service("second"), service("third"));
    assert_eq!(world.held(&first), ["10.0.0.1"]);
    world.release(&first);
    assert_eq!(world.held(&second), ["10.0.0.2"], "10.0.0.1 rests");
    assert_eq!(world.held(&third), ["10.0.0.1"], "there is no other");
    world.release(&third);
    world.release(&second);
    world.now += COOL;
    assert_eq!(world.held(&first), ["10.0.0.1"], "it has rested");
}

#[test]
fn a_service_made_again_may_have_its_resting_address_back() {
    let mut world = World::new(&[pool("a", &["10.0.0.1-10.0.0.9"])]);
    assert_eq!(world.held(&service("a")), ["10.0.0.1"]);
    world.release(&service("a"));
    assert_eq!(world.held(&service("a")), ["10.0.0.1"]);
}

#[test]
fn a_pool_that_is_deleted_and_made_again_moves_nobody() {
    let home = pool("home", &["10.0.0.10-10.0.0.12"]);
    let mut world = World::new(std::slice::from_ref(&home));
    let (first, second) = (service("first"), service("second"));
    assert_eq!(world.held(&first), ["10.0.0.10"]);
    assert_eq!(world.held(&second), ["10.0.0.11"]);
    world.release(&first);
    world.pools(&[]);
    assert!(world.held(&second).is_empty());
    // Longer than any rest: it lives, and nobody else has come.
    world.now += 10 * COOL;
    world.table.expire(world.now);
    world.pools(&[home]);
    assert_eq!(world.held(&second), ["10.0.0.11"]);
    assert_eq!(world.held(&service("third")), ["10.0.0.10"]);
}

#[test]
fn who_comes_back_to_an_address_that_is_taken_gets_another_one() {
    let home = pool("home", &["10.0.0.10-10.0.0.12"]);
    let mut world = World::new(std::slice::from_ref(&home));
    assert_eq!(world.held(&service("a")), ["10.0.0.10"]);
    world.pools(&[]);
    assert!(world.held(&service("a")).is_empty());
    world.pools(&[home]);
    let mut asks = service("asks");
    asks.addresses = vec![ip("10.0.0.10")];
    assert_eq!(world.held(&asks), ["10.0.0.10"]);
    assert_eq!(world.held(&service("a")), ["10.0.0.11"]);
}

#[test]
fn services_with_one_key_share_an_address_if_their_ports_differ() {
    let mut world = World::new(&[pool("a", &["10.0.0.1-10.0.0.9"])]);
    let (mut tcp, mut udp, mut clash, mut other) =
        (service("tcp"), service("udp"), service("clash"), service("other"));
    for one in [&mut tcp, &mut udp, &mut clash] {
        one.sharing = sharing("dns");
    }
    udp.ports[0].protocol = Protocol::Udp;
    other.sharing = sharing("web");
    other.ports[0].number = 443;
    assert_eq!(world.held(&tcp), ["10.0.0.1"]);
    assert_eq!(world.held(&udp), ["10.0.0.1"]);
    assert_eq!(world.held(&clash), ["10.0.0.2"]);
    assert_eq!(world.held(&other), ["10.0.0.3"], "another key");
    assert_eq!(world.table.usage("a"), Usage { v4: 3, v6: 0, services: 4 });
}

#[test]
fn s20_who_changes_so_that_sharing_ends_loses_the_address() {
    let mut world = World::new(&[pool("a", &["10.0.0.1/32"])]);
    let (mut first, mut second) = (service("first"), service("second"));
    for (one, port) in [(&mut first, 80), (&mut second, 81)] {
        one.sharing = sharing("k");
        one.ports[0].number = port;
    }
    assert_eq!((world.held(&first), world.held(&second)), (vec!["10.0.0.1".into()], vec!["10.0.0.1".into()]));
    second.sharing.as_mut().unwrap().backend = "app=web".to_owned();
    let decision = world.decide(&second);
    assert!(matches!(decision.change, Change::Cleared(Reason::Shared(_))), "{decision:?}");
    first.sharing.as_mut().unwrap().backend = "app=web".to_owned();
    assert_eq!(world.held(&first), ["10.0.0.1"], "the only one on it changes its key in place");
    assert_eq!(world.held(&second), ["10.0.0.1"], "and they share again");
}

#[test]
fn dual_stack_takes_both_families_from_one_pool() {
    let mut world =
        World::new(&[pool("a", &["10.0.0.1/32"]), pool("b", &["10.0.1.1-10.0.1.2", "fc00::1-fc00::2"])]);
    let mut both = service("both");
    both.families = Families::Both;
    assert_eq!(world.held(&both), ["10.0.1.1", "fc00::1"]);
    let mut prefers = service("prefers");
    prefers.families = Families::PreferBoth { primary: Family::V4 };
    assert_eq!(world.held(&prefers), ["10.0.1.2", "fc00::2"]);
    let mut late = service("late");
    late.families = Families::PreferBoth { primary: Family::V4 };
    assert_eq!(world.held(&late), ["10.0.0.1"], "one family does where no pool has both");
}

#[test]
fn s32_a_pool_that_becomes_dual_stack_adds_the_second_address_and_keeps_the_first() {
    let mut world = World::new(&[pool("a", &["10.0.0.1-10.0.0.9"])]);
    let mut prefers = service("prefers");
    prefers.families = Families::PreferBoth { primary: Family::V4 };
    assert_eq!(world.held(&prefers), ["10.0.0.1"]);
    world.pools(&[pool("a", &["10.0.0.1-10.0.0.9", "fc00::/126"])]);
    assert_eq!(world.decide(&prefers).change, Change::Extended(ip("fc00::")));
    assert_eq!(world.held(&prefers), ["10.0.0.1", "fc00::"]);
}

#[test]
fn s21_s22_a_pool_that_goes_takes_its_addresses_along_or_another_pool_replaces_them() {
    let (a, b) = (pool("a", &["10.0.0.0/30"]), pool("b", &["10.0.1.0/30"]));
    let mut world = World::new(&[a, b.clone()]);
    assert_eq!(world.held(&service("x")), ["10.0.0.0"]);
    world.pools(&[b]);
    assert!(matches!(world.decide(&service("x")).change, Change::Replaced(Reason::NotInConfig(_))));
    assert_eq!(world.held(&service("x")), ["10.0.1.0"]);
    world.pools(&[]);
    assert!(matches!(world.decide(&service("x")).change, Change::Cleared(Reason::NotInConfig(_))));
    assert!(world.table.is_empty());
}

#[test]
fn a_renamed_pool_keeps_its_services_and_counts_them() {
    let mut world = World::new(&[pool("old", &["10.0.0.0/30"])]);
    world.decide(&service("x"));
    world.pools(&[pool("new", &["10.0.0.0/29"])]);
    let decision = world.decide(&service("x"));
    assert_eq!(decision.change, Change::None);
    assert_eq!(&*decision.holding.unwrap().pool, "new");
    assert_eq!(world.table.usage("new").v4, 1);
}

#[test]
fn avoid_buggy_ips_skips_them_and_moves_who_has_one() {
    let mut buggy = pool("a", &["10.0.0.255-10.0.1.1"]);
    let mut world = World::new(&[buggy.clone()]);
    assert_eq!(world.held(&service("x")), ["10.0.0.255"]);
    buggy.spec.avoid_buggy_ips = true;
    world.pools(&[buggy]);
    assert_eq!(world.held(&service("x")), ["10.0.1.1"]);
    assert!(world.held(&service("y")).is_empty());
}

#[test]
fn requests_by_name_are_met_or_refused_with_the_reason() {
    let mut manual = pool("manual", &["10.0.0.1-10.0.0.9"]);
    manual.spec.auto_assign = Some(false);
    let mut world = World::new(&[manual, pool("auto", &["10.0.1.1/32", "fc00::1/128"])]);
    let mut by_pool = service("by-pool");
    by_pool.pool = Some("manual".to_owned());
    assert_eq!(world.held(&by_pool), ["10.0.0.1"], "autoAssign false serves who asks");

    let mut failing = |change: &dyn Fn(&mut Request)| {
        let mut request = service("failing");
        change(&mut request);
        let decision = world.decide(&request);
        assert_eq!(decision.holding, None);
        match decision.trouble {
            Some(Trouble::Allocation(failure)) => failure,
            other => panic!("{other:?}"),
        }
    };
    let addresses = |list: &[&str]| list.iter().map(|text| ip(text)).collect::<Vec<_>>();
    assert!(matches!(failing(&|r| r.pool = Some("none".to_owned())), Failure::UnknownPool(_)));
    assert!(matches!(failing(&|r| r.addresses = addresses(&["192.0.2.1"])), Failure::NotInConfig(_)));
    assert!(matches!(failing(&|r| r.addresses = addresses(&["fc00::1"])), Failure::FamilyMismatch(..)));
    assert!(matches!(failing(&|r| r.addresses = addresses(&["10.0.0.1"])), Failure::InUse(..)));
    assert!(matches!(
        failing(&|r| (r.addresses, r.pool) = (addresses(&["10.0.0.2"]), Some("auto".to_owned()))),
        Failure::PoolMismatch(..)
    ));
    assert!(
        matches!(
            failing(&|r| (r.addresses, r.families) = (addresses(&["10.0.0.2", "fc00::1"]), Families::Both)),
            Failure::NotInConfig(_)
        ),
        "both of one pool"
    );
}

#[test]
fn a_contested_address_is_replaced_and_rests_longer() {
    let mut world = World::new(&[pool("a", &["10.0.0.1-10.0.0.9"])]);
    let mut contested = service("contested");
    assert_eq!(world.held(&contested), ["10.0.0.1"]);
    contested.contested = Some(ip("10.0.0.1"));
    assert_eq!(world.held(&contested), ["10.0.0.2"]);
    world.now += COOL;
    assert_eq!(world.held(&service("next")), ["10.0.0.3"], "nobody gets what a foreign host has");
    let mut named = service("named");
    named.addresses = vec![ip("10.0.0.4")];
    world.decide(&named);
    named.contested = Some(ip("10.0.0.4"));
    assert_eq!(world.held(&named), ["10.0.0.4"], "asked for by name: the user's to mend");
}

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn vip(n: usize) -> IpAddr {
    IpAddr::from([10, 0, u8::try_from(n / 256).unwrap(), u8::try_from(n % 256).unwrap()])
}

fn name(n: usize) -> NodeName {
    NodeName::new(format!("node{n}"))
}

fn peers(count: usize) -> Vec<Peer> {
    let peer = |n| Peer {
        name: name(n),
        standing: Standing::Settled,
        unable: Arc::default(),
        networks: None,
        ready: true,
    };
    (0..count).map(peer).collect()
}

fn all(count: usize) -> Arc<Candidates> {
    Arc::new((0..count).map(|n| (name(n), 0)).collect())
}

fn demands(count: usize, candidates: &Arc<Candidates>) -> Vec<Demand> {
    let demand = |n| Demand { vip: vip(n), candidates: candidates.clone(), pin: None, leader: None };
    (0..count).map(demand).collect()
}

#[test]
fn new_addresses_spread_evenly() {
    let owners = elect(demands(10, &all(3)).iter(), &peers(3), |_| None);
    for peer in 0..3 {
        let load = owners.values().filter(|owner| **owner == Some(peer)).count();
        assert!((3..=4).contains(&load), "{owners:?}");
    }
}

#[test]
fn who_has_no_address_in_the_network_keeps_nothing_that_another_could_have() {
    let mut members = peers(3);
    let network = |text: &str| Some(Arc::from([text.parse::<IpNet>().unwrap()]));
    members.iter_mut().for_each(|peer| peer.networks = network("10.0.0.0/16"));
    members[0].networks = network("192.168.0.0/16");
    let wanted = demands(3, &all(3));
    let owners = elect(wanted.iter(), &members, |_| Some(0));
    assert!(owners.values().all(|owner| matches!(owner, Some(1 | 2))), "{owners:?}");
    // Where nobody is on the network of the addresses, as with a routed range, it decides nothing.
    members.iter_mut().for_each(|peer| peer.networks = network("192.168.0.0/16"));
    members[1].networks = network("192.168.1.0/24");
    let owners = elect(demands(1, &all(3)).iter(), &members, |_| Some(0));
    assert_eq!(owners[&vip(0)], Some(0));
}

#[test]
fn a_node_that_is_not_ready_keeps_what_it_has_and_gets_nothing_new() {
    let mut members = peers(3);
    members[0].ready = false;
    let wanted = demands(1, &all(3));
    assert_eq!(elect(wanted.iter(), &members, |_| Some(0))[&vip(0)], Some(0));
    assert_ne!(elect(wanted.iter(), &members, |_| None)[&vip(0)], Some(0));
    members.iter_mut().for_each(|peer| peer.ready = false);
    assert!(elect(wanted.iter(), &members, |_| None)[&vip(0)].is_some());
}

#[test]
fn a_returning_node_takes_nothing_back_unless_the_spread_asks_for_it() {
    // Two addresses, both on node 0: node 1 is back, and node 0 is only one above its share.
    let owners = elect(demands(2, &all(2)).iter(), &peers(2), |_| Some(0));
    assert!(owners.values().all(|owner| *owner == Some(0)));
    // Six: share 3, so node 0 may keep four.
    let owners = elect(demands(6, &all(2)).iter(), &peers(2), |_| Some(0));
    assert_eq!(owners.values().filter(|owner| **owner == Some(0)).count(), 4);
}

#[test]
fn a_fresh_node_gets_no_owned_address() {
    let mut members = peers(2);
    members[1].standing = Standing::Fresh;
    let owners = elect(demands(6, &all(2)).iter(), &members, |_| Some(0));
    assert!(owners.values().all(|owner| *owner == Some(0)));
    let owners = elect(demands(6, &all(2)).iter(), &members, |_| None);
    assert_eq!(owners.values().filter(|owner| **owner == Some(1)).count(), 3);
}

#[test]
fn a_draining_node_keeps_only_what_nobody_else_can_take() {
    let mut members = peers(2);
    members[0].standing = Standing::Draining;
    let wanted = demands(2, &all(2));
    assert!(elect(wanted.iter(), &members, |_| Some(0)).values().all(|owner| *owner == Some(1)));
    members[1].unable = Arc::new(BTreeSet::from([vip(0)]));
    let owners = elect(wanted.iter(), &members, |_| Some(0));
    assert_eq!((owners[&vip(0)], owners[&vip(1)]), (Some(0), Some(1)));
}

#[test]
fn preference_beats_stickiness_and_a_pin_beats_both() {
    let candidates: Arc<Candidates> = Arc::new([(name(0), 0), (name(1), 10), (name(2), 0)].into());
    let mut wanted = demands(1, &candidates);
    assert_eq!(elect(wanted.iter(), &peers(3), |_| Some(0))[&vip(0)], Some(1));
    wanted[0].pin = Some(name(2));
    assert_eq!(elect(wanted.iter(), &peers(3), |_| Some(1))[&vip(0)], Some(2));
    let mut members = peers(3);
    members[2].unable = Arc::new(BTreeSet::from([vip(0)]));
    assert_eq!(elect(wanted.iter(), &members, |_| Some(1))[&vip(0)], Some(1), "the pinned node is not able");
}

#[test]
fn both_families_of_a_service_share_a_node() {
    let six: IpAddr = "fd00::1".parse().unwrap();
    let mut wanted = demands(3, &all(3));
    wanted.push(Demand { vip: six, candidates: all(3), pin: None, leader: Some(vip(1)) });
    let owners = elect(wanted.iter(), &peers(3), |_| None);
    assert_eq!(owners[&six], owners[&vip(1)]);
    let owners = elect(wanted.iter(), &peers(3), |ip| Some(if ip == six { 0 } else { 2 }));
    assert_eq!(owners[&six], owners[&vip(1)], "also when they were apart");
}

#[test]
fn no_candidate_means_no_owner() {
    let owners = elect(demands(1, &Arc::default()).iter(), &peers(3), |_| Some(0));
    assert_eq!(owners[&vip(0)], None);
}

#[derive(Debug, Clone)]
struct Case {
    peers: Vec<Peer>,
    demands: Vec<Demand>,
    holders: Vec<Option<usize>>,
}

fn case() -> impl Strategy<Value = Case> {
    (1usize..7, 0usize..30).prop_flat_map(|(nodes, vips)| {
        let standing = prop_oneof![
            4 => Just(Standing::Settled), 1 => Just(Standing::Fresh), 1 => Just(Standing::Draining)
        ];
        let unable = proptest::collection::btree_set((0..vips.max(1)).prop_map(vip), 0..3);
        let network = |text: &str| Some(Arc::from([text.parse::<IpNet>().unwrap()]));
        let networks = prop_oneof![
            4 => Just(network("10.0.0.0/16")), 1 => Just(network("10.1.0.0/16")), 1 => Just(None)
        ];
        let members =
            proptest::collection::vec((standing, unable, networks, proptest::bool::weighted(0.8)), nodes);
        let rules = proptest::collection::vec(
            (proptest::collection::btree_map((0..nodes).prop_map(name), 0i32..3, 0..=nodes), 0..nodes * 4),
            vips,
        );
        let holders = proptest::collection::vec(proptest::option::of(0..nodes), vips);
        (members, rules, holders).prop_map(|(members, rules, holders)| Case {
            peers: members
                .into_iter()
                .enumerate()
                .map(|(n, (standing, unable, networks, ready))| Peer {
                    name: name(n),
                    standing,
                    unable: Arc::new(unable),
                    networks,
                    ready,
                })
                .collect(),
            demands: rules
                .into_iter()
                .enumerate()
                .map(|(n, (candidates, pin))| Demand {
                    vip: vip(n),
                    candidates: Arc::new(candidates),
                    pin: Some(name(pin)),
                    leader: None,
                })
                .collect(),
            holders,
        })
    })
}

proptest! {
    #[test]
    fn the_owner_is_always_able_and_exists_when_somebody_is(case in case()) {
        let holder = |ip: IpAddr| {
            case.demands.iter().position(|d| d.vip == ip).and_then(|at| case.holders[at])
        };
        let owners = elect(case.demands.iter(), &case.peers, holder);
        for demand in &case.demands {
            let able = |peer: &Peer| {
                demand.candidates.contains_key(&peer.name) && !peer.unable.contains(&demand.vip)
            };
            match owners[&demand.vip] {
                Some(owner) => {
                    prop_assert!(able(&case.peers[owner]));
                    if case.peers[owner].standing == Standing::Draining {
                        prop_assert_eq!(holder(demand.vip), Some(owner));
                    }
                }
                None => prop_assert!(
                    !case.peers.iter().any(|peer| able(peer) && peer.standing != Standing::Draining)
                ),
            }
        }
    }

    #[test]
    fn electing_again_from_the_result_changes_nothing(case in case()) {
        let first = elect(case.demands.iter(), &case.peers, |ip| {
            case.demands.iter().position(|d| d.vip == ip).and_then(|at| case.holders[at])
        });
        let second = elect(case.demands.iter(), &case.peers, |ip| first[&ip]);
        prop_assert_eq!(first, second);
    }

    #[test]
    fn nobody_is_more_than_one_above_the_fair_share(nodes in 1usize..8, held in proptest::collection::vec(0usize..8, 0..60)) {
        let wanted = demands(held.len(), &all(nodes));
        let members = peers(nodes);
        let owners = elect(wanted.iter(), &members, |ip| {
            wanted.iter().position(|d| d.vip == ip).map(|at| held[at] % nodes)
        });
        for peer in 0..nodes {
            let load = owners.values().filter(|owner| **owner == Some(peer)).count();
            prop_assert!(load <= held.len().div_ceil(nodes) + 1);
        }
    }
}

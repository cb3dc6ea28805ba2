use super::*;
use crate::api::LabelSelector;

pub(super) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

pub(super) fn selector(pairs: &[(&str, &str)]) -> Selector {
    Selector::compile(&LabelSelector { match_labels: labels(pairs), ..LabelSelector::default() }).unwrap()
}

pub(super) fn key(name: &str) -> Arc<ServiceKey> {
    Arc::new(ServiceKey { namespace: "default".into(), name: name.into() })
}

/// Three nodes, a pool, one advertisement of all, and a Service with an endpoint on node1.
pub(super) fn index() -> Index {
    let mut index = Index::default();
    for name in ["node1", "node2", "node3"] {
        index.nodes.insert(name.into(), Node { labels: labels(&[("name", name)]), ..Node::default() });
    }
    let pool =
        Pool { ranges: vec!["10.0.0.0/24".parse().unwrap()], labels: labels(&[("kind", "home")]).into() };
    index.put_pool("home", pool);
    index.advertisements.insert("all".into(), Advertisement::default());
    add(&mut index, "web", &["10.0.0.1"]);
    index
}

fn add(index: &mut Index, name: &str, addresses: &[&str]) {
    index.put_service(key(name), service(name, addresses));
    let slice = Slice { name: "slice".into(), nodes: ["node1".into()].into() };
    index.endpoints.insert(key(name), vec![slice]);
}

fn service(name: &str, addresses: &[&str]) -> Service {
    Service {
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        traffic: Traffic::Cluster,
        labels: labels(&[("app", name)]),
        uid: "".into(),
        allocated: true,
        in_conflict: false,
        pin: None,
    }
}

fn candidates(index: &Index, vip: &str) -> Vec<(String, i32)> {
    let wanted = index.wanted(&"node1".into());
    let Some(demand) = wanted.demands.get(&vip.parse().unwrap()) else { return Vec::new() };
    demand.candidates.iter().map(|(name, weight)| (name.to_string(), *weight)).collect()
}

fn all_three() -> Vec<(String, i32)> {
    ["node1", "node2", "node3"].map(|name| (name.to_owned(), 0)).into()
}

#[test]
fn every_node_is_a_candidate_for_a_cluster_service() {
    assert_eq!(candidates(&index(), "10.0.0.1"), all_three());
}

#[test]
fn hazard_182_an_address_outside_all_pools_is_not_announced() {
    let mut index = index();
    add(&mut index, "web", &["192.168.9.9"]);
    add(&mut index, "foreign", &["192.168.9.9"]);
    assert_eq!(announced(&index), ["10.0.0.1"], "written over; see the next test");
    add(&mut index, "none", &[]);
    index.remove_service(&key("web"));
    assert!(announced(&index).is_empty());
}

fn announced(index: &Index) -> Vec<String> {
    index.wanted(&"node1".into()).demands.keys().map(ToString::to_string).collect()
}

#[test]
fn what_the_allocator_gave_is_announced_until_the_allocator_takes_it_away() {
    let mut index = index();
    // A second controller writes its own addresses over it, or none.
    for over in [&["192.168.9.9"][..], &[]] {
        index.put_service(key("web"), service("web", over));
        assert_eq!(announced(&index), ["10.0.0.1"]);
    }
    // The allocator takes its annotation along with the address.
    index.put_service(key("web"), Service { allocated: false, ..service("web", &["192.168.9.9"]) });
    assert!(announced(&index).is_empty());
    index.put_service(key("web"), service("web", &[]));
    assert!(announced(&index).is_empty(), "and then it is forgotten");

    // A pool that shrinks, or goes, while no allocator leads.
    add(&mut index, "web", &["10.0.0.1"]);
    index.put_pool("home", Pool { ranges: vec!["10.0.0.128/25".parse().unwrap()], ..Pool::default() });
    assert_eq!(announced(&index), ["10.0.0.1"]);
    index.remove_pool("home");
    assert_eq!(announced(&index), ["10.0.0.1"]);
    // Moved, and what is in no pool any more is not taken back.
    index.put_pool("home", Pool { ranges: vec!["10.0.0.128/25".parse().unwrap()], ..Pool::default() });
    add(&mut index, "web", &["10.0.0.129"]);
    assert_eq!(announced(&index), ["10.0.0.129"]);
    add(&mut index, "web", &["10.0.0.1"]);
    assert_eq!(announced(&index), ["10.0.0.129"]);

    // Another Service of the same name inherits nothing.
    index.put_service(key("web"), Service { uid: "other".into(), ..service("web", &[]) });
    assert!(announced(&index).is_empty());
}

#[test]
fn hazard_183_local_traffic_needs_an_endpoint_on_the_node_and_any_needs_one_at_all() {
    let mut index = index();
    index.services.get_mut(&key("web")).unwrap().traffic = Traffic::Local;
    assert_eq!(candidates(&index, "10.0.0.1"), [("node1".to_owned(), 0)]);
    index.endpoints.clear();
    assert!(candidates(&index, "10.0.0.1").is_empty());
}

#[test]
fn barred_nodes_are_no_candidates() {
    let mut index = index();
    index.nodes.get_mut("node2").unwrap().barred = true;
    assert_eq!(candidates(&index, "10.0.0.1").len(), 2);
}

#[test]
fn a_pool_without_a_matching_advertisement_is_not_announced() {
    let mut index = index();
    let other = Advertisement { pools: ["other".to_owned()].into(), ..Advertisement::default() };
    index.advertisements.insert("all".into(), other);
    assert!(candidates(&index, "10.0.0.1").is_empty());
    let by_label =
        Advertisement { pool_selectors: vec![selector(&[("kind", "home")])], ..Advertisement::default() };
    index.advertisements.insert("label".into(), by_label);
    assert_eq!(candidates(&index, "10.0.0.1"), all_three());
}

#[test]
fn service_selectors_choose_services() {
    let mut index = index();
    let only = Advertisement { services: vec![selector(&[("app", "mail")])], ..Advertisement::default() };
    index.advertisements.insert("all".into(), only);
    add(&mut index, "mail", &["10.0.0.2"]);
    assert!(candidates(&index, "10.0.0.1").is_empty());
    assert_eq!(candidates(&index, "10.0.0.2"), all_three());
}

#[test]
fn node_selectors_are_hard_and_weights_sum_within_them() {
    let mut index = index();
    let (one, two) = (selector(&[("name", "node1")]), selector(&[("name", "node2")]));
    let first = Advertisement {
        nodes: vec![one, two.clone()],
        preferred: vec![(10, two.clone()), (5, Selector::everything())],
        ..Advertisement::default()
    };
    // Prefers node3, but does not select it.
    let second = Advertisement {
        nodes: vec![two],
        preferred: vec![(7, Selector::everything()), (90, selector(&[("name", "node3")]))],
        ..Advertisement::default()
    };
    index.advertisements = [("a".to_owned(), first), ("b".to_owned(), second)].into();
    assert_eq!(candidates(&index, "10.0.0.1"), [("node1".to_owned(), 5), ("node2".to_owned(), 22)]);
}

#[test]
fn interfaces_are_the_union_of_what_selects_this_node() {
    let mut index = index();
    let named = |node: &str, interface: &str| Advertisement {
        nodes: vec![selector(&[("name", node)])],
        interfaces: [interface.to_owned()].into(),
        ..Advertisement::default()
    };
    index.advertisements = [
        ("a".to_owned(), named("node1", "eth0")),
        ("b".to_owned(), named("node1", "eth1")),
        ("c".to_owned(), named("node2", "eth2")),
    ]
    .into();
    let place = |index: &Index| index.wanted(&"node1".into()).places[&"10.0.0.1".parse().unwrap()].clone();
    assert_eq!(place(&index).interfaces, Some(["eth0".to_owned(), "eth1".to_owned()].into()));
    index.advertisements.insert("d".into(), Advertisement::default());
    assert_eq!(place(&index).interfaces, None);
}

#[test]
fn services_on_one_address_share_an_owner_that_suits_both() {
    let mut index = index();
    add(&mut index, "dns", &["10.0.0.1"]);
    index.services.get_mut(&key("dns")).unwrap().traffic = Traffic::Local;
    assert_eq!(candidates(&index, "10.0.0.1"), [("node1".to_owned(), 0)]);
    let wanted = index.wanted(&"node1".into());
    assert_eq!(wanted.places[&"10.0.0.1".parse().unwrap()].services.len(), 2);
}

#[test]
fn the_second_family_follows_the_first() {
    let mut index = index();
    index.pools.get_mut("home").unwrap().ranges.push("fd00::/64".parse().unwrap());
    add(&mut index, "dual", &["10.0.0.5", "fd00::5"]);
    let wanted = index.wanted(&"node1".into());
    assert_eq!(wanted.demands[&"fd00::5".parse().unwrap()].leader, Some("10.0.0.5".parse().unwrap()));
    assert_eq!(wanted.demands[&"10.0.0.5".parse().unwrap()].leader, None);
}

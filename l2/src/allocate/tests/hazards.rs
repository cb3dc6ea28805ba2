//! The hazards that the allocator's decisions must meet.

use super::*;

#[test]
fn hazard_185_of_two_services_that_claim_one_address_the_older_keeps_it() {
    let mut world = World::new(&[pool("a", &["10.0.0.1-10.0.0.9"])]);
    let mut claims: Vec<Request> = ["young", "old"].into_iter().map(service).collect();
    (claims[0].created, claims[1].created) = (200, 100);
    claims.iter_mut().for_each(|claim| claim.held = vec![ip("10.0.0.5")]);
    claims.sort_by(|a, b| a.turn().cmp(&b.turn()));
    assert_eq!(world.held(&claims[0]), ["10.0.0.5"]);
    assert_eq!(claims[0].key.name(), "old");
    let decision = world.decide(&claims[1]);
    assert!(matches!(decision.change, Change::Replaced(Reason::Shared(Failure::InUse(..)))), "{decision:?}");
    assert_eq!(decision.holding.unwrap().addresses, [ip("10.0.0.1")]);
}

#[test]
fn hazard_186_a_restart_derives_the_same_holdings_from_the_status() {
    let pools = [pool("a", &["10.0.0.1-10.0.0.4"])];
    let mut world = World::new(&pools);
    let mut requests: Vec<Request> = (0..6).map(|i| service(&format!("s{i}"))).collect();
    for (i, request) in requests.iter_mut().enumerate() {
        request.created = 10 - i64::try_from(i).unwrap();
        let holding = world.decide(request).holding;
        request.held = holding.map_or_else(Vec::new, |holding| holding.addresses);
    }
    let mut again = World::new(&pools);
    let mut turns: Vec<&Request> = requests.iter().collect();
    turns.sort_by(|a, b| a.turn().cmp(&b.turn()));
    for request in turns {
        let decision = again.decide(request);
        assert_eq!(decision.change, Change::None, "nobody steals after a restart: {decision:?}");
        assert_eq!(decision.holding.map_or_else(Vec::new, |holding| holding.addresses), request.held);
    }
}

#[test]
fn hazard_189_addresses_of_nodes_gateways_pods_and_services_are_never_given() {
    let mut world = World::new(&[]);
    let entry = |text: &str, what| (text.parse().unwrap(), what);
    let reserved = Arc::new(Reserved::new(vec![
        entry("10.0.0.1/32", Use::Gateway("n1".to_owned())),
        entry("10.0.0.2/32", Use::Node("n1".to_owned())),
        entry("10.0.0.4/30", Use::PodCidr("n1".to_owned())),
    ]));
    let pools = Arc::new(Pools::compile(&[pool("a", &["10.0.0.1-10.0.0.8"])], &reserved));
    world.table.set_pools(pools, reserved);
    assert_eq!(world.held(&service("a")), ["10.0.0.3"]);
    assert_eq!(world.held(&service("b")), ["10.0.0.8"]);
    let mut hijack = service("hijack");
    hijack.addresses = vec![ip("10.0.0.1")];
    let decision = world.decide(&hijack);
    assert!(matches!(decision.trouble, Some(Trouble::Allocation(Failure::Reserved(..)))), "{decision:?}");
    assert_eq!(world.table.pools().by_name("a").unwrap().capacity.v4, 2);
}

#[test]
fn a_node_that_joins_with_a_held_address_moves_the_service_if_it_can() {
    let pools = [pool("a", &["10.0.0.1-10.0.0.2"])];
    let mut world = World::new(&pools);
    assert_eq!(world.held(&service("a")), ["10.0.0.1"]);
    let reserved = Arc::new(Reserved::new(vec![("10.0.0.1/32".parse().unwrap(), Use::Node("n".to_owned()))]));
    world.table.set_pools(Arc::new(Pools::compile(&pools, &reserved)), reserved);
    assert_eq!(world.held(&service("a")), ["10.0.0.2"]);
}

#[test]
fn an_address_that_turns_out_to_be_another_hosts_goes_even_when_there_is_no_other() {
    let pools = [pool("a", &["10.0.0.1/32"])];
    for (what, taken) in [
        (Use::Gateway("n".to_owned()), true),
        (Use::OwnGateway, true),
        (Use::Node("n".to_owned()), true),
        (Use::Operator, true),
        (Use::ServiceCidr, false),
    ] {
        let mut world = World::new(&pools);
        assert_eq!(world.held(&service("a")), ["10.0.0.1"]);
        let reserved = Arc::new(Reserved::new(vec![("10.0.0.1/32".parse().unwrap(), what.clone())]));
        world.table.set_pools(Arc::new(Pools::compile(&pools, &reserved)), reserved);
        let decision = world.decide(&service("a"));
        assert_eq!(decision.holding.is_none(), taken, "{what}: {decision:?}");
        let said = matches!(&decision.change, Change::Cleared(reason) if reason.to_string().contains(&what.to_string()));
        assert_eq!(said, taken, "{what}: {decision:?}");
    }
}

#[test]
fn a_pool_that_becomes_invalid_takes_nothing_away_and_gives_nothing() {
    let mut world = World::new(&[pool("a", &["10.0.0.1-10.0.0.2", "10.0.1.0/24"])]);
    let mut far = service("far");
    far.addresses = vec![ip("10.0.1.7")];
    assert_eq!(world.held(&service("a")), ["10.0.0.1"]);
    assert_eq!(world.held(&far), ["10.0.1.7"]);
    world.pools(&[pool("a", &["10.0.0.1-10.0.0.2", "10.0.1.0/42"])]);
    assert_eq!(world.decide(&service("a")).change, Change::None);
    assert_eq!(world.decide(&far).change, Change::None, "in the range that nobody understands now");
    assert!(world.held(&service("b")).is_empty());
}

#[test]
fn a_namespace_that_loses_the_pool_keeps_its_address_until_there_is_another() {
    let mut pinned = pool("pinned", &["10.0.0.0/30"]);
    let selector = LabelSelector {
        match_labels: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
        ..LabelSelector::default()
    };
    pinned.spec.service_allocation =
        Some(ServiceAllocation { namespace_selectors: vec![selector], ..ServiceAllocation::default() });
    let mut world = World::new(&[pinned.clone()]);
    let mut request = service("a");
    request.namespace_labels = Arc::new(BTreeMap::from([("team".to_owned(), "a".to_owned())]));
    assert_eq!(world.held(&request), ["10.0.0.0"]);
    request.namespace_labels = Arc::default();
    let decision = world.decide(&request);
    assert_eq!(
        (decision.change, decision.trouble),
        (Change::None, Some(Trouble::Allocation(Failure::NoPool)))
    );
    world.pools(&[pinned, pool("open", &["10.0.1.0/30"])]);
    assert_eq!(world.held(&request), ["10.0.1.0"]);
}

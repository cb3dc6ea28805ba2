//! Random Services and pools, each decision compared with the plain model of MetalLB's rules.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::super::model::{Answer, Model};
use super::*;

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a handful of them in one test")]
enum Step {
    Ask(Request),
    Leave(ServiceKey),
    Pools(Vec<IPAddressPool>),
}

const RANGES: [&str; 8] = [
    "10.0.0.254-10.0.1.1",
    "10.0.2.0/31",
    "10.0.3.1-10.0.3.3",
    "10.0.4.255/32",
    "fc00::/127",
    "fc00:0:0:1::5-fc00:0:0:1::7",
    "fc00:0:0:2::/128",
    "10.0.5.0/30",
];

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    option::of(select(vec!["x", "y"]))
        .prop_map(|value| value.map(|value| ("l".to_owned(), value.to_owned())).into_iter().collect())
}

fn selectors() -> impl Strategy<Value = Vec<LabelSelector>> {
    vec(labels().prop_map(|match_labels| LabelSelector { match_labels, ..LabelSelector::default() }), 0..2)
}

fn allocation() -> impl Strategy<Value = ServiceAllocation> {
    let namespaces = subsequence(vec!["n1".to_owned(), "n2".to_owned()], 0..=2);
    (0i64..4, namespaces, selectors(), selectors()).prop_map(
        |(priority, namespaces, namespace_selectors, service_selectors)| ServiceAllocation {
            priority,
            namespaces,
            namespace_selectors,
            service_selectors,
        },
    )
}

/// Up to four pools that deal the ranges out among themselves, so that they do not overlap.
fn pools() -> impl Strategy<Value = Vec<IPAddressPool>> {
    let shape = (any::<bool>(), any::<bool>(), option::of(allocation()));
    (vec(0usize..5, RANGES.len()), vec(shape, 4)).prop_map(|(owner, shapes)| {
        let pool = |(i, (auto_assign, avoid_buggy_ips, service_allocation)): (usize, (bool, bool, _))| {
            let ranges = RANGES.iter().zip(&owner).filter(|(_, owner)| **owner == i);
            let addresses: Vec<String> = ranges.map(|(range, _)| (*range).to_owned()).collect();
            let spec = IPAddressPoolSpec {
                addresses,
                auto_assign: Some(auto_assign),
                avoid_buggy_ips,
                service_allocation,
            };
            IPAddressPool::new(&format!("p{i}"), spec)
        };
        let pools = shapes.into_iter().enumerate().map(pool);
        pools.filter(|pool| !pool.spec.addresses.is_empty()).collect()
    })
}

fn request() -> impl Strategy<Value = Request> {
    let v4 = || select(vec!["10.0.0.254", "10.0.0.255", "10.0.2.1", "10.0.3.2", "192.0.2.1"]);
    let v6 = || select(vec!["fc00::1", "fc00:0:0:1::6"]);
    let families = prop_oneof![
        Just(Families::Single(Family::V4)),
        Just(Families::Single(Family::V6)),
        Just(Families::Both),
        Just(Families::PreferBoth { primary: Family::V4 }),
        Just(Families::PreferBoth { primary: Family::V6 }),
    ];
    let addresses = prop_oneof![
        6 => Just(Vec::new()),
        1 => v4().prop_map(|one| vec![ip(one)]),
        1 => (v4(), v6()).prop_map(|(v4, v6)| vec![ip(v6), ip(v4)]),
    ];
    let pool = prop_oneof![4 => Just(None), 1 => (0..4).prop_map(|i| Some(format!("p{i}")))];
    let sharing = option::of((select(vec!["k1", "k2"]), select(vec!["", "app=a"])));
    let ports = subsequence(vec![80u16, 81, 82], 1..=2);
    let key = (select(vec!["n1", "n2", "n3"]), 0..8);
    (key, labels(), labels(), families, addresses, pool, sharing, ports).prop_map(
        |((namespace, i), labels, namespace_labels, families, addresses, pool, sharing, ports)| Request {
            key: ServiceKey::new(namespace, &format!("s{i}")),
            labels,
            namespace_labels: Arc::new(namespace_labels),
            families,
            addresses,
            pool,
            sharing: sharing
                .map(|(key, backend)| Sharing { key: key.to_owned(), backend: backend.to_owned() }),
            ports: ports.into_iter().map(|number| Port { protocol: Protocol::Tcp, number }).collect(),
            ..service("")
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => request().prop_map(Step::Ask),
        2 => request().prop_map(|request| Step::Leave(request.key)),
        1 => pools().prop_map(Step::Pools),
    ]
}

/// What the allocator must do, given MetalLB's answer. Only these differences are meant:
/// an address is kept until a replacement is granted, a replacement prefers what is held already, and who lost an address
/// gets the same one again if it can be had.
fn judge(
    answer: &Answer,
    held: &[IpAddr],
    left: &[IpAddr],
    decision: &Decision,
) -> Result<(), TestCaseError> {
    let now = decision.holding.as_ref().map_or(&[][..], |holding| &holding.addresses);
    match answer {
        Answer::Keep(same) => prop_assert_eq!(now, same.as_slice()),
        Answer::Extend(more) => prop_assert_eq!(now, more.as_slice()),
        Answer::New(_) if !left.is_empty() && now.starts_with(left) => {}
        Answer::New(new) if now != new.as_slice() => {
            prop_assert!(now.iter().any(|one| held.contains(one)), "MetalLB gives {new:?}, we {decision:?}");
            prop_assert!(matches!(decision.change, Change::Replaced(_)), "{:?}", decision);
        }
        Answer::New(_) => {}
        Answer::Nothing if held.is_empty() => {
            prop_assert!(now.is_empty(), "MetalLB gives nothing, we {decision:?}")
        }
        Answer::Nothing => {
            prop_assert!(decision.trouble.is_some());
            prop_assert!(now.is_empty() || now == held, "{:?}", decision);
            prop_assert_eq!(now.is_empty(), matches!(decision.change, Change::Cleared(_)));
        }
    }
    Ok(())
}

fn check(table: &Table, requests: &BTreeMap<ServiceKey, Request>) -> Result<(), TestCaseError> {
    let mut seen: BTreeMap<IpAddr, Vec<&Request>> = BTreeMap::new();
    for (key, request) in requests {
        let Some(holding) = table.holding(key) else { continue };
        for address in &holding.addresses {
            for other in seen.entry(*address).or_default().iter() {
                prop_assert!(request.sharing.is_some() && request.sharing == other.sharing);
                prop_assert!(!request.ports.iter().any(|port| other.ports.contains(port)));
            }
            seen.entry(*address).or_default().push(request);
        }
    }
    let counted: i64 =
        table.pools().iter().map(|pool| table.usage(&pool.name)).map(|usage| usage.v4 + usage.v6).sum();
    let in_pools: BTreeSet<&IpAddr> =
        seen.keys().filter(|address| table.pools().containing(**address).is_some()).collect();
    prop_assert_eq!(usize::try_from(counted).unwrap(), in_pools.len());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn decisions_are_metallbs_but_for_the_named_improvements(first in pools(), steps in vec(step(), 1..60)) {
        let now = Instant::now();
        let mut table = Table::new(Duration::ZERO);
        let mut pools = first;
        table.set_pools(Arc::new(Pools::compile(&pools, &Reserved::default())), Arc::default());
        let mut requests: BTreeMap<ServiceKey, Request> = BTreeMap::new();
        for step in steps {
            let asking: Vec<Request> = match step {
                Step::Ask(request) => vec![request],
                Step::Leave(key) => {
                    table.release(&key, now);
                    requests.remove(&key);
                    Vec::new()
                }
                Step::Pools(new) => {
                    pools = new;
                    table.set_pools(Arc::new(Pools::compile(&pools, &Reserved::default())), Arc::default());
                    let mut all: Vec<Request> = requests.values().cloned().collect();
                    all.sort_by(|a, b| (table.holding(&a.key).is_none(), a.turn()).cmp(&(table.holding(&b.key).is_none(), b.turn())));
                    all
                }
            };
            for request in asking {
                let held = table.holding(&request.key).map_or_else(Vec::new, |holding| holding.addresses.clone());
                let others = requests.iter().filter(|(key, _)| **key != request.key).filter_map(|(key, other)| {
                    Some((other, table.holding(key)?.addresses.clone()))
                });
                let answer = Model { pools: &pools, others: others.collect() }.converge(&request, &held);
                let left = table.left(&request.key).unwrap_or_default().to_vec();
                let decision = table.decide(&request, now);
                judge(&answer, &held, &left, &decision)?;
                let again = table.decide(&request, now);
                prop_assert_eq!(&again.holding, &decision.holding, "a second decision changes nothing");
                requests.insert(request.key.clone(), request);
            }
            check(&table, &requests)?;
        }
    }
}

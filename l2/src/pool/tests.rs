use super::*;
use crate::api::IPAddressPoolSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

fn pool(name: &str, addresses: &[&str]) -> IPAddressPool {
    let addresses = addresses.iter().map(|text| (*text).to_owned()).collect();
    IPAddressPool::new(name, IPAddressPoolSpec { addresses, ..IPAddressPoolSpec::default() })
}

fn aged(mut pool: IPAddressPool, second: i64) -> IPAddressPool {
    pool.metadata.creation_timestamp = Some(Time(Timestamp::from_second(second).unwrap()));
    pool
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_wrong_pool_gives_nothing_and_leaves_the_others_alone() {
    let objects = [pool("bad", &["10.0.0.1", "10.0.1.0/30"]), pool("good", &["10.0.2.0/30"])];
    let pools = Pools::compile(&objects, &Reserved::default());
    let bad = pools.by_name("bad").unwrap();
    assert!(!bad.gives() && bad.is_partly_known());
    assert!(bad.findings[0].to_string().contains("spec.addresses[0]"), "{}", bad.findings[0]);
    assert!(bad.contains("10.0.1.1".parse().unwrap()), "what is understood still counts for keeping");
    assert!(pools.by_name("good").unwrap().gives());
}

#[test]
fn hazard_182_of_two_pools_that_overlap_the_older_one_keeps_the_addresses() {
    let objects = [aged(pool("a", &["10.0.0.0/24"]), 200), aged(pool("b", &["10.0.0.200-10.0.1.5"]), 100)];
    let pools = Pools::compile(&objects, &Reserved::default());
    assert!(pools.by_name("b").unwrap().gives());
    let younger = pools.by_name("a").unwrap();
    assert_eq!(younger.findings[0].reason(), "PoolsOverlap");
    assert!(younger.findings[0].to_string().contains("`b`"), "{}", younger.findings[0]);
    assert_eq!(&*pools.containing("10.0.0.201".parse().unwrap()).unwrap().name, "b");
    let alone = Pools::compile([&objects[0]], &Reserved::default());
    assert!(alone.by_name("a").unwrap().gives(), "usable as soon as the older one is gone");
}

#[test]
fn counters_know_buggy_and_reserved_addresses() {
    let mut object = pool("a", &["10.0.0.0/24", "10.0.0.0/25", "fc00::/120", "fd00::/64"]);
    object.spec.avoid_buggy_ips = true;
    let node = ("10.0.0.7-10.0.0.7".parse().unwrap(), Use::Node("n1".to_owned()));
    let pools = Pools::compile([&object], &Reserved::new(vec![node]));
    let pool = pools.by_name("a").unwrap();
    assert!(pool.gives(), "an overlap with the cluster is advice: {:?}", pool.findings);
    assert_eq!(pool.capacity, Capacity { v4: 253, v6: i64::MAX });
    assert!(pool.findings.iter().any(|finding| finding.reason() == "NodeAddress"), "{:?}", pool.findings);
}

#[test]
fn nested_reserved_ranges_are_found() {
    let reserved = Reserved::new(vec![
        ("10.0.0.0/8".parse().unwrap(), Use::ServiceCidr),
        ("10.0.0.5/32".parse().unwrap(), Use::Operator),
        ("192.168.0.1/32".parse().unwrap(), Use::Gateway("n".to_owned())),
    ]);
    assert_eq!(reserved.find("10.0.0.5".parse().unwrap()).unwrap().1, &Use::Operator);
    assert_eq!(reserved.find("10.9.0.5".parse().unwrap()).unwrap().1, &Use::ServiceCidr);
    assert!(reserved.find("192.168.0.2".parse().unwrap()).is_none());
    assert!(reserved.find("fc00::1".parse().unwrap()).is_none());
}

#[test]
fn service_allocation_is_namespace_and_service_with_or_inside() {
    let none = labels(&[]);
    let applicant = |namespace, namespace_labels, labels| Applicant { namespace, namespace_labels, labels };
    let mut object = pool("a", &["10.0.0.0/24"]);
    let (prod, web) = (labels(&[("env", "prod")]), labels(&[("app", "web")]));
    let selector =
        |labels: &BTreeMap<_, _>| LabelSelector { match_labels: labels.clone(), ..Default::default() };
    object.spec.service_allocation = Some(ServiceAllocation {
        namespaces: vec!["shop".to_owned()],
        namespace_selectors: vec![selector(&prod)],
        service_selectors: vec![selector(&web)],
        ..ServiceAllocation::default()
    });
    let pools = Pools::compile([&object], &Reserved::default());
    let pool = pools.by_name("a").unwrap();
    assert!(pool.allows(applicant("shop", &none, &web)));
    assert!(pool.allows(applicant("other", &prod, &web)));
    assert!(!pool.allows(applicant("other", &none, &web)));
    assert!(!pool.allows(applicant("shop", &none, &none)));
}

#[test]
fn a_selector_that_matches_nothing_opens_nothing() {
    let mut object = pool("a", &["10.0.0.0/24"]);
    let selector = LabelSelector { match_labels: labels(&[("nobody", "has")]), ..LabelSelector::default() };
    object.spec.service_allocation =
        Some(ServiceAllocation { namespace_selectors: vec![selector], ..ServiceAllocation::default() });
    let pools = Pools::compile([&object], &Reserved::default());
    let none = labels(&[]);
    let applicant = Applicant { namespace: "x", namespace_labels: &none, labels: &none };
    assert!(
        !pools.by_name("a").unwrap().allows(applicant),
        "MetalLB gives such a pool to anyone who names it"
    );
}

#[test]
fn pinned_pools_are_tried_by_priority_with_zero_last() {
    let with = |name, priority| {
        let mut object = pool(name, &[&format!("10.{priority}.0.0/24")]);
        object.spec.service_allocation = Some(ServiceAllocation { priority, ..ServiceAllocation::default() });
        object
    };
    let objects = [with("zero", 0), with("b", 20), with("c", 10), pool("open", &["10.77.0.0/24"])];
    let pools = Pools::compile(&objects, &Reserved::default());
    let none = labels(&[]);
    let applicant = Applicant { namespace: "x", namespace_labels: &none, labels: &none };
    let names = |list: &Vec<usize>| list.iter().map(|i| pools.at(*i).name.to_string()).collect::<Vec<_>>();
    let [pinned, open] = pools.automatic(applicant);
    assert_eq!(names(&pinned), ["c", "b", "zero"]);
    assert_eq!(names(&open), ["open"]);
}

use super::*;
use serde_json::{Value, json};

fn observed(spec: Value, annotations: Value) -> Observed {
    let service = json!({
        "metadata": {"name": "web", "namespace": "shop", "annotations": annotations},
        "spec": merge(json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"]}), spec),
    });
    Observed::new(&serde_json::from_value(service).unwrap(), None).unwrap()
}

fn merge(mut base: Value, more: Value) -> Value {
    base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    base
}

#[test]
fn s58_services_of_another_class_or_type_are_not_ours() {
    let with = |spec: Value, class| {
        let service = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap();
        Observed::new(&service, class).is_some()
    };
    assert!(with(json!({"type": "LoadBalancer"}), None));
    assert!(!with(json!({"type": "ClusterIP"}), None));
    assert!(!with(json!({"type": "LoadBalancer", "loadBalancerClass": "x/y"}), None));
    assert!(with(json!({"type": "LoadBalancer", "loadBalancerClass": "x/y"}), Some("x/y")));
    assert!(!with(json!({"type": "LoadBalancer"}), Some("x/y")));
}

#[test]
fn the_new_annotation_wins_over_the_deprecated_one() {
    let notes = json!({"metallb.io/address-pool": "new", "metallb.universe.tf/address-pool": "old",
        "metallb.universe.tf/allow-shared-ip": "key"});
    let observed = observed(json!({}), notes);
    assert_eq!(observed.request.pool.as_deref(), Some("new"));
    assert_eq!(observed.request.sharing, Some(Sharing { key: "key".to_owned(), backend: String::new() }));
    assert!(observed.deprecated);
}

#[test]
fn families_follow_from_the_cluster_addresses() {
    let families = |spec| observed(spec, json!({})).request.families;
    let both = json!(["10.96.0.1", "fd00::1"]);
    assert_eq!(families(json!({})), Families::Single(Family::V4));
    assert_eq!(families(json!({"clusterIPs": ["fd00::1"]})), Families::Single(Family::V6));
    assert_eq!(families(json!({"clusterIPs": both, "ipFamilyPolicy": "RequireDualStack"})), Families::Both);
    assert_eq!(
        families(
            json!({"clusterIPs": both, "ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]})
        ),
        Families::PreferBoth { primary: Family::V6 }
    );
    let unclear = observed(json!({"ipFamilyPolicy": "RequireDualStack"}), json!({})).unclear.unwrap();
    assert_eq!(unclear.event(false), "not enough clusterips");
}

#[test]
fn requested_addresses_are_one_or_a_pair() {
    let requested = |ips: &str| observed(json!({}), json!({"metallb.io/loadBalancerIPs": ips}));
    assert_eq!(requested("10.0.0.1").request.addresses.len(), 1);
    assert_eq!(requested("10.0.0.1, fc00::1").request.addresses.len(), 2);
    for bad in ["10.0.0.1,10.0.0.2", "10.0.0.1,", "10.0.0.256", "a,b,c"] {
        assert!(matches!(requested(bad).unclear, Some(Unclear::Requested(_))), "{bad}");
    }
    let twice =
        observed(json!({"loadBalancerIP": "10.0.0.1"}), json!({"metallb.io/loadBalancerIPs": "10.0.0.1"}));
    assert_eq!(twice.unclear.unwrap().event(true), "LoadBalancerFailed");
    assert_eq!(observed(json!({"loadBalancerIP": "10.0.0.1"}), json!({})).request.addresses.len(), 1);
}

#[test]
fn sharing_with_local_traffic_depends_on_the_selector() {
    let key = json!({"metallb.io/allow-shared-ip": "k"});
    let selector = json!({"b": "2", "a": "1"});
    let backend = |policy: &str| {
        let spec = json!({"externalTrafficPolicy": policy, "selector": selector});
        observed(spec, key.clone()).request.sharing.unwrap().backend
    };
    assert_eq!(backend("Cluster"), "");
    assert_eq!(backend("Local"), "a=1,b=2");
}

#[test]
fn a_conflict_that_a_speaker_reports_names_the_address() {
    for (message, address) in [
        ("10.0.0.5: 02:00:00:00:00:01 answers for it", "10.0.0.5"),
        ("fc00::5: 02:00:00:00:00:01 answers", "fc00::5"),
    ] {
        let service = json!({
            "metadata": {"name": "a"}, "spec": {"type": "LoadBalancer"},
            "status": {"conditions": [{"type": "metallb.io/AddressConflict", "status": "True", "reason": "R",
                "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        });
        let observed = Observed::new(&serde_json::from_value(service).unwrap(), None).unwrap();
        assert_eq!(observed.request.contested, Some(address.parse().unwrap()));
    }
}

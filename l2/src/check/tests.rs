use super::*;
use crate::manifest::parse;

fn report(text: &str) -> Report {
    check(&parse("f.yaml", text).unwrap(), None)
}

const POOL: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: home}
spec: {addresses: [192.168.1.100-192.168.2.200]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: home}
spec: {ipAddressPools: [home]}
";

#[test]
fn good_manifests_pass_without_a_word() {
    let report = report(POOL);
    assert!(report.findings.is_empty(), "{report}");
    assert_eq!(report.checked, 2);
}

#[test]
fn each_fault_names_the_object_the_field_and_the_mend() {
    let text = format!(
        "{POOL}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: second}}
spec: {{addresses: [192.168.1.150/32, 10.0.0.1], autoAsign: false}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, annotations: {{metallb.io/loadBalancerIP: 10.0.0.1, metallb.universe.tf/address-pool: x}}}}
spec: {{type: LoadBalancer, loadBalancerIP: nope}}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {{name: p}}
"
    );
    let text = report(&text).to_string();
    for part in [
        "did you mean `autoAssign`?",
        "10.0.0.1/32",
        "pool `home`",
        "did you mean `metallb.io/loadBalancerIPs`?",
        "invalid spec.loadBalancerIP",
        "metallb.universe.tf/ are deprecated",
        "BGPPeer is not served",
        "IPAddressPool/second",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

#[test]
fn a_misspelt_annotation_is_named_under_either_prefix() {
    let text = "
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations:
    metallb.io/allow-shared: home
    metallb.universe.tf/addres-pool: home
    metallb.universe.tf/loadBalancerIP: 192.168.1.240
    metallb.io/zzz: x
    metallb.io/load-balancer-ips: 192.168.1.240
    metallb.io/owner: node1
    metallb.universe.tf/ip-allocated-from-pool: home
    example.dev/address-pol: x
spec: {type: LoadBalancer}
";
    let report = report(text);
    let text = report.to_string();
    for part in [
        "error: f.yaml#1 Service/web: annotation `metallb.io/allow-shared` means nothing; did you mean `metallb.io/allow-shared-ip`?",
        "`metallb.universe.tf/addres-pool` means nothing; did you mean `metallb.io/address-pool`?",
        "`metallb.universe.tf/loadBalancerIP` means nothing; did you mean `metallb.io/loadBalancerIPs`?",
        "remark: f.yaml#1 Service/web: annotation `metallb.io/zzz` means nothing to a Service",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    assert!(!text.contains("example.dev") && !text.contains("from-pool"), "{text}");
    assert_eq!(
        report.findings.iter().filter(|finding| finding.severity == Severity::Error).count(),
        4,
        "{text}"
    );
}

#[test]
fn a_pools_name_that_kubernetes_refuses_is_named_with_one_that_it_takes() {
    let text =
        report(&POOL.replace("name: home", "name: My_Pool").replace("[home]", "[My_Pool]")).to_string();
    assert!(text.contains("IPAddressPool/My_Pool: Kubernetes takes no such name"), "{text}");
    assert!(text.contains("call it `my-pool`"), "{text}");
}

#[test]
fn a_pool_that_nobody_announces_and_an_old_config_map_are_named() {
    let text = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lonely}
spec: {addresses: [10.0.0.0/24]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config}
data: {config: 'address-pools: []'}
";
    let report = report(text);
    assert!(report.has_errors());
    assert!(report.to_string().contains("nobody announces"), "{report}");
}

#[test]
fn what_the_api_server_would_not_take_is_an_error() {
    for (text, part) in [
        (
            "{apiVersion: metallb.io/v1beta2, kind: IPAddressPool, metadata: {name: a}, spec: {addresses: [10.0.0.0/24]}}",
            "metallb.io/v1beta2 is not served for IPAddressPool: write metallb.io/v1beta1",
        ),
        (
            "{apiVersion: metallb.io/v1beta1, kind: IPAddresPool, metadata: {name: a}}",
            "metallb.io has no kind `IPAddresPool`; did you mean `IPAddressPool`?",
        ),
        (
            "{apiVersion: metallb.io/v1beta1, kind: L2Advertisment, metadata: {name: a}}",
            "did you mean `L2Advertisement`?",
        ),
        ("{apiVersion: metallb.io/v1beta1, kind: Zzz, metadata: {name: a}}", "metallb.io has no kind `Zzz`"),
        (
            "{apiVersion: metallb.universe.tf/v1beta1, kind: IPAddressPool, metadata: {name: a}}",
            "of the group `metallb.io`",
        ),
        (
            "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, spec: {addresses: [10.0.0.0/24]}}",
            "metadata.name is missing",
        ),
        (
            "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: a}, spec: {addresses: 10.0.0.0/24}}",
            "must be a list",
        ),
    ] {
        let report = report(text);
        assert!(report.has_errors(), "{report}");
        let text = report.to_string();
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
        assert!(!text.contains("BGP"), "{text}");
    }
}

#[test]
fn a_pool_in_another_namespace_than_the_rest_is_an_error() {
    let pool = |name: &str, namespace: &str, octet: u8| {
        format!(
            "---\napiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
                 spec: {{addresses: [10.0.{octet}.0/24]}}\n"
        )
    };
    let errors = |text: &str, namespace: Option<&str>| {
        let report = check(&parse("f.yaml", text).unwrap(), namespace);
        let wrong = report.findings.iter().filter(|one| one.message.contains("metadata.namespace"));
        wrong.map(|one| (one.severity, one.place.clone())).collect::<Vec<_>>()
    };
    let mixed = pool("a", "metallb-system", 1) + &pool("b", "default", 2);
    assert_eq!(errors(&mixed, None), [(Severity::Error, "f.yaml#2 IPAddressPool/b".to_owned())]);
    assert_eq!(errors(&mixed, Some("default")), [(Severity::Error, "f.yaml#1 IPAddressPool/a".to_owned())]);
    let elsewhere = pool("a", "lb", 1) + &pool("b", "lb", 2);
    assert_eq!(errors(&elsewhere, None), [(Severity::Remark, "f.yaml#1 IPAddressPool/a".to_owned())]);
    assert_eq!(errors(&elsewhere, Some("lb")), []);
    assert_eq!(errors(&pool("a", "metallb-system", 1), None), []);
}

#[test]
fn of_what_the_programs_write_and_of_bgp_there_is_a_remark() {
    let text = "{apiVersion: metallb.io/v1beta1, kind: ServiceL2Status, metadata: {name: a}}\n---\n\
                {apiVersion: metallb.io/v1beta2, kind: BGPPeer, metadata: {name: a}}\n";
    let report = report(text);
    assert!(!report.has_errors(), "{report}");
    let text = report.to_string();
    assert!(
        text.contains("written by the programs themselves") && text.contains("BGPPeer is not served"),
        "{text}"
    );
}

use super::*;

fn converted(text: &str) -> Converted {
    convert(&parse("test", text).unwrap(), None).unwrap()
}

fn kinds(converted: &Converted) -> Vec<String> {
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    converted
        .resources
        .iter()
        .map(|value| format!("{}/{}", text(value, "kind"), text(&value["metadata"], "name")))
        .collect()
}

#[test]
fn the_old_config_map_becomes_pools_and_advertisements() {
    let text = "
apiVersion: v1
kind: ConfigMap
metadata:
  namespace: metallb-system
  name: config
data:
  config: |
    address-pools:
    - name: default
      protocol: layer2
      addresses:
      - 10.0.42.0/24
    - name: special
      protocol: layer2
      auto-assign: false
      avoid-buggy-ips: true
      addresses: [192.168.1.240-192.168.1.250]
";
    let converted = converted(text);
    assert_eq!(
        kinds(&converted),
        [
            "IPAddressPool/default",
            "L2Advertisement/default",
            "IPAddressPool/special",
            "L2Advertisement/special"
        ]
    );
    assert_eq!(converted.resources[0]["spec"], json!({"addresses": ["10.0.42.0/24"]}));
    assert_eq!(converted.resources[2]["spec"]["autoAssign"], json!(false));
    assert_eq!(converted.resources[2]["spec"]["avoidBuggyIPs"], json!(true));
    assert!(converted.remarks.is_empty(), "{:?}", converted.remarks);
    assert_eq!(parse("out", &converted.yaml().unwrap()).unwrap().len(), 4);
}

#[test]
fn pools_whose_names_kubernetes_refuses_are_renamed_with_a_remark() {
    let converted = converted(
        "address-pools:\n- {name: my_pool, protocol: layer2, addresses: [10.0.0.0/24]}\n\
             - {name: Default, protocol: layer2, addresses: [10.0.1.0/24]}\n\
             - {name: my-pool, protocol: layer2, addresses: [10.0.2.0/24]}\n",
    );
    assert_eq!(
        kinds(&converted),
        [
            "IPAddressPool/my-pool-2",
            "L2Advertisement/my-pool-2",
            "IPAddressPool/default",
            "L2Advertisement/default",
            "IPAddressPool/my-pool",
            "L2Advertisement/my-pool"
        ]
    );
    assert_eq!(converted.resources[1]["spec"]["ipAddressPools"], json!(["my-pool-2"]));
    assert_eq!(converted.remarks.len(), 2, "{:?}", converted.remarks);
    assert!(converted.remarks[0].contains("`my_pool` is called `my-pool-2` now"), "{:?}", converted.remarks);
}

#[test]
fn v0_13_manifests_pass_and_bgp_is_named() {
    let text = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: a, namespace: metallb-system}
spec: {addresses: [10.0.0.0/24]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: empty}
---
apiVersion: metallb.io/v1beta1
kind: AddressPool
metadata: {name: legacy}
spec: {protocol: layer2, addresses: [10.0.1.0/24], autoAssign: false}
---
apiVersion: metallb.io/v1beta1
kind: BGPPeer
metadata: {name: peer}
---
kind: Deployment
apiVersion: apps/v1
metadata: {name: other}
";
    let converted = converted(text);
    assert_eq!(
        kinds(&converted),
        ["IPAddressPool/a", "L2Advertisement/empty", "IPAddressPool/legacy", "L2Advertisement/legacy"]
    );
    assert_eq!(converted.remarks.len(), 2, "{:?}", converted.remarks);
    assert!(converted.remarks[0].contains("BGPPeer/peer"), "{:?}", converted.remarks);
}

#[test]
fn pools_for_bgp_are_kept_with_a_remark_and_wrong_ranges_are_named() {
    let converted =
        converted("address-pools: [{name: b, protocol: bgp, addresses: [10.0.0.1]}]\npeers: [{}]\n");
    assert_eq!(kinds(&converted), ["IPAddressPool/b"]);
    assert_eq!(converted.remarks.len(), 3, "{:?}", converted.remarks);
}

#[test]
fn renamed_pools_are_renamed_wherever_they_are_named() {
    let text = "
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: Home_Ad, namespace: metallb-system}
spec: {ipAddressPools: [My_Pool, other]}
---
apiVersion: metallb.io/v1beta2
kind: IPAddressPool
metadata: {name: My_Pool, namespace: metallb-system}
spec: {addresses: [10.8.0.0/24]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: my-pool, namespace: metallb-system}
spec: {addresses: [10.9.0.0/24]}
---
apiVersion: v1
kind: Service
metadata: {name: web, annotations: {metallb.universe.tf/address-pool: My_Pool}}
---
apiVersion: v1
kind: Service
metadata: {name: fine, annotations: {metallb.io/address-pool: my-pool}}
";
    let converted = converted(text);
    assert_eq!(
        kinds(&converted),
        ["L2Advertisement/home-ad", "IPAddressPool/my-pool-2", "IPAddressPool/my-pool"]
    );
    assert_eq!(converted.resources[0]["spec"]["ipAddressPools"], json!(["my-pool-2", "other"]));
    assert_eq!(converted.resources[1]["apiVersion"], "metallb.io/v1beta1");
    let remarks = converted.remarks.join("\n");
    for part in [
        "L2Advertisement/Home_Ad: is called `home-ad` now",
        "pool `My_Pool` is called `my-pool-2` now",
        "metallb.io/v1beta2 is not served",
        "Service/web: annotation `metallb.universe.tf/address-pool: My_Pool` has to become `metallb.io/address-pool: my-pool-2`",
        "Service/fine: is no configuration",
    ] {
        assert!(remarks.contains(part), "{part:?} is missing in\n{remarks}");
    }
    let report = crate::check::check(&parse("out", &converted.yaml().unwrap()).unwrap(), None);
    assert!(!report.has_errors(), "what comes out is valid: {report}");
}

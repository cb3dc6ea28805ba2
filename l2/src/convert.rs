//! Turns MetalLB's older configurations into the resources that are read now.
//!
//! | found | becomes |
//! |---|---|
//! | ConfigMap with `address-pools` (to v0.12), or that text alone | IPAddressPool, and L2Advertisement for `layer2` |
//! | AddressPool (v0.13, removed in v0.14) | the same |
//! | IPAddressPool, L2Advertisement | themselves |
//! | BGP kinds, Community, BFDProfile | nothing, with a remark |
//! | anything else | nothing, with a remark |

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::DEFAULT_NAMESPACE;
use crate::manifest::{Document, ManifestError, mended_name, parse};

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Converted {
    /// Resources to apply, in order.
    pub resources: Vec<Value>,
    /// What people should know, each naming the object and the mend.
    pub remarks: Vec<String>,
    /// Names that are taken: two old ones may become one new one.
    names: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct OldConfig {
    #[serde(default)]
    address_pools: Vec<OldPool>,
    #[serde(default)]
    peers: Vec<Value>,
    #[serde(default)]
    bgp_communities: BTreeMap<String, String>,
    #[serde(default)]
    bfd_profiles: Vec<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct OldPool {
    name: String,
    protocol: String,
    #[serde(default)]
    addresses: Vec<String>,
    auto_assign: Option<bool>,
    #[serde(rename = "avoid-buggy-ips")]
    avoid_buggy_ips: Option<bool>,
}

/// The spec of `AddressPool`, with its own spelling of the same.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AddressPoolSpec {
    protocol: String,
    #[serde(default)]
    addresses: Vec<String>,
    auto_assign: Option<bool>,
}

/// Converts all documents. The namespace of a resource is its own, else `namespace`, else MetalLB's.
///
/// # Errors
/// When a document that should be converted has not the shape.
pub fn convert(documents: &[Document], namespace: Option<&str>) -> Result<Converted, ManifestError> {
    let mut converted = Converted::default();
    for document in documents {
        let namespace = document.namespace().or(namespace).unwrap_or(DEFAULT_NAMESPACE);
        match (document.group(), document.kind()) {
            ("", "ConfigMap") => {
                let Some(config) = document.value["data"]["config"].as_str() else {
                    converted
                        .remark(document, "has no key `config`: not a configuration of MetalLB, left out");
                    continue;
                };
                let inner = parse(&document.place(), config)?;
                for config in &inner {
                    converted.old_config(config, namespace)?;
                }
            }
            ("", "") if document.value.get("address-pools").is_some() => {
                converted.old_config(document, namespace)?
            }
            ("metallb.io", "AddressPool") => {
                let spec: AddressPoolSpec =
                    Document { value: document.value["spec"].clone(), ..document.clone() }.read()?;
                let pool = OldPool {
                    name: document.name().to_owned(),
                    protocol: spec.protocol,
                    addresses: spec.addresses,
                    auto_assign: spec.auto_assign,
                    avoid_buggy_ips: None,
                };
                converted.pool(document, pool, namespace);
            }
            ("metallb.io", "IPAddressPool" | "L2Advertisement") => {
                let mut value = document.value.clone();
                value["metadata"]["namespace"] = json!(namespace);
                converted.resources.push(value);
            }
            ("metallb.io", kind) => {
                converted.remark(document, &format!("{kind} is not served here (no BGP) and is left out"));
            }
            _ => converted.remark(document, "is no configuration of MetalLB and is left out"),
        }
    }
    Ok(converted)
}

impl Converted {
    fn remark(&mut self, document: &Document, text: &str) {
        self.remarks.push(format!("{}: {text}", document.place()));
    }

    fn old_config(&mut self, document: &Document, namespace: &str) -> Result<(), ManifestError> {
        let config: OldConfig = document.read()?;
        let bgp = [
            (!config.peers.is_empty(), "peers"),
            (!config.bgp_communities.is_empty(), "bgp-communities"),
            (!config.bfd_profiles.is_empty(), "bfd-profiles"),
        ];
        for (_, key) in bgp.iter().filter(|(there, _)| *there) {
            self.remark(document, &format!("`{key}` is for BGP, which is not served here, and is left out"));
        }
        let fine =
            config.address_pools.iter().map(|pool| &pool.name).filter(|name| mended_name(name).is_none());
        self.names.extend(fine.cloned());
        for pool in config.address_pools {
            self.pool(document, pool, namespace);
        }
        Ok(())
    }

    fn pool(&mut self, document: &Document, pool: OldPool, namespace: &str) {
        for text in &pool.addresses {
            if let Err(error) = text.parse::<crate::range::IpRange>() {
                self.remark(document, &format!("pool `{}`: {error}", pool.name));
            }
        }
        let mut spec = json!({"addresses": pool.addresses});
        if let Some(auto_assign) = pool.auto_assign {
            spec["autoAssign"] = json!(auto_assign);
        }
        if let Some(avoid) = pool.avoid_buggy_ips {
            spec["avoidBuggyIPs"] = json!(avoid);
        }
        let name = self.pool_name(document, &pool.name);
        self.resources.push(resource("IPAddressPool", &name, namespace, spec));
        if pool.protocol == "layer2" {
            let spec = json!({"ipAddressPools": [&name]});
            self.resources.push(resource("L2Advertisement", &name, namespace, spec));
        } else {
            let text = format!(
                "pool `{}` had protocol `{}`, which is not served here: its addresses will be given and not announced; \
                 add an L2Advertisement for it to announce them by L2",
                pool.name, pool.protocol
            );
            self.remark(document, &text);
        }
    }

    /// The name of a pool as a resource: its own, where Kubernetes takes it.
    fn pool_name(&mut self, document: &Document, old: &str) -> String {
        let Some(mended) = mended_name(old) else { return old.to_owned() };
        let mut name = mended.clone();
        for number in 2.. {
            if self.names.insert(name.clone()) {
                break;
            }
            name = format!("{mended}-{number}");
        }
        let text = format!(
            "pool `{old}` is called `{name}` now, since Kubernetes takes no such name: change it in the annotation \
             `metallb.io/address-pool` of Services that ask for it"
        );
        self.remark(document, &text);
        name
    }

    /// The resources as YAML.
    ///
    /// # Errors
    /// When they cannot be written, which would be a fault of ours.
    pub fn yaml(&self) -> Result<String, serde_saphyr::SerializeError> {
        let texts =
            self.resources.iter().map(|value| Ok(format!("---\n{}", serde_saphyr::to_string(value)?)));
        texts.collect()
    }
}

fn resource(kind: &str, name: &str, namespace: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
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
        assert!(
            converted.remarks[0].contains("`my_pool` is called `my-pool-2` now"),
            "{:?}",
            converted.remarks
        );
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
}

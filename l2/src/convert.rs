//! Turns MetalLB's older configurations into the resources that are read now.
//!
//! | found | becomes |
//! |---|---|
//! | ConfigMap with `address-pools` (to v0.12), or that text alone | IPAddressPool, and L2Advertisement for `layer2` |
//! | AddressPool (v0.13, removed in v0.14) | the same |
//! | IPAddressPool, L2Advertisement | themselves, in the version that is served |
//! | BGP kinds, Community, BFDProfile | nothing, with a remark |
//! | anything else | nothing, with a remark |
//!
//! A name that Kubernetes refuses becomes one that it takes, wherever it stands, with a remark.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{DEFAULT_NAMESPACE, annotations};
use crate::manifest::{Document, ManifestError, mended_name, parse};

/// What came out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Converted {
    /// Resources to apply, in order.
    pub(crate) resources: Vec<Value>,
    /// What people should know, each naming the object and the mend.
    pub(crate) remarks: Vec<String>,
    /// Names of pools that are taken: two old ones may become one new one.
    names: BTreeSet<String>,
    /// The same of advertisements.
    advertisements: BTreeSet<String>,
    /// Pools under another name now, by the old one.
    renamed: BTreeMap<String, String>,
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
pub(crate) fn convert(documents: &[Document], namespace: Option<&str>) -> Result<Converted, ManifestError> {
    let mut converted = Converted::default();
    let names = documents.iter().flat_map(pool_names);
    converted.names = names.filter(|name| mended_name(name).is_none()).collect();
    let advertisements = documents.iter().filter(|document| document.kind() == "L2Advertisement");
    converted.advertisements = advertisements.map(|document| document.name().to_owned()).collect();
    let mut services = Vec::new();
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
            ("metallb.io", kind @ ("IPAddressPool" | "L2Advertisement")) => {
                let mut value = document.value.clone();
                value["metadata"]["namespace"] = json!(namespace);
                if document.version() != VERSION {
                    let text =
                        format!("metallb.io/{} is not served: it is {VERSION} now", document.version());
                    converted.remark(document, &text);
                    value["apiVersion"] = json!(format!("metallb.io/{VERSION}"));
                }
                if kind == "IPAddressPool" {
                    value["metadata"]["name"] = json!(converted.pool_name(document, document.name()));
                } else if let Some(mended) = mended_name(document.name()) {
                    let name = unused(&mut converted.advertisements, &mended);
                    converted.remark(
                        document,
                        &format!("is called `{name}` now, since Kubernetes takes no such name"),
                    );
                    value["metadata"]["name"] = json!(name);
                }
                converted.resources.push(value);
            }
            ("", "Service") => services.push(document),
            ("metallb.io", kind) => {
                converted.remark(document, &format!("{kind} is not served here (no BGP) and is left out"));
            }
            _ => converted.remark(document, "is no configuration of MetalLB and is left out"),
        }
    }
    converted.follow_renames();
    services.into_iter().for_each(|service| converted.service(service));
    Ok(converted)
}

/// The name, or with the first number that makes it another one than those that are taken.
fn unused(taken: &mut BTreeSet<String>, name: &str) -> String {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(name));
    let free = free.expect("numbers do not end");
    taken.insert(free.clone());
    free
}

/// The version of the API that is read.
const VERSION: &str = "v1beta1";

/// The pools that a document is about, by their old names.
fn pool_names(document: &Document) -> Vec<String> {
    let in_config = |config: &Value| -> Vec<String> {
        let pools = config["address-pools"].as_array().into_iter().flatten();
        pools.filter_map(|pool| pool["name"].as_str().map(str::to_owned)).collect()
    };
    match (document.group(), document.kind()) {
        ("metallb.io", "AddressPool" | "IPAddressPool") => vec![document.name().to_owned()],
        ("", "ConfigMap") => {
            let text = document.value["data"]["config"].as_str().unwrap_or_default();
            // What does not parse is told when it is converted.
            let inner = parse(&document.place(), text).unwrap_or_default();
            inner.iter().flat_map(|config| in_config(&config.value)).collect()
        }
        _ => in_config(&document.value),
    }
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
            let advertisement = unused(&mut self.advertisements, &name);
            self.resources.push(resource("L2Advertisement", &advertisement, namespace, spec));
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
        if let Some(known) = self.renamed.get(old) {
            return known.clone();
        }
        let name = unused(&mut self.names, &mended);
        let text = format!(
            "pool `{old}` is called `{name}` now, since Kubernetes takes no such name: change it in the annotation \
             `metallb.io/address-pool` of Services that ask for it"
        );
        self.remark(document, &text);
        self.renamed.insert(old.to_owned(), name.clone());
        name
    }

    /// What a pool of this old name is called now; nothing when it has kept its name.
    fn renamed(&self, old: &str) -> Option<String> {
        self.renamed.get(old).cloned().or_else(|| mended_name(old))
    }

    /// Advertisements name pools by their new names.
    fn follow_renames(&mut self) {
        let mut resources = std::mem::take(&mut self.resources);
        for value in resources.iter_mut().filter(|value| value["kind"] == "L2Advertisement") {
            let Some(pools) = value["spec"]["ipAddressPools"].as_array_mut() else { continue };
            for pool in pools {
                if let Some(name) = pool.as_str().and_then(|old| self.renamed(old)) {
                    *pool = json!(name);
                }
            }
        }
        self.resources = resources;
    }

    /// A Service is not ours to print: what has to change in it is said.
    fn service(&mut self, document: &Document) {
        let keys = [annotations::ADDRESS_POOL.to_owned(), annotations::deprecated(annotations::ADDRESS_POOL)];
        let wrong = keys.iter().find_map(|key| {
            let old = document.value["metadata"]["annotations"][key].as_str()?;
            Some(format!(
                "annotation `{key}: {old}` has to become `{}: {}`",
                annotations::ADDRESS_POOL,
                self.renamed(old)?
            ))
        });
        match wrong {
            Some(text) => self.remark(document, &text),
            None => self.remark(document, "is no configuration of MetalLB and is left out"),
        }
    }

    /// The resources as YAML.
    ///
    /// # Errors
    /// When they cannot be written, which would be a fault of ours.
    pub(crate) fn yaml(&self) -> Result<String, serde_saphyr::SerializeError> {
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
mod tests;

//! Validates manifests without a cluster: what the API server would refuse, and what the allocator would report.

use std::collections::BTreeSet;
use std::fmt;

use causeway_daemon::config::nearest;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use serde::Serialize;
use serde_json::Value;

use crate::allocator::{Observed, advertisement_errors};
use crate::api::{IPAddressPool, L2Advertisement, annotations};
use crate::manifest::{Document, ManifestError, mended_name};
use crate::pool::{Pools, Reserved};

/// Everything that is wrong, or worth a remark.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// Documents that were looked at.
    pub checked: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// File, document and object.
    pub place: String,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It will not do what it says.
    Error,
    /// It works, perhaps not as meant.
    Remark,
}

impl Report {
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    fn add(&mut self, severity: Severity, place: &str, message: impl fmt::Display) {
        self.findings.push(Finding { severity, place: place.to_owned(), message: message.to_string() });
    }
}

/// Checks all documents together, since pools may overlap across files.
pub fn check(documents: &[Document]) -> Report {
    let mut report = Report::default();
    let schemas: Vec<(String, JSONSchemaProps)> = crate::crds::all()
        .into_iter()
        .filter_map(|mut crd| {
            let schema = crd.spec.versions.pop()?.schema?.open_api_v3_schema?;
            Some((crd.spec.names.kind, schema))
        })
        .collect();
    let (mut pools, mut advertisements) = (Vec::new(), Vec::new());
    for document in documents {
        let place = document.place();
        report.checked += 1;
        match (document.group(), document.kind()) {
            ("metallb.io", kind @ ("IPAddressPool" | "L2Advertisement")) => {
                if let Some(mended) = mended_name(document.name()).filter(|_| !document.name().is_empty()) {
                    let text = format!(
                        "Kubernetes takes no such name: lower-case letters, digits, `-` and `.` only; call it `{mended}`"
                    );
                    report.add(Severity::Error, &place, text);
                }
                if let Some((_, schema)) = schemas.iter().find(|(of, _)| of == kind) {
                    unknown_fields(&document.value, schema, "", &place, &mut report);
                }
                let read = if kind == "IPAddressPool" {
                    document.read::<IPAddressPool>().map(|pool| pools.push((place.clone(), pool)))
                } else {
                    document.read::<L2Advertisement>().map(|one| advertisements.push((place.clone(), one)))
                };
                if let Err(error) = read {
                    report.add(Severity::Error, &place, shape(&error));
                }
            }
            ("metallb.io", "AddressPool") => {
                report.add(
                    Severity::Error,
                    &place,
                    "AddressPool was removed in MetalLB 0.14: `convert` makes an IPAddressPool of it",
                );
            }
            ("metallb.io", kind) => {
                report.add(Severity::Remark, &place, format!("{kind} is not served here: BGP is ignored"))
            }
            ("", "ConfigMap") if document.value["data"].get("config").is_some() => {
                report.add(
                    Severity::Error,
                    &place,
                    "MetalLB's old ConfigMap is not read: `convert` makes resources of it",
                );
            }
            ("", "Service") => check_service(document, &place, &mut report),
            _ => report.checked -= 1,
        }
    }
    check_pools(&pools, &advertisements, &mut report);
    report.findings.sort_by_key(|finding| finding.severity);
    report
}

fn check_pools(
    pools: &[(String, IPAddressPool)],
    advertisements: &[(String, L2Advertisement)],
    report: &mut Report,
) {
    let compiled = Pools::compile(pools.iter().map(|(_, pool)| pool), &Reserved::default());
    let mut names = BTreeSet::new();
    for (place, pool) in pools {
        let name = pool.metadata.name.as_deref().unwrap_or_default();
        if !names.insert(name) {
            report.add(
                Severity::Error,
                place,
                "a pool of this name was there before: the last one applied wins",
            );
            continue;
        }
        for finding in compiled.by_name(name).iter().flat_map(|pool| &pool.findings) {
            report.add(if finding.is_fault() { Severity::Error } else { Severity::Remark }, place, finding);
        }
    }
    for (place, advertisement) in advertisements {
        for error in advertisement_errors(&advertisement.spec) {
            report.add(Severity::Error, place, error);
        }
        for name in advertisement.spec.ip_address_pools.iter().filter(|name| !names.contains(name.as_str())) {
            report.add(
                Severity::Remark,
                place,
                format!("spec.ipAddressPools: no pool `{name}` in these files"),
            );
        }
    }
    let all = advertisements.iter().any(|(_, one)| {
        one.spec.ip_address_pools.is_empty() && one.spec.ip_address_pool_selectors.is_empty()
    });
    let selects = advertisements.iter().any(|(_, one)| !one.spec.ip_address_pool_selectors.is_empty());
    for (place, pool) in pools.iter().filter(|_| !all && !selects) {
        let name = pool.metadata.name.clone().unwrap_or_default();
        if !advertisements.iter().any(|(_, one)| one.spec.ip_address_pools.contains(&name)) {
            report.add(
                Severity::Remark,
                place,
                "no L2Advertisement in these files selects this pool: nobody announces it",
            );
        }
    }
}

fn check_service(document: &Document, place: &str, report: &mut Report) {
    let mut service: Service = match document.read() {
        Ok(service) => service,
        Err(error) => return report.add(Severity::Error, place, shape(&error)),
    };
    // Addresses of the cluster come from the API server: those of a manifest say nothing.
    let Some(spec) = &mut service.spec else { return };
    let families = spec.ip_families.clone().unwrap_or_else(|| vec!["IPv4".to_owned()]);
    let stand_in = |family: &String| if family == "IPv6" { "::1" } else { "127.0.0.1" }.to_owned();
    spec.cluster_ips = Some(families.iter().map(stand_in).collect());
    if families.len() < 2 && spec.ip_family_policy.is_some() {
        spec.cluster_ips = Some(vec!["127.0.0.1".to_owned(), "::1".to_owned()]);
    }
    let class = spec.load_balancer_class.clone();
    let Some(observed) = Observed::new(&service, class.as_deref()) else { return };
    if let Some(unclear) = &observed.unclear {
        report.add(Severity::Error, place, unclear);
    }
    if observed.deprecated {
        report.add(
            Severity::Remark,
            place,
            "annotations under metallb.universe.tf/ are deprecated: use metallb.io/",
        );
    }
    // The prefix is no part of the comparison: it would make everything alike.
    let bare = |key: &'static str| key.trim_start_matches(PREFIX);
    let known =
        [annotations::ADDRESS_POOL, annotations::LOAD_BALANCER_IPS, annotations::ALLOW_SHARED_IP].map(bare);
    for key in service.metadata.annotations.iter().flatten().map(|(key, _)| key) {
        let Some(name) = [PREFIX, OLD_PREFIX].iter().find_map(|prefix| key.strip_prefix(prefix)) else {
            continue;
        };
        if known.contains(&name) || name == bare(annotations::ALLOCATED_FROM_POOL) {
            continue;
        }
        match nearest(name, &known) {
            Some(meant) => {
                let text = format!("annotation `{key}` means nothing; did you mean `{PREFIX}{meant}`?");
                report.add(Severity::Error, place, text);
            }
            None => {
                report.add(Severity::Remark, place, format!("annotation `{key}` means nothing to a Service"))
            }
        }
    }
}

/// Of MetalLB's annotations, and before v0.14.9.
const PREFIX: &str = "metallb.io/";
const OLD_PREFIX: &str = "metallb.universe.tf/";

/// The reason alone: the place is printed in front of every finding.
fn shape(error: &ManifestError) -> String {
    match error {
        ManifestError::Shape(_, reason) => reason.clone(),
        other => other.to_string(),
    }
}

/// Fields that the schema has not: the API server drops them in silence.
fn unknown_fields(value: &Value, schema: &JSONSchemaProps, path: &str, place: &str, report: &mut Report) {
    match value {
        Value::Object(fields) => {
            let Some(known) = &schema.properties else { return };
            let top = path.is_empty();
            for (name, value) in fields {
                if top && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                    continue;
                }
                let path = if top { name.clone() } else { format!("{path}.{name}") };
                if let Some(schema) = known.get(name) {
                    unknown_fields(value, schema, &path, place, report);
                    continue;
                }
                let names: Vec<&String> = known.keys().collect();
                let help = nearest(name, &names)
                    .map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
                report.add(Severity::Error, place, format!("unknown field `{path}`{help}"));
            }
        }
        Value::Array(items) => {
            let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items else { return };
            for (i, item) in items.iter().enumerate() {
                unknown_fields(item, schema, &format!("{path}[{i}]"), place, report);
            }
        }
        _ => {}
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let severity = if finding.severity == Severity::Error { "error" } else { "remark" };
            writeln!(f, "{severity}: {}: {}", finding.place, finding.message)?;
        }
        let errors = self.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        write!(
            f,
            "{} objects checked, {errors} errors, {} remarks",
            self.checked,
            self.findings.len() - errors
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;

    fn report(text: &str) -> Report {
        check(&parse("f.yaml", text).unwrap())
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
            3,
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
}

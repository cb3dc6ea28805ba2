//! Validates manifests without a cluster: what the API server would refuse, and what the allocator would report.

mod annotations;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use causeway_daemon::config::nearest;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde::Serialize;

use self::annotations::Slip;
use crate::allocator::{Observed, advertisement_errors};
use crate::api::{DEFAULT_NAMESPACE, IPAddressPool, L2Advertisement};
use crate::manifest::{Document, ManifestError, mended_name};
use crate::pool::{Pools, Reserved};

/// Everything that is wrong, or worth a remark.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
    /// Documents that were looked at.
    pub(crate) checked: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// File, document and object.
    pub(crate) place: String,
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// It will not do what it says.
    Error,
    /// It works, perhaps not as meant.
    Remark,
}

impl Report {
    pub(crate) fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    fn add(&mut self, severity: Severity, place: &str, message: impl fmt::Display) {
        self.findings.push(Finding { severity, place: place.to_owned(), message: message.to_string() });
    }
}

/// The version of the API that is read and written.
const VERSION: &str = "v1beta1";
/// What people write.
const KINDS: [&str; 2] = ["IPAddressPool", "L2Advertisement"];
/// What the programs write themselves.
const WRITTEN: [&str; 2] = ["ServiceL2Status", "ConfigurationState"];
/// What MetalLB serves besides, none of it here.
const BGP_KINDS: [&str; 5] = ["BGPPeer", "BGPAdvertisement", "BFDProfile", "Community", "ServiceBGPStatus"];

/// Checks all documents together, since pools may overlap across files. `namespace` is the one that the allocator
/// reads, where that is known.
pub(crate) fn check(documents: &[Document], namespace: Option<&str>) -> Report {
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
                head(document, &place, &mut report);
                let mut faults = Vec::new();
                if let Some((_, schema)) = schemas.iter().find(|(of, _)| of == kind) {
                    faults = schema::faults(&document.value, schema);
                }
                let read = if kind == "IPAddressPool" {
                    document.read::<IPAddressPool>().map(|pool| pools.push((place.clone(), pool)))
                } else {
                    document.read::<L2Advertisement>().map(|one| advertisements.push((place.clone(), one)))
                };
                // Where the schema has found it, it says it better than the parser.
                if let Err(error) = read
                    && faults.is_empty()
                {
                    faults.push(shape(&error));
                }
                faults.iter().for_each(|fault| report.add(Severity::Error, &place, fault));
            }
            ("metallb.io", "AddressPool") => {
                report.add(
                    Severity::Error,
                    &place,
                    "AddressPool was removed in MetalLB 0.14: `convert` makes an IPAddressPool of it",
                );
            }
            ("metallb.io", kind) if BGP_KINDS.contains(&kind) => {
                report.add(Severity::Remark, &place, format!("{kind} is not served here: BGP is ignored"));
            }
            ("metallb.io", kind) if WRITTEN.contains(&kind) => {
                let text = format!("{kind} is written by the programs themselves: leave it out");
                report.add(Severity::Remark, &place, text);
            }
            ("metallb.io", kind) => {
                let known: Vec<&str> = KINDS.iter().chain(&BGP_KINDS).copied().collect();
                let help = nearest(kind, &known)
                    .map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
                report.add(Severity::Error, &place, format!("metallb.io has no kind `{kind}`{help}"));
            }
            (group, kind) if KINDS.contains(&kind) => {
                let text = format!(
                    "apiVersion: {kind} is of the group `metallb.io`, not `{group}`: write metallb.io/{VERSION}"
                );
                report.add(Severity::Error, &place, text);
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
    check_namespaces(documents, namespace, &mut report);
    check_pools(&pools, &advertisements, &mut report);
    report.findings.sort_by_key(|finding| finding.severity);
    report
}

/// Version and name.
fn head(document: &Document, place: &str, report: &mut Report) {
    let version = document.version();
    if version != VERSION {
        let kind = document.kind();
        let text = format!("metallb.io/{version} is not served for {kind}: write metallb.io/{VERSION}");
        report.add(Severity::Error, place, text);
    }
    let name = document.name();
    if name.is_empty() {
        if document.value["metadata"]["generateName"].as_str().is_none() {
            report.add(Severity::Error, place, "metadata.name is missing");
        }
    } else if let Some(mended) = mended_name(name) {
        let text = format!(
            "Kubernetes takes no such name: lower-case letters, digits, `-` and `.` only; call it `{mended}`"
        );
        report.add(Severity::Error, place, text);
    }
}

/// Pools and advertisements are read in one namespace. Which one that is, the files tell by what most of them say.
fn check_namespaces(documents: &[Document], namespace: Option<&str>, report: &mut Report) {
    let ours = |document: &&Document| document.group() == "metallb.io" && KINDS.contains(&document.kind());
    let placed: Vec<(&Document, &str)> =
        documents.iter().filter(ours).filter_map(|one| Some((one, one.namespace()?))).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, of) in &placed {
        *counts.entry(of).or_default() += 1;
    }
    let usual = counts.contains_key(DEFAULT_NAMESPACE).then_some(DEFAULT_NAMESPACE);
    let most = counts.iter().max_by_key(|(_, count)| **count).map(|(of, _)| *of);
    let Some(read) = namespace.or(usual).or(most) else { return };
    for (document, of) in &placed {
        if *of != read {
            let text = format!(
                "metadata.namespace is `{of}`, and the allocator reads `{read}` only: nobody will see this object"
            );
            report.add(Severity::Error, &document.place(), text);
        }
    }
    if namespace.is_none() && read != DEFAULT_NAMESPACE && counts.len() == 1 {
        let text = format!(
            "metadata.namespace is `{read}`: read only by an allocator and speakers with `--namespace {read}`, by \
             default they read `{DEFAULT_NAMESPACE}`"
        );
        if let Some((document, _)) = placed.first() {
            report.add(Severity::Remark, &document.place(), text);
        }
    }
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
    for key in service.metadata.annotations.iter().flatten().map(|(key, _)| key) {
        match annotations::slip(key) {
            Some(Slip::Meant(meant)) => {
                let text = format!("annotation `{key}` means nothing; did you mean `{meant}`?");
                report.add(Severity::Error, place, text);
            }
            Some(Slip::Nothing) => {
                report.add(Severity::Remark, place, format!("annotation `{key}` means nothing to a Service"))
            }
            None => {}
        }
    }
}

/// The reason alone: the place is printed in front of every finding.
fn shape(error: &ManifestError) -> String {
    match error {
        ManifestError::Shape(_, reason) => reason.clone(),
        other => other.to_string(),
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
mod tests;

//! A Service as the API server shows it, reduced to what decides about its addresses.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ManagedFieldsEntry};
use kube::ResourceExt;
use thiserror::Error;

use super::names::FIELD_MANAGER;
use crate::allocate::{Families, Port, Protocol, Request, ServiceKey, Sharing};
use crate::api::{annotations, conditions};
use crate::range::Family;

/// One Service of type LoadBalancer, of our class.
#[derive(Clone, Debug)]
pub struct Observed {
    pub uid: String,
    pub resource_version: String,
    pub request: Request,
    /// Why the wishes in `request` are not those of the Service, if so.
    pub unclear: Option<Unclear>,
    /// The entries of `status.loadBalancer.ingress` as they are, to compare.
    pub ingress: Vec<String>,
    /// The pool that the output annotation names.
    pub noted_pool: Option<String>,
    /// The output annotation of an old MetalLB is there and is to go.
    pub noted_by_old: bool,
    pub deprecated: bool,
    pub conditions: Vec<Condition>,
    /// Who besides us wrote the address or the output annotation last, by the name that the API server keeps.
    pub other_writer: Option<Box<str>>,
}

/// A Service whose wishes cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unclear {
    #[error("no ClusterIPs")]
    NoClusterIps,
    #[error("Service requires dual stack but not enough clusterips {0:?}")]
    NotEnoughClusterIps(Vec<String>),
    #[error("invalid requested loadbalancer IPs: {0}")]
    Requested(String),
}

impl Unclear {
    /// Whether what the Service holds is cleared, as by MetalLB; else it is left as it is.
    pub fn clears(&self) -> bool {
        !matches!(self, Self::Requested(_))
    }

    /// The event that MetalLB sends.
    pub fn event(&self, holds: bool) -> &'static str {
        match self {
            Self::NoClusterIps => "noclusterIPsIPFamily",
            Self::NotEnoughClusterIps(_) => "not enough clusterips",
            Self::Requested(_) if holds => "LoadBalancerFailed",
            Self::Requested(_) => "AllocationFailed",
        }
    }
}

impl Observed {
    /// `None` for a Service that is not ours: another type, another class, or about to go.
    pub fn new(service: &Service, class: Option<&str>) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref() != Some("LoadBalancer") || spec.load_balancer_class.as_deref() != class {
            return None;
        }
        let notes = service.annotations();
        let status = service.status.as_ref();
        let entries =
            status.and_then(|status| status.load_balancer.as_ref()).and_then(|lb| lb.ingress.as_deref());
        let ingress: Vec<String> = entries
            .unwrap_or_default()
            .iter()
            .map(|entry| entry.ip.clone().or_else(|| entry.hostname.clone()).unwrap_or_default())
            .collect();
        let conditions = status.and_then(|status| status.conditions.clone()).unwrap_or_default();
        let mut unclear = None;
        let families = families(spec).unwrap_or_else(|why| {
            unclear = Some(why);
            Families::Single(Family::V4)
        });
        let addresses = requested(spec, annotations::value(notes, annotations::LOAD_BALANCER_IPS));
        let addresses = addresses.unwrap_or_else(|why| {
            unclear.get_or_insert(Unclear::Requested(why));
            Vec::new()
        });
        let noted_pool = notes.get(annotations::ALLOCATED_FROM_POOL).cloned();
        let old = annotations::deprecated(annotations::ALLOCATED_FROM_POOL);
        let request = Request {
            key: ServiceKey::new(&service.namespace().unwrap_or_default(), &service.name_any()),
            created: service.creation_timestamp().map_or(i64::MAX, |time| time.0.as_second()),
            labels: service.labels().clone(),
            namespace_labels: Arc::default(),
            families,
            addresses,
            pool: annotations::value(notes, annotations::ADDRESS_POOL)
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            sharing: sharing(spec, annotations::value(notes, annotations::ALLOW_SHARED_IP)),
            ports: ports(spec),
            held: ingress
                .iter()
                .filter_map(|ip| ip.parse::<IpAddr>().ok())
                .map(|ip| ip.to_canonical())
                .collect(),
            held_from: noted_pool.clone().or_else(|| notes.get(&old).cloned()),
            contested: contested(&conditions),
        };
        Some(Self {
            uid: service.uid().unwrap_or_default(),
            resource_version: service.resource_version().unwrap_or_default(),
            request,
            unclear,
            ingress,
            noted_pool,
            noted_by_old: notes.contains_key(&old),
            deprecated: annotations::uses_deprecated(notes),
            conditions,
            other_writer: other_writer(service.metadata.managed_fields.as_deref().unwrap_or_default()),
        })
    }

    pub fn key(&self) -> &ServiceKey {
        &self.request.key
    }
}

/// The latest of the others that own the address or the note of its pool. Of the whole list only the name is kept.
fn other_writer(entries: &[ManagedFieldsEntry]) -> Option<Box<str>> {
    let note = format!("f:{}", annotations::ALLOCATED_FROM_POOL);
    let writes = |entry: &&ManagedFieldsEntry| {
        let Some(fields) = entry.fields_v1.as_ref().map(|fields| &fields.0) else { return false };
        let address = fields["f:status"].get("f:loadBalancer").is_some();
        address || fields["f:metadata"]["f:annotations"].get(&note).is_some()
    };
    let others =
        entries.iter().filter(|entry| entry.manager.as_deref() != Some(FIELD_MANAGER)).filter(writes);
    others.max_by(|a, b| a.time.cmp(&b.time))?.manager.as_deref().map(Box::from)
}

fn families(spec: &ServiceSpec) -> Result<Families, Unclear> {
    let cluster_ips = match spec.cluster_ips.as_deref() {
        Some(ips) if !ips.is_empty() => ips,
        _ => spec.cluster_ip.as_slice(),
    };
    let found: Vec<Family> = cluster_ips
        .iter()
        .filter_map(|ip| ip.parse().ok())
        .map(|ip: IpAddr| Family::of(ip.to_canonical()))
        .collect();
    let policy = spec.ip_family_policy.as_deref();
    match found.as_slice() {
        [] => Err(Unclear::NoClusterIps),
        [_] if policy == Some("RequireDualStack") => Err(Unclear::NotEnoughClusterIps(cluster_ips.to_vec())),
        [one] => Ok(Families::Single(*one)),
        [a, b, ..] if a == b => Err(Unclear::NoClusterIps),
        _ if policy == Some("PreferDualStack") => {
            let first = spec.ip_families.as_ref().and_then(|families| families.first());
            let primary = if first.is_some_and(|family| family == "IPv6") { Family::V6 } else { Family::V4 };
            Ok(Families::PreferBoth { primary })
        }
        _ => Ok(Families::Both),
    }
}

fn requested(spec: &ServiceSpec, annotation: Option<&str>) -> Result<Vec<IpAddr>, String> {
    let annotation = annotation.filter(|text| !text.is_empty());
    let field = spec.load_balancer_ip.as_deref().filter(|text| !text.is_empty());
    let parse = |text: &str| text.trim().parse::<IpAddr>().ok().map(|address| address.to_canonical());
    match (annotation, field) {
        (None, None) => Ok(Vec::new()),
        (Some(_), Some(_)) => Err(format!(
            "service can not have both {} and svc.Spec.LoadBalancerIP",
            annotations::LOAD_BALANCER_IPS
        )),
        (None, Some(one)) => parse(one)
            .map(|address| vec![address])
            .ok_or_else(|| format!("invalid spec.loadBalancerIP {one:?}")),
        (Some(list), None) => {
            let invalid = || format!("invalid {}: {list:?}", annotations::LOAD_BALANCER_IPS);
            let addresses: Vec<IpAddr> =
                list.split(',').map(parse).collect::<Option<_>>().ok_or_else(invalid)?;
            match addresses.as_slice() {
                [_] => Ok(addresses),
                [a, b] if Family::of(*a) != Family::of(*b) => Ok(addresses),
                _ => Err(format!("{}: one address, or one of each family", invalid())),
            }
        }
    }
}

fn sharing(spec: &ServiceSpec, key: Option<&str>) -> Option<Sharing> {
    let key = key.filter(|key| !key.is_empty())?.to_owned();
    let local = spec.external_traffic_policy.as_deref() == Some("Local");
    let selector = spec.selector.iter().flatten().filter(|_| local);
    let backend = selector.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    Some(Sharing { key, backend })
}

fn ports(spec: &ServiceSpec) -> Vec<Port> {
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        let protocol = match port.protocol.as_deref() {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        Some(Port { protocol, number: u16::try_from(port.port).ok()? })
    });
    ports.collect()
}

fn contested(conditions: &[Condition]) -> Option<IpAddr> {
    let conflict =
        conditions.iter().find(|one| one.type_ == conditions::ADDRESS_CONFLICT && one.status == "True")?;
    // An IPv6 address has colons of its own: the one that ends it is followed by a space.
    let address = conflict.message.split(": ").next()?.trim_end_matches(':');
    address.trim().parse().ok()
}

#[cfg(test)]
#[path = "observe/tests.rs"]
mod tests;

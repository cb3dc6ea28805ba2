//! Kubernetes objects reduced to what decides an announcement. Pure.

use std::net::IpAddr;

use kube::ResourceExt;
use tracing::warn;

use super::{
    index::{Advertisement, Node, Pool, Service, Traffic},
    objects,
    wanted::ServiceKey,
};
use crate::{
    api::{IPAddressPool, L2Advertisement, LabelSelector, annotations, conditions},
    node_name::NodeName,
    selector::Selector,
};

/// Moves a Service's addresses to the node it names, as long as that node is able. Not in MetalLB.
pub const OWNER_ANNOTATION: &str = annotations::OWNER;
pub(super) const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
pub(super) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// None for a Service that is not ours, or has no address and had none.
pub(super) fn service(service: &objects::Service, class: Option<&str>) -> Option<Service> {
    let spec = &service.spec;
    if spec.type_.as_deref() != Some("LoadBalancer") || spec.load_balancer_class.as_deref() != class {
        return None;
    }
    let ingress = service.status.load_balancer.ingress.as_deref().unwrap_or_default();
    let parse = |text: &String| text.parse::<IpAddr>().ok();
    let addresses: Vec<_> = ingress.iter().filter_map(|point| point.ip.as_ref().and_then(parse)).collect();
    // Taken away together with the addresses, by the allocator: without them it says that somebody else took them away.
    let allocated = service.annotations().contains_key(annotations::ALLOCATED_FROM_POOL);
    let mut conditions = service.status.conditions.iter().flatten();
    let local = spec.external_traffic_policy.as_deref() == Some("Local");
    let pin = service.annotations().get(OWNER_ANNOTATION).map(String::as_str).map(str::trim);
    (allocated || !addresses.is_empty()).then(|| Service {
        addresses,
        traffic: if local { Traffic::Local } else { Traffic::Cluster },
        labels: service.labels().clone(),
        uid: service.uid().unwrap_or_default().into(),
        allocated,
        in_conflict: conditions.any(|one| one.type_ == conditions::ADDRESS_CONFLICT && one.status == "True"),
        pin: pin.filter(|name| !name.is_empty()).map(NodeName::from),
    })
}

/// The Service of a slice, and the nodes with an endpoint that serves.
///
/// The empty name stands for endpoints without a node.
pub(super) fn slice(slice: &objects::EndpointSlice) -> Option<(ServiceKey, Vec<NodeName>)> {
    let name = slice.labels().get(SERVICE_NAME_LABEL)?.clone();
    let serves = |conditions: Option<&objects::EndpointConditions>| {
        // An endpoint that ends but still serves keeps its node in the race.
        conditions.is_none_or(|c| c.ready.unwrap_or(true) || c.serving.unwrap_or(false))
    };
    let endpoints = slice.endpoints.iter().flatten().filter(|endpoint| serves(endpoint.conditions.as_ref()));
    let mut nodes: Vec<NodeName> =
        endpoints.map(|endpoint| endpoint.node_name.as_deref().unwrap_or_default().into()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    Some((ServiceKey { namespace: slice.namespace()?, name }, nodes))
}

pub(super) fn node(node: &objects::Node, ignore_exclude_label: bool) -> Node {
    let says = |kind: &str, bad: fn(&str) -> bool| {
        node.status.conditions.iter().flatten().any(|one| one.type_ == kind && bad(&one.status))
    };
    let unavailable = says("NetworkUnavailable", |status| status == "True");
    let excluded = !ignore_exclude_label && node.labels().contains_key(EXCLUDE_LABEL);
    let addresses = node.status.addresses.iter().flatten();
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    Node {
        labels: node.labels().clone(),
        barred: unavailable || excluded,
        unready: says("Ready", |status| status != "True"),
        addresses: internal.filter_map(|address| address.address.parse().ok()).collect(),
    }
}

/// Ranges that cannot be read are left out here; the allocator reports them.
pub(super) fn pool(pool: &IPAddressPool) -> Pool {
    let ranges = pool.spec.addresses.iter().filter_map(|text| text.parse().ok()).collect();
    Pool { labels: pool.labels().clone().into(), ranges }
}

/// None when a selector is wrong: an advertisement that says something else than it means must not widen anything.
pub(super) fn advertisement(object: &L2Advertisement) -> Option<Advertisement> {
    let spec = &object.spec;
    let compile = |field: &'static str, selectors: &[LabelSelector]| {
        Selector::compile_all(selectors)
            .inspect_err(|(at, error)| {
                warn!(advertisement = object.name_any(), field, at, %error, "L2Advertisement not used");
            })
            .ok()
    };
    let mut preferred = Vec::with_capacity(spec.preferred_node_selectors.len());
    for wish in &spec.preferred_node_selectors {
        let selector = compile("preferredNodeSelectors", std::slice::from_ref(&wish.preference))?;
        preferred.extend(selector.into_iter().map(|selector| (wish.weight, selector)));
    }
    Some(Advertisement {
        pools: spec.ip_address_pools.iter().cloned().collect(),
        pool_selectors: compile("ipAddressPoolSelectors", &spec.ip_address_pool_selectors)?,
        nodes: compile("nodeSelectors", &spec.node_selectors)?,
        interfaces: spec.interfaces.iter().cloned().collect(),
        services: compile("serviceSelectors", &spec.service_selectors)?,
        preferred,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn services_of_another_class_are_not_ours() {
        let with = |class: Option<&str>| -> objects::Service {
            serde_json::from_value(json!({
                "metadata": {"name": "web", "annotations": {"metallb.io/owner": "node2"}},
                "spec": {"type": "LoadBalancer", "loadBalancerClass": class},
                "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}, {"hostname": "x"}]}},
            }))
            .unwrap()
        };
        let ours = service(&with(None), None).unwrap();
        assert_eq!((ours.addresses.len(), ours.pin), (1, Some("node2".into())));
        assert!(service(&with(Some("other")), None).is_none());
        assert!(service(&with(None), Some("mine")).is_none());
        assert!(service(&with(Some("mine")), Some("mine")).is_some());
    }

    #[test]
    fn an_ending_endpoint_that_serves_counts() {
        let with = |conditions: serde_json::Value| {
            let object: objects::EndpointSlice = serde_json::from_value(json!({
                "metadata": {"name": "web-1", "namespace": "a", "labels": {SERVICE_NAME_LABEL: "web"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.1.0.1"], "nodeName": "node1", "conditions": conditions}],
            }))
            .unwrap();
            slice(&object).unwrap().1.len()
        };
        assert_eq!(with(json!({})), 1);
        assert_eq!(with(json!({"ready": false, "serving": true, "terminating": true})), 1);
        assert_eq!(with(json!({"ready": false, "serving": false})), 0);
    }

    #[test]
    fn the_exclude_label_and_network_unavailable_bar_a_node() {
        let with = |label: bool, unavailable: &str| -> objects::Node {
            let labels = if label { json!({EXCLUDE_LABEL: ""}) } else { json!({}) };
            serde_json::from_value(json!({
                "metadata": {"name": "node1", "labels": labels},
                "status": {"conditions": [{"type": "NetworkUnavailable", "status": unavailable}]},
            }))
            .unwrap()
        };
        assert!(!node(&with(false, "False"), false).barred);
        assert!(node(&with(true, "False"), false).barred);
        assert!(!node(&with(true, "False"), true).barred);
        assert!(node(&with(false, "True"), true).barred);
    }
}

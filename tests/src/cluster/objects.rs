//! The Kubernetes objects that the scenarios use, as JSON.

use serde_json::{Value, json};

use super::lan::NodeHost;

/// Of MetalLB's own objects, and of ours.
pub const SYSTEM: &str = "metallb-system";
/// Of the Services and pods of the scenarios; emptied between them.
pub const TEST: &str = "test";

/// The path of a collection, or of one object in it when `name` is not empty.
///
/// # Panics
/// On a kind that no scenario uses.
pub fn path(kind: &str, namespace: &str, name: &str) -> String {
    let core = |plural: &str| format!("/api/v1/namespaces/{namespace}/{plural}");
    let metallb = |plural: &str| format!("/apis/metallb.io/v1beta1/namespaces/{namespace}/{plural}");
    let mut path = match kind {
        "Node" => "/api/v1/nodes".to_owned(),
        "Namespace" => "/api/v1/namespaces".to_owned(),
        "Service" => core("services"),
        "Pod" => core("pods"),
        "Secret" => core("secrets"),
        "ConfigMap" => core("configmaps"),
        "Event" => core("events"),
        "IPAddressPool" => metallb("ipaddresspools"),
        "L2Advertisement" => metallb("l2advertisements"),
        "ServiceL2Status" => metallb("servicel2statuses"),
        "ConfigurationState" => metallb("configurationstates"),
        "Lease" => format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
        "EndpointSlice" => format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"),
        "CustomResourceDefinition" => "/apis/apiextensions.k8s.io/v1/customresourcedefinitions".to_owned(),
        other => panic!("no path for a {other}"),
    };
    if !name.is_empty() {
        path = format!("{path}/{name}");
    }
    path
}

/// The collection that an object belongs to.
pub(super) fn home(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default();
    path(kind, object["metadata"]["namespace"].as_str().unwrap_or(TEST), "")
}

pub(super) fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

pub(super) fn node(node: &NodeHost, number: u8) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": node.host.name, "labels": { "kubernetes.io/hostname": node.host.name } },
        "spec": { "podCIDR": format!("10.244.{number}.0/24"), "podCIDRs": [format!("10.244.{number}.0/24"), format!("fd44:0:0:{number}::/64")] }
    })
}

pub(super) fn node_status(node: &NodeHost) -> Value {
    json!({ "status": {
        "addresses": [
            { "type": "InternalIP", "address": node.host.v4 }, { "type": "InternalIP", "address": node.host.v6 },
            { "type": "Hostname", "address": node.host.name }
        ],
        "conditions": [condition("Ready", true), condition("NetworkUnavailable", false)]
    } })
}

pub(super) fn condition(kind: &str, on: bool) -> Value {
    json!({ "type": kind, "status": if on { "True" } else { "False" }, "reason": "Test",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z" })
}

pub(super) fn pod(name: &str, namespace: &str, node: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace, "labels": { "app": app } },
        "spec": { "nodeName": node, "automountServiceAccountToken": false,
                  "containers": [{ "name": "main", "image": "none" }] }
    })
}

pub(super) fn pod_status(ips: &[String], host: &NodeHost, ready: bool) -> Value {
    let all: Vec<Value> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({ "status": {
        "phase": "Running", "hostIP": host.host.v4, "podIP": ips[0], "podIPs": all,
        "conditions": [condition("Ready", ready), condition("ContainersReady", ready), condition("PodScheduled", true)]
    } })
}

pub fn pool(name: &str, addresses: &[&str]) -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
        "metadata": { "name": name, "namespace": SYSTEM }, "spec": { "addresses": addresses }
    })
}

pub fn advertisement(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement",
        "metadata": { "name": name, "namespace": SYSTEM }, "spec": spec
    })
}

/// A Service of type LoadBalancer in front of the web pods: TCP 80.
pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": TEST, "annotations": {}, "labels": {} },
        "spec": { "type": "LoadBalancer", "selector": { "app": "web" },
                  "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": super::pod::HTTP_PORT }] }
    })
}

/// The same with both families, or one of them.
pub fn service_of(name: &str, policy: &str, families: &[&str]) -> Value {
    let mut service = service(name);
    service["spec"]["ipFamilyPolicy"] = policy.into();
    service["spec"]["ipFamilies"] = families.into();
    service
}

pub fn annotate(mut object: Value, key: &str, value: &str) -> Value {
    object["metadata"]["annotations"][key] = value.into();
    object
}

/// `object` with everything in `more` set in it, however deep.
pub fn with(mut object: Value, more: Value) -> Value {
    merge(&mut object, more);
    object
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

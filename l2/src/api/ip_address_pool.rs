//! IPAddressPool: addresses that may be given to Services, and to which Services.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, LabelSelector};

/// A pool of IP addresses that can be allocated to LoadBalancer services.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "IPAddressPool",
    namespaced,
    status = "IPAddressPoolStatus",
    doc = "IPAddressPool represents a pool of IP addresses that can be allocated to LoadBalancer services.",
    printcolumn(name = "Auto Assign", type_ = "boolean", json_path = ".spec.autoAssign"),
    printcolumn(name = "Avoid Buggy IPs", type_ = "boolean", json_path = ".spec.avoidBuggyIPs"),
    printcolumn(name = "Addresses", type_ = "string", json_path = ".spec.addresses")
)]
#[serde(rename_all = "camelCase")]
pub struct IPAddressPoolSpec {
    /// The ranges of the pool: each a CIDR prefix or `start-end`, both ends included. IPv4 and IPv6 may be mixed.
    #[x_kube(
        validation = Rule::new("size(self) > 0").message("a pool needs at least one range of addresses"),
        validation = Rule::new(RANGES_WELL_FORMED).message(
            "each entry is a CIDR prefix (192.0.2.0/24) or a range start-end (192.0.2.10-192.0.2.20); \
             a single address is written with its prefix length, 192.0.2.10/32"
        ),
        validation = Rule::new(RANGES_ORDERED).message("the start of a range is not above its end"),
    )]
    #[schemars(length(max = 512), inner(length(max = 128)))]
    pub addresses: Vec<String>,
    /// Whether the pool may serve Services that do not ask for it by name. True unless set.
    #[serde(default = "yes")]
    pub auto_assign: Option<bool>,
    /// Skips IPv4 addresses that end in .0 and .255.
    #[serde(rename = "avoidBuggyIPs", default)]
    pub avoid_buggy_ips: bool,
    /// Which Services may be given addresses of the pool, and in which order pools are tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_allocation: Option<ServiceAllocation>,
}

/// The pool's namespaces OR namespaceSelectors, AND one of its serviceSelectors. What is not set does not restrict;
/// a selector that matches nothing opens nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAllocation {
    /// A lower number is tried first; 0 or unset comes last.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i64,
    /// Namespaces whose Services may use the pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Selectors of further namespaces, by their labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespace_selectors: Vec<LabelSelector>,
    /// Selectors of Services, by their labels; any of them is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_selectors: Vec<LabelSelector>,
}

/// Counters as MetalLB's, and conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IPAddressPoolStatus {
    /// The number of assigned IPv4 addresses.
    #[serde(rename = "assignedIPv4")]
    pub assigned_ipv4: i64,
    /// The number of assigned IPv6 addresses.
    #[serde(rename = "assignedIPv6")]
    pub assigned_ipv6: i64,
    /// The number of available IPv4 addresses.
    #[serde(rename = "availableIPv4")]
    pub available_ipv4: i64,
    /// The number of available IPv6 addresses.
    #[serde(rename = "availableIPv6")]
    pub available_ipv6: i64,
    /// What is wrong with the pool, if anything. Not in MetalLB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn yes() -> Option<bool> {
    Some(true)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(priority: &i64) -> bool {
    *priority == 0
}

/// `isCIDR` and `isIP` are in the API server's CEL from Kubernetes 1.31 on. `[x].all(y, …)` names a value: it costs one
/// step, where a loop over a split string is counted with the string's greatest length, beyond the budget of a rule.
const RANGES_WELL_FORMED: &str = "self.all(r, isCIDR(r.trim()) || [r.split('-')].all(p, p.size() == 2 \
    && isIP(p[0].trim()) && isIP(p[1].trim()) && ip(p[0].trim()).family() == ip(p[1].trim()).family()))";

/// IPv4 only: CEL cannot compare addresses, so that the octets are weighed; IPv6 is checked by the allocator.
const RANGES_ORDERED: &str = "self.all(r, r.contains(':') || [r.split('-')].all(p, p.size() != 2 \
    || !isIP(p[0].trim()) || !isIP(p[1].trim()) \
    || [p[0].trim().split('.')].all(a, [p[1].trim().split('.')].all(b, \
    ((int(a[0]) * 256 + int(a[1])) * 256 + int(a[2])) * 256 + int(a[3]) \
    <= ((int(b[0]) * 256 + int(b[1])) * 256 + int(b[2])) * 256 + int(b[3])))))";

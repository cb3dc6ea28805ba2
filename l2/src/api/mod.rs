//! The resources of `metallb.io/v1beta1` that we read and write, field by field compatible with MetalLB's.
//!
//! The types are the contract with people's manifests. What we add is optional and additive: conditions on a
//! pool's status; addresses, since and reason on ServiceL2Status. Rules that concern one object alone are CEL in
//! the schema; rules between objects become conditions (`crate::pool`).

#![allow(clippy::duplicated_attributes, reason = "each print column has a type of its own")]
#![allow(unreachable_pub, reason = "the derived resource types are public and so are their parts")]

mod condition;
mod configuration_state;
mod ip_address_pool;
mod l2_advertisement;
mod label_selector;
mod service_l2_status;

pub use condition::{Condition, ConditionStatus};
pub use configuration_state::{
    ConfigurationResult, ConfigurationState, ConfigurationStateSpec, ConfigurationStateStatus,
};
pub use ip_address_pool::{IPAddressPool, IPAddressPoolSpec, IPAddressPoolStatus, ServiceAllocation};
pub use l2_advertisement::{
    L2Advertisement, L2AdvertisementSpec, L2AdvertisementStatus, PreferredNodeSelector,
};
pub use label_selector::{LabelSelector, LabelSelectorRequirement, Operator};
pub use service_l2_status::{InterfaceInfo, ServiceL2Status, ServiceL2StatusSpec, ServiceL2StatusStatus};

/// The API group of every resource here.
pub const GROUP: &str = "metallb.io";
/// The namespace that holds the configuration unless told otherwise.
pub const DEFAULT_NAMESPACE: &str = "metallb-system";

/// Labels that MetalLB puts on the statuses it writes.
pub mod labels {
    pub const NODE: &str = "metallb.io/node";
    pub const SERVICE_NAME: &str = "metallb.io/service-name";
    pub const SERVICE_NAMESPACE: &str = "metallb.io/service-namespace";
    /// `controller` or `speaker`.
    pub const COMPONENT_TYPE: &str = "metallb.io/component-type";
    /// The node of a speaker's ConfigurationState.
    pub const NODE_NAME: &str = "metallb.io/node-name";
}

/// Annotations on a Service. Each has a deprecated twin under `metallb.universe.tf`; the new one wins.
pub mod annotations {
    use std::collections::BTreeMap;

    pub const ADDRESS_POOL: &str = "metallb.io/address-pool";
    pub const LOAD_BALANCER_IPS: &str = "metallb.io/loadBalancerIPs";
    pub const ALLOW_SHARED_IP: &str = "metallb.io/allow-shared-ip";
    /// Written by the allocator: the pool that the addresses are from.
    pub const ALLOCATED_FROM_POOL: &str = "metallb.io/ip-allocated-from-pool";

    /// Set by people: the node that is to announce the Service, as long as it is able. Not in MetalLB.
    pub const OWNER: &str = "metallb.io/owner";

    /// Written by a speaker on its ConfigurationState: the gateways of its node, comma-separated. The allocator never
    /// gives them to a Service. Not in MetalLB.
    pub const GATEWAYS: &str = "metallb.io/gateways";
    /// Written by a speaker on its ConfigurationState: the hardware addresses of its node, comma-separated, by which speakers
    /// that do not hear it know it on the wire. Not in MetalLB.
    pub const STATIONS: &str = "metallb.io/stations";
    /// Written by a speaker on its ServiceL2Status: what it claims, for speakers that do not hear it. Not in MetalLB.
    pub const CLAIMS: &str = "metallb.io/claims";

    const PREFIX: &str = "metallb.io/";
    const DEPRECATED_PREFIX: &str = "metallb.universe.tf/";

    /// The name of an annotation under the prefix that MetalLB deprecated in 0.14.9.
    pub fn deprecated(name: &str) -> String {
        format!("{DEPRECATED_PREFIX}{}", name.strip_prefix(PREFIX).unwrap_or(name))
    }

    /// The value under the current prefix, else under the deprecated one.
    pub fn value<'a>(annotations: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
        annotations.get(name).or_else(|| annotations.get(&deprecated(name))).map(String::as_str)
    }

    /// Whether any annotation with the deprecated prefix is set by the user.
    pub fn uses_deprecated(annotations: &BTreeMap<String, String>) -> bool {
        let output = deprecated(ALLOCATED_FROM_POOL);
        annotations.keys().any(|key| key.starts_with(DEPRECATED_PREFIX) && *key != output)
    }
}

/// Conditions on a Service. Not in MetalLB.
pub mod conditions {
    /// Written by the allocator: False while the Service has not the address that it asks for.
    pub const ADDRESS_ALLOCATED: &str = "metallb.io/AddressAllocated";
    /// Written by a speaker with status True when a foreign host answers for an address of the Service, so that it is
    /// not announced. The message begins with that address and a colon. Removed by the allocator when it has given
    /// another address.
    pub const ADDRESS_CONFLICT: &str = "metallb.io/AddressConflict";
    /// Written by the allocator: True while somebody else writes the address of the Service again and again.
    pub const STATUS_CONTESTED: &str = "metallb.io/StatusContested";
}

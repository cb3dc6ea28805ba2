//! What the API server wants announced, as one immutable value: demands for the election, places for the wire.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use crate::{node_name::NodeName, ownership::Demands};

/// Namespace and name of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ServiceKey {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Where and for whom a VIP is announced when this node owns it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Interfaces named by the advertisements that select this node; None is every one.
    pub interfaces: Option<BTreeSet<String>>,
    /// The Services on this address that are announced, in order.
    pub services: Vec<Arc<ServiceKey>>,
}

/// All VIPs that should be announced somewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub demands: Arc<Demands>,
    pub places: BTreeMap<IpAddr, Place>,
    /// Which object of that name each Service is, for events.
    pub uids: BTreeMap<Arc<ServiceKey>, Arc<str>>,
    /// Services whose condition says that a foreign host has their address.
    pub in_conflict: BTreeSet<Arc<ServiceKey>>,
    /// Every node's addresses: where other speakers may be found.
    pub nodes: BTreeMap<NodeName, Vec<IpAddr>>,
    /// Nodes that the control plane gave up.
    pub unready: BTreeSet<NodeName>,
}

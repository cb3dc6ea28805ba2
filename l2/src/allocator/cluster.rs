//! The addresses that are the cluster's own, from Nodes, ServiceCIDRs and what is known of gateways.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

use super::gateways::Gateways;
use crate::pool::{Reserved, Use};
use crate::range::IpRange;

type Entries = Vec<(IpRange, Use)>;

/// What each source says, and the sum of it.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    pub(super) nodes: BTreeMap<String, Entries>,
    pub(super) service_ranges: Entries,
    pub(super) gateways: Gateways,
    /// From the command line.
    pub(super) fixed: Entries,
}

impl Cluster {
    pub(super) fn reserved(&self) -> Reserved {
        let fixed = self.nodes.values().flatten().chain(&self.service_ranges).chain(&self.fixed);
        Reserved::new(fixed.cloned().chain(self.gateways.entries()).collect())
    }
}

/// A Node's addresses and pod ranges.
pub(super) fn node_entries(node: &Node) -> Entries {
    let name = node.name_any();
    let status = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let addresses = status
        .filter_map(|address| address.address.parse::<IpAddr>().ok())
        .map(|address| (IpRange::single(address.to_canonical()), Use::Node(name.clone())));
    let spec = node.spec.iter();
    let pods = spec
        .flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr))
        .filter_map(|cidr| cidr.parse().ok())
        .map(|range| (range, Use::PodCidr(name.clone())));
    let mut entries: Entries = addresses.chain(pods).collect();
    entries.sort();
    entries.dedup();
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_reserves_its_addresses_and_its_pods() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n1"},
            "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "fd00::/64"]},
            "status": {"addresses": [
                {"type": "InternalIP", "address": "192.168.1.10"}, {"type": "Hostname", "address": "n1"}]},
        }))
        .unwrap();
        let entries = node_entries(&node);
        assert_eq!(entries.len(), 3, "{entries:?}");
        let cluster = Cluster { nodes: BTreeMap::from([("n1".to_owned(), entries)]), ..Cluster::default() };
        let found = cluster.reserved();
        assert_eq!(found.find("192.168.1.10".parse().unwrap()).unwrap().1, &Use::Node("n1".to_owned()));
    }
}

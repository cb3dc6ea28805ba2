//! The addresses that are the cluster's own, from Nodes, ServiceCIDRs and the speakers' reports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

use crate::api::{ConfigurationState, annotations};
use crate::pool::{Reserved, Use};
use crate::range::IpRange;

type Entries = Vec<(IpRange, Use)>;

/// What each source says, and the sum of it.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    pub(super) nodes: BTreeMap<String, Entries>,
    pub(super) service_ranges: Entries,
    pub(super) gateways: BTreeMap<String, Entries>,
    /// From the command line.
    pub(super) fixed: Entries,
}

impl Cluster {
    pub(super) fn reserved(&self) -> Reserved {
        let nodes = self.nodes.values().chain(self.gateways.values()).flatten();
        Reserved::new(nodes.chain(&self.service_ranges).chain(&self.fixed).cloned().collect())
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

/// The gateways that a speaker reports of its node.
pub(super) fn gateway_entries(state: &ConfigurationState) -> Entries {
    let list = state.annotations().get(annotations::GATEWAYS).map_or("", String::as_str);
    let parsed = list.split(',').filter_map(|text| text.trim().parse::<IpAddr>().ok());
    let name = state.name_any();
    let node = name.strip_prefix("speaker-").unwrap_or(&name).to_owned();
    parsed.map(|address| (IpRange::single(address), Use::Gateway(node.clone()))).collect()
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

    #[test]
    fn gateways_come_from_the_speakers() {
        let state: ConfigurationState = serde_json::from_value(json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "ConfigurationState",
            "metadata": {"name": "speaker-n1", "annotations": {"metallb.io/gateways": "192.168.1.1, fe80::1,x"}},
        }))
        .unwrap();
        let entries = gateway_entries(&state);
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].1, Use::Gateway("n1".to_owned()));
    }
}

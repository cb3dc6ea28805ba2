//! Default gateways, by whoever sees them, remembered until a newer look of the same one says otherwise. Pure.
//!
//! What is forgotten here may be given to a Service, and then the whole LAN loses its way out. So that a report that is
//! deleted, or that names no gateway of a family (a lease that ran out takes the route along), takes nothing away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kube::ResourceExt;

use crate::api::{ConfigurationState, annotations, labels};
use crate::pool::Use;
use crate::range::IpRange;

/// What one ConfigurationState says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    node: String,
    /// `None` from a speaker that says nothing of gateways, such as MetalLB's.
    addresses: Option<BTreeSet<IpAddr>>,
}

impl Report {
    pub(super) fn of(state: &ConfigurationState) -> Self {
        let name = state.name_any();
        let labelled = state.labels().get(labels::NODE_NAME).cloned();
        let node = labelled.unwrap_or_else(|| name.strip_prefix("speaker-").unwrap_or(&name).to_owned());
        let addresses = state.annotations().get(annotations::GATEWAYS).map(|list| {
            let parsed = list.split(',').filter_map(|text| text.trim().parse::<IpAddr>().ok());
            parsed.map(|address| address.to_canonical()).collect()
        });
        Self { node, addresses }
    }
}

/// Everything known of gateways.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    /// By the name of the ConfigurationState.
    nodes: BTreeMap<String, Known>,
    /// Of this process's own network.
    own: BTreeSet<IpAddr>,
}

#[derive(Debug)]
struct Known {
    node: String,
    addresses: BTreeSet<IpAddr>,
    /// Whether the ConfigurationState is there now.
    is_there: bool,
}

impl Gateways {
    /// Takes in a state that is there; whether anything is reserved now that was not, or the other way round.
    pub(super) fn seen(&mut self, state: String, report: Report) -> bool {
        let known = self.nodes.entry(state).or_insert_with(|| Known {
            node: String::new(),
            addresses: BTreeSet::new(),
            is_there: true,
        });
        let moved = !known.addresses.is_empty() && known.node != report.node;
        (known.node, known.is_there) = (report.node, true);
        report.addresses.is_some_and(|addresses| take_in(&mut known.addresses, addresses)) || moved
    }

    /// A state was deleted: what it said stays in force as long as its node is known.
    pub(super) fn gone(&mut self, state: &str, is_node: impl Fn(&str) -> bool) -> bool {
        let Some(known) = self.nodes.get_mut(state) else { return false };
        known.is_there = false;
        if is_node(&known.node) {
            return false;
        }
        self.nodes.remove(state).is_some_and(|known| !known.addresses.is_empty())
    }

    /// A node was removed from the cluster, and what it said goes with it, unless it still says so.
    pub(super) fn node_gone(&mut self, node: &str) -> bool {
        let before = self.nodes.len();
        self.nodes.retain(|_, known| known.is_there || known.node != node);
        self.nodes.len() != before
    }

    pub(super) fn set_own(&mut self, addresses: BTreeSet<IpAddr>) -> bool {
        take_in(&mut self.own, addresses)
    }

    /// States that are there now.
    pub(super) fn states(&self) -> impl Iterator<Item = &String> {
        self.nodes.iter().filter(|(_, known)| known.is_there).map(|(state, _)| state)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (IpRange, Use)> + '_ {
        let of_nodes = self.nodes.values().flat_map(|known| {
            let one = |address: &IpAddr| (IpRange::single(*address), Use::Gateway(known.node.clone()));
            known.addresses.iter().map(one)
        });
        of_nodes.chain(self.own.iter().map(|address| (IpRange::single(*address), Use::OwnGateway)))
    }
}

/// The newer look wins, family by family; one that shows none of a family says nothing about it.
fn take_in(known: &mut BTreeSet<IpAddr>, newer: BTreeSet<IpAddr>) -> bool {
    let before = known.clone();
    known.retain(|old| !newer.iter().any(|new| new.is_ipv4() == old.is_ipv4()));
    known.extend(newer);
    *known != before
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state(node: &str, gateways: Option<&str>) -> (String, Report) {
        let notes = gateways.map_or_else(|| json!({}), |text| json!({"metallb.io/gateways": text}));
        let state: ConfigurationState = serde_json::from_value(json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "ConfigurationState",
            "metadata": {"name": format!("speaker-{node}"), "annotations": notes},
        }))
        .unwrap();
        (state.name_any(), Report::of(&state))
    }

    fn see(known: &mut Gateways, node: &str, gateways: Option<&str>) -> bool {
        let (name, report) = state(node, gateways);
        known.seen(name, report)
    }

    fn reserved(known: &Gateways) -> Vec<String> {
        known.entries().map(|(range, what)| format!("{range} {what}")).collect()
    }

    #[test]
    fn gateways_come_from_the_speakers() {
        let mut known = Gateways::default();
        assert!(see(&mut known, "n1", Some("192.168.1.1, fe80::1,x")));
        assert_eq!(
            reserved(&known),
            ["192.168.1.1/32 the gateway of node `n1`", "fe80::1/128 the gateway of node `n1`"]
        );
        assert!(!see(&mut known, "n1", Some("192.168.1.1,fe80::1")), "nothing new");
    }

    #[test]
    fn a_deleted_report_and_one_that_says_nothing_take_no_gateway_away() {
        let mut known = Gateways::default();
        see(&mut known, "n1", Some("192.168.1.1,fe80::1"));
        assert!(!known.gone("speaker-n1", |_| true));
        assert!(!see(&mut known, "n1", None), "a speaker of MetalLB's");
        assert!(!see(&mut known, "n1", Some("")), "its lease ran out");
        assert_eq!(reserved(&known).len(), 2);
        assert!(see(&mut known, "n1", Some("192.168.1.254")), "the newer report of the same node wins,");
        assert_eq!(reserved(&known).len(), 2, "for the family that it names");
        assert!(reserved(&known)[0].starts_with("192.168.1.254"), "{:?}", reserved(&known));
    }

    #[test]
    fn what_a_node_said_goes_with_the_node() {
        let mut known = Gateways::default();
        for node in ["n1", "n2"] {
            see(&mut known, node, Some("192.168.1.1"));
        }
        assert!(!known.node_gone("n1"), "its state is there still: another node may have that name");
        assert!(known.gone("speaker-n1", |_| false));
        assert!(!known.gone("speaker-n2", |_| true));
        assert!(known.node_gone("n2"));
        assert!(reserved(&known).is_empty());
    }

    #[test]
    fn the_allocators_own_gateway_counts_and_outlives_a_lease() {
        let mut known = Gateways::default();
        assert!(known.set_own(["192.168.1.1".parse().unwrap()].into()));
        assert!(!known.set_own(BTreeSet::new()));
        assert_eq!(reserved(&known), ["192.168.1.1/32 the gateway of the allocator's own network"]);
    }
}

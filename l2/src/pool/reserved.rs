//! Addresses that are the cluster's own and that no pool may give: nodes, gateways, pods, services. Pure.

use std::fmt;
use std::net::IpAddr;

use crate::range::IpRange;

/// Everything that is in use, by what. Kept sorted and without duplicates, so that two of them compare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    entries: Vec<(IpRange, Use)>,
    /// The highest last address of entries `0..=i`: ends the search for an address among nested ranges.
    reach: Vec<IpAddr>,
}

/// What an address is used for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    Node(String),
    /// Of the node with this name.
    Gateway(String),
    /// Of the network that the allocator itself is in.
    OwnGateway,
    PodCidr(String),
    ServiceCidr,
    /// Named on the allocator's command line.
    Operator,
}

impl Reserved {
    pub fn new(mut entries: Vec<(IpRange, Use)>) -> Self {
        entries.sort();
        entries.dedup();
        let reach = entries.iter().scan(None, |top: &mut Option<IpAddr>, (range, _)| {
            *top = Some(top.map_or(range.last(), |top| top.max(range.last())));
            *top
        });
        let reach = reach.collect();
        Self { entries, reach }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The reserved range that has the address, and what it is.
    pub fn find(&self, address: IpAddr) -> Option<(&IpRange, &Use)> {
        let after = self.entries.partition_point(|(range, _)| range.first() <= address);
        (0..after)
            .rev()
            .take_while(|i| self.reach[*i] >= address)
            .map(|i| &self.entries[i])
            .find(|(range, _)| range.contains(address))
            .map(|(range, what)| (range, what))
    }

    /// The parts of the range that are reserved, and for what.
    pub fn overlaps<'a>(&'a self, range: &'a IpRange) -> impl Iterator<Item = (IpRange, Use)> + 'a {
        let parts = self.entries.iter();
        parts.filter_map(|(other, what)| other.intersection(range).map(|part| (part, what.clone())))
    }

    /// The same parts without overlaps among each other.
    pub fn within(&self, range: &IpRange) -> impl Iterator<Item = IpRange> {
        let parts = self.entries.iter().filter_map(|(other, _)| other.intersection(range)).collect();
        crate::range::merge(parts).into_iter()
    }
}

impl Use {
    /// Whether a Service that holds such an address takes it from another host, or against an order: then it has to go
    /// even when there is no other. Ranges of pods and Services overlap with the LAN's by mistake only, and harm nobody
    /// there.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(self, Self::Node(_) | Self::Gateway(_) | Self::OwnGateway | Self::Operator)
    }

    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Node(_) => "NodeAddress",
            Self::Gateway(_) | Self::OwnGateway => "Gateway",
            Self::PodCidr(_) => "PodCIDR",
            Self::ServiceCidr => "ServiceCIDR",
            Self::Operator => "Reserved",
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "an address of node `{name}`"),
            Self::Gateway(node) => write!(f, "the gateway of node `{node}`"),
            Self::OwnGateway => f.write_str("the gateway of the allocator's own network"),
            Self::PodCidr(node) => write!(f, "in the pod range of node `{node}`"),
            Self::ServiceCidr => f.write_str("in the cluster's range of Services"),
            Self::Operator => f.write_str("reserved on the allocator's command line"),
        }
    }
}

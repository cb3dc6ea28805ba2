//! The synchronous index of what the watches have seen, and the [`Wanted`] that follows from it.
//!
//! The allocator alone takes an address from a Service. Until it has ([`given`]), one that a second controller wrote over,
//! or that fell out of a pool, goes on being wanted.
//!
//! ```text
//! Service ─ addresses ─→ Pool ─→ L2Advertisement ─→ nodes it selects, with weights ┐
//!   └ EndpointSlices: any that serves; externalTrafficPolicy Local: on that node ──┤→ candidates per address
//! Node ─ exclude label, NetworkUnavailable ────────────────────────────────────────┘
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

mod given;

use given::Given;

use super::wanted::{Place, ServiceKey, Wanted};
use crate::{
    elect::{Candidates, Demand},
    node_name::NodeName,
    ownership::Demands,
    range::IpRange,
    selector::Selector,
};

pub(crate) type Labels = BTreeMap<String, String>;

/// A Service with addresses, reduced to what decides its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub addresses: Vec<IpAddr>,
    pub traffic: Traffic,
    pub labels: Labels,
    pub uid: Arc<str>,
    /// The allocator's annotation is there: what it gave, the Service still has.
    pub allocated: bool,
    /// Its condition says that a foreign host has its address.
    pub in_conflict: bool,
    /// The annotation that moves it by hand.
    pub pin: Option<NodeName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    Cluster,
    /// Only nodes with a serving endpoint.
    Local,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub labels: Labels,
    /// Excluded by label or unavailable.
    pub barred: bool,
    /// Its condition Ready is there, and not true.
    pub unready: bool,
    pub addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pool {
    pub labels: Arc<Labels>,
    pub ranges: Vec<IpRange>,
}

/// A pool as advertisements select it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    pub name: Arc<str>,
    pub labels: Arc<Labels>,
}

/// An L2Advertisement with compiled selectors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Advertisement {
    pub pools: BTreeSet<String>,
    pub pool_selectors: Vec<Selector>,
    pub nodes: Vec<Selector>,
    pub interfaces: BTreeSet<String>,
    pub services: Vec<Selector>,
    pub preferred: Vec<(i32, Selector)>,
}

/// An EndpointSlice: the nodes that serve, in order; the empty name stands for endpoints without a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub name: Arc<str>,
    pub nodes: Box<[NodeName]>,
}

/// Everything known, by name.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub services: BTreeMap<Arc<ServiceKey>, Service>,
    /// By the Service they belong to.
    pub endpoints: BTreeMap<Arc<ServiceKey>, Vec<Slice>>,
    pub nodes: BTreeMap<NodeName, Node>,
    pub pools: BTreeMap<Arc<str>, Pool>,
    pub advertisements: BTreeMap<String, Advertisement>,
    /// What Services had from a pool, where their status or the pools do not say it any more and it still counts.
    given: BTreeMap<Arc<ServiceKey>, Given>,
}

impl Advertisement {
    fn selects_pool(&self, pool: &Home) -> bool {
        let everything = self.pools.is_empty() && self.pool_selectors.is_empty();
        everything || self.pools.contains(&*pool.name) || Selector::any(&self.pool_selectors, &pool.labels)
    }

    fn selects_service(&self, service: &Service) -> bool {
        self.services.is_empty() || Selector::any(&self.services, &service.labels)
    }

    fn selects_node(&self, node: &Node) -> bool {
        self.nodes.is_empty() || Selector::any(&self.nodes, &node.labels)
    }
}

/// Candidates that do not depend on endpoints, shared between all Services with the same advertisements.
type Shared = HashMap<Vec<usize>, Arc<Candidates>>;

impl Index {
    /// The one copy of a Service's name that everything shares.
    pub(crate) fn key(&self, key: ServiceKey) -> Arc<ServiceKey> {
        let of_service = self.services.get_key_value(&key).map(|(known, _)| known);
        let known = of_service.or_else(|| self.endpoints.get_key_value(&key).map(|(known, _)| known));
        known.cloned().unwrap_or_else(|| Arc::new(key))
    }

    /// The same for the name of a node.
    pub(crate) fn node_name(&self, name: NodeName) -> NodeName {
        self.nodes.get_key_value(&name).map_or(name, |(known, _)| known.clone())
    }

    /// What should be announced, seen from the node `own`.
    pub(crate) fn wanted(&self, own: &NodeName) -> Wanted {
        let mut shared = Shared::new();
        let mut demands = Demands::new();
        let mut places: BTreeMap<IpAddr, Place> = BTreeMap::new();
        let mut uids = BTreeMap::new();
        let mut in_conflict = BTreeSet::new();
        let advertisements: Vec<_> = self.advertisements.values().collect();
        for (key, service) in &self.services {
            let slices = self.endpoints.get(key).map_or(&[][..], Vec::as_slice);
            if slices.iter().all(|slice| slice.nodes.is_empty()) {
                continue;
            }
            uids.insert(key.clone(), service.uid.clone());
            if service.in_conflict {
                in_conflict.insert(key.clone());
            }
            let mut leader = None;
            for (address, pool) in self.addresses(key, service) {
                let matching = Self::matching(&advertisements, &pool, service);
                if matching.is_empty() {
                    continue;
                }
                let candidates = self.candidates(&advertisements, &matching, service, slices, &mut shared);
                let demand = Demand { vip: address, candidates, pin: service.pin.clone(), leader };
                leader = leader.or(Some(address));
                demands.entry(address).and_modify(|known| share(known, &demand)).or_insert(demand);
                let place = places
                    .entry(address)
                    .or_insert_with(|| Place { interfaces: Some(BTreeSet::new()), services: Vec::new() });
                if place.services.last() != Some(key) {
                    place.services.push(key.clone());
                }
                self.widen(place, &advertisements, &matching, own);
            }
        }
        let nodes = self.nodes.iter().map(|(name, node)| (name.clone(), node.addresses.clone())).collect();
        let unready =
            self.nodes.iter().filter(|(_, node)| node.unready).map(|(name, _)| name.clone()).collect();
        Wanted { demands: Arc::new(demands), places, uids, in_conflict, nodes, unready }
    }

    /// The advertisements of an address from this pool, by position.
    fn matching(advertisements: &[&Advertisement], pool: &Home, service: &Service) -> Vec<usize> {
        let matches = |ad: &&Advertisement| ad.selects_pool(pool) && ad.selects_service(service);
        (0..advertisements.len()).filter(|at| matches(&advertisements[*at])).collect()
    }

    /// The pool that an address is from.
    fn home(&self, address: IpAddr) -> Option<Home> {
        let within = |pool: &Pool| pool.ranges.iter().any(|range| range.contains(address));
        let (name, pool) = self.pools.iter().find(|(_, pool)| within(pool))?;
        Some(Home { name: name.clone(), labels: pool.labels.clone() })
    }

    fn candidates(
        &self,
        advertisements: &[&Advertisement],
        matching: &[usize],
        service: &Service,
        slices: &[Slice],
        shared: &mut Shared,
    ) -> Arc<Candidates> {
        let all = shared
            .entry(matching.to_vec())
            .or_insert_with(|| {
                let score = |node: &Node| {
                    let chosen: Vec<_> = matching
                        .iter()
                        .map(|at| advertisements[*at])
                        .filter(|ad| ad.selects_node(node))
                        .collect();
                    let weights = chosen.iter().flat_map(|ad| &ad.preferred);
                    let sum = weights
                        .filter(|(_, selector)| selector.matches(&node.labels))
                        .map(|(weight, _)| weight);
                    (!chosen.is_empty() && !node.barred).then(|| sum.sum::<i32>())
                };
                let scored = self.nodes.iter().filter_map(|(name, node)| Some((name.clone(), score(node)?)));
                Arc::new(scored.collect())
            })
            .clone();
        match service.traffic {
            Traffic::Cluster => all,
            Traffic::Local => {
                let serves =
                    |name: &NodeName| slices.iter().any(|slice| slice.nodes.binary_search(name).is_ok());
                Arc::new(all.iter().filter(|(name, _)| serves(name)).map(|(n, w)| (n.clone(), *w)).collect())
            }
        }
    }

    /// Interfaces are the union over the advertisements that select this node; one without names means all.
    fn widen(
        &self,
        place: &mut Place,
        advertisements: &[&Advertisement],
        matching: &[usize],
        own: &NodeName,
    ) {
        let Some(node) = self.nodes.get(own) else { return };
        for advertisement in matching.iter().map(|at| advertisements[*at]).filter(|ad| ad.selects_node(node))
        {
            match &mut place.interfaces {
                Some(_) if advertisement.interfaces.is_empty() => place.interfaces = None,
                Some(names) => names.extend(advertisement.interfaces.iter().cloned()),
                None => {}
            }
        }
    }
}

/// Several Services on one address: nodes that suit all of them; where there are none, the first one's.
fn share(known: &mut Demand, other: &Demand) {
    known.pin = known.pin.take().or_else(|| other.pin.clone());
    if known.leader.is_some() {
        known.leader = other.leader;
    }
    if Arc::ptr_eq(&known.candidates, &other.candidates) {
        return;
    }
    let both = known.candidates.iter().filter(|(name, _)| other.candidates.contains_key(*name));
    let both: Candidates = both.map(|(name, weight)| (name.clone(), *weight)).collect();
    if !both.is_empty() {
        known.candidates = Arc::new(both);
    }
}

mod silence;

#[cfg(test)]
mod tests;

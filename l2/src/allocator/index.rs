//! The synchronous heart of the allocator: updates go in, decisions are made, writes and events come out.
//!
//! Services, pools, namespaces and the cluster's own addresses are kept as the API server last showed them; the
//! [`Table`] holds what was decided. While this replica leads, the table is the truth and the API server follows;
//! while it does not, only the objects are kept.

mod configuration;
mod contest;
mod rivals;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;

use super::cluster::Cluster;
use super::inputs::{Update, Watched};
use super::observe::Observed;
use crate::allocate::{ServiceKey, Table};
use crate::api::{ConfigurationStateStatus, IPAddressPool, L2Advertisement};
use crate::chance::Chance;
use crate::pool::{Pools, Use};
use crate::range::IpRange;

pub(crate) use configuration::advertisement_errors;
use services::Entry;
pub(super) use services::Outcome;

/// Retries in a row of those who wait, when each retry frees something again.
const MAX_ROUNDS: usize = 8;

/// What does not change while the allocator runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Rest of a released address.
    pub cool_down: Duration,
    /// Ranges that are never given, besides those that the cluster shows.
    pub reserved: Vec<IpRange>,
}

/// Everything that the allocator knows.
#[derive(Debug)]
pub struct Index {
    settings: Settings,
    pub(super) services: BTreeMap<ServiceKey, Entry>,
    namespaces: BTreeMap<String, Arc<BTreeMap<String, String>>>,
    pools: BTreeMap<String, IPAddressPool>,
    advertisements: BTreeMap<String, L2Advertisement>,
    cluster: Cluster,
    /// The status of our ConfigurationState; `None` while there is no such object.
    state: Option<ConfigurationStateStatus>,
    /// BGP resources that are there and that nobody serves.
    bgp: Vec<String>,
    table: Table,
    leading: bool,
    /// Pools or the cluster's addresses changed: everything is to be compiled and decided anew.
    reload: bool,
    /// Addresses became free, or rested long enough: those who wait are worth another try.
    freed: bool,
    dirty: BTreeSet<ServiceKey>,
    /// Services that want what they have not.
    waiting: BTreeSet<ServiceKey>,
    to_write: BTreeSet<ServiceKey>,
    retries: BTreeSet<(Instant, ServiceKey)>,
    /// Services with a rival that was told of, by the time at which there is peace.
    contested: BTreeSet<(Instant, ServiceKey)>,
    forgotten: Vec<Forgotten>,
    notes: Vec<Note>,
    /// Keys seen in a relist that is under way, per kind: what was not seen at its end is gone.
    relists: BTreeMap<&'static str, BTreeSet<String>>,
    /// A CRD of MetalLB's own drops the conditions of a pool's status: then they are not missed.
    drops_conditions: bool,
    /// Spreads what would happen at once.
    chance: Chance,
}

/// A Service that is gone or of another type, and whose output annotation may still be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Forgotten {
    pub(super) key: ServiceKey,
    pub(super) uid: String,
    /// The version in which it was seen to be of another type, where that is known.
    pub(super) version: Option<String>,
}

/// An event to be published.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) object: ObjectReference,
    pub(super) warning: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Index {
    pub fn new(settings: Settings) -> Self {
        let fixed = settings.reserved.iter().map(|range| (*range, Use::Operator)).collect();
        let table = Table::new(settings.cool_down);
        Self {
            settings,
            services: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            pools: BTreeMap::new(),
            advertisements: BTreeMap::new(),
            cluster: Cluster { fixed, ..Cluster::default() },
            state: None,
            bgp: Vec::new(),
            table,
            leading: false,
            reload: true,
            freed: false,
            dirty: BTreeSet::new(),
            waiting: BTreeSet::new(),
            to_write: BTreeSet::new(),
            retries: BTreeSet::new(),
            contested: BTreeSet::new(),
            forgotten: Vec::new(),
            notes: Vec::new(),
            relists: BTreeMap::new(),
            drops_conditions: false,
            chance: Chance::from_seed(rand::random()),
        }
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    /// For those who ask what would be decided; the loop goes through [`Index::settle`].
    pub(crate) fn table_mut(&mut self) -> &mut Table {
        &mut self.table
    }

    pub fn is_leading(&self) -> bool {
        self.leading
    }

    /// Services that have not what they ask for.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Services whose address somebody else writes again and again.
    pub fn contested(&self) -> usize {
        self.contested.len()
    }

    /// Begins or ends to decide. A new leader derives everything from the status of the Services.
    pub fn lead(&mut self, leading: bool) {
        if self.leading == leading {
            return;
        }
        self.leading = leading;
        self.table = Table::new(self.settings.cool_down);
        self.waiting.clear();
        self.to_write.clear();
        self.retries.clear();
        self.contested.clear();
        self.forgotten.clear();
        self.notes.clear();
        self.dirty = self.services.keys().cloned().collect();
        self.reload = true;
        self.services.values_mut().for_each(Entry::forget_writes);
    }

    /// Takes in one update of a watch.
    pub(crate) fn update(&mut self, update: Update, now: Instant) {
        match update {
            Update::Restart(kind) => {
                self.relists.insert(kind, BTreeSet::new());
            }
            Update::Listed(kind) => self.end_relist(kind, now),
            Update::Gone(kind, key, version) => self.gone(kind, &key, version, now),
            Update::Seen(object) => {
                if let Some(seen) = self.relists.get_mut(object.kind()) {
                    seen.insert(object.key());
                }
                self.seen(object, now);
            }
        }
    }

    fn seen(&mut self, object: Watched, now: Instant) {
        match object {
            Watched::Service(observed) => self.service(*observed, now),
            Watched::Pool(pool) => {
                let name = pool.metadata.name.clone().unwrap_or_default();
                // Our own writes of the status come back here as well: they change nothing.
                let same =
                    |old: &IPAddressPool| old.spec == pool.spec && old.metadata.uid == pool.metadata.uid;
                self.reload |= !self.pools.get(&name).is_some_and(same);
                self.pools.insert(name, *pool);
            }
            Watched::Namespace(name, labels) => {
                if self.namespaces.get(&name).is_some_and(|known| **known == labels) {
                    return;
                }
                self.namespaces.insert(name.clone(), Arc::new(labels));
                self.relabel(&name);
            }
            Watched::Node(name, entries) => {
                self.reload |= self.cluster.nodes.insert(name, entries.clone()) != Some(entries);
            }
            Watched::Advertisement(advertisement) => {
                self.advertisements
                    .insert(advertisement.metadata.name.clone().unwrap_or_default(), *advertisement);
            }
            Watched::Gateways(name, report) => self.reload |= self.cluster.gateways.seen(name, report),
            Watched::State(status) => self.state = status.map(|status| *status),
        }
    }

    fn gone(&mut self, kind: &'static str, key: &str, version: Option<String>, now: Instant) {
        match kind {
            Watched::SERVICE => self.service_gone(key, version, now),
            Watched::POOL => self.reload |= self.pools.remove(key).is_some(),
            Watched::NAMESPACE => {
                self.namespaces.remove(key);
                self.relabel(key);
            }
            Watched::NODE => {
                self.reload |= self.cluster.nodes.remove(key).is_some_and(|gone| !gone.is_empty());
                self.reload |= self.cluster.gateways.node_gone(key);
            }
            Watched::ADVERTISEMENT => {
                self.advertisements.remove(key);
            }
            Watched::GATEWAYS => {
                // Before the first list of nodes nobody can say that one is gone.
                let nodes = &self.cluster.nodes;
                let is_node = |node: &str| nodes.is_empty() || nodes.contains_key(node);
                self.reload |= self.cluster.gateways.gone(key, is_node);
            }
            _ => self.state = None,
        }
    }

    fn end_relist(&mut self, kind: &'static str, now: Instant) {
        let Some(seen) = self.relists.remove(kind) else { return };
        let known: Vec<String> = match kind {
            Watched::SERVICE => self.services.keys().map(ToString::to_string).collect(),
            Watched::POOL => self.pools.keys().cloned().collect(),
            Watched::NAMESPACE => self.namespaces.keys().cloned().collect(),
            Watched::NODE => self.cluster.nodes.keys().cloned().collect(),
            Watched::ADVERTISEMENT => self.advertisements.keys().cloned().collect(),
            Watched::GATEWAYS => self.cluster.gateways.states().cloned().collect(),
            _ => self.state.iter().map(|_| Watched::STATE.to_owned()).collect(),
        };
        known.iter().filter(|key| !seen.contains(*key)).for_each(|key| self.gone(kind, key, None, now));
        // The definition may be another one by now: one write finds out.
        self.drops_conditions &= kind != Watched::POOL;
    }

    /// The default gateways of the allocator's own network, looked up now and then.
    pub fn set_own_gateways(&mut self, addresses: BTreeSet<IpAddr>) {
        self.reload |= self.cluster.gateways.set_own(addresses);
    }

    /// Ranges of ServiceCIDRs, which are listed now and then rather than watched.
    pub fn set_service_ranges(&mut self, ranges: Vec<IpRange>) {
        let entries: Vec<_> = ranges.into_iter().map(|range| (range, Use::ServiceCidr)).collect();
        self.reload |= self.cluster.service_ranges != entries;
        self.cluster.service_ranges = entries;
    }

    /// BGP resources that are in the namespace, as `Kind/name`.
    pub fn set_bgp(&mut self, found: Vec<String>) {
        self.bgp = found;
    }

    /// The names of the pools.
    pub(super) fn pool_names(&self) -> BTreeSet<String> {
        self.pools.keys().cloned().collect()
    }

    /// Decides whatever is due. Cheap when nothing is.
    pub fn settle(&mut self, now: Instant) {
        if !self.leading {
            return;
        }
        if self.table.next_release().is_some_and(|at| at <= now) {
            self.table.expire(now);
            self.freed = true;
        }
        if std::mem::take(&mut self.reload) {
            let reserved = Arc::new(self.cluster.reserved());
            let pools = Arc::new(Pools::compile(self.pools.values(), &reserved));
            self.table.set_pools(pools, reserved);
            self.dirty.extend(self.services.keys().cloned());
        }
        let due = std::mem::take(&mut self.dirty);
        self.decide_all(due, now);
        self.make_peace(now);
        // One Service that moves may free what the next one wants; a few rounds settle any chain that is not a circle.
        for _ in 0..MAX_ROUNDS {
            if !std::mem::take(&mut self.freed) {
                break;
            }
            let waiting = self.waiting.clone();
            self.decide_all(waiting, now);
        }
    }

    /// When something is due by itself: a rest that ends while somebody waits, or a write to be tried again.
    pub fn next_deadline(&self) -> Option<Instant> {
        let rest = self.table.next_release().filter(|_| !self.waiting.is_empty());
        let retry = self.retries.first().map(|(at, _)| *at);
        let peace = self.contested.first().map(|(at, _)| *at);
        [rest, retry, peace].into_iter().flatten().min()
    }

    pub(super) fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    pub(super) fn take_forgotten(&mut self) -> Vec<Forgotten> {
        std::mem::take(&mut self.forgotten)
    }

    /// The Services and their wishes, for those who explain.
    pub fn observed(&self, key: &ServiceKey) -> Option<&Observed> {
        self.services.get(key).map(|entry| &entry.observed)
    }

    fn relabel(&mut self, namespace: &str) {
        let labels = self.namespaces.get(namespace).cloned().unwrap_or_default();
        let of = self.services.iter_mut().filter(|(key, _)| key.namespace() == namespace);
        for (key, entry) in of {
            entry.observed.request.namespace_labels = labels.clone();
            self.dirty.insert(key.clone());
        }
    }
}

#[cfg(test)]
mod tests;

//! Who holds what: the state of the allocator, with the indices that make a decision cheap.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Failure, Port, Request, ServiceKey, Sharing};
use crate::pool::{Pools, Reserved};
use crate::range::Family;

/// How long a contested address is given to nobody: a foreign host that has taken it may be away for a while.
pub(super) const QUARANTINE: Duration = Duration::from_secs(600);

/// All holdings, and the pools that they are from.
#[derive(Debug)]
pub struct Table {
    pub(super) pools: Arc<Pools>,
    pub(super) reserved: Arc<Reserved>,
    /// How long a released address is given to nobody else, unless its pool is full.
    pub(super) cool_down: Duration,
    services: HashMap<ServiceKey, Holding>,
    /// Whoever is on an address; more than one when it is shared.
    users: HashMap<IpAddr, Vec<ServiceKey>>,
    /// The addresses that Services with this sharing are on.
    shared: BTreeMap<Sharing, BTreeSet<IpAddr>>,
    usage: BTreeMap<Arc<str>, Usage>,
    /// Released lately: until when they rest, and who may have them back before.
    cooling: BTreeMap<IpAddr, (Instant, ServiceKey)>,
    /// What Services had last that have nothing now: the first choice of each.
    left: HashMap<ServiceKey, Left>,
    /// Contested on the wire: until when nobody gets them.
    quarantine: BTreeMap<IpAddr, Instant>,
    /// Per pool and range, an address with nothing to give below it. Moves up in a search, down on a release.
    floors: Vec<Vec<IpAddr>>,
}

/// What a Service holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    pub pool: Arc<str>,
    pub addresses: Vec<IpAddr>,
    pub(super) sharing: Option<Sharing>,
    pub(super) ports: Vec<Port>,
}

/// What a Service had last.
#[derive(Clone, Debug)]
struct Left {
    addresses: Vec<IpAddr>,
    /// For a Service that is gone, until when one of the same name may have them back; else as long as it lives.
    until: Option<Instant>,
}

/// What of a pool is in use: distinct addresses, and the Services on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub v4: i64,
    pub v6: i64,
    pub services: i64,
}

impl Table {
    pub fn new(cool_down: Duration) -> Self {
        Self {
            pools: Arc::default(),
            reserved: Arc::default(),
            cool_down,
            services: HashMap::new(),
            users: HashMap::new(),
            shared: BTreeMap::new(),
            usage: BTreeMap::new(),
            cooling: BTreeMap::new(),
            left: HashMap::new(),
            quarantine: BTreeMap::new(),
            floors: Vec::new(),
        }
    }

    /// Takes new pools. Holdings stay as they are, under the name of the pool that has their addresses now (a pool
    /// may have been renamed); every Service is to be decided anew afterwards.
    pub fn set_pools(&mut self, pools: Arc<Pools>, reserved: Arc<Reserved>) {
        self.floors =
            pools.iter().map(|pool| pool.ranges.iter().map(crate::range::IpRange::first).collect()).collect();
        self.pools = pools;
        self.reserved = reserved;
        self.usage.clear();
        for holding in self.services.values_mut() {
            if let Some(pool) = self.pools.containing_all(&holding.addresses) {
                holding.pool = pool.name.clone();
            }
            self.usage.entry(holding.pool.clone()).or_default().services += 1;
        }
        let addresses: Vec<IpAddr> = self.users.keys().copied().collect();
        addresses.into_iter().for_each(|address| self.count(address, 1));
    }

    /// Counts an address in the pool that has it, which need not be the pool of everybody who is on it: pools change.
    fn count(&mut self, address: IpAddr, by: i64) {
        let Some(pool) = self.pools.containing(address) else { return };
        *self.usage.entry(pool.name.clone()).or_default().of(address) += by;
    }

    pub fn pools(&self) -> &Arc<Pools> {
        &self.pools
    }

    pub fn reserved(&self) -> &Arc<Reserved> {
        &self.reserved
    }

    pub fn holding(&self, key: &ServiceKey) -> Option<&Holding> {
        self.services.get(key)
    }

    pub fn usage(&self, pool: &str) -> Usage {
        self.usage.get(pool).copied().unwrap_or_default()
    }

    /// How many Services hold an address.
    pub fn len(&self) -> usize {
        self.services.len()
    }

    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// The Services on an address.
    pub fn users(&self, address: IpAddr) -> &[ServiceKey] {
        self.users.get(&address).map_or(&[], Vec::as_slice)
    }

    /// When the next resting address may be given again: a failed allocation is worth another try then.
    pub fn next_release(&self) -> Option<Instant> {
        let cooling = self.cooling.values().map(|(until, _)| *until);
        let left = self.left.values().filter_map(|left| left.until);
        cooling.chain(left).chain(self.quarantine.values().copied()).min()
    }

    /// Forgets rests that are over.
    pub fn expire(&mut self, now: Instant) {
        self.cooling.retain(|_, (until, _)| *until > now);
        self.quarantine.retain(|_, until| *until > now);
        self.left.retain(|_, left| left.until.is_none_or(|until| until > now));
    }

    /// The Service is gone, or is none of type LoadBalancer any more. Whether it held anything.
    pub fn release(&mut self, key: &ServiceKey, now: Instant) -> bool {
        let held = self.lose(key, now);
        let until = now + self.cool_down;
        if self.cool_down.is_zero() {
            self.left.remove(key);
        } else if let Some(left) = self.left.get_mut(key) {
            left.until.get_or_insert(until);
        }
        held
    }

    /// The Service holds nothing any more, and lives. Whether it held anything.
    pub fn lose(&mut self, key: &ServiceKey, now: Instant) -> bool {
        let Some(holding) = self.remove(key) else { return false };
        for address in &holding.addresses {
            self.rest(*address, key, now);
        }
        self.left.insert(key.clone(), Left { addresses: holding.addresses, until: None });
        true
    }

    /// What the Service had last, if it has nothing now.
    pub(super) fn left(&self, key: &ServiceKey) -> Option<&[IpAddr]> {
        self.left.get(key).map(|left| &*left.addresses)
    }

    pub(super) fn quarantine(&mut self, address: IpAddr, now: Instant) {
        self.quarantine.insert(address, now + QUARANTINE);
    }

    /// Starts the cool-down of an address that nobody is on any more.
    pub(super) fn rest(&mut self, address: IpAddr, by: &ServiceKey, now: Instant) {
        if !self.cool_down.is_zero() && self.users(address).is_empty() {
            self.cooling.insert(address, (now + self.cool_down, by.clone()));
        }
    }

    /// Whether the address rests, from the point of view of this Service.
    pub(super) fn rests(&self, address: IpAddr, key: &ServiceKey, now: Instant) -> bool {
        self.cooling.get(&address).is_some_and(|(until, by)| *until > now && by != key)
    }

    pub(super) fn is_quarantined(&self, address: IpAddr, now: Instant) -> bool {
        self.quarantine.get(&address).is_some_and(|until| *until > now)
    }

    /// Puts the Service on the addresses, and off whatever it was on before.
    pub(super) fn hold(&mut self, request: &Request, pool: Arc<str>, addresses: Vec<IpAddr>) {
        let holding =
            Holding { pool, addresses, sharing: request.sharing.clone(), ports: request.ports.clone() };
        if self.services.get(&request.key) == Some(&holding) {
            return;
        }
        self.remove(&request.key);
        self.left.remove(&request.key);
        self.usage.entry(holding.pool.clone()).or_default().services += 1;
        for address in &holding.addresses {
            self.cooling.remove(address);
            if self.users(*address).is_empty() {
                self.count(*address, 1);
            }
            self.users.entry(*address).or_default().push(request.key.clone());
            if let Some(sharing) = &holding.sharing {
                self.shared.entry(sharing.clone()).or_default().insert(*address);
            }
        }
        self.services.insert(request.key.clone(), holding);
    }

    fn remove(&mut self, key: &ServiceKey) -> Option<Holding> {
        let holding = self.services.remove(key)?;
        self.usage.entry(holding.pool.clone()).or_default().services -= 1;
        for address in &holding.addresses {
            let Some(users) = self.users.get_mut(address) else { continue };
            users.retain(|user| user != key);
            if !users.is_empty() {
                continue;
            }
            self.users.remove(address);
            self.count(*address, -1);
            if let Some(sharing) = &holding.sharing
                && let Some(addresses) = self.shared.get_mut(sharing)
            {
                addresses.remove(address);
                if addresses.is_empty() {
                    self.shared.remove(sharing);
                }
            }
            self.lower_floor(*address);
        }
        Some(holding)
    }

    /// Whether the Service may be on the address together with those who are.
    pub(super) fn fits(&self, request: &Request, address: IpAddr) -> Result<(), Failure> {
        for user in self.users(address).iter().filter(|user| **user != request.key) {
            let Some(other) = self.services.get(user) else { continue };
            if request.sharing.is_none() || request.sharing != other.sharing {
                return Err(Failure::InUse(address, user.clone()));
            }
            if let Some(port) = request.ports.iter().find(|port| other.ports.contains(port)) {
                return Err(Failure::PortInUse(*port, address, user.clone()));
            }
        }
        Ok(())
    }

    /// Addresses that Services with the same sharing are on, ascending, within a range.
    pub(super) fn shared_with<'a>(
        &'a self,
        sharing: Option<&Sharing>,
        range: &crate::range::IpRange,
    ) -> impl Iterator<Item = IpAddr> + 'a {
        let addresses = sharing.and_then(|sharing| self.shared.get(sharing));
        let (first, last) = (range.first(), range.last());
        addresses.into_iter().flat_map(move |addresses| addresses.range(first..=last).copied())
    }

    pub(super) fn floor(&self, pool: usize, range: usize) -> IpAddr {
        self.floors[pool][range]
    }

    pub(super) fn raise_floor(&mut self, pool: usize, range: usize, to: IpAddr) {
        let floor = &mut self.floors[pool][range];
        *floor = (*floor).max(to);
    }

    fn lower_floor(&mut self, address: IpAddr) {
        let Some(pool) = self.pools.containing(address) else { return };
        let Some(i) = self.pools.position(&pool.name) else { return };
        for (range, floor) in pool.ranges.iter().zip(&mut self.floors[i]) {
            if range.contains(address) {
                *floor = (*floor).min(address);
            }
        }
    }
}

impl Usage {
    fn of(&mut self, address: IpAddr) -> &mut i64 {
        match Family::of(address) {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

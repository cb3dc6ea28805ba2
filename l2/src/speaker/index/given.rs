//! What a Service was given from a pool, and until when that counts.
//!
//! ```text
//! in the status, in a pool                             wanted, remembered
//! in the status, in no pool any more                   wanted while remembered: the allocator moves it
//! not in the status, the rest of it is foreign or empty
//!   and the allocator's annotation is still there      wanted while remembered: somebody wrote over the allocator
//! otherwise                                            not wanted, forgotten
//! ```
//! An address that was never seen in a pool is nobody's to announce: the status is also written by others.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{Home, Index, Pool, Service};
use crate::speaker::wanted::ServiceKey;

/// The addresses of one Service, each with the pool it is from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    uid: Arc<str>,
    addresses: Vec<(IpAddr, Home)>,
}

impl Index {
    /// Takes in a Service; whether it is another one than before.
    pub(crate) fn put_service(&mut self, key: Arc<ServiceKey>, service: Service) -> bool {
        let known = self.services.get(&key);
        if known == Some(&service) {
            return false;
        }
        let same = known.filter(|known| known.uid == service.uid);
        let before = same.map(|known| self.addresses(&key, known)).unwrap_or_default();
        self.services.insert(key.clone(), service);
        self.remember(&key, before);
        true
    }

    pub(crate) fn remove_service(&mut self, key: &ServiceKey) -> bool {
        self.given.remove(key);
        self.services.remove(key).is_some()
    }

    /// Takes in a pool; whether it is another one than before.
    pub(crate) fn put_pool(&mut self, name: &str, pool: Pool) -> bool {
        let changed = self.pools.get(name) != Some(&pool);
        if changed {
            self.change_pools(|pools| drop(pools.insert(name.into(), pool)));
        }
        changed
    }

    pub(crate) fn remove_pool(&mut self, name: &str) -> bool {
        let known = self.pools.contains_key(name);
        if known {
            self.change_pools(|pools| drop(pools.remove(name)));
        }
        known
    }

    fn change_pools(&mut self, change: impl FnOnce(&mut BTreeMap<Arc<str>, Pool>)) {
        let before: Vec<_> =
            self.services.iter().map(|(key, service)| (key.clone(), self.addresses(key, service))).collect();
        change(&mut self.pools);
        for (key, addresses) in before {
            self.remember(&key, addresses);
        }
    }

    /// Keeps what a Service had `before` only while the status and the pools do not say it by themselves.
    fn remember(&mut self, key: &Arc<ServiceKey>, before: Vec<(IpAddr, Home)>) {
        let Some(service) = self.services.get(key) else { return };
        let plain = !service.addresses.is_empty()
            && service.addresses.iter().all(|address| self.home(*address).is_some());
        if plain || before.is_empty() {
            self.given.remove(key);
            return;
        }
        let given = Given { uid: service.uid.clone(), addresses: before };
        self.given.insert(key.clone(), given);
        // What may not be remembered any more is forgotten for good.
        if self.addresses(key, &self.services[key]).is_empty() {
            self.given.remove(key);
        }
    }

    /// The addresses that are to be announced for a Service, with their pools.
    pub(super) fn addresses(&self, key: &ServiceKey, service: &Service) -> Vec<(IpAddr, Home)> {
        let given = self.given.get(key).filter(|given| given.uid == service.uid);
        let known = given.map_or(&[][..], |given| &given.addresses);
        let remembered = |address: IpAddr| known.iter().find(|(known, _)| *known == address).cloned();
        let home =
            |address: IpAddr| self.home(address).map(|home| (address, home)).or_else(|| remembered(address));
        let found: Vec<_> = service.addresses.iter().map(|address| home(*address)).collect();
        let written_over = service.allocated && found.iter().all(Option::is_none);
        if written_over { known.to_vec() } else { found.into_iter().flatten().collect() }
    }
}

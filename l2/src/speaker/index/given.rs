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

use std::{net::IpAddr, sync::Arc};

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
        let changed = self.services.get(&key) != Some(&service);
        if changed {
            self.services.insert(key.clone(), service);
            self.remember(&key);
        }
        changed
    }

    pub(crate) fn remove_service(&mut self, key: &ServiceKey) -> bool {
        self.given.remove(key);
        self.services.remove(key).is_some()
    }

    /// Takes in a pool; whether it is another one than before.
    pub(crate) fn put_pool(&mut self, name: &str, pool: Pool) -> bool {
        let changed = self.pools.get(name) != Some(&pool);
        if changed {
            self.pools.insert(name.into(), pool);
            self.remember_all();
        }
        changed
    }

    fn remember_all(&mut self) {
        let keys: Vec<_> = self.services.keys().cloned().collect();
        for key in keys {
            self.remember(&key);
        }
    }

    fn remember(&mut self, key: &Arc<ServiceKey>) {
        let Some(service) = self.services.get(key) else { return };
        let given = Given { uid: service.uid.clone(), addresses: self.addresses(key, service) };
        if given.addresses.is_empty() {
            self.given.remove(key);
        } else if self.given.get(key) != Some(&given) {
            self.given.insert(key.clone(), given);
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

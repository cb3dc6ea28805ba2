//! MetalLB's rules as plainly as they can be written: no index, no state, every address tried in turn.
//!
//! Given who holds what, it says what MetalLB would answer to one Service. Where the allocator is meant to be better
//! (see `tests.rs`), the comparison says so; everything else must be equal. Two choices that MetalLB leaves to
//! chance are made by name here: among pools of equal priority and among pools without serviceAllocation.

use std::net::IpAddr;

use super::{Families, Request};
use crate::api::{IPAddressPool, IPAddressPoolSpec};
use crate::range::{self, Family, IpRange};
use crate::selector::Selector;

pub(super) struct Model<'a> {
    pub(super) pools: &'a [IPAddressPool],
    /// Everybody who holds something, as of their last decision.
    pub(super) others: Vec<(&'a Request, Vec<IpAddr>)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Keep(Vec<IpAddr>),
    Extend(Vec<IpAddr>),
    /// What was held, if anything, is cleared; and this is found.
    New(Vec<IpAddr>),
    Nothing,
}

impl Model<'_> {
    pub(super) fn converge(&self, request: &Request, held: &[IpAddr]) -> Answer {
        if held.is_empty() || !self.may_stay(request, held) {
            return self.allocate(request).map_or(Answer::Nothing, Answer::New);
        }
        if let (Families::PreferBoth { .. }, [one]) = (request.families, held) {
            let pool = self.pool_of(held).expect("may_stay");
            let missing = Family::of(*one).other();
            if let Some(more) = self.scan(request, pool, missing) {
                return Answer::Extend(vec![*one, more]);
            }
        }
        Answer::Keep(held.to_vec())
    }

    fn may_stay(&self, request: &Request, held: &[IpAddr]) -> bool {
        let family = match (request.families, held) {
            (Families::PreferBoth { .. }, [_]) => true,
            (families, held) => families.are(held),
        };
        let asked = request.addresses.is_empty()
            || (held.len() == request.addresses.len()
                && held.iter().all(|one| request.addresses.contains(one)));
        let pool = self.pool_of(held);
        let named = request
            .pool
            .as_ref()
            .is_none_or(|name| pool.and_then(|pool| pool.metadata.name.as_ref()) == Some(name));
        family && asked && named && self.assign(request, held)
    }

    fn allocate(&self, request: &Request) -> Option<Vec<IpAddr>> {
        if !request.addresses.is_empty() {
            let named = |pool: &IPAddressPool| {
                request.pool.as_ref().is_none_or(|name| pool.metadata.name.as_ref() == Some(name))
            };
            let fine = request.families.are(&request.addresses)
                && self.assign(request, &request.addresses)
                && self.pool_of(&request.addresses).is_some_and(named);
            return fine.then(|| request.addresses.clone());
        }
        if let Some(name) = &request.pool {
            let pool = self.pools.iter().find(|pool| pool.metadata.name.as_ref() == Some(name))?;
            let free = [Family::V4, Family::V6].map(|family| self.scan(request, pool, family));
            let found: Vec<IpAddr> = match (request.families, free) {
                (Families::Single(Family::V4), [one, _]) | (Families::Single(Family::V6), [_, one]) => {
                    one.into_iter().collect()
                }
                (Families::Both, [Some(v4), Some(v6)]) => vec![v4, v6],
                (Families::Both, _) => Vec::new(),
                (Families::PreferBoth { .. }, both) => both.into_iter().flatten().collect(),
            };
            return (!found.is_empty() && self.compatible(pool, request)).then_some(found);
        }
        let mut pinned: Vec<&IPAddressPool> =
            self.pools.iter().filter(|pool| pool.spec.service_allocation.is_some()).collect();
        pinned.retain(|pool| pool.spec.auto_assign.unwrap_or(true) && self.compatible(pool, request));
        pinned.sort_by_key(|pool| {
            let priority = pool.spec.service_allocation.as_ref().map_or(0, |to| to.priority);
            (if priority > 0 { priority } else { i64::MAX }, pool.metadata.name.clone())
        });
        let mut open: Vec<&IPAddressPool> =
            self.pools.iter().filter(|pool| pool.spec.service_allocation.is_none()).collect();
        open.retain(|pool| pool.spec.auto_assign.unwrap_or(true));
        open.sort_by_key(|pool| pool.metadata.name.clone());
        self.best(request, &pinned).or_else(|| self.best(request, &open))
    }

    fn best(&self, request: &Request, pools: &[&IPAddressPool]) -> Option<Vec<IpAddr>> {
        let (mut first, mut second) = (None, None);
        for pool in pools {
            let [v4, v6] = [Family::V4, Family::V6].map(|family| self.scan(request, pool, family));
            match request.families {
                Families::Single(family) => {
                    if let Some(one) = if family == Family::V4 { v4 } else { v6 } {
                        return Some(vec![one]);
                    }
                }
                Families::Both | Families::PreferBoth { .. } => {
                    if let (Some(v4), Some(v6)) = (v4, v6) {
                        return Some(vec![v4, v6]);
                    }
                    if let (Families::PreferBoth { primary }, Some(one)) = (request.families, v4.or(v6)) {
                        let slot = if Family::of(one) == primary { &mut first } else { &mut second };
                        slot.get_or_insert(vec![one]);
                    }
                }
            }
        }
        first.or(second)
    }

    fn scan(&self, request: &Request, pool: &IPAddressPool, family: Family) -> Option<IpAddr> {
        for range in ranges(&pool.spec).filter(|range| range.family() == family) {
            let mut address = Some(range.first());
            while let Some(one) = address.filter(|one| range.contains(*one)) {
                if !(pool.spec.avoid_buggy_ips && range::is_buggy(one)) && self.sharing(request, one) {
                    return Some(one);
                }
                address = range::next(one);
            }
        }
        None
    }

    fn assign(&self, request: &Request, addresses: &[IpAddr]) -> bool {
        self.pool_of(addresses).is_some_and(|pool| self.compatible(pool, request))
            && addresses.iter().all(|address| self.sharing(request, *address))
    }

    fn pool_of(&self, addresses: &[IpAddr]) -> Option<&IPAddressPool> {
        self.pools.iter().find(|pool| {
            addresses.iter().all(|address| {
                !(pool.spec.avoid_buggy_ips && range::is_buggy(*address))
                    && ranges(&pool.spec).any(|range| range.contains(*address))
            })
        })
    }

    fn sharing(&self, request: &Request, address: IpAddr) -> bool {
        let others =
            self.others.iter().filter(|(other, held)| other.key != request.key && held.contains(&address));
        others.into_iter().all(|(other, _)| {
            request.sharing.is_some()
                && request.sharing == other.sharing
                && !request.ports.iter().any(|port| other.ports.contains(port))
        })
    }

    #[expect(clippy::unused_self, reason = "reads like the rest")]
    fn compatible(&self, pool: &IPAddressPool, request: &Request) -> bool {
        let Some(to) = &pool.spec.service_allocation else { return true };
        let matches = |selectors: &[crate::api::LabelSelector], labels| {
            selectors.iter().any(|one| Selector::compile(one).is_ok_and(|one| one.matches(labels)))
        };
        let by_namespace = !to.namespaces.is_empty() || !to.namespace_selectors.is_empty();
        let namespace = to.namespaces.iter().any(|name| name == request.key.namespace())
            || matches(&to.namespace_selectors, &request.namespace_labels);
        (!by_namespace || namespace)
            && (to.service_selectors.is_empty() || matches(&to.service_selectors, &request.labels))
    }
}

fn ranges(spec: &IPAddressPoolSpec) -> impl Iterator<Item = IpRange> {
    spec.addresses.iter().map(|text| text.parse().expect("the pools of the model are well formed"))
}

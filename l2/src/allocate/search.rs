//! A place for a Service: MetalLB's order of pools, ranges and addresses.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{Failure, Families, Request, Table};
use crate::pool::Pool;
use crate::range::{self, Family};

/// Addresses that may be held, all of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pool: Arc<str>,
    pub(super) addresses: Vec<IpAddr>,
}

/// Whether resting addresses may be given as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Respect,
    Break,
}

impl Table {
    /// The place that the Service is to have, were it to come now: by address, else by pool, else from any pool.
    /// `avoid` is an address that it must not get.
    pub(super) fn search(
        &mut self,
        request: &Request,
        avoid: Option<IpAddr>,
        now: Instant,
    ) -> Result<Place, Failure> {
        if !request.addresses.is_empty() {
            return self.by_address(request);
        }
        if let Some(name) = &request.pool {
            return self.by_pool(request, name, avoid, now);
        }
        if let Some(place) = self.as_before(request, avoid, now) {
            return Ok(place);
        }
        let pools = self.pools.clone();
        let lists = pools.automatic(request.applicant());
        for list in &lists {
            if let Some(place) = self.best_of(request, list, avoid, now) {
                return Ok(place);
            }
        }
        let names: Vec<&str> = lists.iter().flatten().map(|i| &*pools.at(*i).name).collect();
        match names.as_slice() {
            [] => Err(Failure::NoPool),
            [one] => Err(Failure::PoolExhausted((*one).into(), request.families)),
            [first, .., last] if names.len() > 4 => {
                Err(Failure::Exhausted(request.families, format!("{} pools ({first} … {last})", names.len())))
            }
            _ => Err(Failure::Exhausted(request.families, format!("pools {}", names.join(", ")))),
        }
    }

    fn by_address(&self, request: &Request) -> Result<Place, Failure> {
        let addresses = &request.addresses;
        if !request.families.are(addresses) {
            return Err(Failure::FamilyMismatch(addresses.clone(), request.families));
        }
        let pool =
            self.pools.containing_all(addresses).ok_or_else(|| Failure::NotInConfig(addresses.clone()))?;
        if !pool.gives() {
            return Err(Failure::PoolRefused(pool.name.clone()));
        }
        if !pool.allows(request.applicant()) {
            return Err(Failure::Incompatible(pool.name.clone()));
        }
        for address in addresses {
            if pool.avoid_buggy && range::is_buggy(*address) {
                return Err(Failure::Buggy(pool.name.clone(), *address));
            }
            if let Some((_, what)) = self.reserved.find(*address) {
                return Err(Failure::Reserved(*address, what.clone()));
            }
            self.fits(request, *address)?;
        }
        match &request.pool {
            Some(name) if **name != *pool.name => Err(Failure::PoolMismatch(addresses.clone(), name.clone())),
            _ => Ok(Place { pool: pool.name.clone(), addresses: addresses.clone() }),
        }
    }

    fn by_pool(
        &mut self,
        request: &Request,
        name: &str,
        avoid: Option<IpAddr>,
        now: Instant,
    ) -> Result<Place, Failure> {
        let pools = self.pools.clone();
        let i = pools.position(name).ok_or_else(|| Failure::UnknownPool(name.to_owned()))?;
        let pool = pools.at(i);
        if !pool.gives() {
            return Err(Failure::PoolRefused(pool.name.clone()));
        }
        if !pool.allows(request.applicant()) {
            return Err(Failure::Incompatible(pool.name.clone()));
        }
        if let Some(place) = self.as_before(request, avoid, now) {
            return Ok(place);
        }
        let free = self.free(request, i, avoid, now);
        let addresses = match (request.families, free) {
            (Families::Single(family), [v4, v6]) => {
                [v4, v6].into_iter().flatten().filter(|address| Family::of(*address) == family).collect()
            }
            (Families::Both, [Some(v4), Some(v6)]) => vec![v4, v6],
            (Families::Both, _) => Vec::new(),
            (Families::PreferBoth { .. }, both) => both.into_iter().flatten().collect(),
        };
        if addresses.is_empty() {
            return Err(Failure::PoolExhausted(pool.name.clone(), request.families));
        }
        Ok(Place { pool: pool.name.clone(), addresses })
    }

    /// Where the Service was before it lost its place, were that to be had: a pool that is deleted and made again, or
    /// a type that is changed forth and back, moves nobody.
    fn as_before(&mut self, request: &Request, avoid: Option<IpAddr>, now: Instant) -> Option<Place> {
        let left = self.left(&request.key)?;
        let pool = self.pools.containing_all(left)?;
        let asked = request.pool.as_ref().map_or(pool.auto_assign, |name| **name == *pool.name);
        let free = |address: &IpAddr| {
            Some(*address) != avoid
                && !self.rests(*address, &request.key, now)
                && self.may_give(request, pool, *address, now).is_ok()
        };
        let fine = asked
            && pool.gives()
            && pool.allows(request.applicant())
            && request.families.accept(left)
            && left.iter().all(free);
        if !fine {
            return None;
        }
        let (pool, mut addresses) = (pool.name.clone(), left.to_vec());
        if let (Families::PreferBoth { .. }, [one]) = (request.families, left) {
            // The other family as well, where the pool has it by now.
            addresses.extend(self.additional(request, *one, &pool, now));
        }
        Some(Place { pool, addresses })
    }

    /// The first pool that has everything; for a Service that prefers both families, else the first that has its
    /// primary family, else the first that has the other.
    fn best_of(
        &mut self,
        request: &Request,
        list: &[usize],
        avoid: Option<IpAddr>,
        now: Instant,
    ) -> Option<Place> {
        let pools = self.pools.clone();
        let mut second_best: [Option<Place>; 2] = [None, None];
        for i in list.iter().copied() {
            let place = |addresses| Place { pool: pools.at(i).name.clone(), addresses };
            match (request.families, self.free(request, i, avoid, now)) {
                (Families::Single(Family::V4), [Some(one), _])
                | (Families::Single(Family::V6), [_, Some(one)]) => {
                    return Some(place(vec![one]));
                }
                (Families::Both | Families::PreferBoth { .. }, [Some(v4), Some(v6)]) => {
                    return Some(place(vec![v4, v6]));
                }
                (Families::PreferBoth { primary }, [Some(one), None] | [None, Some(one)]) => {
                    let rank = usize::from(Family::of(one) != primary);
                    second_best[rank].get_or_insert_with(|| place(vec![one]));
                }
                _ => {}
            }
        }
        let [primary, secondary] = second_best;
        primary.or(secondary)
    }

    /// A free address of each family that the Service wants; resting ones only where there is no other.
    fn free(
        &mut self,
        request: &Request,
        i: usize,
        avoid: Option<IpAddr>,
        now: Instant,
    ) -> [Option<IpAddr>; 2] {
        let pools = self.pools.clone();
        let pool = pools.at(i);
        [Family::V4, Family::V6].map(|family| {
            if !request.families.wants(family) || !pool.has_family(family) {
                return None;
            }
            // What it holds already is better than anything lower: addresses are to stay.
            let held = self.holding(&request.key).map_or(&request.held, |holding| &holding.addresses);
            let held = held.iter().copied().find(|address| Family::of(*address) == family);
            let held = held.filter(|address| pool.contains(*address) && Some(*address) != avoid);
            held.filter(|address| self.may_give(request, pool, *address, now).is_ok())
                .or_else(|| self.first_free(request, (i, pool), family, (Rest::Respect, avoid), now))
                .or_else(|| self.first_free(request, (i, pool), family, (Rest::Break, avoid), now))
        })
    }

    fn may_give(&self, request: &Request, pool: &Pool, address: IpAddr, now: Instant) -> Result<(), ()> {
        let barred = (pool.avoid_buggy && range::is_buggy(address))
            || self.reserved.find(address).is_some()
            || self.is_quarantined(address, now);
        if barred { Err(()) } else { self.fits(request, address).map_err(drop) }
    }

    /// The lowest usable address of the first range that has one: free, or shared with Services that allow it.
    fn first_free(
        &mut self,
        request: &Request,
        (i, pool): (usize, &Pool),
        family: Family,
        (rest, avoid): (Rest, Option<IpAddr>),
        now: Instant,
    ) -> Option<IpAddr> {
        for (r, range) in pool.ranges.iter().enumerate().filter(|(_, range)| range.family() == family) {
            let shared = self.shared_with(request.sharing.as_ref(), range).find(|address| {
                Some(*address) != avoid && self.may_give(request, pool, *address, now).is_ok()
            });
            let empty = self.first_empty(request, (i, r, pool), (rest, avoid), now);
            if let Some(address) = [shared, empty].into_iter().flatten().min() {
                return Some(address);
            }
        }
        None
    }

    /// The lowest address of a range that nobody is on. The floor is raised over what cannot become free without a
    /// release: so a range that is full from the bottom up is not walked again.
    fn first_empty(
        &mut self,
        request: &Request,
        (i, r, pool): (usize, usize, &Pool),
        (rest, avoid): (Rest, Option<IpAddr>),
        now: Instant,
    ) -> Option<IpAddr> {
        let last = pool.ranges[r].last();
        let mut address = self.floor(i, r);
        let mut solid = true;
        loop {
            if address > last {
                return None;
            }
            let held = !self.users(address).is_empty();
            let step = if let Some((range, _)) = self.reserved.find(address) {
                range.last()
            } else if held || (pool.avoid_buggy && range::is_buggy(address)) {
                address
            } else if Some(address) == avoid
                || self.is_quarantined(address, now)
                || (rest == Rest::Respect && self.rests(address, &request.key, now))
            {
                solid = false;
                address
            } else {
                return Some(address);
            };
            address = range::next(step)?;
            if solid {
                self.raise_floor(i, r, address);
            }
        }
    }
}

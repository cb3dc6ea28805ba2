//! The decision for one Service: keep, extend, grant, replace or clear.

use std::net::IpAddr;
use std::time::Instant;

use super::search::Place;
use super::{Failure, Families, Holding, Reason, Request, Table};
use crate::pool::Pool;
use crate::range::{self, Family};

/// What a Service holds from now on, and how that came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Nothing while it is pending.
    pub holding: Option<Holding>,
    pub change: Change,
    /// What it wants and could not have.
    pub trouble: Option<Trouble>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// As before.
    None,
    /// It held nothing.
    Granted,
    /// The missing family was added.
    Extended(IpAddr),
    /// It holds something else now.
    Replaced(Reason),
    /// It lost what it held, and there is nothing else for it.
    Cleared(Reason),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It has no address, or not the one that it asks for.
    Allocation(Failure),
    /// It prefers two families and has one.
    Additional(Failure),
}

impl Table {
    /// Decides for one Service and remembers the outcome. Deciding twice changes nothing the second time.
    ///
    /// The order of decisions matters where Services compete: see [`Request::turn`].
    pub fn decide(&mut self, request: &Request, now: Instant) -> Decision {
        let held =
            self.holding(&request.key).map_or_else(|| request.held.clone(), |held| held.addresses.clone());
        if held.is_empty() {
            return match self.search(request, None, now) {
                Ok(place) => self.settle(request, place, Change::Granted, None),
                Err(failure) => nothing(Change::None, failure),
            };
        }
        match self.objection(request, &held) {
            None => self.keep(request, held, now),
            Some(reason) => self.replace(request, held, reason, now),
        }
    }

    /// Why the Service may not keep what it holds, if anything. The reasons that are final come first.
    fn objection(&self, request: &Request, held: &[IpAddr]) -> Option<Reason> {
        let Some(pool) = self.home(request, held) else {
            return Some(Reason::NotInConfig(held.to_vec()));
        };
        if let Some(failure) = held.iter().find_map(|address| self.fits(request, *address).err()) {
            return Some(Reason::Shared(failure));
        }
        if let Some((address, (_, what))) =
            held.iter().find_map(|address| Some((address, self.reserved.find(*address)?)))
        {
            return Some(Reason::Reserved(*address, what.clone()));
        }
        // A pool that is refused as a whole is not held against those who have its addresses.
        if pool.gives() && !pool.allows(request.applicant()) {
            return Some(Reason::Incompatible(pool.name.clone()));
        }
        if let Some(address) = held.iter().find(|address| pool.avoid_buggy && range::is_buggy(**address)) {
            return Some(Reason::Buggy(pool.name.clone(), *address));
        }
        if !request.families.accept(held) {
            return Some(Reason::Families(held.to_vec(), request.families));
        }
        if let Some(name) = request.pool.as_ref().filter(|name| ***name != *pool.name) {
            return Some(Reason::OtherPool(name.clone()));
        }
        if !request.addresses.is_empty() && !same(&request.addresses, held) {
            return Some(Reason::OtherAddresses(request.addresses.clone()));
        }
        // An address asked for by name is the user's to defend.
        let contested =
            request.contested.filter(|address| request.addresses.is_empty() && held.contains(address));
        contested.map(Reason::Contested)
    }

    /// The pool of what is held. One that is understood in part may have addresses that it does not show.
    fn home(&self, request: &Request, held: &[IpAddr]) -> Option<&Pool> {
        self.pools.containing_all(held).or_else(|| {
            let noted =
                self.holding(&request.key).map(|holding| &*holding.pool).or(request.held_from.as_deref());
            noted.and_then(|name| self.pools.by_name(name)).filter(|pool| pool.is_partly_known())
        })
    }

    fn keep(&mut self, request: &Request, held: Vec<IpAddr>, now: Instant) -> Decision {
        let Some(pool) = self.home(request, &held).map(|pool| pool.name.clone()) else {
            unreachable!("objection() has found the pool");
        };
        let (Families::PreferBoth { .. }, [one]) = (request.families, held.as_slice()) else {
            return self.settle(request, Place { pool, addresses: held }, Change::None, None);
        };
        match self.additional(request, *one, &pool, now) {
            Ok(more) => {
                let place = Place { pool, addresses: vec![*one, more] };
                self.settle(request, place, Change::Extended(more), None)
            }
            Err(failure) => {
                let trouble = Some(Trouble::Additional(failure));
                self.settle(request, Place { pool, addresses: held }, Change::None, trouble)
            }
        }
    }

    /// The missing family, from the same pool only.
    pub(super) fn additional(
        &mut self,
        request: &Request,
        one: IpAddr,
        pool: &str,
        now: Instant,
    ) -> Result<IpAddr, Failure> {
        let missing = Families::Single(Family::of(one).other());
        let request = Request {
            families: missing,
            pool: Some(pool.to_owned()),
            addresses: Vec::new(),
            ..request.clone()
        };
        let place = self.search(&request, None, now)?;
        place.addresses.first().copied().ok_or_else(|| Failure::PoolExhausted(place.pool.clone(), missing))
    }

    fn replace(&mut self, request: &Request, held: Vec<IpAddr>, reason: Reason, now: Instant) -> Decision {
        let contested = match &reason {
            Reason::Contested(address) => Some(*address),
            _ => None,
        };
        if let Some(address) = contested {
            self.quarantine(address, now);
        }
        match self.search(request, contested, now) {
            Ok(place) => {
                let left: Vec<IpAddr> =
                    held.into_iter().filter(|address| !place.addresses.contains(address)).collect();
                let decision = self.settle(request, place, Change::Replaced(reason), None);
                left.into_iter().for_each(|address| self.rest(address, &request.key, now));
                decision
            }
            Err(failure) if reason.is_final() => {
                self.lose(&request.key, now);
                nothing(Change::Cleared(reason), failure)
            }
            Err(failure) => {
                let pool = self.home(request, &held).map(|pool| pool.name.clone());
                let pool = pool.expect("only a final reason comes without a pool");
                let trouble = Some(Trouble::Allocation(failure));
                self.settle(request, Place { pool, addresses: held }, Change::None, trouble)
            }
        }
    }

    fn settle(
        &mut self,
        request: &Request,
        place: Place,
        change: Change,
        trouble: Option<Trouble>,
    ) -> Decision {
        self.hold(request, place.pool, place.addresses);
        Decision { holding: self.holding(&request.key).cloned(), change, trouble }
    }
}

fn nothing(change: Change, failure: Failure) -> Decision {
    Decision { holding: None, change, trouble: Some(Trouble::Allocation(failure)) }
}

fn same(a: &[IpAddr], b: &[IpAddr]) -> bool {
    a.len() == b.len() && a.iter().all(|address| b.contains(address))
}

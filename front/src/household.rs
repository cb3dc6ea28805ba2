//! Who is here, by household: what the visitors of one address hold of the program, so that nobody takes what all need.
//!
//! A household is an IPv4 address, or the /64 that one IPv6 line has. Its entry lives as long as a connection or a
//! request of it does. A connection knows its household from the start, so a request costs no look into the table;
//! only one that a trusted proxy brings does, since it counts for the visitor that the proxy names.
//!
//! A trusted proxy's own address is no household: thousands come from it.

mod rate;
mod readers;
mod share;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use causeway_tunnel::flow::Budget;
use ipnet::IpNet;
use parking_lot::Mutex;

use crate::metrics::{ReasonLabels, Visitors};
use rate::Rates;
use readers::Readers;
pub use readers::Stalled;
pub use readers::{EVICTED, Reader};
use share::Shares;

/// What one household may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub connections: usize,
    /// Requests in flight, WebSockets and event streams included.
    pub requests: usize,
    /// New connections a second. 0: as many as come.
    pub rate: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: 512, requests: 512, rate: 100 }
    }
}

/// The part of [`Bounds::requests`] for connections that have not finished a request yet, beyond the first request of
/// each: a burst of new connections leaves three quarters to those that have shown what they are.
const YOUNG_PART: usize = 4;
/// So many times [`Bounds::connections`] may come at once, before the rate counts.
const BURST: usize = 2;
/// Between two warnings of the same kind.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// All households of the process.
#[derive(Debug)]
pub struct Households(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: Mutex<HashMap<Key, Weak<Household>>>,
    bounds: Bounds,
    trusted: Arc<[IpNet]>,
    metrics: Visitors,
    budget: Budget,
    said: Mutex<Said>,
    rates: Mutex<Rates<Key>>,
    /// What all readers together keep waiting.
    stalled: Stalled,
}

/// A prefix; a trusted proxy's address stands for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    address: IpAddr,
    is_proxy: bool,
}

#[derive(Debug)]
pub struct Household {
    key: Key,
    shared: Arc<Shared>,
    held: Mutex<Held>,
    readers: Readers,
    /// What they keep waiting.
    stalled: Stalled,
}

#[derive(Debug, Default)]
struct Held {
    connections: usize,
    requests: usize,
    /// Of `requests`, those that count as young.
    young: usize,
    shares: Shares,
}

/// What a connection has shown of itself.
#[derive(Debug, Default)]
pub struct Age {
    in_flight: AtomicUsize,
    /// It has finished a request.
    is_grown: AtomicBool,
}

/// One request's place. Held as long as anything of the request lives.
#[derive(Debug)]
pub struct Ticket {
    household: Arc<Household>,
    age: Arc<Age>,
    is_young: bool,
    tunnel: Option<causeway_tunnel::TunnelId>,
}

/// The household has as much as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    Requests,
    Young,
}

#[derive(Debug, Default)]
struct Said {
    connections: Rarely,
    rate: Rarely,
    requests: Rarely,
}

/// Counts what happens, and says when it is time to tell.
#[derive(Debug, Default)]
struct Rarely {
    last: Option<Instant>,
    count: u64,
}

impl Households {
    pub fn new(bounds: Bounds, trusted: Arc<[IpNet]>, metrics: Visitors, budget: Budget) -> Arc<Self> {
        let (table, said, stalled) = Default::default();
        let rates = Mutex::new(Rates::new(bounds.rate, bounds.connections * BURST));
        Arc::new(Self(Arc::new(Shared { table, bounds, trusted, metrics, budget, said, rates, stalled })))
    }

    /// The household of one who comes. None: it comes too often.
    pub fn enter(&self, address: IpAddr) -> Option<Arc<Household>> {
        let household = self.of(address);
        household.comes().then_some(household)
    }

    pub fn of(&self, address: IpAddr) -> Arc<Household> {
        let key = self.0.key(address);
        let mut table = self.0.table.lock();
        if let Some(household) = table.get(&key).and_then(Weak::upgrade) {
            return household;
        }
        let (held, readers, stalled) = Default::default();
        let household = Arc::new(Household { key, shared: Arc::clone(&self.0), held, readers, stalled });
        table.insert(key, Arc::downgrade(&household));
        household
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.table.lock().is_empty()
    }
}

impl Shared {
    fn key(&self, address: IpAddr) -> Key {
        let address = address.to_canonical();
        let is_proxy = self.trusted.iter().any(|net| net.contains(&address));
        let address = match address {
            IpAddr::V6(ip) if !is_proxy => {
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)))
            }
            address => address,
        };
        Key { address, is_proxy }
    }
}

impl Household {
    /// Whether a visitor may come now: what a handshake costs, an address may have only so often (hazard 104).
    fn comes(&self) -> bool {
        if self.key.is_proxy || self.shared.rates.lock().take(self.key, Instant::now()) {
            return true;
        }
        let reason = "too often from one address";
        self.shared.metrics.refused.get_or_create(&ReasonLabels { reason }).inc();
        if let Some(refused) = self.shared.said.lock().rate.count(Instant::now()) {
            tracing::warn!(address = %self.key.address, refused, rate = self.shared.bounds.rate, "refused connections: one \
                address opens more a second than limits.connectionRatePerIp allows; if it is a proxy in front of this edge, name \
                it in trustedProxies");
        }
        false
    }

    /// Whether one more connection may come. If so, [`Household::disconnected`] is owed.
    pub fn connected(&self) -> bool {
        let max = self.shared.bounds.connections;
        let mut held = self.held.lock();
        if held.connections >= max && !self.key.is_proxy {
            drop(held);
            let reason = "too many from one address";
            self.shared.metrics.refused.get_or_create(&ReasonLabels { reason }).inc();
            if let Some(refused) = self.shared.said.lock().connections.count(Instant::now()) {
                tracing::warn!(address = %self.key.address, refused, "refused connections: one address has {max} open, as many as \
                    limits.connectionsPerIp allows; if it is a proxy in front of this edge, name it in trustedProxies");
            }
            return false;
        }
        held.connections += 1;
        true
    }

    pub fn disconnected(&self) {
        self.held.lock().connections -= 1;
    }

    /// A place for one more request on a connection of this age.
    pub fn admit(self: &Arc<Self>, age: &Arc<Age>) -> Result<Ticket, Crowded> {
        let is_first = age.in_flight.fetch_add(1, Ordering::Relaxed) == 0;
        let is_young = !is_first && !age.is_grown.load(Ordering::Relaxed);
        // From here on dropping the ticket undoes what was counted.
        let mut held = self.held.lock();
        held.requests += 1;
        held.young += usize::from(is_young);
        let crowded = self.crowded(&held, is_young);
        drop(held);
        let ticket = Ticket { household: Arc::clone(self), age: Arc::clone(age), is_young, tunnel: None };
        match crowded {
            None => Ok(ticket),
            Some(crowded) => {
                self.say(crowded);
                Err(crowded)
            }
        }
    }

    fn crowded(&self, held: &Held, is_young: bool) -> Option<Crowded> {
        let max = self.shared.bounds.requests;
        match (self.key.is_proxy, is_young) {
            (true, _) => None,
            (false, _) if held.requests > max => Some(Crowded::Requests),
            (false, true) if held.young > max / YOUNG_PART => Some(Crowded::Young),
            _ => None,
        }
    }

    fn say(&self, crowded: Crowded) {
        let reason = crowded.reason();
        self.shared.metrics.requests_refused.get_or_create(&ReasonLabels { reason }).inc();
        if let Some(refused) = self.shared.said.lock().requests.count(Instant::now()) {
            let max = self.shared.bounds.requests;
            tracing::warn!(address = %self.key.address, refused, reason,
                "refused requests: limits.requestsPerIp allows {max} at once to one address");
        }
    }
}

impl Drop for Household {
    fn drop(&mut self) {
        let mut table = self.shared.table.lock();
        // Somebody of the same prefix may have come meanwhile: then the entry is another one's.
        if table.get(&self.key).is_some_and(|entry| entry.strong_count() == 0) {
            table.remove(&self.key);
        }
    }
}

impl Crowded {
    /// Constant words: they are a metric's label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Requests => "too many from one address",
            Self::Young => "too many on new connections",
        }
    }
}

impl Ticket {
    /// The request is over and was answered whole: its connection has shown what it is.
    pub fn succeeded(&self) {
        self.age.is_grown.store(true, Ordering::Relaxed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.age.in_flight.fetch_sub(1, Ordering::Relaxed);
        let mut held = self.household.held.lock();
        held.requests -= 1;
        held.young -= usize::from(self.is_young);
        if let Some(tunnel) = self.tunnel {
            held.shares.give_back(tunnel);
        }
    }
}

impl Rarely {
    /// How many there were since it was said last, when it may be said again.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.last.is_some_and(|last| now < last + SAY_AGAIN) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests;

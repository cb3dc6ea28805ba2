//! Who may try a handshake at all: a budget of failures and of half-open connections for each address (hazard 119).
//!
//! Guessing keys is hopeless; the point is that trying costs the edge next to nothing. An address with a live session
//! gets a larger budget, so that a guesser behind the same NAT cannot lock out a connector that is known.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures that an address may have at once.
const BURST: u32 = 10;
/// Time after which one failure is forgiven.
const FORGIVE_AFTER: Duration = Duration::from_secs(1);
/// How much more an address with a live session may fail.
const KNOWN_FACTOR: u32 = 20;
/// Handshakes under way from one address. More than the number from which the listener makes strangers prove their
/// address: nobody who only writes in a connector's name can use its budget up.
const MAX_HALF_OPEN: u32 = 512;
const _: () = assert!(MAX_HALF_OPEN as usize > causeway_tunnel::limits::RETRY_THRESHOLD);
/// Addresses remembered; beyond it those that failed least recently are forgotten.
const MAX_ADDRESSES: usize = 16 * 1024;

#[derive(Clone, Debug, Default)]
pub(crate) struct Doorman(Arc<Mutex<HashMap<Prefix, Account>>>);

/// One IPv4 address or one IPv6 /64: what one customer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Prefix(u64, bool);

#[derive(Debug, Default)]
struct Account {
    failures: u32,
    /// When `failures` was last brought up to date.
    since: Option<Instant>,
    half_open: u32,
    sessions: u32,
}

/// Held during a handshake.
#[derive(Debug)]
pub(crate) struct Pass {
    doorman: Doorman,
    prefix: Prefix,
}

/// Held during a session.
#[derive(Debug)]
pub(crate) struct Known {
    doorman: Doorman,
    prefix: Prefix,
}

impl Doorman {
    pub(crate) fn admit(&self, from: IpAddr, now: Instant) -> Option<Pass> {
        let prefix = Prefix::of(from);
        let mut accounts = self.0.lock();
        let account = accounts.entry(prefix).or_default();
        account.forgive(now);
        if account.half_open >= MAX_HALF_OPEN || account.failures >= account.budget() {
            return None;
        }
        account.half_open += 1;
        Some(Pass { doorman: self.clone(), prefix })
    }

    pub(crate) fn failed(&self, from: IpAddr, now: Instant) {
        let mut accounts = self.0.lock();
        let account = accounts.entry(Prefix::of(from)).or_default();
        account.forgive(now);
        account.failures += 1;
        if accounts.len() > MAX_ADDRESSES {
            accounts.retain(|_, account| {
                account.forgive(now);
                !account.is_idle()
            });
            // All of them busy failing: a flood from a whole network. Start over rather than grow.
            if accounts.len() > MAX_ADDRESSES {
                accounts.retain(|_, account| account.half_open > 0 || account.sessions > 0);
            }
        }
    }

    fn change(&self, prefix: Prefix, change: impl FnOnce(&mut Account)) {
        let mut accounts = self.0.lock();
        if let Some(account) = accounts.get_mut(&prefix) {
            change(account);
            if account.is_idle() {
                accounts.remove(&prefix);
            }
        }
    }
}

impl Pass {
    /// The handshake went well.
    pub(crate) fn accepted(self) -> Known {
        self.doorman.change(self.prefix, |account| account.sessions += 1);
        Known { doorman: self.doorman.clone(), prefix: self.prefix }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.doorman.change(self.prefix, |account| account.half_open -= 1);
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        self.doorman.change(self.prefix, |account| account.sessions -= 1);
    }
}

impl Account {
    fn budget(&self) -> u32 {
        if self.sessions > 0 { BURST * KNOWN_FACTOR } else { BURST }
    }

    fn forgive(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let rate = if self.sessions > 0 { KNOWN_FACTOR } else { 1 };
        let steps =
            now.saturating_duration_since(since).as_millis() * u128::from(rate) / FORGIVE_AFTER.as_millis();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        if steps > 0 || self.failures == 0 {
            self.failures = self.failures.saturating_sub(steps);
            self.since = Some(now);
        }
    }

    fn is_idle(&self) -> bool {
        self.failures == 0 && self.half_open == 0 && self.sessions == 0
    }
}

impl Prefix {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u64::from(u32::from(v4)), false),
            IpAddr::V6(v6) => Self((u128::from(v6) >> 64) as u64, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn fail(doorman: &Doorman, from: IpAddr, now: Instant) -> bool {
        let pass = doorman.admit(from, now);
        if pass.is_some() {
            doorman.failed(from, now);
        }
        pass.is_some()
    }

    #[test]
    fn hazard_119_an_address_that_keeps_failing_waits_and_others_do_not() {
        let (doorman, now) = (Doorman::default(), Instant::now());
        let tried = (0..1000).filter(|_| fail(&doorman, A, now)).count();
        assert_eq!(tried, 10);
        assert!(doorman.admit(B, now).is_some());
        assert!(doorman.admit(A, now + Duration::from_millis(999)).is_none());
        assert!(doorman.admit(A, now + Duration::from_millis(1001)).is_some());
        let later = now + Duration::from_secs(60);
        assert_eq!((0..1000).filter(|_| fail(&doorman, A, later)).count(), 10);
    }

    #[test]
    fn hazard_119_a_guesser_does_not_lock_out_a_known_neighbour() {
        let (doorman, now) = (Doorman::default(), Instant::now());
        let known = doorman.admit(A, now).unwrap().accepted();
        assert_eq!((0..1000).filter(|_| fail(&doorman, A, now)).count(), 200);
        // 278 guesses a second: a million an hour. Twenty are let through, and so is the neighbour in time.
        let tried =
            (1..=278).filter(|n| fail(&doorman, A, now + Duration::from_millis(n * 1000 / 278))).count();
        assert!((15..=25).contains(&tried), "{tried}");
        drop(known);
    }

    #[test]
    fn half_open_handshakes_of_one_address_are_bounded() {
        let (doorman, now) = (Doorman::default(), Instant::now());
        let held: Vec<_> = (0..MAX_HALF_OPEN).map(|_| doorman.admit(A, now).unwrap()).collect();
        assert!(doorman.admit(A, now).is_none());
        assert!(doorman.admit(B, now).is_some());
        drop(held);
        assert!(doorman.admit(A, now).is_some());
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let (doorman, now) = (Doorman::default(), Instant::now());
        for n in 0..100_000_u32 {
            fail(&doorman, IpAddr::V4(n.into()), now);
        }
        assert!(doorman.0.lock().len() <= MAX_ADDRESSES + 1);
        drop(doorman.admit(B, now + Duration::from_secs(100)));
        assert!(!doorman.0.lock().contains_key(&Prefix::of(B)));
    }

    #[test]
    fn one_ipv6_network_is_one_customer() {
        let of = |text: &str| Prefix::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}

//! How often each may come: a burst, then a steady rate (the generic cell rate algorithm).

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Of each that came of late, when it would have come had it kept to the rate.
#[derive(Debug)]
pub(super) struct Rates<K> {
    due: HashMap<K, Instant>,
    /// Between two at the steady rate. Zero: there is no rate.
    every: Duration,
    /// How far ahead of it one may be.
    ahead: Duration,
    swept: Instant,
}

/// More are not remembered: each has shown that it can be reached under its address, and who has a million of them is not held
/// up by a rate for each.
const MAX_REMEMBERED: usize = 65_536;
/// How often those that have fallen behind their rate are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

impl<K: Eq + Hash> Rates<K> {
    /// `rate` a second, and `burst` at once.
    pub(super) fn new(rate: u32, burst: usize) -> Self {
        let every = Duration::from_secs(1).checked_div(rate).unwrap_or_default();
        let ahead = every.saturating_mul(u32::try_from(burst.saturating_sub(1)).unwrap_or(u32::MAX));
        Self { due: HashMap::new(), every, ahead, swept: Instant::now() }
    }

    /// Whether this one may come now; then it is counted.
    pub(super) fn take(&mut self, key: K, now: Instant) -> bool {
        if self.every.is_zero() {
            return true;
        }
        if now.saturating_duration_since(self.swept) >= SWEEP_EVERY {
            self.swept = now;
            self.due.retain(|_, due| *due > now);
        }
        let due = self.due.get(&key).map_or(now, |due| (*due).max(now));
        if due.saturating_duration_since(now) > self.ahead {
            return false;
        }
        if self.due.len() < MAX_REMEMBERED || self.due.contains_key(&key) {
            self.due.insert(key, due + self.every);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_104_after_a_burst_one_comes_at_its_rate_and_a_neighbour_as_before() {
        let (mut rates, start) = (Rates::new(10, 3), Instant::now());
        let came = |rates: &mut Rates<_>, who, after| rates.take(who, start + Duration::from_millis(after));
        assert!((0..3).all(|_| came(&mut rates, 1, 0)));
        assert!(!came(&mut rates, 1, 0) && !came(&mut rates, 1, 99) && came(&mut rates, 2, 99));
        assert!(came(&mut rates, 1, 100) && !came(&mut rates, 1, 101));
        let within_a_second = (0..1000).filter(|after| came(&mut rates, 1, 200 + after)).count();
        assert_eq!(within_a_second, 10, "what was refused costs nothing");
        assert!((0..3).all(|_| came(&mut rates, 1, 5000)), "who rests may burst again");
        assert!(!came(&mut rates, 1, 5000));
    }

    #[test]
    fn who_rests_is_forgotten_and_the_memory_bounded() {
        let (mut rates, start) = (Rates::new(10, 3), Instant::now());
        for who in 0..100_000 {
            assert!(rates.take(who, start));
        }
        assert_eq!(rates.due.len(), MAX_REMEMBERED);
        assert!(rates.take(1, start + Duration::from_secs(2)));
        assert_eq!(rates.due.len(), 1);
    }

    #[test]
    fn without_a_rate_all_come() {
        let mut rates = Rates::new(0, 1);
        assert!((0..10_000).all(|_| rates.take(1, Instant::now())) && rates.due.is_empty());
    }
}

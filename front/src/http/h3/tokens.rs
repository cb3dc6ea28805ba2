//! Watches the cheap ways to keep an HTTP/3 server busy: frames that carry nothing, streams that say nothing (hazards 73,
//! 94, 95). Useful traffic earns tokens, cheap things spend them. Pure: counts and the time come in.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Tokens {
    left: u64,
    earned_bytes: u64,
    refilled: Instant,
}

/// At the start, and at most.
const MAX: u64 = 2_000;
const PER_SECOND: u64 = 100;
const BYTES_PER_TOKEN: u64 = 512;
/// A request brings a reserved frame, and an empty one.
const PER_REQUEST: u64 = 4;

impl Tokens {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: MAX, earned_bytes: 0, refilled: now }
    }

    pub(super) fn moved(&mut self, bytes: usize) {
        self.earned_bytes += bytes as u64;
        self.left = (self.left + self.earned_bytes / BYTES_PER_TOKEN).min(MAX);
        self.earned_bytes %= BYTES_PER_TOKEN;
    }

    pub(super) fn requested(&mut self) {
        self.left = (self.left + PER_REQUEST).min(MAX);
    }

    /// One cheap thing has come. False: one too many.
    pub(super) fn spend(&mut self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.refilled).as_secs();
        if seconds > 0 {
            self.left = self.left.saturating_add(seconds.saturating_mul(PER_SECOND)).min(MAX);
            self.refilled += Duration::from_secs(seconds);
        }
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_073_what_carries_nothing_is_bounded_and_what_is_useful_is_not() {
        let now = Instant::now();
        let mut tokens = Tokens::new(now);
        assert_eq!((0..).take_while(|_| tokens.spend(now)).count() as u64, MAX);
        assert!(!tokens.spend(now));
        tokens.moved(1024);
        assert!(tokens.spend(now) && tokens.spend(now) && !tokens.spend(now));
        let later = now + Duration::from_secs(1);
        assert_eq!((0..).take_while(|_| tokens.spend(later)).count() as u64, PER_SECOND);
        for _ in 0..10_000 {
            tokens.requested();
            assert!((0..PER_REQUEST).all(|_| tokens.spend(later)));
        }
    }
}

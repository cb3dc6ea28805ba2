//! Delays between attempts: exponential, capped, jittered, reset on success.

use std::time::Duration;

use rand::Rng;

/// The state of one series of attempts.
///
/// Each delay is drawn uniformly between half the base and a ceiling that doubles from the base to the cap.
/// The floor keeps a peer that always refuses from being hammered; the wide draw keeps a crowd of clients that
/// lost the same peer from returning in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    /// The upper end of the next draw; doubles with each one until it is `cap`.
    ceiling: Duration,
}

impl Backoff {
    /// A cap below the base counts as the base.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap: cap.max(base), ceiling: base }
    }

    /// The delay before the next attempt.
    pub fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let delay = rng.random_range(self.base / 2..=self.ceiling);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.cap);
        delay
    }

    /// To be called after a success: the next delay is a short one again.
    pub fn reset(&mut self) {
        self.ceiling = self.base;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};
    use rand::{SeedableRng, rngs::StdRng};

    use super::Backoff;
    use std::time::Duration;

    #[test]
    fn the_ceiling_doubles_to_the_cap_and_returns_on_reset() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let ceilings: Vec<u128> = (0..6)
            .map(|_| {
                let ceiling = backoff.ceiling;
                assert!(backoff.next(&mut rng) <= ceiling);
                ceiling.as_millis()
            })
            .collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert!(backoff.next(&mut rng) <= Duration::from_millis(100));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_delay_lies_between_half_the_base_and_the_cap(seed in any::<u64>(), base in 0u64..5_000, cap in 0u64..60_000) {
            let mut rng = StdRng::seed_from_u64(seed);
            let (base, cap) = (Duration::from_millis(base), Duration::from_millis(cap));
            let mut backoff = Backoff::new(base, cap);
            for _ in 0..80 {
                let delay = backoff.next(&mut rng);
                assert!(delay >= base / 2 && delay <= cap.max(base));
            }
        }
    }
}

//! When a certificate is renewed and when a failed attempt is made again. Pure: clock and chance are arguments, times are
//! Unix seconds.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand::Rng;

use crate::failure::Kind;

/// What decides about one certificate's renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    /// When it came, by our own clock.
    pub(crate) issued_at: i64,
}

/// After this much of its life a certificate is renewed, a little earlier by chance.
const RENEW_AT: (i64, i64) = (2, 3);
const LATEST: (i64, i64) = (5, 6);
/// The most that chance takes off: a twentieth of the life.
const JITTER_PART: i64 = 20;
/// An authority whose advice is always "now" must not keep us ordering for ever.
const CALM: Duration = Duration::from_secs(3600);
/// Certificates are dated back up to an hour, and clocks are off by minutes.
const CLOCK_TOLERANCE: i64 = 300;

/// Between attempts that use nothing up.
const PASSING_BASE: Duration = Duration::from_secs(5);
/// Between attempts that count: 2, 4, 8, 16 minutes keep within the five failures an hour that public authorities allow.
const COSTLY_BASE: Duration = Duration::from_secs(120);
/// Between looks for what people were asked to do: they sit and wait for it. Whoever needs longer is looked after as rarely as
/// all else.
const AWAITED: Duration = Duration::from_secs(3);
const AWAITED_LOOKS: u32 = 600;
/// However long it fails: an hour later it is tried again (hazard 132).
const CAP: Duration = Duration::from_secs(3600);
/// What an authority asks for is believed up to a week: longer is its mistake.
const LONGEST_WAIT: Duration = Duration::from_secs(7 * 86_400);

impl Term {
    fn life(self) -> i64 {
        (self.not_after - self.not_before).max(1)
    }

    fn latest(self) -> i64 {
        self.not_before + self.life() * LATEST.0 / LATEST.1
    }

    /// Whether our clock and the authority's cannot both be right (hazard 164).
    pub(crate) fn contradicts_clock(self) -> bool {
        self.issued_at < self.not_before - CLOCK_TOLERANCE || self.issued_at >= self.not_after
    }

    /// When to renew, by the authority's advice where there is some. A window in the past means at once.
    pub(crate) fn renew_at(self, advice: Option<RangeInclusive<i64>>, rng: &mut impl Rng) -> i64 {
        let at = match advice {
            // Whatever is advised: before it ends there must be time to fail.
            Some(window) if !window.is_empty() => rng.random_range(window).min(self.latest()),
            _ => {
                // By our own clock alone, where the dates say that it is wrong: else we would order for ever, or never.
                let start = if self.contradicts_clock() { self.issued_at } else { self.not_before };
                let whole = start + self.life() * RENEW_AT.0 / RENEW_AT.1;
                whole - rng.random_range(0..=self.life() / JITTER_PART)
            }
        };
        let calm = i64::try_from(CALM.as_secs()).unwrap_or(i64::MAX).min(self.life() / 3);
        at.max(self.issued_at + calm)
    }
}

/// How long to wait after `failures` attempts in a row, this one included.
pub(crate) fn retry_in(failures: u32, kind: Kind, rng: &mut impl Rng) -> Duration {
    let (base, least) = match kind {
        Kind::Awaited if failures <= AWAITED_LOOKS => return AWAITED,
        Kind::Awaited => (CAP, Duration::ZERO),
        Kind::Passing => (PASSING_BASE, Duration::ZERO),
        Kind::Costly => (COSTLY_BASE, Duration::ZERO),
        Kind::NotBefore(wait) => (PASSING_BASE, wait.min(LONGEST_WAIT)),
    };
    let doubled =
        base.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1).min(16)).unwrap_or(u32::MAX));
    let delay = doubled.min(CAP);
    // Never earlier than the step says, so that limits hold; later by up to a quarter, so that crowds spread.
    least + delay + delay.mul_f64(rng.random_range(0.0..0.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn term(life: i64) -> Term {
        Term { not_before: 1_000_000, not_after: 1_000_000 + life, issued_at: 1_000_010 }
    }

    #[test]
    fn a_certificate_of_any_life_is_renewed_at_two_thirds_with_jitter() {
        for life in [60, 6 * DAY, 45 * DAY, 90 * DAY] {
            let term = term(life);
            let (mut least, mut most) = (i64::MAX, 0);
            for _ in 0..500 {
                let at = term.renew_at(None, &mut rand::rng()) - term.not_before;
                (least, most) = (least.min(at), most.max(at));
            }
            assert!(
                most <= life * 2 / 3 && least >= life * 2 / 3 - life / 20 - 1,
                "{life}: {least} to {most}"
            );
            assert!(life < 1000 || most > least, "{life}: there is jitter");
        }
    }

    #[test]
    fn advice_is_followed_and_a_window_in_the_past_means_now_but_not_for_ever() {
        let term = term(90 * DAY);
        let window = term.not_before + 10 * DAY..=term.not_before + 11 * DAY;
        assert!(window.contains(&term.renew_at(Some(window.clone()), &mut rand::rng())));
        let revoked = term.renew_at(Some(0..=1), &mut rand::rng());
        assert_eq!(revoked, term.issued_at + 3600);
        let late = term.renew_at(Some(term.not_after..=term.not_after + DAY), &mut rand::rng());
        assert_eq!(late, term.not_before + 75 * DAY);
        let empty = term.renew_at(Some(RangeInclusive::new(5, 1)), &mut rand::rng());
        assert!(empty > term.not_before + 50 * DAY, "a window without an inside is no advice");
    }

    #[test]
    fn hazard_164_a_wrong_clock_neither_orders_at_once_again_nor_never() {
        let life = 90 * DAY;
        for issued_at in [1_000_000 - 400 * DAY, 1_000_000 + 400 * DAY] {
            let term = Term { issued_at, ..term(life) };
            assert!(term.contradicts_clock());
            let wait = term.renew_at(None, &mut rand::rng()) - issued_at;
            assert!((life / 2..life).contains(&wait), "{wait}");
        }
        assert!(!term(life).contradicts_clock());
    }

    #[test]
    fn hazard_132_attempts_grow_apart_up_to_an_hour() {
        let mut since_first = Duration::ZERO;
        let mut in_an_hour = 1;
        for failures in 1..40 {
            let wait = retry_in(failures, Kind::Costly, &mut rand::rng());
            assert!(wait >= COSTLY_BASE && wait <= CAP.mul_f64(1.25), "{failures}: {wait:?}");
            since_first += wait;
            in_an_hour += u32::from(since_first < CAP);
        }
        assert!(in_an_hour <= 5, "{in_an_hour} failures in the first hour");
        assert!(retry_in(1, Kind::Passing, &mut rand::rng()) < Duration::from_secs(7));
    }

    #[test]
    fn what_a_rate_limit_asks_for_is_waited_for_but_no_longer_than_a_week() {
        let day = Duration::from_secs(86_400);
        let wait = retry_in(1, Kind::NotBefore(day), &mut rand::rng());
        assert!(wait >= day && wait < day + Duration::from_secs(10), "{wait:?}");
        assert!(retry_in(1, Kind::NotBefore(day * 1000), &mut rand::rng()) < LONGEST_WAIT + day);
    }
}

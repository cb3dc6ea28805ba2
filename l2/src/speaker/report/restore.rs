//! How often what somebody else deletes or changes is put back: at once the first time, then ever more slowly, or two
//! programs would write against each other for ever.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tracing::warn;

use super::Reporter;

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// So long without a change, and it was somebody's hand.
const PEACE: Duration = Duration::from_secs(300);
/// In a row: then it is told.
const TOLD: u32 = 4;

/// By object: how often in a row it was put back, and when it may be again.
#[derive(Debug, Default)]
pub(super) struct Restored(BTreeMap<String, Round>);

#[derive(Debug)]
struct Round {
    last: Instant,
    count: u32,
    due: Instant,
    waits: bool,
}

impl Restored {
    /// Whether the object may be put back now; if so, that is noted.
    fn allow(&mut self, name: &str, now: Instant) -> bool {
        self.0.retain(|_, round| now.saturating_duration_since(round.last) < PEACE);
        let fresh = || Round { last: now, count: 0, due: now, waits: false };
        let round = self.0.entry(name.to_owned()).or_insert_with(fresh);
        round.waits = now < round.due;
        if round.waits {
            return false;
        }
        let wait = FIRST_WAIT.saturating_mul(1 << round.count.min(10)).min(LONGEST_WAIT);
        (round.last, round.due) = (now, now + wait);
        round.count = round.count.saturating_add(1);
        if round.count == TOLD {
            warn!(name, "somebody deletes or changes this again and again; it is put back ever more slowly");
        }
        true
    }

    /// It is not there to be put back any more: what comes under its name later is another one.
    pub(super) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// How long until the next of those that were asked for and have to wait. Asked once: one that still waits then is asked
    /// for again, and one that somebody else has put back is not.
    pub(super) fn next(&mut self, now: Instant) -> Option<Duration> {
        let waiting =
            self.0.values_mut().filter_map(|round| std::mem::take(&mut round.waits).then_some(round.due));
        waiting.min().map(|due| due.saturating_duration_since(now))
    }
}

impl Reporter {
    pub(super) fn may_restore(&mut self, name: &str) -> bool {
        self.restored.allow(name, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_at_once_and_then_ever_more_slowly() {
        let (mut restored, start) = (Restored::default(), Instant::now());
        let (mut now, mut count) = (start, 0);
        while now < start + Duration::from_secs(60) {
            count += u32::from(restored.allow("a", now));
            now += Duration::from_millis(30);
        }
        assert!((7..=9).contains(&count), "{count} times in a minute");
        assert!(restored.allow("b", now), "each for itself");
        assert!(!restored.allow("b", now));
        assert_eq!(restored.next(now), Some(FIRST_WAIT));
        assert_eq!(restored.next(now + FIRST_WAIT), None, "nobody asked for it again");
        assert!(restored.allow("a", now + PEACE), "and forgotten in peace");
    }
}

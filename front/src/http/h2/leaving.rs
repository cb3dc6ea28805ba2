//! How a connection leaves that was told to, whether its visitor plays along or not. Pure: the time comes in.
//!
//! h2's graceful end is a first GOAWAY that names no stream, a PING, and a last GOAWAY once that PING comes back. A
//! visitor that never answers it would stay for ever, and go on asking: so there is a time and a number for what may
//! still have been on its way, and after that the end does not wait for it.

use std::time::Duration;

use tokio::time::Instant;

use super::limits::MAX_STREAMS;

/// For the first GOAWAY to arrive and its PING to come back: several round trips of the worst lines.
pub(super) const LEAVING_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a connection that is overdue looks whether its last stream has ended.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Leaving {
    until: Instant,
    /// Streams that came since the first GOAWAY.
    late: u32,
}

impl Leaving {
    pub(super) fn new(now: Instant) -> Self {
        Self { until: now + LEAVING_TIMEOUT, late: 0 }
    }

    /// One more stream has come. False: it must be refused, which is safe to repeat elsewhere.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        self.late = self.late.saturating_add(1);
        now < self.until && self.late <= MAX_STREAMS
    }

    /// Whether the end must not wait for the visitor any more. `idle_since`: when the last stream's task ended, `None`
    /// while one runs. `has_unsent`: h2 holds frames of theirs that the visitor has not taken, which it may for
    /// `write_idle`.
    pub(super) fn is_over(
        &self,
        now: Instant,
        idle_since: Option<Instant>,
        has_unsent: bool,
        write_idle: Duration,
    ) -> bool {
        now >= self.until && idle_since.is_some_and(|since| !has_unsent || now >= since + write_idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE_IDLE: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_on_its_way_is_served_and_nothing_after() {
        let now = Instant::now();
        let mut leaving = Leaving::new(now);
        for _ in 0..MAX_STREAMS {
            assert!(leaving.admits(now));
        }
        assert!(!leaving.admits(now), "more than could be on its way");
        assert!(!Leaving::new(now).admits(now + LEAVING_TIMEOUT));
    }

    #[test]
    fn the_end_waits_for_streams_and_not_for_the_visitor() {
        let now = Instant::now();
        let leaving = Leaving::new(now);
        let late = now + LEAVING_TIMEOUT;
        assert!(!leaving.is_over(now, Some(now), false, WRITE_IDLE), "it may still ask");
        assert!(leaving.is_over(late, Some(now), false, WRITE_IDLE));
        assert!(!leaving.is_over(late, None, true, WRITE_IDLE), "a stream runs");
        assert!(!leaving.is_over(late, Some(late), true, WRITE_IDLE), "its end is on its way");
        assert!(leaving.is_over(late + WRITE_IDLE, Some(late), true, WRITE_IDLE), "the end is not taken");
    }
}

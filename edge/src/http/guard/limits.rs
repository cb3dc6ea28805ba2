//! How long a visitor may take, and the clock that measures it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Times and rates at which a visitor is given up. The defaults are those of hazards 106-109.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the first byte of a head to its end, however the bytes drip.
    pub header: Duration,
    /// Between two requests on a connection.
    pub idle: Duration,
    /// Between two reads of a body.
    pub read_idle: Duration,
    /// Between two writes that the visitor takes.
    pub write_idle: Duration,
    /// Averaged over the time spent waiting for the visitor, once that is longer than `rate_grace`.
    pub min_bytes_per_second: u64,
    pub rate_grace: Duration,
    /// No byte either way after an upgrade.
    pub upgraded_idle: Duration,
    /// A connection older than this (give or take a tenth) is closed after its current requests.
    pub max_age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            read_idle: Duration::from_secs(60),
            write_idle: Duration::from_secs(60),
            min_bytes_per_second: 240,
            rate_grace: Duration::from_secs(10),
            upgraded_idle: Duration::from_secs(600),
            max_age: Duration::from_secs(3600),
        }
    }
}

/// How full the process is with connections.
#[derive(Debug)]
pub(crate) struct Pressure {
    open: AtomicUsize,
    max: usize,
}

/// The idle time above 80 % of all connections (hazard 109).
const IDLE_UNDER_PRESSURE: Duration = Duration::from_secs(5);

impl Pressure {
    pub(crate) fn new(max: usize) -> Self {
        Self { open: AtomicUsize::new(0), max }
    }

    pub(crate) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn idle(&self, limits: &Limits) -> Duration {
        let is_high = self.open.load(Ordering::Relaxed) > self.max / 5 * 4;
        if is_high { limits.idle.min(IDLE_UNDER_PRESSURE) } else { limits.idle }
    }
}

/// Measures one direction of one message: bytes moved, and the time spent waiting for the visitor (time in which we
/// did not want to move anything does not count).
#[derive(Debug, Default)]
pub(crate) struct Meter {
    bytes: u64,
    waited: Duration,
    pending_since: Option<Instant>,
}

impl Meter {
    /// A new message begins.
    pub(crate) fn restart(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn moved(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if let Some(since) = self.pending_since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Since when we wait: from the first call after something moved.
    pub(crate) fn pending_since(&mut self) -> Instant {
        *self.pending_since.get_or_insert_with(Instant::now)
    }

    /// When the visitor has been idle, or slow on average, for too long.
    pub(crate) fn deadline(&mut self, idle: Duration, limits: &Limits) -> Instant {
        let since = self.pending_since();
        let earned =
            Duration::from_secs(self.bytes / limits.min_bytes_per_second.max(1)).max(limits.rate_grace);
        since + idle.min(earned.saturating_sub(self.waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn hazard_107_dripping_is_slow_even_when_it_never_idles() {
        let limits = Limits::default();
        let mut meter = Meter::default();
        for second in 1..=20 {
            let deadline = meter.deadline(limits.read_idle, &limits);
            if deadline <= Instant::now() {
                assert_eq!(second, 11);
                return;
            }
            tokio::time::advance(Duration::from_secs(1)).await;
            meter.moved(10);
        }
        panic!("10 bytes a second went on for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_visitor_is_never_slow_and_a_silent_one_is() {
        let limits = Limits::default();
        let mut meter = Meter::default();
        for _ in 0..100 {
            assert!(meter.deadline(limits.read_idle, &limits) > Instant::now());
            tokio::time::advance(Duration::from_secs(1)).await;
            meter.moved(500);
        }
        meter.moved(10_000_000);
        let now = Instant::now();
        assert_eq!(meter.deadline(limits.read_idle, &limits), now + limits.read_idle);
    }

    #[test]
    fn hazard_109_idle_connections_go_sooner_when_it_is_crowded() {
        let (limits, pressure) = (Limits::default(), Pressure::new(10));
        assert_eq!(pressure.idle(&limits), limits.idle);
        (0..9).for_each(|_| pressure.opened());
        assert_eq!(pressure.idle(&limits), IDLE_UNDER_PRESSURE);
        pressure.closed();
        assert_eq!(pressure.idle(&limits), limits.idle);
    }
}

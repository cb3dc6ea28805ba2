//! How long a visitor may take, whatever HTTP version it speaks, and the clock that measures it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rand::Rng;
use tokio::time::{Instant, Sleep, sleep_until};

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
    /// Averaged over the time spent waiting for the visitor, at most over the idle limit. The connection of an HTTP/2
    /// visitor has to reach it, not each of its streams.
    pub min_bytes_per_second: u64,
    /// What a message that has just begun may take without moving.
    pub rate_grace: Duration,
    /// No byte either way after an upgrade.
    pub upgraded_idle: Duration,
    /// Between two reads of a body that is one side of a conversation: such a one may think.
    pub body_idle: Duration,
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
            body_idle: Duration::from_secs(300),
            max_age: Duration::from_secs(3600),
        }
    }
}

/// Measures one direction of one message: what moved earns time, and time spent waiting for the visitor is paid with it
/// (time in which we did not want to move anything costs nothing).
///
/// What is earned is bounded by the idle limit, so that a quick beginning does not pay for hours of dripping.
#[derive(Debug)]
pub struct Meter {
    idle: Duration,
    min_bytes_per_second: u64,
    /// How long the visitor may still keep us waiting, if nothing moves.
    slack: Duration,
    pending_since: Option<Instant>,
}

impl Meter {
    fn new(idle: Duration, limits: &Limits) -> Self {
        let min_bytes_per_second = limits.min_bytes_per_second.max(1);
        Self { idle, min_bytes_per_second, slack: limits.rate_grace.min(idle), pending_since: None }
    }

    pub fn moved(&mut self, bytes: usize) {
        if let Some(since) = self.pending_since.take() {
            self.slack = self.slack.saturating_sub(since.elapsed());
        }
        let earned = (bytes as u64).saturating_mul(1000) / self.min_bytes_per_second;
        self.slack = self.slack.saturating_add(Duration::from_millis(earned)).min(self.idle);
    }

    /// When the visitor has been idle, or slow on average, for too long. We wait from the first call after something moved.
    pub fn deadline(&mut self) -> Instant {
        *self.pending_since.get_or_insert_with(Instant::now) + self.slack
    }

    /// Since when we wait.
    pub fn pending_since(&mut self) -> Instant {
        *self.pending_since.get_or_insert_with(Instant::now)
    }
}

/// One timer for a deadline that moves. It may be early: then it is moved, so that a busy message touches it rarely.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready when `deadline` has passed.
    pub fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl Limits {
    /// For a body that the visitor sends.
    pub fn reading(&self) -> Meter {
        Meter::new(self.read_idle, self)
    }

    /// For one that it takes.
    pub fn writing(&self) -> Meter {
        Meter::new(self.write_idle, self)
    }

    /// How old one connection may become: give or take a tenth, so that what began together does not end together.
    pub fn lifetime(&self) -> Duration {
        self.max_age.mul_f64(rand::rng().random_range(0.9..1.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many whole seconds a visitor of so many bytes a second is borne, after a beginning of so many bytes.
    async fn borne(first: usize, rate: usize) -> Option<u32> {
        let mut meter = Limits::default().reading();
        meter.moved(first);
        for second in 0..300 {
            let next = Instant::now() + Duration::from_secs(1);
            if meter.deadline() < next {
                return Some(second);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
            meter.moved(rate);
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn hazard_107_dripping_is_slow_even_when_it_never_idles() {
        assert_eq!(borne(0, 10).await, Some(10));
        // A large beginning earns no more than the idle limit.
        assert_eq!(borne(10_000_000, 10).await, Some(62));
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_visitor_is_never_slow_and_a_silent_one_is() {
        assert_eq!(borne(0, 500).await, None);
        let limits = Limits::default();
        let mut meter = limits.reading();
        meter.moved(10_000_000);
        assert_eq!(meter.deadline(), Instant::now() + limits.read_idle);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nothing_was_wanted_does_not_count() {
        let mut meter = Limits::default().reading();
        tokio::time::advance(Duration::from_secs(1000)).await;
        meter.moved(1);
        tokio::time::advance(Duration::from_secs(1000)).await;
        assert!(meter.deadline() > Instant::now() + Duration::from_secs(9));
    }
}

//! How near the process is to the end of its memory, and what it takes on no more: a ladder whose steps each leave room for
//! what is there already (hazard 112). Held memory has a budget of its own; this is for all that no budget counts.
//!
//! ```text
//!   Tight      85 %   idle connections go after seconds, HTTP/1.1 connections end with their answer
//!   Refusing   90 %   new requests are answered 503 at once; who is carried is carried on
//!   Full       95 %   nobody is let in
//! ```

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{MissedTickBehavior, interval};

/// A step of the ladder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    #[default]
    Calm,
    Tight,
    Refusing,
    Full,
}

/// The step that the process stands on. Read with each request, written a few times a second.
#[derive(Debug, Default)]
pub struct Overload(AtomicU8);

/// Envoy's overload manager looks as often.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Step {
    fn of(used: usize, limit: usize) -> Self {
        // In percent, without an overflow on any machine.
        match used / (limit / 100).max(1) {
            95.. => Self::Full,
            90.. => Self::Refusing,
            85.. => Self::Tight,
            _ => Self::Calm,
        }
    }
}

impl Overload {
    pub fn step(&self) -> Step {
        match self.0.load(Ordering::Relaxed) {
            0 => Step::Calm,
            1 => Step::Tight,
            2 => Step::Refusing,
            _ => Step::Full,
        }
    }

    pub fn set(&self, step: Step) {
        self.0.store(step as u8, Ordering::Relaxed);
    }

    /// Looks at the memory in use, for ever.
    pub async fn watch(self: Arc<Self>, limit: usize, metric: Gauge) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(used) = fs::read_to_string("/proc/self/status").ok().and_then(|text| resident(&text))
            else {
                return tracing::debug!("this system does not tell the memory in use");
            };
            let (before, now) = (self.step(), Step::of(used, limit));
            if before == now {
                continue;
            }
            self.set(now);
            metric.set(now as i64);
            let (used_mib, limit_mib) = (used >> 20, limit >> 20);
            if now > before {
                tracing::warn!(step = ?now, used_mib, limit_mib,
                    "memory runs out: new visitors are turned away until there is some again; see limits.memoryBytes");
            } else {
                tracing::info!(step = ?now, used_mib, limit_mib, "there is memory again");
            }
        }
    }
}

/// `VmRSS` of /proc/self/status, in bytes.
fn resident(status: &str) -> Option<usize> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_112_each_step_has_its_part_of_the_memory() {
        let steps = [0, 84, 85, 89, 90, 94, 95, 300].map(|percent| Step::of(percent << 20, 100 << 20));
        use Step::{Calm, Full, Refusing, Tight};
        assert_eq!(steps, [Calm, Calm, Tight, Tight, Refusing, Refusing, Full, Full]);
        assert_eq!(Step::of(usize::MAX, usize::MAX), Full);
        assert_eq!(Step::of(1, 0), Calm);
        let overload = Overload::default();
        for step in [Calm, Tight, Refusing, Full] {
            overload.set(step);
            assert_eq!(overload.step(), step);
        }
    }

    #[test]
    fn the_memory_in_use_is_read_from_the_kernels_words() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   20480 kB\n"), Some(20 << 20));
        assert_eq!(resident("Name:\tx\n"), None);
    }
}

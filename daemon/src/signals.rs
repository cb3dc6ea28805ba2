//! The signals that a long-running process obeys: as a stream of intents, and as the way from the running process to its
//! end, which is the same for every program.

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{self, SignalKind};

use crate::drain::{Drain, Finished};

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT. The first asks for a drain; on the second the process ends at once.
    Stop,
    /// SIGHUP: read the configuration again. A storm of them counts once until it is taken.
    Reload,
}

/// What the log says of a stop as it begins.
#[derive(Clone, Copy, Debug)]
pub struct Stopping {
    pub grace: Duration,
    /// What waits to be finished, as the program counts it.
    pub in_flight: u64,
}

/// The installed handlers. From [`Signals::install`] on, the signals no longer end the process by themselves.
#[derive(Debug)]
pub struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hang_up: unix::Signal,
}

impl Signals {
    /// # Errors
    /// When the operating system refuses a handler.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            hang_up: unix::signal(SignalKind::hangup())?,
        })
    }

    /// The next intent; a stop goes before a reload. Cancel safe.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }

    /// Waits until a signal or somebody who started `drain` asks for the end; until then, reloads. Cancel safe.
    pub async fn until_stop(&mut self, drain: &Drain, mut reload: impl FnMut()) {
        loop {
            let signal = tokio::select! {
                signal = self.next() => signal,
                () = drain.draining() => Signal::Stop,
            };
            match signal {
                Signal::Reload => reload(),
                Signal::Stop => break,
            }
        }
    }

    /// Awaits `stop`, the process's own stop in stages, which a second signal cuts short by forcing `drain`.
    pub async fn until_stopped(
        &mut self,
        drain: &Drain,
        stopping: Stopping,
        stop: impl Future<Output = Finished>,
    ) -> Finished {
        let Stopping { grace, in_flight } = stopping;
        tracing::info!(
            grace_seconds = grace.as_secs(),
            in_flight,
            "stopping; a second signal ends it at once"
        );
        let again = async {
            while self.next().await != Signal::Stop {}
            tracing::warn!("second signal: ending at once");
            drain.force();
            pending().await
        };
        tokio::select! {
            finished = stop => finished,
            finished = again => finished,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;
    use std::process::Command;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::{Signal, Signals, Stopping};
    use crate::drain::{Drain, Finished};

    /// One test for all: signals reach the whole process, and so every test in it.
    #[tokio::test]
    async fn hazard_169_stops_count_each_and_hang_ups_coalesce() {
        let mut signals = Signals::install().unwrap();
        for _ in 0..50 {
            send("HUP");
        }
        assert_eq!(signals.next().await, Signal::Reload);
        // Whatever of the storm had not been delivered yet comes as few more, not as fifty.
        let mut more = 0;
        while timeout(Duration::from_millis(100), signals.next()).await.is_ok() {
            more += 1;
        }
        assert!(more <= 2, "{more} reloads after the first");

        for name in ["TERM", "INT"] {
            send(name);
            assert_eq!(timeout(Duration::from_secs(5), signals.next()).await.unwrap(), Signal::Stop);
        }
        timeout(Duration::from_secs(10), one_reloads_one_stops_and_one_forces(&mut signals)).await.unwrap();
    }

    async fn one_reloads_one_stops_and_one_forces(signals: &mut Signals) {
        let drain = Drain::new();
        drain.spawn("stuck", pending::<()>());
        let reloads = Cell::new(0);
        send("HUP");
        let reloaded = || {
            reloads.set(reloads.get() + 1);
            send("TERM");
        };
        signals.until_stop(&drain, reloaded).await;
        assert!(reloads.get() > 0 && !drain.is_draining());

        let grace = Duration::from_secs(3600);
        let stop = async {
            send("HUP");
            send("INT");
            drain.finish(grace).await
        };
        let finished = signals.until_stopped(&drain, Stopping { grace, in_flight: 1 }, stop).await;
        assert_eq!(finished, Finished::Forced);

        // Who starts the drain asks for the end as well.
        signals.until_stop(&drain, || ()).await;
    }

    fn send(name: &str) {
        let pid = std::process::id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

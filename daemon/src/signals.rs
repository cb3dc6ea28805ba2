//! The signals that a long-running process obeys, as a stream of intents.

use std::io;

use tokio::signal::unix::{self, SignalKind};

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT. The first asks for a drain; on the second the process ends at once.
    Stop,
    /// SIGHUP: read the configuration again. A storm of them counts once until it is taken.
    Reload,
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
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::{Signal, Signals};

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
    }

    fn send(name: &str) {
        let pid = std::process::id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

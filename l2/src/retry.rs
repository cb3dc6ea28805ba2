//! How soon a watch that failed is tried again: sooner than kube's own half minute, for a Service that comes while the
//! API server returns should not wait for its address longer than for the API server.

use std::time::Duration;

use causeway_daemon::backoff::Backoff;

const SOONEST: Duration = Duration::from_millis(500);
const LATEST: Duration = Duration::from_secs(5);

/// For `WatchStreamExt::backoff`; begins anew with the first event that arrives.
#[derive(Debug)]
pub(crate) struct Retry(Backoff);

impl Default for Retry {
    fn default() -> Self {
        Self(Backoff::new(SOONEST, LATEST))
    }
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0.next(&mut rand::rng()))
    }
}

impl kube::runtime::utils::Backoff for Retry {
    fn reset(&mut self) {
        self.0.reset();
    }
}

//! What the edge makes of a session that falls silent: it is suspected and probed, heard again or given up.
//!
//! Who chooses a session asks [`Session::is_suspected`](causeway_front::session::Session::is_suspected); requests that wait on one go
//! elsewhere by themselves ([`crate::forward`]).

use causeway_tunnel::limits::SUCCESSION;
use causeway_tunnel::{Closed, Sign};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::registry::Live;
use crate::shard::Shard;

/// Watches over a session for as long as it is polled; returns when the session is to be given up for another one. What is to
/// be asked of the connector is `probe`'s to say.
pub(crate) async fn watch(shard: &Shard, live: &Live, probe: &Notify) -> &'static str {
    let info = live.session.info();
    let mut watch = live.session.watch();
    // Only held.
    let mut _suspicion = None;
    // Since when another session of the same connector is heard while this one is not.
    let mut succeeded: Option<Instant> = None;
    loop {
        match watch.next().await {
            Sign::Suspected => {
                tracing::info!(session = %info.id, tunnel = info.tunnel_name, remote = %info.remote,
                    "nothing is heard of a session: suspected");
                _suspicion = Some(Suspicion::new(shard.registry.metrics(), &info.tunnel_name));
                shard.registry.doubt_others(live);
            }
            Sign::Silent => {
                let is_open = shard.registry.has_successor(live);
                succeeded = is_open.then(|| succeeded.unwrap_or_else(Instant::now));
                if succeeded.is_some_and(|since| since.elapsed() >= SUCCESSION) {
                    shard.registry.metrics().given_up("successor");
                    return "it was silent, and another session of its connector is up";
                }
            }
            Sign::Doubted | Sign::Settling => {}
            Sign::Heard => {
                (_suspicion, succeeded) = (None, None);
                tracing::info!(session = %info.id, tunnel = info.tunnel_name, "a session is heard again");
            }
        }
        watch.allow_probe();
        probe.notify_one();
    }
}

/// Takes account of a session that its carrier gave up.
pub(crate) fn ended(metrics: &Metrics, closed: &Closed) {
    match closed {
        Closed::Silent => metrics.given_up("silence"),
        Closed::Forgotten => metrics.given_up("reset"),
        Closed::ByPeer(..) | Closed::ByUs | Closed::Broken(_) => {}
    }
}

/// Counts a session that is suspected, until it is not or has ended.
struct Suspicion<'a> {
    metrics: &'a Metrics,
    tunnel: &'a str,
}

impl<'a> Suspicion<'a> {
    fn new(metrics: &'a Metrics, tunnel: &'a str) -> Self {
        metrics.suspected(tunnel);
        Self { metrics, tunnel }
    }
}

impl Drop for Suspicion<'_> {
    fn drop(&mut self) {
        self.metrics.suspected_no_more(self.tunnel);
    }
}

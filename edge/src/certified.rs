//! Which names can be served over HTTPS: those that a certificate is good for. What is announced without one is said,
//! once a name, and again when it was mended and broke anew; certificates that change are followed.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::issuing::Issuing;
use crate::registry::Registry;
use crate::route::Pattern;
use causeway_front::tls::Tls;

/// Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Certified {
    /// None: there is no HTTPS listener, so nothing needs a certificate.
    tls: Option<Arc<Tls>>,
    issuing: Issuing,
}

/// The names of announced rules are looked through this often.
const PATROL_INTERVAL: Duration = Duration::from_secs(2);
/// A line of the log names this many; `status` has them all.
const LISTED: usize = 10;

impl Certified {
    pub(crate) fn by(tls: Arc<Tls>) -> Self {
        Self { tls: Some(tls), issuing: Issuing::default() }
    }

    /// Leaves those names alone that get a certificate by themselves.
    pub(crate) fn with(self, issuing: Issuing) -> Self {
        Self { issuing, ..self }
    }

    /// Whether a visitor can shake hands for this name; of a wildcard, for one of its names at least.
    pub(crate) fn covers(&self, pattern: &Pattern) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.covers(pattern))
    }

    /// The names that files are good for, and when those end, in Unix seconds.
    pub(crate) fn files(&self) -> BTreeMap<String, i64> {
        self.tls.as_ref().map(|tls| tls.ends_of_files()).unwrap_or_default()
    }

    /// Warns of names as they come without a certificate, for ever.
    pub(crate) async fn patrol(self, registry: Arc<Registry>) {
        let mut known = HashSet::new();
        let mut ticks = interval(PATROL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut bare = HashSet::new();
            for tunnel in registry.tunnels() {
                let names = tunnel
                    .announced()
                    .into_iter()
                    .filter(|name| !self.covers(name) && !self.issuing.cares_for(name));
                let names: HashSet<_> = names.map(|name| (tunnel.id, name)).collect();
                let mut new: Vec<String> =
                    names.difference(&known).map(|(_, name)| name.to_string()).collect();
                bare.extend(names);
                if new.is_empty() {
                    continue;
                }
                new.sort_unstable();
                let more = new.len().saturating_sub(LISTED);
                new.truncate(LISTED);
                tracing::warn!(tunnel = %tunnel.name, hostnames = new.join(", "), more,
                    "not servable: no certificate for these names; HTTPS visitors are turned away. Add one under \
                     `certificates` (a wildcard in it stands for one label), or prove a wildcard in DNS (`cert add NAME --persist`)");
            }
            known = bare;
        }
    }
}

impl fmt::Debug for Certified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certified").field("is_needed", &self.tls.is_some()).finish()
    }
}

//! Automatic certificates: which names the edge orders them for, and the manager that supplies them.
//!
//! ```text
//!   registry (who announces what, within its grants) ─→ names wanted ─→ causeway_acme ─→ tls::Issued, store
//! ```
//! A name that nobody was granted is never ordered, nor one that files of the configuration are good for.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use causeway_acme::{Answers, Challenge, Handle, IsAllowed, Manager, Settings, Shelf, StorageError};
use causeway_daemon::drain::Drain;
use causeway_tunnel::Host;
use tokio::time::{MissedTickBehavior, interval};

use crate::registry::Registry;
use crate::route::Pattern;
use crate::store::Store;
use causeway_front::tls::Tls;

/// What others need of it; empty where certificates are not ordered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Issuing {
    handle: Option<Handle>,
}

/// What runs: the manager, and who tells it what is wanted.
pub(crate) struct Desk {
    manager: Manager,
    handle: Handle,
    has_dns: bool,
}

/// Names follow announcements at once; this is for what else changes: files, sessions that end.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

impl Issuing {
    /// Takes up what the store keeps; visitors are served with it from now on.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn open(
        settings: Option<Settings>,
        store: &Store,
        registry: &Arc<Registry>,
        tls: &Tls,
        answers: Answers,
    ) -> Result<(Self, Option<Desk>), StorageError> {
        let Some(settings) = settings else { return Ok((Self::default(), None)) };
        let has_dns = settings.challenges.contains(&Challenge::Dns01) && settings.dns.is_some();
        let granted = Arc::clone(registry);
        let is_allowed: IsAllowed = Arc::new(move |name| {
            Pattern::parse(name).is_ok_and(|pattern| granted.is_granted_whole(&pattern))
        });
        let shelf: Arc<dyn Shelf> = tls.issued();
        let (manager, handle) =
            Manager::load(settings, Arc::new(store.clone()), shelf, answers, is_allowed).await?;
        Ok((Self { handle: Some(handle.clone()) }, Some(Desk { manager, handle, has_dns })))
    }

    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.handle.as_ref()
    }

    /// Whether a certificate for this name is somebody's care already: under way, or failing with its reason in the log.
    pub(crate) fn cares_for(&self, pattern: &Pattern) -> bool {
        self.handle.as_ref().is_some_and(|handle| handle.view(&pattern.to_string()).is_some())
    }
}

impl Desk {
    pub(crate) fn run(self, registry: Arc<Registry>, tls: Arc<Tls>, drain: &Drain) {
        let Self { manager, handle, has_dns } = self;
        let stopping = drain.clone();
        // Once it stops another process may order.
        let orders = async move {
            tokio::select! {
                () = stopping.draining() => {}
                () = manager.run() => {}
            }
        };
        drop(drain.spawn_service("certificate orders", orders));
        drop(drain.spawn_service("names to order for", follow(handle, registry, tls, has_dns)));
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("manager", &self.manager).finish_non_exhaustive()
    }
}

/// Tells the manager which names are announced, for ever.
async fn follow(handle: Handle, registry: Arc<Registry>, tls: Arc<Tls>, has_dns: bool) {
    let mut changes = registry.changes();
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let patterns = registry.tunnels().into_iter().flat_map(|tunnel| tunnel.announced());
        let free = patterns.filter(|pattern| !tls.files_cover(pattern));
        handle.want(
            free.filter_map(|pattern| orderable(&pattern, &registry, has_dns)).collect::<BTreeSet<_>>(),
        );
        tokio::select! {
            _ = ticks.tick() => {}
            _ = changes.changed() => {}
        }
    }
}

/// The name to order, if one can be.
fn orderable(pattern: &Pattern, registry: &Registry, has_dns: bool) -> Option<String> {
    match pattern {
        Pattern::Any => None,
        Pattern::Wildcard(_) => has_dns.then(|| pattern.to_string()),
        Pattern::Exact(name) => {
            let host = Host::name(name).ok()?;
            // Its site has certificates of its own.
            registry.end_of(&host).is_edge().then(|| name.to_string())
        }
    }
}

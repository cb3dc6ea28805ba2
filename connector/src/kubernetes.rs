//! Discovery: the Services of a cluster become rules, for as long as they are there.
//!
//! ```text
//! access (kubeconfig, or the pod's account) → api → watch ─► Cluster ─► Discovery ─► reload
//!                                                       kept │ ▲            merge ← claims ← annotations
//!                                                            ▼ │
//!                                                      data/kubernetes.json
//! ```
//! Whatever the API server does, the last known Services stay in force.

mod access;
mod annotations;
mod api;
mod claims;
mod kept;
mod kubeconfig;
mod merge;
mod object;
mod source;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch as told};
use tokio::time::{Instant, sleep_until, timeout};

pub(crate) use access::AccessError;
use annotations::{Loopback, Names, Reading};
use api::ApiError;
use kept::Kept;
use object::{Key, Service};
use source::Source;
use watch::{Change, Watcher};

use crate::config::Config;

/// What the command line says.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// None: this is a pod.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// None: all.
    pub(crate) namespace: Option<String>,
    pub(crate) external_dns: bool,
}

/// The cluster, followed.
pub(crate) struct Cluster {
    watcher: Watcher,
    notes: Notes,
}

/// What is known, and who is told.
struct Notes {
    services: BTreeMap<Key, Service>,
    kept: Option<Kept>,
    tell: told::Sender<Known>,
    discovery: Discovery,
}

/// What is known of the cluster, for whoever makes rules of it. Clones are of the same.
#[derive(Clone, Debug)]
pub(crate) struct Discovery {
    /// The API server, and the namespace if it is one.
    pub(crate) place: Arc<str>,
    services: told::Receiver<Known>,
    reading: Reading,
    /// Why nothing comes from the API server, while that is so.
    trouble: Arc<Mutex<Option<String>>>,
}

/// All Services that say something to us. None: nobody has told us yet.
type Known = Option<Arc<[Service]>>;

/// How long a start waits for the API server before it goes on with what was kept: a connector that has just started should not
/// answer 404 for what it will know in a moment.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// Changes that come together are one.
const SETTLE: Duration = Duration::from_millis(100);
/// The watcher waits when nobody takes its changes.
const QUEUE: usize = 64;

impl Cluster {
    /// Reads what was kept, and looks at the API server once.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used; that the API server is away is no error.
    pub(crate) async fn begin(options: Options, data: Option<&Path>) -> Result<Self, AccessError> {
        let Options { kubeconfig, namespace, external_dns } = options;
        let source = Source::find(kubeconfig.as_deref())?;
        let server = source.read()?.server;
        let loopback = if server.is_loopback() { Loopback::Allow } else { Loopback::Refuse };
        let names = if external_dns { Names::WithExternalDns } else { Names::Ours };
        let place: Arc<str> = match &namespace {
            Some(namespace) => format!("{}, namespace {namespace}", server.shown()).into(),
            None => server.shown().into(),
        };
        let kept = match data.map(|data| Kept::open(data, place.to_string())).transpose() {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!("{error}");
                None
            }
        };
        if data.is_none() {
            tracing::warn!(
                "the rules that are found in the cluster are not kept over a restart: name a folder for them with --data"
            );
        }
        let tell = told::Sender::new(None);
        let trouble = Arc::default();
        let discovery =
            Discovery { place, services: tell.subscribe(), reading: Reading { names, loopback }, trouble };
        let mut watcher = Watcher::new(source, namespace);
        let mut notes = Notes { services: BTreeMap::new(), kept, tell, discovery };
        match timeout(FIRST_LOOK, watcher.list()).await {
            Ok(Ok(all)) => {
                notes.replace(all);
                notes.publish().await;
            }
            Ok(Err(error)) => notes.go_on_without(&error),
            Err(_) => notes.go_on_without(&ApiError::Silent { server: server.shown(), limit: FIRST_LOOK }),
        }
        Ok(Self { watcher, notes })
    }

    /// What is known so far is no news to it.
    pub(crate) fn discovery(&self) -> Discovery {
        let mut discovery = self.notes.discovery.clone();
        discovery.services.mark_unchanged();
        discovery
    }

    /// Follows for ever.
    pub(crate) async fn run(self) {
        let Self { watcher, mut notes } = self;
        let (changes, mut changed) = mpsc::channel(QUEUE);
        let keeping = async {
            let mut due = None;
            loop {
                tokio::select! {
                    change = changed.recv() => match change {
                        Some(change) => if notes.take(change) {
                            due.get_or_insert_with(|| Instant::now() + SETTLE);
                        },
                        None => return,
                    },
                    () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                        due = None;
                        notes.publish().await;
                    }
                }
            }
        };
        tokio::select! {
            () = watcher.run(changes) => {}
            () = keeping => {}
        }
    }
}

impl Notes {
    /// Whether there may be something to publish.
    fn take(&mut self, change: Change) -> bool {
        match change {
            Change::All(all) => self.replace(all),
            Change::Seen(service) => drop(self.services.insert(service.key(), service)),
            Change::Gone(key) => return self.services.remove(&key).is_some(),
            Change::Lost(error) => {
                self.lost(&error);
                return false;
            }
            Change::Reached => {
                if self.discovery.trouble.lock().take().is_some() {
                    tracing::info!(cluster = %self.discovery.place, "the cluster is followed again");
                }
                return false;
            }
        }
        true
    }

    fn replace(&mut self, all: Vec<Service>) {
        self.services = all.into_iter().map(|service| (service.key(), service)).collect();
    }

    /// Goes on with what was kept.
    fn go_on_without(&mut self, error: &ApiError) {
        if let Some(all) = self.kept.as_ref().and_then(Kept::load) {
            tracing::info!(services = all.len(), "going on with the Services that were kept");
            self.replace(all);
            self.tell.send_replace(Some(self.services.values().cloned().collect()));
        }
        self.lost(error);
    }

    /// Told once an outage, and when it turns out that somebody has to do something; what repeats is for those who debug.
    fn lost(&self, error: &ApiError) {
        let before = self.discovery.trouble.lock().replace(error.to_string());
        if before.is_none() || (error.wants_somebody() && before != Some(error.to_string())) {
            tracing::warn!(
                "the cluster is not followed: {error}; the last known rules stay in force, and it is tried again"
            );
        } else {
            tracing::debug!("the cluster is still not followed: {error}");
        }
    }

    /// Hands on what has changed, and keeps it.
    async fn publish(&mut self) {
        let now: Arc<[Service]> = self.services.values().cloned().collect();
        if self.tell.borrow().as_ref().is_some_and(|before| **before == *now) {
            return;
        }
        self.tell.send_replace(Some(Arc::clone(&now)));
        let Some(kept) = self.kept.clone() else { return };
        let stored = tokio::task::spawn_blocking(move || kept.store(&now)).await;
        if let Err(error) = stored.unwrap_or_else(|error| Err(error.to_string())) {
            tracing::error!("{error}");
        }
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("place", &self.notes.discovery.place).finish_non_exhaustive()
    }
}

impl Discovery {
    /// What is in force now: the file's rules, and those of Services where the file has none.
    pub(crate) fn over(&self, base: &Config) -> Config {
        let services = self.services.borrow().clone();
        merge::over(base, services.as_deref(), self.reading)
    }

    /// Waits until there is something new; for ever when nobody follows the cluster any more. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        if self.services.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }
}

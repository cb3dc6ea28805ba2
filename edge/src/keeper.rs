//! Keeps store and registry in step: carries changes of the store into the registry within a second, and what the
//! sessions have to say into the store.
//!
//! The store may be gone for a while (full disk, locked file): the edge runs on with what it knew, and says so once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use causeway_tunnel::TunnelId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, interval};

use crate::declared::Declared;
use crate::registry::Registry;
use crate::store::{AuditEntry, Store, StoreError};
use crate::unix_now;

/// A revoked tunnel's sessions are cut within this time and a little.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// When a tunnel was last there is written at most so often.
const SEEN_INTERVAL: Duration = Duration::from_secs(60);
/// Refused names are worth a line in the audit log, not a full disk.
const AUDIT_PER_MINUTE: u32 = 60;
/// Entries of the audit log among which the last ones of declared tunnels are looked for. Beyond it one is written again.
const AUDIT_READ: u32 = 10_000;
/// What sessions may have to say at once; beyond it the news is dropped, since it is in the log too.
const NOTES: usize = 256;

/// News for the store.
#[derive(Debug)]
pub(crate) enum Note {
    /// The tunnel has, or just had, a session.
    Seen(TunnelId),
    /// A connector announced what its tunnel may not serve (hazard 123).
    Refused { tunnel: String, detail: String },
    /// What edge.yaml declares now.
    Declared(Declared),
}

/// Asks the keeper to look at the store now; resolves when it did.
pub(crate) type Refresh = oneshot::Sender<Result<(), String>>;

pub(crate) struct Keeper {
    store: Store,
    registry: Arc<Registry>,
    notes: mpsc::Receiver<Note>,
    refreshes: mpsc::Receiver<Refresh>,
    revision: i64,
    /// Set while the store fails, so that it is said once.
    trouble: watch::Sender<Option<String>>,
    seen: HashSet<TunnelId>,
    seen_written: Instant,
    audited: u32,
    audit_window: Instant,
}

#[derive(Clone, Debug)]
pub(crate) struct KeeperHandle {
    pub(crate) notes: mpsc::Sender<Note>,
    pub(crate) refreshes: mpsc::Sender<Refresh>,
    /// Why the store does not work now.
    pub(crate) trouble: watch::Receiver<Option<String>>,
}

impl KeeperHandle {
    /// Dropped when the keeper is behind, since it is in the log too.
    pub(crate) fn note(&self, note: Note) {
        let _ = self.notes.try_send(note);
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }
}

impl Keeper {
    /// # Errors
    /// When the store cannot be read: at start that is the operator's business.
    pub(crate) async fn new(
        store: Store,
        registry: Arc<Registry>,
    ) -> Result<(Self, KeeperHandle), StoreError> {
        let (notes, notes_from) = mpsc::channel(NOTES);
        let (refreshes, refreshes_from) = mpsc::channel(8);
        let (trouble, trouble_from) = watch::channel(None);
        let now = Instant::now();
        let mut keeper = Self {
            store,
            registry,
            notes: notes_from,
            refreshes: refreshes_from,
            revision: 0,
            trouble,
            seen: HashSet::new(),
            seen_written: now,
            audited: 0,
            audit_window: now,
        };
        keeper.refresh().await?;
        Ok((keeper, KeeperHandle { notes, refreshes, trouble: trouble_from }))
    }

    /// Runs until it is dropped: a service.
    pub(crate) async fn run(mut self) {
        let mut tick = interval(POLL_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Each arm waits on a channel or a clock: nothing is lost when another is taken.
            tokio::select! {
                biased;
                Some(done) = self.refreshes.recv() => {
                    let result = self.refresh().await;
                    let _ = done.send(result.as_ref().map_err(ToString::to_string).copied());
                    self.report(result);
                }
                _ = tick.tick() => {
                    let result = self.refresh().await;
                    self.report(result);
                    self.registry.expire(unix_now());
                    self.write_seen().await;
                }
                Some(note) = self.notes.recv() => self.take(note).await,
            }
        }
    }

    async fn refresh(&mut self) -> Result<(), StoreError> {
        let revision = self.store.revision().await?;
        if revision != self.revision {
            let tunnels = self.store.tunnels().await?;
            self.registry.apply(tunnels, unix_now());
            self.revision = revision;
        }
        Ok(())
    }

    async fn take(&mut self, note: Note) {
        match note {
            Note::Seen(tunnel) => {
                // The first sight is written at once: `status` tells a tunnel that never came from one that is down.
                if self.seen.insert(tunnel) {
                    let result = self.store.seen(tunnel, unix_now()).await;
                    self.report(result);
                }
            }
            Note::Declared(declared) => {
                let result = self.audit_declared(&declared).await;
                self.report(result);
            }
            Note::Refused { tunnel, detail } => {
                if self.audit_window.elapsed() > SEEN_INTERVAL {
                    (self.audited, self.audit_window) = (0, Instant::now());
                }
                self.audited += 1;
                if self.audited > AUDIT_PER_MINUTE {
                    return;
                }
                let entry = AuditEntry {
                    at: unix_now(),
                    actor: "edge".to_owned(),
                    action: "refuse_name".to_owned(),
                    tunnel,
                    detail,
                };
                let result = self.store.audit(&entry).await;
                self.report(result);
            }
        }
    }

    /// Writes down what edge.yaml declares in another way than the audit log last said.
    async fn audit_declared(&mut self, declared: &Declared) -> Result<(), StoreError> {
        let log = self.store.audit_log(AUDIT_READ).await?;
        for (tunnel, action, detail) in declared.news(&log) {
            let (at, actor) = (unix_now(), "edge.yaml".to_owned());
            self.store.audit(&AuditEntry { at, actor, action: action.to_owned(), tunnel, detail }).await?;
        }
        Ok(())
    }

    async fn write_seen(&mut self) {
        if self.seen_written.elapsed() < SEEN_INTERVAL {
            return;
        }
        self.seen_written = Instant::now();
        self.seen.clear();
        for tunnel in self.registry.tunnels() {
            if !tunnel.connectors.load().is_empty() {
                self.seen.insert(tunnel.id);
                let result = self.store.seen(tunnel.id, unix_now()).await;
                self.report(result);
            }
        }
    }

    fn report(&mut self, result: Result<(), StoreError>) {
        let was_failing = self.trouble.borrow().is_some();
        match result {
            Ok(()) if was_failing => {
                self.trouble.send_replace(None);
                tracing::info!("the store works again");
            }
            Ok(()) => {}
            Err(error) => {
                self.registry.metrics().store_errors.inc();
                if !was_failing {
                    let cause =
                        std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    tracing::error!(cause, "{error}; the edge runs on with the tunnels it knows");
                    self.trouble.send_replace(Some(error.to_string()));
                }
            }
        }
    }
}

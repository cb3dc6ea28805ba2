//! Writes to the storage that are tried until they succeed: a full disk must cost no certificate (hazard 166). The latest of
//! a kind and name stands for all before it, so what waits is bounded by the names.

use std::collections::BTreeMap;
use std::sync::Arc;

use causeway_daemon::config::Secret;

use crate::certificate::Certificate;
use crate::storage::{NameRecord, Storage};

#[derive(Debug)]
pub(crate) struct Ledger {
    storage: Arc<dyn Storage>,
    waiting: BTreeMap<(Kind, String), Write>,
    /// Set while the storage fails, so that it is said once.
    is_failing: bool,
    /// How many were noted so far.
    count: u64,
}

/// In the order in which they are written: a name is forgotten before it is kept anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Removal,
    Account,
    Certificate,
    Name,
    /// Last: who claims the order next reads what came of this one.
    Release,
}

#[derive(Debug)]
enum Write {
    Account(Secret),
    Certificate(Arc<Certificate>),
    Name(NameRecord),
    Removal,
    Release,
}

impl Ledger {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, waiting: BTreeMap::new(), is_failing: false, count: 0 }
    }

    pub(crate) fn account(&mut self, directory: &str, credentials: Secret) {
        self.note(Kind::Account, directory, Write::Account(credentials));
    }

    pub(crate) fn certificate(&mut self, certificate: Arc<Certificate>) {
        let name = certificate.name.clone();
        self.note(Kind::Certificate, &name, Write::Certificate(certificate));
    }

    pub(crate) fn name(&mut self, record: NameRecord) {
        let name = record.name.clone();
        self.note(Kind::Name, &name, Write::Name(record));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        for kind in [Kind::Certificate, Kind::Name] {
            self.waiting.remove(&(kind, name.to_owned()));
        }
        self.note(Kind::Removal, name, Write::Removal);
    }

    /// Gives an order's claim back, once all that came of it is written. Nothing where nobody else could claim it.
    pub(crate) fn release(&mut self, name: &str) {
        if self.storage.shared().is_some() {
            self.note(Kind::Release, name, Write::Release);
        }
    }

    /// Whether nothing was noted since the count was this, and all is written.
    pub(crate) fn is_still(&self, count: u64) -> bool {
        self.waiting.is_empty() && self.count == count
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    fn note(&mut self, kind: Kind, name: &str, write: Write) {
        self.count += 1;
        self.waiting.insert((kind, name.to_owned()), write);
    }

    pub(crate) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes what waits, to the first that fails.
    pub(crate) async fn write(&mut self) {
        while let Some(((kind, name), write)) = self.waiting.pop_first() {
            let written = match &write {
                Write::Account(credentials) => self.storage.put_account(&name, credentials).await,
                Write::Certificate(certificate) => self.storage.put_certificate(certificate).await,
                Write::Name(record) => self.storage.put_name(record).await,
                Write::Removal => self.storage.remove(&name).await,
                Write::Release => match self.storage.shared() {
                    Some(shared) => shared.release(&name).await,
                    None => Ok(()),
                },
            };
            let Err(error) = written else { continue };
            self.waiting.insert((kind, name), write);
            if !std::mem::replace(&mut self.is_failing, true) {
                tracing::error!("{error}; certificates are served from memory and written later");
            }
            return;
        }
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("certificates can be written again");
        }
    }
}

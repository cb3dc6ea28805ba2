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
}

/// In the order in which they are written: a name is forgotten before it is kept anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Removal,
    Account,
    Certificate,
    Name,
}

#[derive(Debug)]
enum Write {
    Account(Secret),
    Certificate(Arc<Certificate>),
    Name(NameRecord),
    Removal,
}

impl Ledger {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, waiting: BTreeMap::new(), is_failing: false }
    }

    pub(crate) fn account(&mut self, directory: &str, credentials: Secret) {
        self.waiting.insert((Kind::Account, directory.to_owned()), Write::Account(credentials));
    }

    pub(crate) fn certificate(&mut self, certificate: Arc<Certificate>) {
        let name = certificate.name.clone();
        self.waiting.insert((Kind::Certificate, name), Write::Certificate(certificate));
    }

    pub(crate) fn name(&mut self, record: NameRecord) {
        self.waiting.insert((Kind::Name, record.name.clone()), Write::Name(record));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        for kind in [Kind::Certificate, Kind::Name] {
            self.waiting.remove(&(kind, name.to_owned()));
        }
        self.waiting.insert((Kind::Removal, name.to_owned()), Write::Removal);
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

//! What other programs do with a storage that all of them share: each takes up what another got, and nothing is ordered twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::sleep;

use super::{Done, Manager};
use crate::certificate::Certificate;
use crate::entry::Entry;
use crate::storage::{Contents, LOOK_INTERVAL, Posted, Storage, StorageError};
use crate::unix_now;

/// What a look at the storage found.
pub(super) struct News {
    revision: i64,
    posted: Vec<Posted>,
    /// None: nothing changed.
    contents: Option<Contents>,
}

/// Until it is seen whether another program's order is over, in seconds: by then its outcome was looked at.
const ELSEWHERE_PAUSE: i64 = 5;

impl Manager {
    /// Looks at the storage in a while, if others write there; and so on for ever, by [`Manager::looked`].
    pub(super) fn look(&mut self) {
        if self.storage.shared().is_none() {
            return;
        }
        let (storage, known, count) = (Arc::clone(&self.storage), self.revision, self.ledger.count());
        let issuer = Arc::clone(&self.issuer);
        self.jobs.push(Box::pin(async move {
            sleep(LOOK_INTERVAL).await;
            let news = news(&*storage, known).await;
            // Before a certificate is taken up from there: to ask when it is to be renewed takes an account, too.
            if let Ok(News { contents: Some(contents), .. }) = &news {
                issuer.adopt(&contents.accounts).await;
            }
            Done::Look { news, count }
        }));
    }

    /// That the storage is away is said by those who write.
    pub(super) fn looked(&mut self, news: Result<News, StorageError>, count: u64) {
        if let Ok(News { revision, posted, contents }) = news {
            self.issuer.answers.lend(posted);
            // What we wrote meanwhile may be missing in what was read: that is looked at again.
            if let Some(contents) = contents.filter(|_| self.ledger.is_still(count)) {
                self.adopt(contents);
                self.revision = Some(revision);
            }
        }
        self.look();
    }

    /// Another program got it before us.
    pub(super) fn found(&mut self, certificate: Certificate) {
        let Some(entry) = self.entries.get_mut(&certificate.name) else { return };
        entry.is_under_way = false;
        entry.succeeded();
        self.take_up(certificate);
    }

    /// Another program orders it now.
    pub(super) fn elsewhere(&mut self, name: &str, now: i64) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.is_under_way = false;
        entry.elsewhere_until = now + ELSEWHERE_PAUSE;
    }

    fn adopt(&mut self, contents: Contents) {
        let mut kept = BTreeSet::new();
        for certificate in contents.certificates {
            kept.insert(certificate.name.clone());
            let known = self.entries.get(&certificate.name).and_then(|entry| entry.certificate.as_ref());
            if known.is_none_or(|known| known.chain != certificate.chain) {
                self.take_up(certificate);
            }
        }
        let names = contents.names.into_iter().map(|record| (record.name.clone(), record));
        let mut records: BTreeMap<_, _> = names.collect();
        for name in records.keys() {
            self.entries.entry(name.clone()).or_insert_with(|| Entry::of(name));
        }
        for (name, entry) in &mut self.entries {
            if entry.is_under_way {
                continue;
            }
            entry.record = records.remove(name).unwrap_or_else(|| Entry::of(name).record);
            if entry.certificate.is_some() && !kept.contains(name) {
                entry.certificate = None;
                self.shelf.remove(name);
            }
        }
        let now = unix_now();
        self.entries.retain(|_, entry| !entry.is_idle(now));
    }
}

async fn news(storage: &dyn Storage, known: Option<i64>) -> Result<News, StorageError> {
    let Some(shared) = storage.shared() else { return Err(StorageError("nobody shares it".to_owned())) };
    let posted = shared.posted().await?;
    // Before the contents: what changes in between is looked at once more.
    let revision = shared.revision().await?;
    let contents = if known == Some(revision) { None } else { Some(storage.load().await?) };
    Ok(News { revision, posted, contents })
}

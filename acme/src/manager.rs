//! Keeps every wanted name supplied: orders, renews, tries again, and shows each certificate as soon as it is there.
//!
//! One task owns all names. Orders and questions about renewal are futures that it drives, a few at a time; each names the
//! next moment at which something is due, and it sleeps until the earliest.

mod fleet;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::answers::Answers;
use crate::authority::Authority;
use crate::certificate::Certificate;
use crate::claim::{self, Ordered};
use crate::entry::{AT_ONCE, Entry};
use crate::failure::{Failure, Kind};
use crate::handle::{Command, CommandError, Handle, What};
use crate::issuer::{Issuer, no_way};
use crate::ledger::Ledger;
use crate::settings::Settings;
use crate::storage::{Contents, Storage, StorageError};
use crate::unix_now;
use crate::view::Overview;
use fleet::News;

/// What visitors are shown.
pub trait Shelf: Send + Sync {
    /// Shows it from now on, in the place of an earlier one of the same name.
    ///
    /// # Errors
    /// When it cannot be used: says why, and the earlier one stays.
    fn put(&self, certificate: &Certificate) -> Result<(), String>;
    fn remove(&self, name: &str);
}

/// Whether anything may be ordered for a name, a wildcard too: it is granted to somebody.
pub type IsAllowed = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// See the module.
pub struct Manager {
    issuer: Arc<Issuer>,
    entries: BTreeMap<String, Entry>,
    ledger: Ledger,
    storage: Arc<dyn Storage>,
    /// Of a shared storage: what was taken up from there last.
    revision: Option<i64>,
    shelf: Arc<dyn Shelf>,
    is_allowed: IsAllowed,
    jobs: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Of the jobs those that are orders.
    orders: usize,
    commands: mpsc::Receiver<Command>,
    wanted: watch::Receiver<Arc<BTreeSet<String>>>,
    overview: watch::Sender<Arc<Overview>>,
    counts: BTreeMap<&'static str, u64>,
    is_full: bool,
}

enum Done {
    Order { name: String, outcome: Ordered },
    Look { news: Result<News, StorageError>, count: u64 },
    Advice { name: String, issued_at: i64, window: Option<RangeInclusive<i64>>, again: Duration },
}

/// Orders at a time: authorities take a few of one account at once, and the first site waits for none of the rest.
const MAX_ORDERS: usize = 8;
/// Questions about renewal are small.
const MAX_JOBS: usize = 16;
/// An order that is not over by then is stuck.
const ORDER_TIMEOUT: Duration = Duration::from_secs(900);
/// Names of announcements are a tenant's to make up.
const MAX_NAMES: usize = 10_000;
/// The wall clock may be set meanwhile (hazard 164), and a full disk emptied: no sleep is longer.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
const LEDGER_PAUSE: Duration = Duration::from_secs(5);
/// An authority's advice is asked for again at most so often.
const LEAST_ADVICE_PAUSE: i64 = 60;
const MAX_ADVICE_PAUSE: i64 = 86_400;

impl Manager {
    /// Takes up what was kept: all of it is on the shelf when this returns.
    ///
    /// # Errors
    /// When the storage cannot be read: at start that is the operator's business.
    pub async fn load(
        settings: Settings,
        storage: Arc<dyn Storage>,
        shelf: Arc<dyn Shelf>,
        answers: Answers,
        is_allowed: IsAllowed,
    ) -> Result<(Self, Handle), StorageError> {
        let Contents { accounts, certificates, names } = storage.load().await?;
        let account = |url: &str| accounts.iter().find(|(of, _)| of == url).map(|(_, secret)| secret.clone());
        let authorities = settings.directories.iter().map(|directory| {
            Authority::new(directory.clone(), settings.contact.clone(), account(&directory.url))
        });
        let authorities = authorities.collect();
        let entries: BTreeMap<String, Entry> = names
            .into_iter()
            .map(|record| (record.name.clone(), Entry { record, ..Entry::default() }))
            .collect();
        let (commands_to, commands) = mpsc::channel(16);
        let (wanted_to, wanted) = watch::channel(Arc::default());
        let (overview, overview_from) = watch::channel(Arc::default());
        let issuer = Arc::new(Issuer::new(settings, authorities, answers));
        let handle = Handle {
            commands: commands_to,
            wanted: wanted_to,
            overview: overview_from,
            issuer: Arc::clone(&issuer),
        };
        let mut manager = Self {
            issuer,
            entries,
            ledger: Ledger::new(Arc::clone(&storage)),
            storage,
            revision: None,
            shelf,
            is_allowed,
            jobs: FuturesUnordered::new(),
            orders: 0,
            commands,
            wanted,
            overview,
            counts: BTreeMap::new(),
            is_full: false,
        };
        for certificate in certificates {
            manager.take_up(certificate);
        }
        manager.publish();
        Ok((manager, handle))
    }

    /// Runs until it is dropped: a service.
    pub async fn run(mut self) {
        self.look();
        loop {
            self.start(unix_now());
            self.ledger.write().await;
            self.publish();
            let pause = self.pause(unix_now());
            // Each arm waits on a channel, a clock or a job: nothing is lost when another is taken.
            tokio::select! {
                biased;
                Some(Command { what, name, done }) = self.commands.recv() => {
                    let outcome = self.obey(&what, &name);
                    // Whoever hears of it finds it in the overview.
                    self.start(unix_now());
                    self.publish();
                    let _ = done.send(outcome);
                }
                Ok(()) = self.wanted.changed() => {
                    let wanted = Arc::clone(&self.wanted.borrow_and_update());
                    self.want(&wanted);
                }
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => self.done(done),
                () = sleep(pause) => {}
            }
        }
    }

    /// Shows one that was kept.
    fn take_up(&mut self, certificate: Certificate) {
        if let Err(reason) = self.shelf.put(&certificate) {
            return tracing::error!(
                name = certificate.name,
                reason,
                "a certificate that was kept cannot be used"
            );
        }
        let name = &certificate.name;
        let entry = self.entries.entry(name.clone()).or_insert_with(|| Entry::of(name));
        let mut authorities = self.issuer.authorities.iter();
        let is_ours = authorities.any(|authority| authority.directory().url == certificate.directory);
        entry.take(Arc::new(certificate), &mut rand::rng());
        if !is_ours {
            // Of an authority that was changed for another, staging for production say.
            entry.renew_at = AT_ONCE;
        }
    }

    fn obey(&mut self, what: &What, name: &str) -> Result<(), CommandError> {
        match what {
            What::Add => {
                if !(self.is_allowed)(name) {
                    return Err(CommandError::NotGranted(name.to_owned()));
                }
                if self.issuer.settings.challenges_for(name).is_empty() {
                    return Err(CommandError::NoWay(no_way(name)));
                }
                if self.entries.len() >= MAX_NAMES && !self.entries.contains_key(name) {
                    return Err(CommandError::TooMany(MAX_NAMES));
                }
                let entry = self.entries.entry(name.to_owned()).or_insert_with(|| Entry::of(name));
                entry.record.is_added = true;
                if entry.certificate.is_none() {
                    entry.hurry();
                }
                self.ledger.name(entry.record.clone());
            }
            What::Renew => {
                if !(self.is_allowed)(name) {
                    return Err(CommandError::NotGranted(name.to_owned()));
                }
                let entry = self.entries.get_mut(name);
                let entry = entry.ok_or_else(|| CommandError::Unknown(name.to_owned()))?;
                entry.hurry();
                self.ledger.name(entry.record.clone());
            }
            What::Remove => {
                let known = self.entries.remove(name);
                let entry = known.ok_or_else(|| CommandError::Unknown(name.to_owned()))?;
                self.shelf.remove(name);
                self.ledger.remove(name);
                if entry.is_wanted {
                    self.entries.insert(name.to_owned(), Entry { is_wanted: true, ..Entry::of(name) });
                }
            }
        }
        Ok(())
    }

    fn want(&mut self, wanted: &BTreeSet<String>) {
        for name in wanted {
            if self.entries.len() >= MAX_NAMES && !self.entries.contains_key(name) {
                if !std::mem::replace(&mut self.is_full, true) {
                    tracing::error!(
                        "{MAX_NAMES} names have automatic certificates: none is ordered for any more"
                    );
                }
                break;
            }
            self.entries.entry(name.clone()).or_insert_with(|| Entry::of(name)).is_wanted = true;
        }
        for (name, entry) in &mut self.entries {
            entry.is_wanted &= wanted.contains(name);
        }
        let now = unix_now();
        let (entries, ledger) = (&mut self.entries, &mut self.ledger);
        entries.retain(|name, entry| {
            let is_idle = entry.is_idle(now);
            if is_idle && entry.record.failures > 0 {
                ledger.remove(name);
            }
            !is_idle
        });
    }

    /// Starts what is due.
    fn start(&mut self, now: i64) {
        let mut due: Vec<(i64, String)> = self
            .entries
            .iter()
            .filter_map(|(name, entry)| Some((entry.due_at().filter(|at| *at <= now)?, name.clone())))
            .collect();
        due.sort_unstable();
        for (_, name) in due {
            if self.orders >= MAX_ORDERS {
                break;
            }
            // Asked now, not when it was announced: a grant may have ended meanwhile.
            if (self.is_allowed)(&name) && !self.has_wildcard(&name) {
                self.order(&name);
            }
        }
        let advice: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.certificate.is_some() && entry.advice_at <= now && !entry.is_under_way)
            .map(|(name, _)| name.clone())
            .collect();
        for name in advice {
            if self.jobs.len() >= MAX_JOBS {
                break;
            }
            self.ask_advice(&name);
        }
    }

    /// Whether a wildcard stands for a name that has nothing of its own.
    fn has_wildcard(&self, name: &str) -> bool {
        let Some((_, parent)) = name.split_once('.') else { return false };
        let is_bare =
            self.entries.get(name).is_none_or(|entry| entry.certificate.is_none() && !entry.record.is_added);
        is_bare && self.entries.get(&format!("*.{parent}")).is_some_and(|wide| wide.certificate.is_some())
    }

    fn order(&mut self, name: &str) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.is_under_way = true;
        self.orders += 1;
        let (issuer, name, old) = (Arc::clone(&self.issuer), name.to_owned(), entry.certificate.clone());
        let storage = Arc::clone(&self.storage);
        self.jobs.push(Box::pin(async move {
            let order = claim::order(&issuer, &*storage, &name, old.as_deref());
            let order = tokio::time::timeout(ORDER_TIMEOUT, order);
            // A panic ends one order, not all of them for ever.
            let outcome = match AssertUnwindSafe(order).catch_unwind().await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => {
                    let reason = format!("the order was not over after {} s", ORDER_TIMEOUT.as_secs());
                    Ordered::Done(Err(Failure::Impossible(reason)))
                }
                Err(_) => {
                    let reason = "a panic of ours, which the log names".to_owned();
                    Ordered::Done(Err(Failure::Impossible(reason)))
                }
            };
            Done::Order { name, outcome }
        }));
    }

    fn ask_advice(&mut self, name: &str) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let Some(certificate) = entry.certificate.clone() else { return };
        // Until the answer is there.
        entry.advice_at = i64::MAX;
        let (issuer, name) = (Arc::clone(&self.issuer), name.to_owned());
        self.jobs.push(Box::pin(async move {
            let of = |one: &&Authority| one.directory().url == certificate.directory;
            let advice = match issuer.authorities.iter().find(of) {
                Some(authority) => AssertUnwindSafe(authority.advice(&certificate)).catch_unwind().await.ok(),
                None => None,
            };
            let (window, again) =
                advice.unwrap_or((None, Duration::from_secs(MAX_ADVICE_PAUSE.unsigned_abs())));
            Done::Advice { name, issued_at: certificate.issued_at, window, again }
        }));
    }

    fn done(&mut self, done: Done) {
        let now = unix_now();
        match done {
            Done::Look { news, count } => self.looked(news, count),
            Done::Order { name, outcome } => {
                self.orders -= 1;
                match outcome {
                    Ordered::Done(result) => self.ordered(&name, result, now),
                    Ordered::Found(certificate) => self.found(certificate),
                    Ordered::Elsewhere => self.elsewhere(&name, now),
                }
                for authority in &self.issuer.authorities {
                    if let Some(credentials) = authority.new_account() {
                        self.ledger.account(&authority.directory().url, credentials);
                    }
                }
                for claim in [&name, claim::ACCOUNT] {
                    self.ledger.release(claim);
                }
            }
            Done::Advice { name, issued_at, window, again } => {
                let Some(entry) = self.entries.get_mut(&name) else { return };
                let Some(certificate) = &entry.certificate else { return };
                if certificate.issued_at != issued_at {
                    return;
                }
                let again = i64::try_from(again.as_secs()).unwrap_or(MAX_ADVICE_PAUSE);
                entry.advice_at = now + again.clamp(LEAST_ADVICE_PAUSE, MAX_ADVICE_PAUSE);
                // A moment that was chosen within the window stays chosen, and so does that somebody wants it at once.
                let is_chosen = |window: &RangeInclusive<i64>| {
                    entry.renew_at == AT_ONCE || window.contains(&entry.renew_at)
                };
                if let Some(window) = window.filter(|window| !is_chosen(window)) {
                    entry.renew_at = certificate.term().renew_at(Some(window), &mut rand::rng());
                }
            }
        }
    }

    fn ordered(&mut self, name: &str, result: Result<Certificate, Failure>, now: i64) {
        // Removed meanwhile: nobody is to see it.
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.is_under_way = false;
        let result = result.and_then(|certificate| match self.shelf.put(&certificate) {
            Ok(()) => Ok(Arc::new(certificate)),
            Err(reason) => Err(Failure::Refused { directory: certificate.directory.clone(), reason }),
        });
        match result {
            Ok(certificate) => {
                *self.counts.entry("issued").or_default() += 1;
                let days = (certificate.not_after - now) / 86_400;
                tracing::info!(name, directory = certificate.directory, days, "a certificate is there");
                if certificate.term().contradicts_clock() {
                    let (not_before, not_after) = (certificate.not_before, certificate.not_after);
                    tracing::error!(
                        name,
                        now,
                        not_before,
                        not_after,
                        "the new certificate is not valid now by this machine's clock: set the clock right"
                    );
                }
                entry.take(Arc::clone(&certificate), &mut rand::rng());
                entry.succeeded();
                self.ledger.certificate(certificate);
            }
            Err(failure) => {
                *self.counts.entry(failure.word()).or_default() += 1;
                entry.failed(&failure, now, &mut rand::rng());
                let (failures, next) = (entry.record.failures, entry.record.next_try.map(|at| at - now));
                let has_certificate = entry.certificate.is_some();
                if failure.kind() == Kind::Awaited && failures > 1 {
                    // Every few seconds, until somebody has done it.
                    tracing::debug!(name, failures, "no certificate yet: {failure}");
                } else {
                    tracing::warn!(
                        name,
                        failures,
                        next_try_seconds = next,
                        has_certificate,
                        "no certificate: {failure}"
                    );
                }
            }
        }
        self.ledger.name(entry.record.clone());
    }

    /// Until the next thing is due.
    fn pause(&self, now: i64) -> Duration {
        let orders = self.entries.values().filter_map(Entry::due_at).filter(|at| *at > now);
        let advice = self.entries.values().filter(|entry| entry.certificate.is_some());
        let advice = advice.map(|entry| entry.advice_at).filter(|at| *at > now);
        let next = orders.chain(advice).min().map_or(i64::MAX, |at| at - now);
        let pause = Duration::from_secs(next.max(1).unsigned_abs()).min(LONGEST_SLEEP);
        if self.ledger.is_behind() { pause.min(LEDGER_PAUSE) } else { pause }
    }

    fn publish(&self) {
        let now = unix_now();
        // A name that a wildcard stands for is nobody's care.
        let own = self.entries.iter().filter(|(name, _)| !self.has_wildcard(name));
        let names = own.map(|(_, entry)| entry.view(now)).collect();
        let overview = Overview { names, orders: self.counts.clone() };
        self.overview.send_replace(Arc::new(overview));
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("names", &self.entries.len()).finish_non_exhaustive()
    }
}

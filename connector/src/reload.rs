//! Reloading the rules: when the file changes (edited, renamed over, a mounted symlink swapped) and on SIGHUP. A bad
//! file changes nothing but the log, the metrics and `status`. Where a cluster is followed its Services change them as well.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use causeway_daemon::watch::Watch;
use causeway_front::tls::Tls;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::config::{self, Config};
use crate::home::certificates;
use crate::kubernetes::{Cluster, Discovery};
use crate::rules::{Ground, RuleSet};
use crate::status::Board;

/// Where rules come from. A rule file is watched from before its first reading, so that no change falls between; or the places
/// are where one may come to be.
#[derive(Debug)]
pub struct Source {
    /// The first that is there counts. Empty: the rules stand in no file.
    pub(crate) places: Vec<PathBuf>,
    pub(crate) watch: Watch,
    pub(crate) text: String,
    /// Wins over the file's `data`.
    pub(crate) data: Option<PathBuf>,
    /// Whose Services become rules too.
    pub(crate) cluster: Option<Cluster>,
}

impl Source {
    /// To be called before the rules are loaded from the same file.
    pub async fn open(path: PathBuf) -> Self {
        // A file that cannot be read is the loader's to complain of.
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        Self { text, ..Self::awaited(vec![path]).await }
    }

    /// While there is none.
    pub(crate) async fn awaited(places: Vec<PathBuf>) -> Self {
        let watch = Watch::new(places.clone()).await;
        Self { places, watch, text: String::new(), data: None, cluster: None }
    }
}

/// Swaps the rules of one connector.
#[derive(Debug)]
pub(crate) struct Reloader {
    pub(crate) places: Vec<PathBuf>,
    /// As of the last reading: a file that was only touched is not a new version.
    pub(crate) text: Mutex<String>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) found: Option<Found>,
    pub(crate) rules: Arc<ArcSwap<RuleSet>>,
    pub(crate) ground: Ground,
    pub(crate) reloaded: watch::Sender<u64>,
    pub(crate) board: Arc<Board>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) asked: Notify,
}

/// What a cluster's Services are laid over.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) discovery: Discovery,
    /// The file as it is in force, without them.
    pub(crate) base: Mutex<Config>,
}

impl Reloader {
    /// SIGHUP: read the file, whether it changed or not (a `caPool` may have).
    pub(crate) fn ask(&self) {
        self.asked.notify_one();
    }

    /// Watches until dropped.
    pub(crate) async fn run(self: Arc<Self>, mut watch: Watch) {
        let mut discovery = self.found.as_ref().map(|found| found.discovery.clone());
        loop {
            let found = async {
                match &mut discovery {
                    Some(discovery) => discovery.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = watch.changed() => self.reload(Why::Changed),
                () = self.asked.notified() => self.reload(Why::Asked),
                () = found => self.reload(Why::Found),
            }
        }
    }

    fn reload(&self, why: Why) {
        let Some(base) = self.base(why) else { return };
        let before = self.rules.load_full();
        let built = base.and_then(|base| {
            let config =
                self.found.as_ref().map_or_else(|| base.clone(), |found| found.discovery.over(&base));
            let rules = RuleSet::build(config, Some(&before), &self.ground)?;
            if why != Why::Found {
                // Read anew, whether their list changed or not: this may be why somebody asked.
                certificates::reload(&self.tls, &rules.config.home)?;
            }
            Ok((base, rules))
        });
        match built {
            Ok((base, rules)) => self.swap(why, &before, base, rules),
            Err(error) => {
                self.ground.metrics.reloaded("refused");
                // What is wrong with a file on the disk stays so whatever Services do, and theirs is no fault of the file.
                if why != Why::Found {
                    self.ground.metrics.config_valid.set(0);
                    self.board.set_config_error(Some(error.to_string()));
                }
                tracing::error!("the rules stay as they were: {error}");
            }
        }
    }

    /// What the file says, or none when there is nothing new to read.
    fn base(&self, why: Why) -> Option<anyhow::Result<Config>> {
        if let (Why::Found, Some(found)) = (why, &self.found) {
            return Some(Ok(found.base.lock().clone()));
        }
        let there = self.places.iter().find(|place| place.is_file());
        let path = there.or_else(|| self.places.first())?;
        let text = std::fs::read_to_string(path);
        if let Ok(text) = &text {
            let mut known = self.text.lock();
            if why == Why::Changed && *known == *text {
                return None;
            }
            known.clone_from(text);
        }
        Some(config::load_with(path, self.data.as_deref()).map_err(anyhow::Error::from))
    }

    fn swap(&self, why: Why, before: &RuleSet, base: Config, rules: RuleSet) {
        let (generation, count) = (rules.generation, rules.config.rules.len());
        if why != Why::Found {
            for warning in &rules.config.warnings {
                tracing::warn!("{}:{warning}", rules.config.file);
            }
            let started = |config: &Config| (config.home.data.clone(), config.home.acme.clone());
            if started(&rules.config) != started(&before.config) {
                tracing::warn!("`data` and `acme` take effect at the next start");
            }
            self.board.set_config_error(None);
            self.ground.metrics.config_valid.set(1);
            if let Some(found) = &self.found {
                *found.base.lock() = base;
            }
        }
        remark(&rules.config, &before.config.remarks);
        note(&self.ground, &rules);
        let in_force: HashSet<&str> = rules.labels().collect();
        for gone in before.labels().filter(|label| !in_force.contains(label)) {
            self.ground.metrics.forget(gone);
        }
        self.rules.store(Arc::new(rules));
        self.reloaded.send_replace(generation);
        self.ground.metrics.reloaded("ok");
        tracing::info!(generation, rules = count, "the rules were reloaded");
    }
}

/// Says what Services ask for and do not get, as far as it was not said before.
pub(crate) fn remark(config: &Config, before: &[String]) {
    let known: HashSet<&String> = before.iter().collect();
    let mut news = config.remarks.iter().filter(|remark| !known.contains(remark));
    for remark in news.by_ref().take(MAX_REMARKS) {
        tracing::warn!("{remark}");
    }
    let more = news.count();
    if more > 0 {
        tracing::warn!(more, "there is more to say of Services: `causeway-connector status` has all of it");
    }
}

/// At a time: whoever may write Services can have a line of the log for each.
const MAX_REMARKS: usize = 50;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Changed,
    Asked,
    /// The Services have changed.
    Found,
}

/// Puts a version of the rules into the figures.
pub(crate) fn note(ground: &Ground, rules: &RuleSet) {
    let insecure =
        rules.config.rules.iter().filter(|rule| rule.service.is_tls() && rule.origin.no_tls_verify).count();
    ground.metrics.insecure_rules.set(i64::try_from(insecure).unwrap_or(i64::MAX));
    ground.metrics.config_generation.set(i64::try_from(rules.generation).unwrap_or(i64::MAX));
}

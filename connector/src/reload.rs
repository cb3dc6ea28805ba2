//! Reloading the rules: when the file changes (edited, renamed over, a mounted symlink swapped) and on SIGHUP. A bad
//! file changes nothing but the log, the metrics and `status`.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use causeway_daemon::watch::Watch;
use causeway_front::tls::Tls;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::config;
use crate::home::certificates;
use crate::rules::{Ground, RuleSet};
use crate::status::Board;

/// A rule file that is watched from before its first reading, so that no change falls between; or the places where one may
/// come to be.
#[derive(Debug)]
pub struct Source {
    /// Not empty. The first that is there counts.
    pub(crate) places: Vec<PathBuf>,
    pub(crate) watch: Watch,
    pub(crate) text: String,
}

impl Source {
    /// To be called before the rules are loaded from the same file.
    pub async fn open(path: PathBuf) -> Self {
        let watch = Watch::new([path.clone()]).await;
        // A file that cannot be read is the loader's to complain of.
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        Self { places: vec![path], watch, text }
    }

    /// While there is none.
    pub(crate) async fn awaited(places: Vec<PathBuf>) -> Self {
        let watch = Watch::new(places.clone()).await;
        Self { places, watch, text: String::new() }
    }
}

/// Swaps the rules of one connector.
#[derive(Debug)]
pub(crate) struct Reloader {
    places: Vec<PathBuf>,
    /// As of the last reading: a file that was only touched is not a new version.
    text: Mutex<String>,
    rules: Arc<ArcSwap<RuleSet>>,
    ground: Ground,
    reloaded: watch::Sender<u64>,
    board: Arc<Board>,
    tls: Arc<Tls>,
    asked: Notify,
}

impl Reloader {
    pub(crate) fn new(
        places: Vec<PathBuf>,
        text: String,
        rules: Arc<ArcSwap<RuleSet>>,
        ground: Ground,
        reloaded: watch::Sender<u64>,
        board: Arc<Board>,
        tls: Arc<Tls>,
    ) -> Self {
        Self { places, text: Mutex::new(text), rules, ground, reloaded, board, tls, asked: Notify::new() }
    }

    /// SIGHUP: read the file, whether it changed or not (a `caPool` may have).
    pub(crate) fn ask(&self) {
        self.asked.notify_one();
    }

    /// Watches until dropped.
    pub(crate) async fn run(self: Arc<Self>, mut watch: Watch) {
        loop {
            tokio::select! {
                () = watch.changed() => self.reload(Why::Changed),
                () = self.asked.notified() => self.reload(Why::Asked),
            }
        }
    }

    fn reload(&self, why: Why) {
        let there = self.places.iter().find(|place| place.is_file());
        let Some(path) = there.or_else(|| self.places.first()) else { return };
        let text = std::fs::read_to_string(path);
        if let Ok(text) = &text {
            let mut known = self.text.lock();
            if why == Why::Changed && *known == *text {
                return;
            }
            known.clone_from(text);
        }
        let before = self.rules.load_full();
        let built = config::load(path).map_err(anyhow::Error::from).and_then(|config| {
            let rules = RuleSet::build(config, Some(&before), &self.ground)?;
            // Read anew, whether their list changed or not: this may be why somebody asked.
            certificates::reload(&self.tls, &rules.config.home)?;
            Ok(rules)
        });
        match built {
            Ok(rules) => {
                let (generation, count) = (rules.generation, rules.config.rules.len());
                for warning in &rules.config.warnings {
                    tracing::warn!("{}:{warning}", rules.config.file);
                }
                if (&rules.config.home.data, &rules.config.home.acme)
                    != (&before.config.home.data, &before.config.home.acme)
                {
                    tracing::warn!("`data` and `acme` take effect at the next start");
                }
                note(&self.ground, &rules);
                self.rules.store(Arc::new(rules));
                self.board.set_config_error(None);
                self.reloaded.send_replace(generation);
                self.ground.metrics.reloaded("ok");
                tracing::info!(generation, rules = count, "the rules were reloaded");
            }
            Err(error) => {
                self.ground.metrics.reloaded("refused");
                self.ground.metrics.config_valid.set(0);
                self.board.set_config_error(Some(error.to_string()));
                tracing::error!("the rules stay as they were: {error}");
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Changed,
    Asked,
}

/// Puts a version of the rules into the figures.
pub(crate) fn note(ground: &Ground, rules: &RuleSet) {
    let insecure =
        rules.config.rules.iter().filter(|rule| rule.service.is_tls() && rule.origin.no_tls_verify).count();
    ground.metrics.insecure_rules.set(i64::try_from(insecure).unwrap_or(i64::MAX));
    ground.metrics.config_generation.set(i64::try_from(rules.generation).unwrap_or(i64::MAX));
    ground.metrics.config_valid.set(1);
}

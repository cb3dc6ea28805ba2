//! One thread's share of the connector.

use std::sync::Arc;

use arc_swap::ArcSwap;
use causeway_acme::Answers as Challenges;
use causeway_daemon::drain::Drain;

use crate::home::HomeShard;
use crate::metrics::Metrics;
use crate::rules::RuleSet;
use crate::stalled::Stalls;
use crate::visits::Visits;

/// What all requests of one thread share. A request lives and dies on one.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) index: usize,
    /// Owns this shard's tasks.
    pub(crate) drain: Drain,
    pub(crate) rules: Arc<ArcSwap<RuleSet>>,
    pub(crate) metrics: Metrics,
    pub(crate) home: HomeShard,
    /// What authorities look for now.
    pub(crate) challenges: Challenges,
    /// Of the whole process.
    pub(crate) stalls: Stalls,
    pub(crate) visits: Visits,
}

//! What the tasks of one shard share: a thread with its own runtime, its own sockets and its own sessions. A request
//! lives and dies on one.

use std::sync::Arc;

use causeway_acme::Answers;
use causeway_daemon::drain::Drain;
use causeway_daemon::pulse::Pulse;
use causeway_front::forward::Patience;
use causeway_tunnel::Congestion;
use causeway_tunnel::flow::Budget;

use crate::doorman::Doorman;
use crate::gate::Gate;
use crate::handover::Successor;
use crate::keeper::{KeeperHandle, Note};
use crate::registry::Registry;

/// Nothing in it is written by other shards while a request is carried, but for the snapshots.
#[derive(Debug)]
pub(crate) struct Shard {
    pub index: u16,
    pub registry: Arc<Registry>,
    pub(crate) gate: Gate,
    /// A child of the program's: counts this shard's tasks alone.
    pub drain: Drain,
    pub patience: Patience,
    pub sessions_per_tunnel: usize,
    /// Of the whole process.
    pub budget: Budget,
    pub congestion: Congestion,
    pub(crate) doorman: Doorman,
    pub(crate) successor: Successor,
    /// Of this edge: told to connectors.
    pub(crate) fellows: Arc<[String]>,
    pub(crate) keeper: KeeperHandle,
    pub(crate) pulse: Pulse,
    /// What authorities look for now.
    pub(crate) answers: Answers,
}

impl Shard {
    /// Tells the store's keeper.
    pub(crate) fn note(&self, note: Note) {
        self.keeper.note(note);
    }
}

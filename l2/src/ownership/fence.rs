//! The fence: after a start, a pause, a lost link or a false death nothing is answered until the peers have said what
//! they know. Cleared by peers with the same digest as ours, or by time when nobody is there to ask.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::node_name::NodeName;

const ASK_EVERY: Duration = Duration::from_millis(30);
/// A first start waits so long for an answer before it takes itself for alone.
const ALONE_AT_START: Duration = Duration::from_millis(1500);
/// A node that ran before knows its peers; if none answers in this time it is cut off, and so are they from here.
const ALONE: Duration = Duration::from_millis(700);
/// Some answered, but in a busy cluster the digests may differ for long: what they sent was heard by then.
const HEARD_ENOUGH: Duration = Duration::from_millis(300);

#[derive(Debug)]
pub(super) struct Fence {
    since: Instant,
    /// Repeated by answers, so that a digest from before the pause counts for nothing.
    nonce: u64,
    next_ask: Instant,
    /// How many members there were before: who was cut off takes none of them for dead.
    expected: usize,
    answered: BTreeSet<NodeName>,
    /// Of those that answered: digest equal to ours.
    agreed: BTreeSet<NodeName>,
    cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// This node has just begun.
    Start,
    /// It ran before, and missed something: a pause, a lost link, a false death.
    Doubt,
}

/// What a node knows otherwise of whom it could ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings {
    /// Members that are alive.
    pub(super) members: usize,
    /// There is an address of somebody else.
    pub(super) knows_others: bool,
    /// The Services were read.
    pub(super) has_demands: bool,
}

impl Fence {
    pub(super) fn new(cause: Cause, nonce: u64, expected: usize, now: Instant) -> Self {
        Self {
            since: now,
            nonce,
            next_ask: now,
            expected,
            answered: BTreeSet::new(),
            agreed: BTreeSet::new(),
            cause,
        }
    }

    /// Begins to ask anew, for the same cause: what was asked before cannot have been answered.
    pub(super) fn renew(&mut self, nonce: u64, now: Instant) {
        *self = Self::new(self.cause, nonce, self.expected, now);
    }

    pub(super) fn cause(&self) -> Cause {
        self.cause
    }

    /// The nonce to ask with, when it is time to ask.
    pub(super) fn poll_ask(&mut self, now: Instant) -> Option<u64> {
        if now < self.next_ask {
            return None;
        }
        self.next_ask = now + ASK_EVERY;
        Some(self.nonce)
    }

    pub(super) fn handle_answer(&mut self, from: &NodeName, nonce: u64, agrees: bool) {
        if nonce != self.nonce {
            return;
        }
        self.answered.insert(from.clone());
        if agrees {
            self.agreed.insert(from.clone());
        } else {
            self.agreed.remove(from);
        }
    }

    pub(super) fn is_unanswered(&self) -> bool {
        self.answered.is_empty()
    }

    /// Whether enough was said, or nobody is there to say it.
    pub(super) fn is_over(&self, around: Surroundings, now: Instant) -> bool {
        let waited = now.saturating_duration_since(self.since);
        let others = around.members.max(self.expected);
        let enough = !self.agreed.is_empty() && self.agreed.len() * 2 >= others;
        match self.cause {
            Cause::Start => {
                // Without the Services nothing could be done anyway, and the seeds come with them.
                let alone = self.answered.is_empty() && waited >= ALONE_AT_START;
                // A first answer brings members and claims; give both the time to arrive.
                let met = waited >= HEARD_ENOUGH && (enough || waited >= ALONE_AT_START);
                around.has_demands && (alone || met)
            }
            Cause::Doubt => {
                let heard = !self.answered.is_empty() && waited >= HEARD_ENOUGH;
                !around.knows_others || enough || heard || waited >= ALONE
            }
        }
    }
}

//! The fence: after a start, a pause, a lost link or a false death nothing is answered until the peers have said what
//! they know. Cleared by peers with the same digest as ours, or by time when nobody is there to ask.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{Event, Gain, Ownership, message::Body};
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
    at_start: bool,
}

impl Fence {
    pub(super) fn joining(nonce: u64, now: Instant) -> Self {
        Self { at_start: true, ..Self::raised(nonce, 0, now) }
    }

    fn raised(nonce: u64, expected: usize, now: Instant) -> Self {
        Self {
            since: now,
            nonce,
            next_ask: now,
            expected,
            answered: BTreeSet::new(),
            agreed: BTreeSet::new(),
            at_start: false,
        }
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
}

impl Ownership {
    pub(super) fn raise_fence(&mut self, now: Instant) {
        match &mut self.fence {
            Some(fence) if fence.at_start => return,
            _ => self.events.push_back(Event::Fenced),
        }
        let expected = self.membership.alive().count();
        self.fence = Some(Fence::raised(self.chance.bits(), expected, now));
        self.ask(now);
    }

    /// Starts to ask anew, at a start too: what was asked before cannot have been answered.
    pub(super) fn renew_fence(&mut self, now: Instant) {
        match &mut self.fence {
            Some(fence) => {
                let (at_start, expected) = (fence.at_start, fence.expected);
                *fence = Fence { at_start, ..Fence::raised(self.chance.bits(), expected, now) };
                self.ask(now);
            }
            None => self.raise_fence(now),
        }
    }

    /// Asks everybody who may know something.
    pub(super) fn ask(&mut self, now: Instant) {
        let Some(fence) = &mut self.fence else { return };
        if now < fence.next_ask {
            return;
        }
        fence.next_ask = now + ASK_EVERY;
        let nonce = fence.nonce;
        let mut targets: BTreeSet<_> = self.peers.addresses().collect();
        targets.extend(self.seeds.iter().copied());
        targets.remove(&self.membership.identity().addr);
        for to in targets {
            self.send_digest(to, nonce, false);
        }
    }

    pub(super) fn try_lift(&mut self, now: Instant) {
        if self.is_cut() {
            return;
        }
        self.ask(now);
        let Some(fence) = &self.fence else { return };
        let waited = now.saturating_duration_since(fence.since);
        let others = self.membership.alive().count().max(fence.expected);
        let enough = !fence.agreed.is_empty() && fence.agreed.len() * 2 >= others;
        let lift = if fence.at_start {
            // Without the Services nothing could be done anyway, and the seeds come with them.
            let alone = fence.answered.is_empty() && waited >= ALONE_AT_START;
            // A first answer brings members and claims; give both the time to arrive.
            let met = waited >= HEARD_ENOUGH && (enough || waited >= ALONE_AT_START);
            self.demands.is_some() && (alone || met)
        } else {
            let nobody = self.peers.is_empty() && self.seeds.is_empty();
            nobody || enough || (!fence.answered.is_empty() && waited >= HEARD_ENOUGH) || waited >= ALONE
        };
        if !lift {
            return;
        }
        self.alone = fence.answered.is_empty();
        self.fence = None;
        self.dirty = true;
        self.events.push_back(Event::Unfenced);
        let held: Vec<_> = self.owned().collect();
        for vip in held {
            self.gained(vip, Gain::Resumed);
        }
    }

    /// An answer to a digest, maybe to one that the fence sent.
    pub(super) fn handle_digest_answer(&mut self, from: &NodeName, nonce: u64, agrees: bool) {
        if let Some(fence) = &mut self.fence {
            fence.handle_answer(from, nonce, agrees);
        }
    }

    pub(super) fn digest_body(&self, to_boot: u64, nonce: u64, reply: bool) -> Body {
        Body::Digest { nonce, reply, buckets: self.table.digest(), your_boot: to_boot }
    }
}

//! What this node may do now, and what leads from one stage to the next.
//!
//! ```text
//! start ─► Fenced ──peers have spoken, or nobody is there──► Active ──leave──► Left
//!            ▲  │                                             │                 ▲
//!            │  └──────────────────────leave─────────────────┼─────────────────┘
//!            └──────a pause, a lost link, a false death───────┘
//! ```

use std::{collections::BTreeSet, time::Instant};

use super::{
    Event, Gain, Ownership,
    fence::{Cause, Fence, Surroundings},
    message::Body,
};
use crate::node_name::NodeName;

#[derive(Debug)]
pub(super) enum Stage {
    /// Nothing is answered or claimed until the peers have said what they know.
    Fenced(Fence),
    /// Answers, claims and elects.
    Active,
    /// Said that it stops, and hears nothing more.
    Left,
}

/// Who was there when this node asked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Company {
    /// Somebody answered, or was heard since.
    Met,
    /// Nobody is in reach, whatever the failure detector says yet.
    Alone,
}

impl Ownership {
    pub(super) fn raise_fence(&mut self, now: Instant) {
        match &self.stage {
            // It asks anyway.
            Stage::Fenced(fence) if fence.cause() == Cause::Start => {}
            // Active → Fenced; fenced already, it asks anew.
            Stage::Active | Stage::Fenced(_) => {
                self.events.push_back(Event::Fenced);
                let expected = self.membership.alive().count();
                self.stage = Stage::Fenced(Fence::new(Cause::Doubt, self.chance.bits(), expected, now));
                self.ask(now);
            }
            Stage::Left => {}
        }
    }

    /// Starts to ask anew, at a start too.
    pub(super) fn renew_fence(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Fenced(fence) => {
                fence.renew(self.chance.bits(), now);
                self.ask(now);
            }
            // Active → Fenced.
            Stage::Active => self.raise_fence(now),
            Stage::Left => {}
        }
    }

    /// Asks everybody who may know something.
    fn ask(&mut self, now: Instant) {
        let Stage::Fenced(fence) = &mut self.stage else { return };
        let Some(nonce) = fence.poll_ask(now) else { return };
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
        let Stage::Fenced(fence) = &self.stage else { return };
        let around = Surroundings {
            members: self.membership.alive().count(),
            knows_others: self.knows_others(),
            has_demands: self.demands.is_some(),
        };
        if !fence.is_over(around, now) {
            return;
        }
        // Fenced → Active.
        self.company = if fence.is_unanswered() { Company::Alone } else { Company::Met };
        self.stage = Stage::Active;
        self.election.request();
        self.events.push_back(Event::Unfenced);
        let held: Vec<_> = self.owned().collect();
        for vip in held {
            self.gained(vip, Gain::Resumed);
        }
    }

    /// An answer to a digest, maybe to one that the fence sent.
    pub(super) fn handle_digest_answer(&mut self, from: &NodeName, nonce: u64, agrees: bool) {
        if let Stage::Fenced(fence) = &mut self.stage {
            fence.handle_answer(from, nonce, agrees);
        }
    }

    pub(super) fn digest_body(&self, to_boot: u64, nonce: u64, reply: bool) -> Body {
        Body::Digest { nonce, reply, buckets: self.table.digest(), your_boot: to_boot }
    }

    pub(crate) fn is_fenced(&self) -> bool {
        matches!(self.stage, Stage::Fenced(_))
    }

    pub(super) fn is_active(&self) -> bool {
        matches!(self.stage, Stage::Active)
    }
}

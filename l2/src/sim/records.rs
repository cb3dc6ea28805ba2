//! The claims that nodes write down at the API server, and how the others learn of them.

use std::{net::IpAddr, time::Duration};

use super::{API, Item, World};
use crate::ownership::Claim;

/// A speaker writes together what comes together.
const WRITE: Duration = Duration::from_millis(30);

impl World {
    /// What is held is written down a moment later, and again with each change of its epoch.
    pub(super) fn write_changes(&mut self, index: usize) {
        let node = &self.nodes[index];
        let differs = |vip: &&IpAddr| {
            let known = self.written.get(&(index, **vip)).map(|claim| claim.epoch);
            node.core.claim(**vip).map(|claim| claim.epoch) != known
        };
        let changed: Vec<_> = node.announced.keys().filter(differs).copied().collect();
        let boot = node.boot;
        for vip in changed {
            if self.nodes[index].writing.insert(vip) {
                self.push(self.now + WRITE, Item::Write { by: index, boot, vip });
            }
        }
    }

    /// Writes a claim down at the API server, and lets the others read it.
    pub(super) fn record(&mut self, index: usize, vip: IpAddr) {
        if !self.reaches_api(index) {
            return;
        }
        let Some(claim) = self.nodes[index].core.claim(vip).cloned() else { return };
        self.written.insert((index, vip), claim.clone());
        self.tell_record(index, &claim, false);
    }

    pub(super) fn tell_record(&mut self, index: usize, claim: &Claim, gone: bool) {
        for to in (0..self.nodes.len()).filter(|to| *to != index) {
            let delay = Duration::from_millis(u64::try_from(40 + self.chance.below(200)).unwrap());
            self.push(self.now + delay, Item::Record { to, claim: claim.clone(), gone });
        }
    }

    /// What was written down is deleted by somebody; each writer puts its own back.
    pub(crate) fn delete_written(&mut self) {
        for ((index, vip), claim) in std::mem::take(&mut self.written) {
            self.tell_record(index, &claim, true);
            let boot = self.nodes[index].boot;
            let back = Duration::from_millis(u64::try_from(300 + self.chance.below(300)).unwrap());
            self.push(self.now + back, Item::Write { by: index, boot, vip });
        }
    }

    pub(super) fn reaches_api(&self, index: usize) -> bool {
        self.nodes[index].group == API && !self.nodes[index].lost
    }
}

//! Claims by way of the API server, for nodes that do not hear each other while clients hear them all.
//!
//! A speaker that took over from a peer which lives behind a broken link, and that peer, would both answer. Where both
//! still reach the API server, each reads there what the other claims, and the newer claim wins as ever. The loser
//! leaves the address alone for as long as the winner is out of reach and its node is ready.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    Loss, Ownership,
    claim::{Claim, Heard},
    message::Body,
    stage::Company,
};
use crate::node_name::NodeName;

/// What is gone from the API server was taken back by its owner, unless that writes it again in this time: others delete, too.
const WITHDRAWN: Duration = Duration::from_secs(1);
/// Peers that have not read it yet pass on what is gone for no longer than this.
const STALE: Duration = Duration::from_secs(60);
/// After nodes met again, those that are still out of reach count as dead: the others would have brought them along.
const REUNION_GRACE: Duration = Duration::from_secs(1);

impl Ownership {
    /// Claims that other speakers wrote down.
    pub(crate) fn handle_records(&mut self, claims: Vec<Claim>, now: Instant) {
        self.wake(now);
        for claim in &claims {
            if self.withdrawn.get(&claim.vip).is_some_and(|(gone, _)| gone == claim) {
                self.withdrawn.remove(&claim.vip);
            }
        }
        self.keep_records(claims, now);
        self.finish(now);
    }

    /// Claims that are not written down any more.
    pub(crate) fn handle_withdrawn(&mut self, claims: Vec<Claim>, now: Instant) {
        self.wake(now);
        self.withdrawn.extend(claims.into_iter().map(|claim| (claim.vip, (claim, now))));
        self.finish(now);
    }

    /// Keeps what is news. A record is passed on as such to those who have not read it yet.
    pub(super) fn keep_records(&mut self, claims: Vec<Claim>, now: Instant) {
        for claim in claims {
            if self.withdrawn.get(&claim.vip).is_some_and(|(gone, _)| *gone == claim) {
                continue;
            }
            // What an earlier life wrote is history; what its owner said itself proves no life after a death.
            let met = claim.owner().and_then(|owner| Some((self.peers.get(&owner.name)?, owner)));
            let is_of_now = met.is_some_and(|(peer, owner)| peer.identity.boot == owner.boot && !peer.left);
            if is_of_now && self.table.get(claim.vip).is_none_or(|known| claim.outweighs(known)) {
                self.records.hear(claim, now);
                self.election.request();
            }
        }
    }

    /// Nodes of which the control plane hears nothing, or nothing good.
    pub(crate) fn handle_unready(&mut self, nodes: BTreeSet<NodeName>) {
        if self.unready != nodes {
            self.election.request();
        }
        self.unready = nodes;
    }

    /// Believes the records of peers out of reach. What a peer in reach claims it says itself.
    pub(super) fn read_records(&mut self, now: Instant) {
        let apart: Vec<_> = self.records.iter().filter(|claim| self.is_apart(claim)).cloned().collect();
        for claim in apart {
            let (vip, by) = (claim.vip, claim.owner().map(|owner| owner.name.clone()));
            let was_ours = self.tenure_here(vip).is_some();
            if let Heard::Newer(_) = self.table.hear(claim.clone(), now) {
                self.tell_all(&Body::Claims(vec![claim]));
                self.repeats.remove(&vip);
                if was_ours {
                    self.lost(vip, Loss::Superseded { by });
                }
            }
        }
    }

    /// Whether this VIP is owned by a node that cannot be reached from here, and lives.
    pub(super) fn is_owned_apart(&self, vip: IpAddr) -> bool {
        self.records.get(vip).is_some_and(|claim| self.table.get(vip) == Some(claim) && self.is_apart(claim))
    }

    /// Drops what a peer in reach has said itself by now, and after a reunion what no node in reach owns.
    pub(super) fn forget_records(&mut self, now: Instant) {
        let reunited = self.reunited.filter(|at| now.saturating_duration_since(*at) >= REUNION_GRACE);
        if reunited.is_some() {
            self.reunited = None;
        }
        let is_older =
            |vip| reunited.is_some_and(|at| self.records.age(vip, now) >= now.saturating_duration_since(at));
        let stale = |claim: &&Claim| {
            let known = self.table.get(claim.vip);
            known.is_some_and(|known| known.outweighs(claim))
                || if self.is_apart(claim) { is_older(claim.vip) } else { known == Some(*claim) }
        };
        let stale: Vec<_> = self.records.iter().filter(stale).map(|claim| claim.vip).collect();
        let since = |at: &Instant| now.saturating_duration_since(*at);
        self.withdrawn.retain(|_, (_, at)| since(at) < STALE);
        let gone = self
            .withdrawn
            .iter()
            .filter(|(vip, (claim, at))| since(at) >= WITHDRAWN && self.records.get(**vip) == Some(claim));
        let gone: Vec<_> = gone.map(|(vip, _)| *vip).collect();
        for vip in stale.into_iter().chain(gone) {
            self.records.remove(vip);
            self.election.request();
        }
    }

    fn is_apart(&self, claim: &Claim) -> bool {
        claim.owner().is_some_and(|owner| {
            let hears = self.company == Company::Met && self.hears_anybody(self.last_turn);
            let in_reach = hears && self.membership.member(&owner.name).is_some_and(|member| member.up);
            owner.name != self.me.name && !in_reach && !self.unready.contains(&owner.name)
        })
    }
}

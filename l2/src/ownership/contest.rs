//! Two speakers that answer for one VIP on one wire and do not hear each other's datagrams: who yields, and when.
//!
//! Only frames pass between them, so nothing can be agreed. Each knows how well it is connected itself, and gives up after
//! the patience of its rank; whoever is left then is the only one:
//! ```text
//! no other speaker in reach, or its node not ready   lower rank: at once   higher: 300 ms
//! others in reach                                    lower rank: 600 ms    higher: never
//! ```
//! A node that hears nobody does not begin such a contest: what it takes for dead and finds on the wire all the same, it
//! leaves alone.
//!
//! The rank is the election's, so that both agree on it. A rival that cannot live, because it said that it stops or its node
//! is not ready, wins nothing: frames with its hardware address are somebody else's.
//!
//! Who yields says that the other owns the VIP, and spares it for a while; then it asks the wire before it takes it.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    Claim, Demands, Hold, Loss, Ownership, WireClaim,
    claim::{Owner, Tenure},
    message::Body,
    settle::OwnerState,
};
use crate::{elect::rank, mac::Mac, node_name::NodeName};

/// Longer than a claim and its answer take on a busy LAN.
const STEP: Duration = Duration::from_millis(300);
/// A claim is answered with ours no more often than this, or two speakers would answer each other for ever.
const DEFEND_EVERY: Duration = Duration::from_millis(50);
/// Every member pings and is pinged ten times a second: who hears none of them for so long hears nobody.
const HEARD: Duration = Duration::from_millis(600);
/// How long a VIP is left alone before the wire is asked whether its owner is still there.
const SPARE: Duration = Duration::from_secs(2);
/// A rival that was silent for so long has yielded; what comes later is another contest.
const OVER: Duration = Duration::from_secs(5);

/// A VIP that another speaker, out of reach, claims on the wire as well.
#[derive(Debug)]
pub(super) struct Contest {
    rival: NodeName,
    since: Instant,
    heard: Instant,
    defended: Option<Instant>,
}

impl Ownership {
    /// Another station says on the wire that one of our VIPs is its own.
    pub(crate) fn handle_wire_claim(&mut self, vip: IpAddr, mac: Mac, now: Instant) -> WireClaim {
        let Some(rival) = self.speaker_of(mac) else { return WireClaim::Foreign };
        let in_reach = self.membership.heard().any(|member| member.identity.name == rival);
        match self.tenure_here(vip) {
            // Not free.
            Some(Hold::Probing) if !in_reach && !self.is_gone(&rival) => self.yield_to(vip, &rival, now),
            // A fenced node answers nothing, and asks.
            Some(Hold::Owned) if !in_reach && self.is_active() => {
                return self.contest(vip, &rival, now);
            }
            _ => {}
        }
        WireClaim::Settled
    }

    fn contest(&mut self, vip: IpAddr, rival: &NodeName, now: Instant) -> WireClaim {
        let patience = self.patience(vip, rival, now);
        let fresh = || Contest { rival: rival.clone(), since: now, heard: now, defended: None };
        let contest = self.contests.entry(vip).or_insert_with(fresh);
        if now.saturating_duration_since(contest.heard) >= OVER {
            *contest = fresh();
        }
        contest.heard = now;
        if patience.is_some_and(|patience| now.saturating_duration_since(contest.since) >= patience) {
            self.yield_to(vip, rival, now);
            return WireClaim::Settled;
        }
        if contest.defended.is_some_and(|at| now.saturating_duration_since(at) < DEFEND_EVERY) {
            return WireClaim::Settled;
        }
        contest.defended = Some(now);
        WireClaim::Defend
    }

    /// VIPs of ours that another speaker, out of reach, claims on the wire: and whose.
    pub(crate) fn contests(&self) -> impl Iterator<Item = (IpAddr, &NodeName)> {
        self.contests.iter().map(|(vip, contest)| (*vip, &contest.rival))
    }

    /// How long this node stands up to that one; None is for ever.
    fn patience(&self, vip: IpAddr, rival: &NodeName, now: Instant) -> Option<Duration> {
        if self.is_gone(rival) {
            return None;
        }
        let is_lower = rank(vip, &self.me.name) < rank(vip, rival);
        let in_reach = self.hears_anybody(now);
        let given_up = self.unready.contains(&self.me.name);
        match (in_reach && !given_up, is_lower) {
            (false, true) => Some(Duration::ZERO),
            (false, false) => Some(STEP),
            (true, true) => Some(STEP * 2),
            (true, false) => None,
        }
    }

    fn yield_to(&mut self, vip: IpAddr, rival: &NodeName, now: Instant) {
        self.contests.remove(&vip);
        self.spare(vip, now);
        match self.peers.get(rival).map(|peer| peer.identity.boot) {
            Some(boot) => {
                let owner = Owner { name: rival.clone(), boot };
                self.put(vip, self.table.next_epoch(vip), Tenure::Owned(owner), now);
            }
            // Never met: nothing that is said of its claim may be newer than the claim itself.
            None => self.put(vip, 0, Tenure::Free, now),
        }
        // It may hear us again in this very moment, and must not take our last claim for the newest.
        if let (Some(claim), Some(peer)) = (self.table.get(vip).cloned(), self.peers.get(rival)) {
            self.send(peer.identity.addr, Body::Claims(vec![claim]));
        }
        self.lost(vip, Loss::Superseded { by: Some(rival.clone()) });
        self.finish(now);
    }

    fn is_gone(&self, rival: &NodeName) -> bool {
        self.unready.contains(rival) || self.peers.get(rival).is_some_and(|peer| peer.left)
    }

    /// The hardware addresses of speakers as they wrote them down: also of those that were never heard.
    pub(crate) fn handle_stations(&mut self, stations: BTreeMap<NodeName, Vec<Mac>>) {
        self.stations = stations;
    }

    /// The speaker that has this hardware address.
    pub(crate) fn speaker_of(&self, mac: Mac) -> Option<NodeName> {
        let written = || {
            let found = self.stations.iter().find(|(_, macs)| macs.contains(&mac));
            found.map(|(name, _)| name.clone()).filter(|name| *name != self.me.name)
        };
        self.peers.by_mac(mac).or_else(written)
    }

    /// Leaves a VIP alone that a speaker answers for which is not heard here.
    pub(super) fn spare(&mut self, vip: IpAddr, now: Instant) {
        self.spared.insert(vip, now + SPARE);
    }

    /// What somebody in reach owns by now, or nobody asks for, is over.
    pub(super) fn forget_spared(&mut self, demands: &Demands, now: Instant) {
        let alive = |claim: &Claim| self.owner_state(claim, now) == OwnerState::Alive;
        let over = |vip: &IpAddr| {
            !demands.contains_key(vip)
                || self.table.get(*vip).is_some_and(|claim| claim.is_owned() && alive(claim))
        };
        let over: Vec<_> = self.spared.keys().filter(|vip| over(vip)).copied().collect();
        self.spared.retain(|vip, _| !over.contains(vip));
    }

    pub(super) fn is_spared(&self, vip: IpAddr, now: Instant) -> bool {
        self.spared.get(&vip).is_some_and(|until| now < *until)
    }

    /// Whether the wire is to be asked before this VIP is taken: its owner was found there before.
    pub(super) fn was_spared(&self, vip: IpAddr) -> bool {
        self.spared.contains_key(&vip)
    }

    pub(super) fn hears_anybody(&self, now: Instant) -> bool {
        let lately =
            |name| self.peers.get(name).is_some_and(|peer| now.saturating_duration_since(peer.heard) < HEARD);
        self.membership.heard().any(|member| lately(&member.identity.name))
    }

    /// Whether this owner was declared down though the second path still found it, by a node that hears nobody else either.
    pub(super) fn is_found_but_unheard(&self, owner: &NodeName, now: Instant) -> bool {
        let found = self.membership.member(owner).is_some_and(|member| !member.up && member.found);
        found && !self.hears_anybody(now)
    }

    pub(super) fn forget_contests(&mut self, now: Instant) {
        self.contests.retain(|_, contest| now.saturating_duration_since(contest.heard) < OVER);
    }
}

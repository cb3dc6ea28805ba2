//! The election's result turned into deeds: take, probe, offer, release.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Event, Gain, Hold, Loss, Offer, Ownership, claim::Claim, claim::Owner, claim::Tenure};
use crate::{
    elect::{Peer, Standing, elect},
    node_name::NodeName,
};

/// An owner that was heard so lately is not taken for dead by hearsay: a node that was cut off spreads old rumours.
const HEARSAY: Duration = Duration::from_millis(200);
/// A claim whose owner was never seen alive is believed for so long; then its owner counts as dead.
const UNKNOWN_OWNER: Duration = Duration::from_secs(2);
/// A node that is elected and claims nothing for so long does not know the Service: its watch is behind.
const UNAWARE: Duration = Duration::from_secs(1);
/// An offer without any answer.
const OFFER_TIMEOUT: Duration = Duration::from_secs(1);
pub(super) const OFFER_EVERY: Duration = Duration::from_millis(50);
/// A node that declined is not asked again so soon.
pub(super) const DECLINE_HOLD: Duration = Duration::from_secs(5);

/// What is known about the owner that a claim names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnerState {
    Alive,
    Dead,
    /// Never met: believed until the claim is old enough.
    Unknown,
}

impl Ownership {
    /// Elects and acts, if anything changed and this node may act.
    pub(super) fn settle(&mut self, now: Instant) {
        let Some(due) = self.next_settling() else { return };
        if now < due {
            // What was claimed is told at once: the others must not read it at the API server first.
            return self.tell_fresh_claims(now);
        }
        let Some(demands) = self.demands.clone() else { return };
        self.election.hold(now);
        self.declined.retain(|_, until| *until > now);
        self.forget_spared(&demands, now);
        self.forget_records(now);
        self.read_records(now);
        self.release_undemanded(now);

        let peers = self.electorate(now);
        let index = |owner: &Owner| peers.iter().position(|peer| peer.name == owner.name);
        let holder = |vip: IpAddr| {
            let claim = self.table.get(vip)?;
            let owner = claim.owner()?;
            (self.owner_state(claim, now) == OwnerState::Alive).then(|| index(owner)).flatten()
        };
        let wanted = demands
            .values()
            .filter(|demand| self.table.conflict_until(demand.vip).is_none_or(|t| t <= now))
            .filter(|demand| !self.is_owned_apart(demand.vip) && !self.is_spared(demand.vip, now));
        let owners = elect(wanted, &peers, holder);
        self.awaited.retain(|vip, _| demands.contains_key(vip));
        for (vip, owner) in owners {
            match owner {
                Some(owner) if peers[owner].name == self.me.name => self.take(vip, now),
                Some(owner) => {
                    self.await_claim(vip, &peers[owner].name, now);
                    self.give(vip, &peers[owner], now);
                }
                None if self.tenure_here(vip).is_some() => self.release(vip, now),
                None => {}
            }
        }
        self.send_offers(now);
        self.tell_fresh_claims(now);
    }

    /// When the next election is due: at once, or a moment after the last one.
    pub(super) fn next_settling(&self) -> Option<Instant> {
        let may_act = self.is_active() && self.demands.is_some();
        self.election.due(self.last_turn).filter(|_| may_act)
    }

    /// Every living member that knows the Services, this node included.
    fn electorate(&self, now: Instant) -> Vec<Peer> {
        let own_standing = if self.own.draining { Standing::Draining } else { Standing::Settled };
        let own = Peer {
            name: self.me.name.clone(),
            standing: own_standing,
            unable: self.unable.clone(),
            networks: self.networks.clone(),
            ready: !self.unready.contains(&self.me.name),
        };
        let others = self.membership.alive().filter_map(|member| {
            let peer = self.peers.get(&member.identity.name)?;
            let status = peer.status.as_ref().filter(|status| status.ready && !peer.left)?;
            let settled = now.saturating_duration_since(member.since) >= self.settings.settle_after;
            let standing = match (status.draining, settled) {
                (true, _) => Standing::Draining,
                (false, true) => Standing::Settled,
                (false, false) => Standing::Fresh,
            };
            let declined = self.declined.keys().filter(|(_, name)| *name == member.identity.name);
            let mut unable = peer.unable.clone();
            let declined: BTreeSet<_> = declined.map(|(vip, _)| *vip).collect();
            if !declined.is_empty() {
                unable = Arc::new(unable.union(&declined).copied().collect());
            }
            Some(Peer {
                name: member.identity.name.clone(),
                standing,
                unable,
                networks: peer.networks.clone(),
                ready: !self.unready.contains(&member.identity.name),
            })
        });
        let mut all: Vec<_> = others.chain([own]).collect();
        // The same order on every node, whoever computes.
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub(super) fn owner_state(&self, claim: &Claim, now: Instant) -> OwnerState {
        let Some(owner) = claim.owner() else { return OwnerState::Dead };
        if *owner == self.me {
            return OwnerState::Alive;
        }
        if owner.name == self.me.name {
            return OwnerState::Dead; // an earlier life of this node
        }
        if self.peers.get(&owner.name).is_some_and(|peer| peer.left || peer.identity.boot > owner.boot) {
            return OwnerState::Dead;
        }
        match self.membership.member(&owner.name) {
            Some(member) if member.identity.boot > owner.boot => OwnerState::Dead,
            Some(member) if member.identity.boot == owner.boot && member.up => OwnerState::Alive,
            Some(member) if member.identity.boot == owner.boot => OwnerState::Dead,
            _ if self.table.age(claim.vip, now) >= UNKNOWN_OWNER => OwnerState::Dead,
            _ => OwnerState::Unknown,
        }
    }

    /// This node is elected: take what nobody living holds.
    fn take(&mut self, vip: IpAddr, now: Instant) {
        self.offers.remove(&vip);
        if self.tenure_here(vip).is_some() {
            return;
        }
        let claim = self.table.get(vip).cloned();
        let state = claim.as_ref().map_or(OwnerState::Dead, |claim| self.owner_state(claim, now));
        if state != OwnerState::Dead {
            return; // its owner will offer it
        }
        let epoch = self.table.next_epoch(vip);
        match claim.map(|claim| claim.tenure) {
            Some(Tenure::Owned(from)) if !self.was_spared(vip) => {
                let peer = self.peers.get(&from.name);
                let silent = peer.map(|peer| now.saturating_duration_since(peer.heard));
                let same_life = peer.is_some_and(|peer| peer.identity.boot == from.boot && !peer.left);
                if same_life && silent.is_some_and(|silent| silent < HEARSAY) {
                    self.election.request(); // looked at again in the next turn
                    return;
                }
                if self.is_found_but_unheard(&from.name, now) {
                    // It lives, and it is this node that hears nobody: a claim of ours would only be in its way.
                    return self.spare(vip, now);
                }
                // A peer held it until now: no need to ask whether it is free.
                self.put(vip, epoch, Tenure::Owned(self.me.clone()), now);
                self.gained(vip, Gain::TakeOver { from: from.name, silent });
            }
            _ => {
                self.put(vip, epoch, Tenure::Probing(self.me.clone()), now);
                self.events.push_back(Event::Probe(vip));
            }
        }
    }

    /// Another node is elected for what nobody holds: it claims at once, or is passed over.
    fn await_claim(&mut self, vip: IpAddr, elected: &NodeName, now: Instant) {
        let held = self.table.get(vip).is_some_and(|claim| self.owner_state(claim, now) == OwnerState::Alive);
        if held {
            self.awaited.remove(&vip);
            return;
        }
        match self.awaited.get(&vip) {
            Some((name, since)) if name == elected => {
                if now.saturating_duration_since(*since) >= UNAWARE {
                    self.awaited.remove(&vip);
                    self.declined.insert((vip, elected.clone()), now + DECLINE_HOLD);
                    self.election.request();
                }
            }
            _ => drop(self.awaited.insert(vip, (elected.clone(), now))),
        }
    }

    /// Looks again at what should have been claimed by now.
    pub(super) fn review_awaited(&mut self, now: Instant) {
        if self.awaited.values().any(|(_, since)| now.saturating_duration_since(*since) >= UNAWARE) {
            self.election.request();
        }
    }

    /// Another node is elected: offer it what is ours.
    fn give(&mut self, vip: IpAddr, to: &Peer, now: Instant) {
        match self.tenure_here(vip) {
            None => {}
            Some(Hold::Probing) => self.release(vip, now),
            Some(Hold::Owned) => match self.offers.get(&vip) {
                Some(offer) if offer.to == to.name => {}
                _ => {
                    self.offers.insert(vip, Offer { to: to.name.clone(), since: now, next: now });
                }
            },
        }
    }

    pub(super) fn release(&mut self, vip: IpAddr, now: Instant) {
        self.put(vip, self.table.next_epoch(vip), Tenure::Free, now);
        self.lost(vip, Loss::Released);
    }

    fn release_undemanded(&mut self, now: Instant) {
        let Some(demands) = &self.demands else { return };
        let mine = |claim: &&Claim| claim.owner() == Some(&self.me) && !demands.contains_key(&claim.vip);
        let gone: Vec<_> = self.table.iter().filter(mine).map(|claim| claim.vip).collect();
        for vip in gone {
            self.release(vip, now);
        }
    }

    /// Offers that nobody answers are withdrawn, so that another node is asked.
    pub(super) fn expire_offers(&mut self, now: Instant) {
        let silent = |offer: &Offer| now.saturating_duration_since(offer.since) >= OFFER_TIMEOUT;
        let expired: Vec<_> =
            self.offers.iter().filter(|(_, o)| silent(o)).map(|(v, o)| (*v, o.to.clone())).collect();
        for (vip, to) in expired {
            self.offers.remove(&vip);
            self.declined.insert((vip, to), now + DECLINE_HOLD);
            self.election.request();
        }
    }
}

//! What speakers say to each other about ownership, and what each hears.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Gain, Hold, Loss, Ownership,
    claim::{Claim, Heard, Tenure},
    message::{self, Body, Message, Status},
    settle::{DECLINE_HOLD, OFFER_EVERY, OwnerState},
    stage::{Company, Stage},
};
use crate::{membership::Identity, node_name::NodeName};

const DIGEST_EVERY: Duration = Duration::from_millis(250);
/// How often nodes that are not members are called, and how many of them.
const REUNION_EVERY: Duration = Duration::from_millis(250);
const REUNION_CALLS: usize = 8;
const REVIEW_EVERY: Duration = Duration::from_secs(1);
/// A change is told at once and in the next two turns; what is still lost, the digests find.
const REPEATS: u8 = 2;
/// With more changes than this at once repeating is left to the digests.
const REPEAT_AT_MOST: usize = 400;
/// A peer whose digest differs is sent our claims at most this often.
const CORRECT_EVERY: Duration = Duration::from_millis(80);

impl Ownership {
    /// A datagram from another speaker, already authenticated.
    pub(crate) fn handle_datagram(&mut self, from: SocketAddr, data: &[u8], now: Instant) {
        self.wake(now);
        self.company = Company::Met;
        self.peers.heard_from(from, now);
        match data.split_first() {
            Some((&message::SWIM, swim)) => self.membership.handle_data(swim, now),
            Some(_) => {
                if let Ok(message) = Message::decode(data) {
                    self.handle_message(message, now);
                }
            }
            None => {}
        }
        self.finish(now);
    }

    fn handle_message(&mut self, message: Message, now: Instant) {
        let Message { from, body } = message;
        if from.name == self.me.name || matches!(self.stage, Stage::Left) {
            return;
        }
        if self.peers.meet(&from, now).is_none() {
            return;
        }
        let known = self.membership.member(&from.name);
        if known.is_none_or(|member| !member.up || member.identity.boot != from.boot) {
            self.membership.handle_acquaintance(from.clone(), now);
        }
        match body {
            Body::Claims(claims) => self.handle_claims(&from, claims, now),
            Body::Records(claims) => self.keep_records(claims, now),
            Body::Offers(offers) => self.handle_offers(&from, &offers, now),
            Body::Declines(vips) => self.handle_declines(&from, &vips, now),
            Body::Status(status) => self.handle_status(&from.name, status),
            Body::Digest { nonce, reply, buckets, your_boot } => {
                self.handle_own_boot(your_boot, now);
                let agrees = buckets == self.table.digest();
                let due =
                    |last: Option<Instant>| last.is_none_or(|at| now.duration_since(at) >= CORRECT_EVERY);
                if !agrees && self.peers.get(&from.name).is_some_and(|peer| due(peer.corrected)) {
                    let claims = self.table.differing(&buckets);
                    if let Some(peer) = self.peers.get_mut(&from.name) {
                        peer.corrected = Some(now);
                    }
                    self.send(from.addr, Body::Claims(claims));
                }
                if reply {
                    self.handle_digest_answer(&from.name, nonce, agrees);
                } else {
                    self.send_digest_to(&from, nonce, true);
                }
            }
            Body::Leaving => {
                if let Some(peer) = self.peers.get_mut(&from.name) {
                    peer.left = true;
                    self.election.request();
                }
            }
        }
    }

    fn handle_claims(&mut self, from: &Identity, claims: Vec<Claim>, now: Instant) {
        let mut corrections = Vec::new();
        let mut forwards: BTreeMap<SocketAddr, Vec<Claim>> = BTreeMap::new();
        for claim in claims {
            let vip = claim.vip;
            if claim.is_owned() && claim.owner() == Some(&self.me) {
                self.hear_of_own(claim, from, now);
                continue;
            }
            if claim.owner() == Some(&self.me) && self.tenure_here(vip).is_none() {
                self.disown(claim, now);
                continue;
            }
            let unaware = matches!(claim.tenure, Tenure::Conflict | Tenure::Probing(_));
            if unaware && self.tenure_here(vip) == Some(Hold::Owned) {
                self.insist(&claim, now);
                continue;
            }
            match self.table.hear(claim.clone(), now) {
                Heard::Same => {}
                Heard::Older => corrections.extend(self.table.get(vip).cloned()),
                Heard::Newer(before) => {
                    self.election.request();
                    self.repeats.remove(&vip);
                    self.superseded(before, &claim, &from.name, &mut forwards);
                }
            }
        }
        self.send(from.addr, Body::Claims(corrections));
        for (to, claims) in forwards {
            self.send(to, Body::Claims(claims));
        }
    }

    /// Somebody saw a host that uses our VIP, or asks whether there is one: that host is this node, unknown over there until
    /// now.
    fn insist(&mut self, claim: &Claim, now: Instant) {
        let epoch = self.table.next_epoch(claim.vip).max(claim.epoch + 1);
        self.put(claim.vip, epoch, Tenure::Owned(self.me.clone()), now);
    }

    /// What another node says that is ours. A speaker that yielded to us on the wire gave it a later epoch than we know.
    fn hear_of_own(&mut self, claim: Claim, from: &Identity, now: Instant) {
        let (vip, holds) = (claim.vip, self.tenure_here(claim.vip) == Some(Hold::Owned));
        let is_news = self.table.get(vip).is_none_or(|known| claim.outweighs(known));
        if !is_news {
            if !holds {
                self.disown(claim, now);
            }
            return;
        }
        if !holds && !self.can_take(vip) {
            return self.disown(claim, now);
        }
        self.put(vip, claim.epoch + 1, Tenure::Owned(self.me.clone()), now);
        // A fenced node resumes what it has when the fence is lifted.
        if !holds && self.is_active() {
            self.gained(vip, Gain::HandOver { from: from.name.clone() });
        }
    }

    /// A claim in our name that we do not hold: from before a release that everybody has forgotten.
    fn disown(&mut self, claim: Claim, now: Instant) {
        let epoch = self.table.next_epoch(claim.vip).max(claim.epoch + 1);
        if self.table.get(claim.vip).is_none_or(|known| !known.outweighs(&claim)) {
            self.put(claim.vip, epoch, Tenure::Free, now);
        }
    }

    /// A newer claim replaced `before`: stop if that was ours, tell its owner if it was another's.
    fn superseded(
        &mut self,
        before: Option<Claim>,
        claim: &Claim,
        from: &NodeName,
        forwards: &mut BTreeMap<SocketAddr, Vec<Claim>>,
    ) {
        let Some(before) = before else { return };
        let Some(loser) = before.owner() else { return };
        let winner = claim.owner().map(|owner| owner.name.clone());
        if *loser == self.me {
            let offered = self.offers.get(&claim.vip).map(|offer| &offer.to);
            let why = match winner {
                Some(to) if offered == Some(&to) => Loss::HandedOver { to },
                _ if claim.tenure == Tenure::Conflict => Loss::Conflict,
                by => Loss::Superseded { by },
            };
            self.lost(claim.vip, why);
        } else if loser.name != *from && Some(&loser.name) != winner.as_ref() {
            // Two parts of the cluster meet here: the loser must hear it from the first who knows.
            if let Some(peer) = self.peers.get(&loser.name) {
                forwards.entry(peer.identity.addr).or_default().push(claim.clone());
            }
        }
    }

    fn handle_offers(&mut self, from: &Identity, offers: &[(IpAddr, u64)], now: Instant) {
        if self.is_fenced() {
            return; // in a moment it can say yes; the offer is repeated
        }
        let (mut claims, mut declines) = (Vec::new(), Vec::new());
        for (vip, epoch) in offers {
            if self.tenure_here(*vip) == Some(Hold::Owned) {
                claims.extend(self.table.get(*vip).cloned());
                continue;
            }
            if !self.can_take(*vip) {
                declines.push(*vip);
                continue;
            }
            if let Some(known) = self.table.get(*vip)
                && known.epoch > *epoch
                && self.owner_state(known, now) == OwnerState::Alive
            {
                claims.push(known.clone());
                continue;
            }
            let epoch = self.table.next_epoch(*vip).max(epoch + 1);
            self.put(*vip, epoch, Tenure::Owned(self.me.clone()), now);
            self.gained(*vip, Gain::HandOver { from: from.name.clone() });
            claims.extend(self.table.get(*vip).cloned());
        }
        self.send(from.addr, Body::Claims(claims));
        self.send(from.addr, Body::Declines(declines));
        self.tell_fresh_claims(now);
    }

    fn can_take(&self, vip: IpAddr) -> bool {
        let demand = self.demands.as_ref().and_then(|demands| demands.get(&vip));
        !self.own.draining
            && !self.unable.contains(&vip)
            && demand.is_some_and(|demand| demand.candidates.contains_key(&self.me.name))
    }

    fn handle_declines(&mut self, from: &Identity, vips: &[IpAddr], now: Instant) {
        for vip in vips {
            if self.offers.get(vip).is_some_and(|offer| offer.to == from.name) {
                self.offers.remove(vip);
                self.declined.insert((*vip, from.name.clone()), now + DECLINE_HOLD);
                self.election.request();
            }
        }
    }

    fn handle_status(&mut self, from: &NodeName, status: Status) {
        let Some(peer) = self.peers.get_mut(from) else { return };
        if peer.status.as_ref().is_some_and(|known| known.version >= status.version) {
            return;
        }
        peer.unable = Arc::new(status.unable.iter().copied().collect());
        peer.networks = status.networks.as_deref().map(Arc::from);
        peer.status = Some(status);
        self.election.request();
    }

    /// The others know a later life of this node: the wall clock went back. What is owned here is claimed anew.
    fn handle_own_boot(&mut self, boot: u64, now: Instant) {
        if boot <= self.me.boot {
            return;
        }
        let held: Vec<_> = self.owned().collect();
        self.membership.handle_later_boot(boot, now);
        self.me.boot = self.membership.identity().boot;
        for vip in held {
            self.put(vip, self.table.next_epoch(vip), Tenure::Owned(self.me.clone()), now);
        }
    }

    /// Retries and comparisons, once a turn.
    pub(super) fn turn(&mut self, now: Instant) {
        self.expire_offers(now);
        self.review_awaited(now);
        self.send_offers(now);
        self.tell_fresh_claims(now);
        if self.status_repeats > 0 {
            self.status_repeats -= 1;
            self.tell_all(&Body::Status(self.own.clone()));
        }
        if now >= self.beats.digest {
            self.beats.digest = now + DIGEST_EVERY;
            let alive: Vec<_> = self.membership.alive().map(|member| member.identity.clone()).collect();
            if !alive.is_empty() {
                let to = &alive[self.chance.below(alive.len())];
                self.send_digest_to(to, 0, false);
            }
        }
        self.membership.revive(now);
        if now >= self.beats.reunion {
            self.beats.reunion = now + REUNION_EVERY;
            self.call_strangers();
        }
        if now >= self.beats.review {
            self.beats.review = now + REVIEW_EVERY;
            self.election.request();
            self.table.fade(now);
            self.peers.forget(now);
            self.forget_records(now);
            self.forget_contests(now);
        }
    }

    /// Calls some of those that should be members and are not: a partition that heals is noticed by this.
    fn call_strangers(&mut self) {
        let alive: std::collections::BTreeSet<_> = self.membership.alive().map(|m| m.identity.addr).collect();
        let own = self.membership.identity().addr;
        let known = self.peers.addresses().chain(self.seeds.iter().copied());
        let mut strangers: Vec<_> = known.filter(|addr| *addr != own && !alive.contains(addr)).collect();
        strangers.sort_unstable();
        strangers.dedup();
        for _ in 0..REUNION_CALLS.min(strangers.len()) {
            let to = strangers.swap_remove(self.chance.below(strangers.len()));
            self.send_digest(to, 0, false);
        }
    }

    /// Tells everybody who is or may be a speaker that this node is there, and where.
    pub(super) fn call_all(&mut self) {
        let own = self.membership.identity().addr;
        let known = self.peers.addresses().chain(self.seeds.iter().copied());
        let all: std::collections::BTreeSet<_> = known.filter(|addr| *addr != own).collect();
        for to in all {
            self.send_digest(to, 0, false);
        }
    }

    /// Puts a claim made here into the table and notes that it must be told.
    pub(super) fn put(&mut self, vip: IpAddr, epoch: u64, tenure: Tenure, now: Instant) {
        let before = self.table.put(Claim { vip, epoch, tenure }, now);
        self.repeats.insert(vip, REPEATS + 1);
        self.election.request();
        // Its owner is taken for dead; should it live, it must hear this first.
        let Some(loser) = before.as_ref().and_then(Claim::owner).filter(|owner| owner.name != self.me.name)
        else {
            return;
        };
        let alive = self.membership.member(&loser.name).is_some_and(|member| member.up);
        if let Some(to) = self.peers.get(&loser.name).filter(|_| !alive).map(|peer| peer.identity.addr) {
            let claim = self.table.get(vip).cloned().expect("just put");
            self.send(to, Body::Claims(vec![claim]));
        }
    }

    /// Sends own changes to all members; each goes out three times.
    pub(super) fn tell_fresh_claims(&mut self, now: Instant) {
        // A claim just made goes out at once, repeats wait for the turn.
        let turn = now >= self.beats.turn || self.beats.turn == now + super::TURN;
        let due = |count: u8| count > REPEATS || turn;
        let vips: Vec<_> = self.repeats.iter().filter(|(_, n)| due(**n)).map(|(vip, _)| *vip).collect();
        if vips.is_empty() {
            return;
        }
        let many = vips.len() > REPEAT_AT_MOST;
        for vip in &vips {
            match self.repeats.get_mut(vip) {
                Some(count) if *count > 1 && !many => *count -= 1,
                _ => drop(self.repeats.remove(vip)),
            }
        }
        let claims: Vec<_> = vips.iter().filter_map(|vip| self.table.get(*vip)).cloned().collect();
        self.tell_all(&Body::Claims(claims));
    }

    pub(super) fn send_offers(&mut self, now: Instant) {
        let mut by_node: BTreeMap<NodeName, Vec<(IpAddr, u64)>> = BTreeMap::new();
        for (vip, offer) in &mut self.offers {
            let Some(claim) = self.table.get(*vip).filter(|_| offer.next <= now) else { continue };
            offer.next = now + OFFER_EVERY;
            by_node.entry(offer.to.clone()).or_default().push((*vip, claim.epoch));
        }
        for (name, offers) in by_node {
            if let Some(to) = self.membership.member(&name).map(|member| member.identity.addr) {
                self.send(to, Body::Offers(offers));
            }
        }
    }

    pub(super) fn change_status(&mut self, change: impl FnOnce(&mut Status)) {
        change(&mut self.own);
        self.own.version += 1;
        self.status_repeats = REPEATS;
        self.tell_all(&Body::Status(self.own.clone()));
    }

    /// First words to a new member.
    pub(super) fn greet(&mut self, to: &Identity) {
        self.send(to.addr, Body::Status(self.own.clone()));
        self.send_digest_to(to, 0, false);
    }

    pub(super) fn send_digest(&mut self, to: SocketAddr, nonce: u64, reply: bool) {
        let body = self.digest_body(0, nonce, reply);
        self.send(to, body);
    }

    fn send_digest_to(&mut self, to: &Identity, nonce: u64, reply: bool) {
        self.send(to.addr, Body::Status(self.own.clone()));
        let boot = self.peers.get(&to.name).map_or(0, |peer| peer.identity.boot);
        let body = self.digest_body(boot, nonce, reply);
        self.send(to.addr, body);
    }

    pub(super) fn tell_all(&mut self, body: &Body) {
        let datagrams = self.encode(body.clone());
        let members: Vec<_> = self.membership.alive().map(|member| member.identity.addr).collect();
        for to in members {
            self.sends.extend(datagrams.iter().map(|datagram| (to, datagram.clone())));
        }
    }

    pub(super) fn send(&mut self, to: SocketAddr, body: Body) {
        let datagrams = self.encode(body);
        self.sends.extend(datagrams.into_iter().map(|datagram| (to, datagram)));
    }

    /// Claims of owners out of reach are marked as what they are, or the others would take those owners for dead.
    fn encode(&self, body: Body) -> Vec<Vec<u8>> {
        let from = self.membership.identity();
        let datagrams = |body: Body| Message { from: from.clone(), body }.encode();
        let Body::Claims(claims) = body else { return datagrams(body) };
        let (records, claims): (Vec<_>, Vec<_>) =
            claims.into_iter().partition(|claim| self.is_owned_apart(claim.vip));
        [datagrams(Body::Records(records)), datagrams(Body::Claims(claims))].concat()
    }
}

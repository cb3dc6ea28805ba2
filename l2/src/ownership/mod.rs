//! Who answers for which VIP: membership, claims and election joined into one state machine without I/O.
//!
//! ```text
//! demand appears, nobody owns it   elected node: claim Probing → wire free → claim Owned, announce
//! owner dies                       elected node: claim Owned with the next epoch, announce at once
//! owner should be another          owner offers → the other claims and announces → the owner hears it and stops
//! two claims meet                  the newer wins on every node; the loser stops at once
//! owner is cut off, and lives      claims meet at the API server: the same rule
//! two claims meet on the wire only  the better connected stays (contest)
//! this process stood still         fenced: answers nothing until the peers have said what changed meanwhile
//! its address or carrier is gone   fenced until it is back
//! ```
//! A VIP that a living node owns is never taken, only given. Claims travel directly to all members, three times, and
//! digests compared with a random member four times a second mend what was lost. The same machine runs in the
//! speaker and in the simulation: `handle_*` takes input, `poll_*` gives output, time is an argument.

mod claim;
mod contest;
mod election;
mod fence;
mod message;
mod peers;
mod reach;
mod record;
mod settle;
mod stage;
mod talk;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use claim::Table;
pub(crate) use claim::{Claim, MAX_EPOCH, Owner, Tenure};
use contest::Contest;
use election::Election;
use fence::{Cause, Fence};
use ipnet::IpNet;
use message::Status;
use peers::Peers;
use reach::Link;
use stage::{Company, Stage};

use crate::{
    chance::Chance,
    elect::Demand,
    mac::Mac,
    membership::{Identity, Membership, Verdict},
    node_name::NodeName,
};

/// A process that did not run for so long asks before it answers again. Shorter than any death can be declared in.
pub(crate) const FENCE_AFTER: Duration = Duration::from_millis(250);
/// The beat of retries and reviews.
const TURN: Duration = Duration::from_millis(40);

/// Every VIP that should be announced, by address.
pub(crate) type Demands = BTreeMap<IpAddr, Demand>;

/// How one node takes part.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) identity: Identity,
    pub(crate) seed: u64,
    /// How long a member must be up before it is given VIPs that have an owner.
    pub(crate) settle_after: Duration,
}

/// Why a VIP is announced from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gain {
    /// Nobody owned it, and the wire was silent.
    FirstUse,
    /// Its owner died; it had not been heard for so long.
    TakeOver { from: NodeName, silent: Option<Duration> },
    /// Its owner gave it.
    HandOver { from: NodeName },
    /// It was ours before a pause or a lost link, and still is.
    Resumed,
}

/// Why a VIP is no longer announced from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    HandedOver {
        to: NodeName,
    },
    /// Another node's claim is newer.
    Superseded {
        by: Option<NodeName>,
    },
    /// No Service asks for it here any more, or this node leaves.
    Released,
    /// A host that is no speaker uses it.
    Conflict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Ask the wire whether this address is free; answer with `handle_free` or `handle_taken`.
    Probe(IpAddr),
    Gained {
        vip: IpAddr,
        why: Gain,
    },
    Lost {
        vip: IpAddr,
        why: Loss,
    },
    /// Look for a member that is suspected dead over another path; answer with `handle_verdict`.
    SecondLook {
        suspect: Identity,
        vips: Vec<IpAddr>,
    },
    MemberUp(NodeName),
    /// It has another address.
    MemberMoved(Identity),
    MemberDown(NodeName),
    Fenced,
    Unfenced,
}

/// What a speaker's own frame seen on the wire from another station means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireClaim {
    /// From a speaker; settled between the speakers.
    Settled,
    /// From a speaker that is not heard: announce once more.
    Defend,
    /// From a host that is no speaker.
    Foreign,
}

/// One node's view and part of the whole.
#[derive(Debug)]
pub(crate) struct Ownership {
    membership: Membership,
    settings: Settings,
    /// This life of this node, as claims name it.
    me: Owner,
    own: Status,
    unable: Arc<BTreeSet<IpAddr>>,
    networks: Option<Arc<[IpNet]>>,
    peers: Peers,
    table: Table,
    /// None until the Services were read once: a speaker that knows none must not take them for gone.
    demands: Option<Arc<Demands>>,
    stage: Stage,
    link: Link,
    company: Company,
    contests: BTreeMap<IpAddr, Contest>,
    stations: BTreeMap<NodeName, Vec<Mac>>,
    /// VIPs that were left to a speaker which is not heard here, and until when; forgotten when a member comes up.
    spared: BTreeMap<IpAddr, Instant>,
    offers: BTreeMap<IpAddr, Offer>,
    /// The claims that stand at the API server.
    records: Table,
    /// Those that are gone from there, since when.
    withdrawn: BTreeMap<IpAddr, (Claim, Instant)>,
    /// When nodes met again; see [`record`].
    reunited: Option<Instant>,
    /// Nodes that the control plane gave up.
    unready: BTreeSet<NodeName>,
    /// VIPs that nobody holds, who is elected for each, and since when.
    awaited: BTreeMap<IpAddr, (NodeName, Instant)>,
    /// Until when a node is not asked again to take a VIP.
    declined: BTreeMap<(IpAddr, NodeName), Instant>,
    /// Own claims still to be repeated, and how often.
    repeats: BTreeMap<IpAddr, u8>,
    status_repeats: u8,
    seeds: Vec<SocketAddr>,
    last_turn: Instant,
    beats: Beats,
    election: Election,
    sends: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<Event>,
    chance: Chance,
}

/// When what is done regularly is due next.
#[derive(Debug)]
struct Beats {
    turn: Instant,
    digest: Instant,
    reunion: Instant,
    review: Instant,
}

#[derive(Debug)]
struct Offer {
    to: NodeName,
    since: Instant,
    next: Instant,
}

impl Ownership {
    pub(crate) fn new(settings: Settings, now: Instant) -> Self {
        let mut chance = Chance::from_seed(settings.seed);
        let membership = Membership::new(settings.identity.clone(), chance.bits());
        let fence = Fence::new(Cause::Start, chance.bits(), 0, now);
        Self {
            membership,
            me: Owner { name: settings.identity.name.clone(), boot: settings.identity.boot },
            settings,
            own: Status::default(),
            unable: Arc::default(),
            networks: None,
            peers: Peers::default(),
            table: Table::default(),
            demands: None,
            stage: Stage::Fenced(fence),
            link: Link::Up,
            company: Company::Met,
            contests: BTreeMap::new(),
            stations: BTreeMap::new(),
            spared: BTreeMap::new(),
            offers: BTreeMap::new(),
            records: Table::default(),
            withdrawn: BTreeMap::new(),
            reunited: None,
            unready: BTreeSet::new(),
            awaited: BTreeMap::new(),
            declined: BTreeMap::new(),
            repeats: BTreeMap::new(),
            status_repeats: 0,
            seeds: Vec::new(),
            last_turn: now,
            beats: Beats { turn: now, digest: now, reunion: now, review: now },
            election: Election::Urgent,
            sends: VecDeque::new(),
            events: VecDeque::new(),
            chance,
        }
    }

    /// Addresses where other speakers may be; asked until they are members.
    pub(crate) fn handle_seeds(&mut self, seeds: Vec<SocketAddr>) {
        self.seeds = seeds;
    }

    /// The VIPs that should be announced, and by whom they may be.
    pub(crate) fn handle_demands(&mut self, demands: Arc<Demands>, now: Instant) {
        self.wake(now);
        let first = self.demands.replace(demands).is_none();
        self.election.request();
        if first {
            self.change_status(|own| own.ready = true);
        }
        self.finish(now);
    }

    /// VIPs that this node cannot announce on any interface, its stations' addresses, and the networks it is on.
    pub(crate) fn handle_interfaces(
        &mut self,
        unable: BTreeSet<IpAddr>,
        macs: Vec<Mac>,
        networks: Vec<IpNet>,
        now: Instant,
    ) {
        self.wake(now);
        let listed: Vec<_> = unable.iter().copied().collect();
        // More than can be said are not said, here neither: all nodes must elect from the same.
        let networks = (networks.len() <= message::MAX_NETWORKS).then_some(networks);
        if self.own.unable != listed || self.own.macs != macs || self.own.networks != networks {
            self.unable = Arc::new(unable);
            self.networks = networks.as_deref().map(Arc::from);
            self.change_status(|own| (own.unable, own.macs, own.networks) = (listed, macs, networks));
            self.election.request();
        }
        self.finish(now);
    }

    /// What the second path said about a suspect.
    pub(crate) fn handle_verdict(&mut self, suspect: &NodeName, verdict: Verdict, now: Instant) {
        self.wake(now);
        self.membership.handle_verdict(suspect, verdict, now);
        self.finish(now);
    }

    /// Nobody answered the probes of these.
    pub(crate) fn handle_free(&mut self, vips: &[IpAddr], now: Instant) {
        self.wake(now);
        for vip in vips {
            if self.tenure_here(*vip) == Some(Hold::Probing) {
                let epoch = self.table.next_epoch(*vip) - 1;
                self.put(*vip, epoch, Tenure::Owned(self.me.clone()), now);
                self.gained(*vip, Gain::FirstUse);
            }
        }
        self.finish(now);
    }

    /// A host that is no speaker uses an address that was being probed, or that we give up to it.
    pub(crate) fn handle_taken(&mut self, vip: IpAddr, now: Instant) {
        self.wake(now);
        if self.tenure_here(vip).is_some() {
            self.put(vip, self.table.next_epoch(vip), Tenure::Conflict, now);
            self.lost(vip, Loss::Conflict);
        }
        self.finish(now);
    }

    /// This node leaves soon: it offers everything, and goes on answering until each VIP is taken.
    pub(crate) fn handle_drain(&mut self, now: Instant) {
        self.wake(now);
        if !self.own.draining {
            self.change_status(|own| own.draining = true);
            self.election.hurry();
        }
        self.finish(now);
    }

    /// This node leaves now.
    pub(crate) fn handle_leave(&mut self, now: Instant) {
        self.wake(now);
        let held: Vec<_> = self.owned().collect();
        for vip in held {
            self.release(vip, now);
        }
        // Active, Fenced → Left.
        self.stage = Stage::Left;
        self.finish(now);
        self.tell_all(&message::Body::Leaving);
        self.membership.handle_leave(now);
        self.collect(now);
    }

    /// Time has come (see [`Self::poll_timeout`]).
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.wake(now);
        self.finish(now);
    }

    /// Whether a question for this VIP may be answered now. Asks the clock: a process that has just been stopped and
    /// continued must not answer before it has noticed.
    pub(crate) fn may_answer(&self, vip: IpAddr, now: Instant) -> bool {
        self.is_active()
            && now.saturating_duration_since(self.last_turn) <= FENCE_AFTER
            && self.tenure_here(vip) == Some(Hold::Owned)
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.sends.pop_front()
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        let due = self.membership.next_timeout().map_or(self.beats.turn, |due| due.min(self.beats.turn));
        self.next_settling().map_or(due, |settling| due.min(settling))
    }

    /// VIPs claimed as owned by this node.
    pub(crate) fn owned(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.table
            .iter()
            .filter(|claim| claim.is_owned() && claim.owner() == Some(&self.me))
            .map(|claim| claim.vip)
    }

    pub(crate) fn owns(&self, vip: IpAddr) -> bool {
        self.tenure_here(vip) == Some(Hold::Owned)
    }

    pub(crate) fn is_probing(&self, vip: IpAddr) -> bool {
        self.tenure_here(vip) == Some(Hold::Probing)
    }

    /// Nodes whose speakers said that they stop, or whose hosts say that none runs.
    pub(crate) fn stopped(&self) -> impl Iterator<Item = &NodeName> {
        let refused = self.membership.members().filter(|member| !member.up && member.refused);
        self.peers.left().chain(refused.map(|member| &member.identity.name))
    }

    #[cfg(test)]
    pub(crate) fn claim(&self, vip: IpAddr) -> Option<&Claim> {
        self.table.get(vip)
    }

    pub(crate) fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.table.iter()
    }

    pub(crate) fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Everything that leads into a call: notices a pause before anything else is believed.
    fn wake(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(self.last_turn);
        if self.link == Link::Cut {
            // Nobody else is silent: nothing can be heard here.
            self.membership.handle_gap(gap);
        } else if gap > FENCE_AFTER {
            self.membership.handle_gap(gap);
            self.raise_fence(now);
        }
        self.last_turn = now;
    }

    /// Everything that follows a call: timers, retries, election, and what is to be sent.
    fn finish(&mut self, now: Instant) {
        self.membership.handle_timeout(now);
        self.collect(now);
        if now >= self.beats.turn {
            self.beats.turn = now + TURN;
            self.turn(now);
        }
        self.fence_if_cut(now);
        self.try_lift(now);
        self.settle(now);
        self.collect(now);
    }

    /// Takes over what the failure detector has to say.
    fn collect(&mut self, now: Instant) {
        use crate::membership::Event as Member;
        while let Some(event) = self.membership.poll_event() {
            match event {
                Member::Up(identity) => {
                    self.peers.meet(&identity, now);
                    self.greet(&identity);
                    self.reunited = Some(now);
                    self.spared.clear();
                    self.events.push_back(Event::MemberUp(identity.name));
                }
                Member::Moved(identity) => {
                    self.peers.meet(&identity, now);
                    self.events.push_back(Event::MemberMoved(identity));
                }
                Member::Down(name) => {
                    self.election.hurry();
                    self.events.push_back(Event::MemberDown(name));
                }
                Member::Rejoined => self.raise_fence(now),
                Member::Suspect(suspect) => {
                    let vips = self.owned_by(&suspect.name).take(8).collect();
                    self.events.push_back(Event::SecondLook { suspect, vips });
                }
            }
            self.election.request();
        }
        while let Some((to, mut data)) = self.membership.poll_transmit() {
            data.insert(0, message::SWIM);
            self.sends.push_back((to, data));
        }
    }

    fn owned_by<'a>(&'a self, name: &'a NodeName) -> impl Iterator<Item = IpAddr> + 'a {
        let owns =
            move |claim: &&Claim| claim.is_owned() && claim.owner().is_some_and(|owner| owner.name == *name);
        self.table.iter().filter(owns).map(|claim| claim.vip)
    }

    fn tenure_here(&self, vip: IpAddr) -> Option<Hold> {
        match &self.table.get(vip)?.tenure {
            Tenure::Owned(owner) if *owner == self.me => Some(Hold::Owned),
            Tenure::Probing(owner) if *owner == self.me => Some(Hold::Probing),
            _ => None,
        }
    }

    fn gained(&mut self, vip: IpAddr, why: Gain) {
        self.events.push_back(Event::Gained { vip, why });
    }

    fn lost(&mut self, vip: IpAddr, why: Loss) {
        self.offers.remove(&vip);
        self.events.push_back(Event::Lost { vip, why });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Owned,
    Probing,
}

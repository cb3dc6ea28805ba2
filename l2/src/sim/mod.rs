//! A cluster of speakers in one thread, with simulated time, network and wire: the same [`Ownership`] machine that
//! runs in production, under loss, delay, partitions, crashes, pauses, slow nodes and clock jumps.

mod schedule;
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    chance::Chance,
    elect::{Candidates, Demand},
    mac::Mac,
    membership::{Identity, Verdict},
    node_name::NodeName,
    ownership::{Claim, Demands, Event, FENCE_AFTER, Ownership, Settings},
};

/// How long the real speaker's second look takes when nobody answers.
const SECOND_LOOK: Duration = Duration::from_millis(150);
/// From the first probe to "free".
const PROBING: Duration = Duration::from_millis(600);
/// The part of a broken network in which the API server is.
const API: usize = 0;
/// What a kernel keeps for a process that does not read.
const INBOX: usize = 300;

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) chance: Chance,
    pub(crate) nodes: Vec<Node>,
    pub(crate) vips: Vec<IpAddr>,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    items: BTreeMap<u64, Item>,
    sequence: u64,
    pub(crate) loss_percent: u32,
    pub(crate) delay_micros: (usize, usize),
    /// Sum of two owners' time on one wire, by VIP, since when.
    overlaps: BTreeMap<IpAddr, Instant>,
    /// The longest overlap, and the last moment at which something went wrong on purpose.
    pub(crate) longest_overlap: Duration,
    pub(crate) last_fault: Instant,
    pub(crate) unprovoked: Option<(IpAddr, Instant)>,
    pub(crate) log: Option<Vec<String>>,
    pub(crate) datagrams: u64,
}

pub(crate) struct Node {
    pub(crate) name: NodeName,
    pub(crate) core: Ownership,
    pub(crate) life: Life,
    /// Nodes of one group reach each other; by datagram and on the wire.
    pub(crate) group: usize,
    /// Nodes of different sides do not hear each other in any way; clients on the wire hear both.
    pub(crate) side: usize,
    /// Datagrams only are cut: the wire is still shared.
    pub(crate) mute: bool,
    /// Added to every datagram to or from it.
    pub(crate) slow: Duration,
    /// Its clock runs ahead of the world by this.
    pub(crate) ahead: Duration,
    inbox: Vec<(SocketAddr, Vec<u8>)>,
    wake: Option<Instant>,
    boot: u64,
    pub(crate) announced: BTreeMap<IpAddr, Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Running,
    /// Stopped by a signal, or starved of CPU.
    Paused,
    /// The process is gone, its host answers.
    Killed,
    /// The host is gone.
    Off,
}

enum Item {
    Datagram {
        to: usize,
        from: SocketAddr,
        data: Vec<u8>,
    },
    Wake(usize),
    /// A claim read at the API server.
    Record {
        to: usize,
        claim: Claim,
    },
    Probed {
        node: usize,
        boot: u64,
        vip: IpAddr,
    },
    Looked {
        node: usize,
        boot: u64,
        suspect: NodeName,
        verdict: Verdict,
    },
}

impl World {
    pub(crate) fn new(seed: u64, nodes: usize, vips: usize) -> Self {
        let now = Instant::now();
        let vip = |n: usize| IpAddr::from((0x0a01_0000 + u32::try_from(n).unwrap()).to_be_bytes());
        let mut world = Self {
            now,
            start: now,
            chance: Chance::from_seed(seed),
            nodes: Vec::new(),
            vips: (0..vips).map(vip).collect(),
            queue: BinaryHeap::new(),
            items: BTreeMap::new(),
            sequence: 0,
            loss_percent: 0,
            delay_micros: (100, 1000),
            overlaps: BTreeMap::new(),
            longest_overlap: Duration::ZERO,
            last_fault: now,
            unprovoked: None,
            log: None,
            datagrams: 0,
        };
        for index in 0..nodes {
            let node = world.fresh(index, nodes, 1_000);
            world.nodes.push(node);
        }
        for index in 0..nodes {
            world.settle_in(index);
        }
        world
    }

    /// A new process on node `index`.
    fn fresh(&mut self, index: usize, count: usize, boot: u64) -> Node {
        let name = NodeName::new(format!("node{index}"));
        let identity = Identity { name: name.clone(), addr: address(index), boot, bump: 0 };
        let seed = self.chance.bits();
        let settings = Settings { identity, seed, settle_after: Duration::from_secs(2) };
        let mut core = Ownership::new(settings, self.now);
        core.handle_seeds((0..count).map(address).collect());
        Node {
            name,
            core,
            life: Life::Running,
            group: 0,
            side: 0,
            mute: false,
            slow: Duration::ZERO,
            ahead: Duration::ZERO,
            inbox: Vec::new(),
            wake: None,
            boot,
            announced: BTreeMap::new(),
        }
    }

    fn settle_in(&mut self, index: usize) {
        let candidates: Arc<Candidates> =
            Arc::new(self.nodes.iter().map(|node| (node.name.clone(), 0)).collect());
        let demand = |vip: &IpAddr| {
            (*vip, Demand { vip: *vip, candidates: candidates.clone(), pin: None, leader: None })
        };
        let demands: Demands = self.vips.iter().map(demand).collect();
        let mac = Mac([2, 0, 0, 0, 1, u8::try_from(index % 256).unwrap()]);
        let local = self.local(index);
        let core = &mut self.nodes[index].core;
        core.handle_interfaces(BTreeSet::new(), vec![mac], local);
        core.handle_demands(Arc::new(demands), local);
        self.drain(index);
    }

    pub(crate) fn restart(&mut self, index: usize) {
        let boot = self.nodes[index].boot + 10;
        let (group, side) = (self.nodes[index].group, self.nodes[index].side);
        let count = self.nodes.len();
        let node = self.fresh(index, count, boot);
        self.nodes[index] = Node { group, side, ..node };
        self.settle_in(index);
    }

    pub(crate) fn resume(&mut self, index: usize) {
        self.nodes[index].life = Life::Running;
        let inbox = std::mem::take(&mut self.nodes[index].inbox);
        let local = self.local(index);
        // What a client asks in the first instant must find the fence, before anything was read.
        let stale = self.vips.iter().any(|vip| self.answers_stale(index, *vip, local));
        assert!(!stale || self.now - self.last_fault < FENCE_AFTER, "answered before a re-check");
        for (from, data) in inbox {
            self.nodes[index].core.handle_datagram(from, &data, local);
        }
        self.nodes[index].core.handle_timeout(local);
        self.drain(index);
    }

    fn answers_stale(&self, index: usize, vip: IpAddr, local: Instant) -> bool {
        let core = &self.nodes[index].core;
        let newer_elsewhere = self.nodes.iter().enumerate().any(|(other, node)| {
            other != index && node.life == Life::Running && node.core.may_answer(vip, self.local(other))
        });
        newer_elsewhere && core.may_answer(vip, local)
    }

    /// Runs everything up to `until`.
    pub(crate) fn run_until(&mut self, until: Instant) {
        while let Some(Reverse((at, id))) = self.queue.peek().copied() {
            if at > until {
                break;
            }
            self.queue.pop();
            self.now = self.now.max(at);
            let item = self.items.remove(&id).expect("queued items exist");
            self.handle(item);
        }
        self.now = until;
    }

    pub(crate) fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + span);
    }

    /// Runs until `done`, in steps of 5 ms; how long it took, or None.
    pub(crate) fn run_while(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let from = self.now;
        while self.now < from + limit {
            if done(self) {
                return Some(self.now - from);
            }
            self.run_for(Duration::from_millis(5));
        }
        done(self).then(|| self.now - from)
    }

    pub(crate) fn owners(&self, vip: IpAddr) -> Vec<usize> {
        (0..self.nodes.len()).filter(|index| self.answers(*index, vip)).collect()
    }

    pub(crate) fn answers(&self, index: usize, vip: IpAddr) -> bool {
        let node = &self.nodes[index];
        node.life == Life::Running && node.core.may_answer(vip, self.local(index))
    }

    /// Whether each VIP has exactly one owner on each wire where a node runs.
    pub(crate) fn is_whole(&self) -> bool {
        let groups: BTreeSet<_> =
            self.nodes.iter().filter(|n| n.life == Life::Running).map(|n| n.group).collect();
        self.vips.iter().all(|vip| {
            let owners = self.owners(*vip);
            groups.iter().all(|group| owners.iter().filter(|o| self.nodes[**o].group == *group).count() == 1)
        })
    }

    /// Whether all that run know each other.
    pub(crate) fn is_reunited(&self) -> bool {
        let running = || self.nodes.iter().filter(|node| node.life == Life::Running);
        running().all(|node| node.core.membership().alive().count() + 1 >= running().count())
    }

    fn local(&self, index: usize) -> Instant {
        self.now + self.nodes.get(index).map_or(Duration::ZERO, |node| node.ahead)
    }

    fn handle(&mut self, item: Item) {
        match item {
            Item::Datagram { to, from, data } => {
                let node = &mut self.nodes[to];
                match node.life {
                    Life::Running => {
                        let local = self.now + node.ahead;
                        node.core.handle_datagram(from, &data, local);
                        self.drain(to);
                    }
                    Life::Paused if node.inbox.len() < INBOX => node.inbox.push((from, data)),
                    _ => {}
                }
            }
            Item::Wake(index) => {
                if self.nodes[index].wake != Some(self.now) || self.nodes[index].life != Life::Running {
                    return;
                }
                self.nodes[index].wake = None;
                let local = self.local(index);
                self.nodes[index].core.handle_timeout(local);
                self.drain(index);
            }
            Item::Record { to, claim } => {
                if self.nodes[to].life == Life::Running && self.nodes[to].group == API {
                    let local = self.local(to);
                    self.nodes[to].core.handle_records(vec![claim], local);
                    self.drain(to);
                }
            }
            Item::Probed { node, boot, vip } => {
                if self.nodes[node].boot != boot || self.nodes[node].life != Life::Running {
                    return;
                }
                let used = (0..self.nodes.len())
                    .any(|other| other != node && self.hear(node, other) && self.answers(other, vip));
                let local = self.local(node);
                if used {
                    self.nodes[node].core.handle_taken(vip, local);
                } else {
                    self.nodes[node].core.handle_free(&[vip], local);
                }
                self.drain(node);
            }
            Item::Looked { node, boot, suspect, verdict } => {
                if self.nodes[node].boot != boot || self.nodes[node].life != Life::Running {
                    return;
                }
                let local = self.local(node);
                self.nodes[node].core.handle_verdict(&suspect, verdict, local);
                self.drain(node);
            }
        }
    }

    /// Takes out what a node wants, and looks whether the invariants still hold.
    fn drain(&mut self, index: usize) {
        let from = address(index);
        while let Some((to, data)) = self.nodes[index].core.poll_transmit() {
            self.datagrams += 1;
            let Some(to) = index_of(to).filter(|to| *to < self.nodes.len() && *to != index) else { continue };
            let (a, b) = (&self.nodes[index], &self.nodes[to]);
            if !self.hear(index, to) || a.mute || b.mute || self.chance.percent(self.loss_percent) {
                continue;
            }
            let slow = a.slow + b.slow;
            let (least, most) = self.delay_micros;
            let delay =
                Duration::from_micros(u64::try_from(least + self.chance.below(most - least)).unwrap());
            self.push(self.now + delay + slow, Item::Datagram { to, from, data });
        }
        while let Some(event) = self.nodes[index].core.poll_event() {
            if let Some(log) = &mut self.log {
                log.push(format!("{:>8.3} node{index} {event:?}", (self.now - self.start).as_secs_f64()));
            }
            self.react(index, event);
        }
        let due = self.nodes[index].core.poll_timeout() - self.nodes[index].ahead;
        let due = due.max(self.now + Duration::from_micros(50));
        if self.nodes[index].wake.is_none_or(|wake| wake > due || wake <= self.now) {
            self.nodes[index].wake = Some(due);
            self.push(due, Item::Wake(index));
        }
        self.watch(index);
    }

    fn react(&mut self, index: usize, event: Event) {
        let boot = self.nodes[index].boot;
        match event {
            Event::Probe(vip) => self.push(self.now + PROBING, Item::Probed { node: index, boot, vip }),
            Event::Gained { vip, .. } => {
                self.nodes[index].announced.insert(vip, self.now);
                self.record(index, vip);
            }
            Event::Lost { vip, .. } => drop(self.nodes[index].announced.remove(&vip)),
            Event::SecondLook { suspect, .. } => {
                let target = index_of(suspect.addr).expect("simulated");
                let (verdict, after) = self.look(index, target);
                let item = Item::Looked { node: index, boot, suspect: suspect.name, verdict };
                self.push(self.now + after, item);
            }
            Event::MemberUp(_) | Event::MemberDown(_) | Event::Fenced | Event::Unfenced => {}
        }
    }

    /// Writes a claim down at the API server, and lets the others read it.
    fn record(&mut self, index: usize, vip: IpAddr) {
        if self.nodes[index].group != API {
            return;
        }
        let Some(claim) = self.nodes[index].core.claims().find(|claim| claim.vip == vip).cloned() else {
            return;
        };
        for to in (0..self.nodes.len()).filter(|to| *to != index) {
            let delay = Duration::from_millis(u64::try_from(40 + self.chance.below(200)).unwrap());
            self.push(self.now + delay, Item::Record { to, claim: claim.clone() });
        }
    }

    fn hear(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.nodes[one], &self.nodes[other]);
        one.group == other.group && one.side == other.side
    }

    /// A TCP ping, or an ARP question for its VIPs.
    fn look(&self, from: usize, target: usize) -> (Verdict, Duration) {
        let (a, b) = (&self.nodes[from], &self.nodes[target]);
        let trip = a.slow + b.slow + Duration::from_millis(1);
        match b.life {
            _ if !self.hear(from, target) || trip * 2 > SECOND_LOOK => (Verdict::Silent, SECOND_LOOK),
            Life::Running => (Verdict::Alive, trip * 2),
            Life::Killed => (Verdict::Refused, trip * 2),
            Life::Paused | Life::Off => (Verdict::Silent, SECOND_LOOK),
        }
    }

    /// Looks for second owners, as far as this node can have made or ended one.
    fn watch(&mut self, index: usize) {
        for at in 0..self.vips.len() {
            let vip = self.vips[at];
            if !self.overlaps.contains_key(&vip) && !self.nodes[index].core.owns(vip) {
                continue;
            }
            let owners = self.owners(vip);
            let mut groups: Vec<_> = owners.iter().map(|owner| self.nodes[*owner].group).collect();
            groups.sort_unstable();
            if !groups.windows(2).any(|pair| pair[0] == pair[1]) {
                self.overlaps.remove(&vip);
                continue;
            }
            let since = *self.overlaps.entry(vip).or_insert(self.now);
            self.longest_overlap = self.longest_overlap.max(self.now - since);
            if self.now - self.last_fault > Duration::from_secs(5) {
                self.unprovoked = self.unprovoked.or(Some((vip, self.now)));
            }
        }
    }

    fn push(&mut self, at: Instant, item: Item) {
        self.sequence += 1;
        self.items.insert(self.sequence, item);
        self.queue.push(Reverse((at, self.sequence)));
    }
}

pub(crate) fn address(index: usize) -> SocketAddr {
    let host = 0x0a00_0001 + u32::try_from(index).unwrap();
    SocketAddr::new(IpAddr::from(host.to_be_bytes()), 7946)
}

fn index_of(addr: SocketAddr) -> Option<usize> {
    let IpAddr::V4(v4) = addr.ip() else { return None };
    usize::try_from(v4.to_bits().checked_sub(0x0a00_0001)?).ok()
}

//! A cluster of speakers in one thread, with simulated time, network and wire: the same [`Ownership`] machine that
//! runs in production, under loss, delay, partitions, crashes, pauses, slow nodes, clock jumps, and addresses that go and
//! change.

mod records;
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
    ownership::{Claim, Demands, Event, FENCE_AFTER, Ownership, Settings, WireClaim},
};

/// How long the real speaker's second look takes when nobody answers.
const SECOND_LOOK: Duration = Duration::from_millis(150);
/// From the first probe to "free".
const PROBING: Duration = Duration::from_millis(600);
/// The part of a broken network in which the API server is.
const API: usize = 0;
/// When a new owner says so on the wire, after the first time.
const REPEATS_MILLIS: [u64; 4] = [100, 300, 1000, 2000];
/// What a kernel keeps for a process that does not read.
const INBOX: usize = 300;

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) chance: Chance,
    pub(crate) nodes: Vec<Node>,
    pub(crate) vips: Vec<IpAddr>,
    /// Which node has an address.
    places: BTreeMap<SocketAddr, usize>,
    /// The claims written down at the API server, by who wrote them.
    written: BTreeMap<(usize, IpAddr), Claim>,
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
    /// Datagrams and the second path are cut, as by a firewall: frames pass, and nothing else.
    pub(crate) deaf: bool,
    /// It has no address, and knows it.
    pub(crate) lost: bool,
    pub(crate) addr: SocketAddr,
    /// Added to every datagram to or from it.
    pub(crate) slow: Duration,
    /// Its clock runs ahead of the world by this.
    pub(crate) ahead: Duration,
    inbox: Vec<(SocketAddr, Vec<u8>)>,
    wake: Option<Instant>,
    boot: u64,
    pub(crate) announced: BTreeMap<IpAddr, Instant>,
    /// Claims about to be written down.
    writing: BTreeSet<IpAddr>,
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
    /// A VIP said on the wire to be here.
    Announced {
        by: usize,
        boot: u64,
        vip: IpAddr,
    },
    /// Time to write down a claim that is still held.
    Write {
        by: usize,
        boot: u64,
        vip: IpAddr,
    },
    /// A claim read at the API server, or no longer there.
    Record {
        to: usize,
        claim: Claim,
        gone: bool,
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
            places: BTreeMap::new(),
            written: BTreeMap::new(),
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
            world.places.insert(address(index), index);
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
        let addr = self.nodes.get(index).map_or_else(|| address(index), |node| node.addr);
        let identity = Identity { name: name.clone(), addr, boot, bump: 0 };
        let seed = self.chance.bits();
        let settings = Settings { identity, seed, settle_after: Duration::from_secs(2) };
        let mut core = Ownership::new(settings, self.now);
        let at = |other| self.nodes.get(other).map_or_else(|| address(other), |node| node.addr);
        core.handle_seeds((0..count).map(at).collect());
        Node {
            name,
            core,
            life: Life::Running,
            group: 0,
            side: 0,
            mute: false,
            deaf: false,
            lost: false,
            addr,
            slow: Duration::ZERO,
            ahead: Duration::ZERO,
            inbox: Vec::new(),
            wake: None,
            boot,
            announced: BTreeMap::new(),
            writing: BTreeSet::new(),
        }
    }

    /// What the Services ask for.
    pub(crate) fn demands(&self) -> Demands {
        let candidates: Arc<Candidates> =
            Arc::new(self.nodes.iter().map(|node| (node.name.clone(), 0)).collect());
        let demand = |vip: &IpAddr| {
            (*vip, Demand { vip: *vip, candidates: candidates.clone(), pin: None, leader: None })
        };
        self.vips.iter().map(demand).collect()
    }

    fn settle_in(&mut self, index: usize) {
        let demands = self.demands();
        let stations =
            self.nodes.iter().enumerate().map(|(at, node)| (node.name.clone(), vec![mac(at)])).collect();
        let local = self.local(index);
        let core = &mut self.nodes[index].core;
        let networks = vec!["10.0.0.0/8".parse().unwrap()];
        core.handle_interfaces(BTreeSet::new(), vec![mac(index)], networks, local);
        core.handle_demands(Arc::new(demands), local);
        // As their ConfigurationStates say.
        core.handle_stations(stations);
        self.drain(index);
    }

    /// The watches of a node show something else.
    pub(crate) fn demand(&mut self, index: usize, demands: Arc<Demands>) {
        if self.nodes[index].life == Life::Running {
            let local = self.local(index);
            self.nodes[index].core.handle_demands(demands, local);
            self.drain(index);
        }
    }

    /// The node's address goes, or comes back.
    pub(crate) fn set_lost(&mut self, index: usize, lost: bool) {
        self.nodes[index].lost = lost;
        let local = self.local(index);
        self.nodes[index].core.handle_cut(lost, local);
        self.drain(index);
    }

    /// The node gets another address. Its Node object says so only later, when the schedule tells the seeds.
    pub(crate) fn readdress(&mut self, index: usize) {
        let old = self.nodes[index].addr;
        let IpAddr::V4(v4) = old.ip() else { unreachable!("simulated addresses are IPv4") };
        let new = SocketAddr::new(IpAddr::from((v4.to_bits() + 0x0001_0000).to_be_bytes()), old.port());
        self.places.remove(&old);
        self.places.insert(new, index);
        self.nodes[index].addr = new;
        let local = self.local(index);
        self.nodes[index].core.handle_readdress(new, local);
        self.drain(index);
    }

    pub(crate) fn restart(&mut self, index: usize) {
        let boot = self.nodes[index].boot + 10;
        let Node { group, side, deaf, lost, .. } = self.nodes[index];
        let count = self.nodes.len();
        let node = self.fresh(index, count, boot);
        self.nodes[index] = Node { group, side, deaf, lost, ..node };
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
            Item::Announced { by, boot, vip } => {
                if self.nodes[by].boot == boot {
                    self.announced(by, vip);
                }
            }
            Item::Write { by, boot, vip } => {
                self.nodes[by].writing.remove(&vip);
                let held = self.nodes[by].core.owns(vip) && self.nodes[by].life == Life::Running;
                if self.nodes[by].boot == boot && held {
                    self.record(by, vip);
                }
            }
            Item::Record { to, claim, gone } => {
                if self.nodes[to].life == Life::Running && self.reaches_api(to) {
                    let local = self.local(to);
                    if gone {
                        self.nodes[to].core.handle_withdrawn(vec![claim], local);
                    } else {
                        self.nodes[to].core.handle_records(vec![claim], local);
                    }
                    self.drain(to);
                }
            }
            Item::Probed { node, boot, vip } => {
                if self.nodes[node].boot != boot || self.nodes[node].life != Life::Running {
                    return;
                }
                let used = (0..self.nodes.len())
                    .find(|other| *other != node && self.hear(node, *other) && self.answers(*other, vip));
                let local = self.local(node);
                let core = &mut self.nodes[node].core;
                if let Some(other) = used
                    && core.handle_wire_claim(vip, mac(other), local) == WireClaim::Foreign
                {
                    core.handle_taken(vip, local); // a speaker that it never met
                }
                if self.nodes[node].core.is_probing(vip) {
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
        let from = self.nodes[index].addr;
        while let Some((to, data)) = self.nodes[index].core.poll_transmit() {
            self.datagrams += 1;
            let Some(to) = self.places.get(&to).copied().filter(|to| *to < self.nodes.len() && *to != index)
            else {
                continue;
            };
            let (a, b) = (&self.nodes[index], &self.nodes[to]);
            let cut = [a, b].iter().any(|node| node.mute || node.deaf || node.lost);
            if cut || !self.hear(index, to) || self.chance.percent(self.loss_percent) {
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
        self.write_changes(index);
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
                for millis in [0].into_iter().chain(REPEATS_MILLIS) {
                    let at = self.now + Duration::from_micros(300 + millis * 1000);
                    self.push(at, Item::Announced { by: index, boot, vip });
                }
            }
            Event::Lost { vip, .. } => {
                self.nodes[index].announced.remove(&vip);
                if let Some(claim) = self.written.remove(&(index, vip)) {
                    self.tell_record(index, &claim, true);
                }
            }
            Event::SecondLook { suspect, .. } => {
                let target = self.places.get(&suspect.addr).copied();
                let silent = (Verdict::Silent, SECOND_LOOK);
                let (verdict, after) = target.map_or(silent, |target| self.look(index, target));
                let item = Item::Looked { node: index, boot, suspect: suspect.name, verdict };
                self.push(self.now + after, item);
            }
            Event::MemberUp(_)
            | Event::MemberMoved(_)
            | Event::MemberDown(_)
            | Event::Fenced
            | Event::Unfenced => {}
        }
    }

    fn hear(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.nodes[one], &self.nodes[other]);
        one.group == other.group && one.side == other.side
    }

    /// Who else answers for this VIP hears that this node does, and may answer with its own claim.
    fn announced(&mut self, by: usize, vip: IpAddr) {
        if !self.answers(by, vip) {
            return;
        }
        for other in (0..self.nodes.len()).filter(|other| *other != by) {
            let core = &self.nodes[other].core;
            let concerned =
                self.nodes[other].life == Life::Running && (core.owns(vip) || core.is_probing(vip));
            if !concerned || !self.hear(by, other) {
                continue;
            }
            let local = self.local(other);
            let verdict = self.nodes[other].core.handle_wire_claim(vip, mac(by), local);
            if verdict == WireClaim::Defend {
                let boot = self.nodes[other].boot;
                let at = self.now + Duration::from_micros(300);
                self.push(at, Item::Announced { by: other, boot, vip });
            }
            self.drain(other);
        }
    }

    /// A TCP ping, or an ARP question for its VIPs.
    fn look(&self, from: usize, target: usize) -> (Verdict, Duration) {
        let (a, b) = (&self.nodes[from], &self.nodes[target]);
        let trip = a.slow + b.slow + Duration::from_millis(1);
        match b.life {
            _ if !self.hear(from, target) || trip * 2 > SECOND_LOOK => (Verdict::Silent, SECOND_LOOK),
            _ if a.lost || b.lost => (Verdict::Silent, SECOND_LOOK),
            // No TCP, but it answers on the wire for what is its own.
            Life::Running
                if (a.deaf || b.deaf) && !self.vips.iter().any(|vip| self.answers(target, *vip)) =>
            {
                (Verdict::Silent, SECOND_LOOK)
            }
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

fn mac(index: usize) -> Mac {
    let [high, low] = u16::try_from(index).unwrap().to_be_bytes();
    Mac([2, 0, 0, 0, high, low])
}

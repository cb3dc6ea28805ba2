//! The wire thread: one loop that owns the sockets, the ownership machine and the announcer.
//!
//! It runs on a thread of its own, at a higher priority where that is allowed, and depends on nobody else's progress:
//! what it should announce and which links exist reach it as the latest value, what it did leaves as a snapshot.
//! Datagrams of the other speakers are read before frames, so that news of a lost VIP precedes questions for it.

mod frames;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tracing::{debug, info, warn};

use super::{
    address::{Own, Reach},
    metrics::{Announced, Metrics},
    options::Options,
    peers::{MAX_DATAGRAM_BYTES, Peers, SECOND_LOOK},
    ports::Ports,
    state::{Held, Interfaces, Member, State},
    wanted::{ServiceKey, Wanted},
    written::Record,
};
use crate::{
    announce::{Announcer, Output},
    mac::Mac,
    membership::{Identity, Verdict},
    ndp,
    netlink::{self, Links},
    node_name::NodeName,
    ownership::{Event, Gain, Ownership, Settings},
    packet::{Listen, MAX_FRAME_BYTES},
};

/// Datagrams and frames taken in one go before the other sources get their turn.
const BATCH: usize = 64;
/// How often the snapshot follows changes at most; and the part of the time, one in so many, that it may take.
const SNAPSHOT_EVERY: Duration = Duration::from_millis(20);
const SNAPSHOT_PART: u32 = 10;

/// What the other thread may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Hand everything over; go on answering until it is taken.
    Drain,
    /// Stop answering, tell the others, and end.
    Leave,
}

/// What the wire thread is connected to.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) wanted: watch::Receiver<Option<Arc<Wanted>>>,
    /// What speakers claim that cannot be heard.
    pub(super) records: mpsc::Receiver<Record>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) state: watch::Sender<Arc<State>>,
    pub(super) metrics: Metrics,
}

/// The loop's state.
#[derive(Debug)]
pub(super) struct Wire {
    options: Options,
    inputs: Inputs,
    peers: Peers,
    ports: Ports,
    own: Own,
    reach: Reach,
    links: watch::Receiver<Links>,
    ownership: Ownership,
    announcer: Announcer,
    wanted: Option<Arc<Wanted>>,
    /// Interfaces for each wanted VIP.
    suitable: BTreeMap<IpAddr, Interfaces>,
    held: BTreeMap<IpAddr, Held>,
    /// What is held has changed since the groups of IPv6 VIPs were joined.
    regroup: bool,
    /// What the gauge of announced Services shows.
    announced: BTreeSet<(IpAddr, Arc<ServiceKey>)>,
    conflicts: BTreeMap<IpAddr, Mac>,
    /// VIPs of suspects that were asked for on the wire, until when an answer counts.
    sought: BTreeMap<IpAddr, (NodeName, Instant)>,
    looks: JoinSet<(NodeName, Verdict)>,
    /// Keeps netlink and the second looks of others served.
    _tasks: JoinSet<()>,
    stale: bool,
    /// When the next snapshot is due, if something changes.
    publish_at: Instant,
    draining: bool,
}

impl Wire {
    /// Opens everything.
    ///
    /// # Errors
    /// When the port for the other speakers is taken or netlink fails.
    pub(super) async fn open(options: Options, secret: &[u8], inputs: Inputs) -> anyhow::Result<Self> {
        use anyhow::Context;
        let mut tasks = JoinSet::new();
        let links = netlink::follow(&mut tasks).await.context("cannot follow the kernel's links")?;
        let bind = options.memberlist_bind;
        let peers = Peers::bind(bind, secret, &mut tasks)
            .await
            .with_context(|| format!("cannot use {bind} for the other speakers: set --memberlist-bind"))?;
        let port = peers.local_addr()?.port();
        let exclusions = if options.exclude_interfaces.is_empty() {
            crate::interfaces::Exclusions::load(&options.exclude_file)?
        } else {
            crate::interfaces::Exclusions::compile(&options.exclude_interfaces)?
        };
        let listen = if options.promiscuous { Listen::Promiscuous } else { Listen::AllMulticast };
        let boot = u64::try_from(since_1970().as_millis()).unwrap_or(0);
        let given = options.node_ip.or_else(|| (!bind.ip().is_unspecified()).then_some(bind.ip()));
        let mut own = Own { given, is_v4: bind.is_ipv4(), ..Own::default() };
        // A node that has no address yet, because its lease has not come, takes part when it has one.
        own.look(&links.borrow(), &exclusions);
        let identity = Identity {
            name: NodeName::from(options.node_name.as_str()),
            addr: SocketAddr::new(own.current.unwrap_or_else(|| bind.ip()), port),
            boot,
            bump: 0,
        };
        let seed = rand::random();
        let now = Instant::now();
        info!(node = options.node_name, address = %identity.addr, "speaking to the other speakers");
        let settings = Settings { identity, seed, settle_after: options.settle_after };
        Ok(Self {
            ports: Ports::new(exclusions, listen),
            own,
            reach: Reach::Connected,
            ownership: Ownership::new(settings, now),
            announcer: Announcer::new(options.on_conflict, seed ^ 1, now),
            options,
            inputs,
            peers,
            links,
            wanted: None,
            suitable: BTreeMap::new(),
            held: BTreeMap::new(),
            regroup: false,
            announced: BTreeSet::new(),
            conflicts: BTreeMap::new(),
            sought: BTreeMap::new(),
            looks: JoinSet::new(),
            _tasks: tasks,
            stale: true,
            publish_at: now,
            draining: false,
        })
    }

    /// Runs until told to leave.
    pub(super) async fn run(mut self) {
        self.handle_links();
        let mut datagram = [0; MAX_DATAGRAM_BYTES];
        let mut frame = [0; MAX_FRAME_BYTES];
        loop {
            let due = self.ownership.poll_timeout();
            let due = self.announcer.next_timeout().map_or(due, |next| due.min(next));
            // Not biased: a flood on one side must not silence the other.
            tokio::select! {
                received = self.peers.recv(&mut datagram) => {
                    if let Ok((length, from)) = received {
                        self.handle_datagram(from, &mut datagram[..length]);
                    }
                    self.read_datagrams(&mut datagram);
                }
                (index, length) = poll_fn(|cx| self.ports.poll_recv(cx, &mut frame)) => {
                    self.read_datagrams(&mut datagram);
                    self.handle_frame(index, &frame[..length]);
                }
                Some(look) = self.looks.join_next() => {
                    if let Ok((suspect, verdict)) = look {
                        self.ownership.handle_verdict(&suspect, verdict, Instant::now());
                    }
                }
                changed = self.links.changed() => match changed {
                    Ok(()) => self.handle_links(),
                    Err(_) => return warn!("netlink ended; the speaker stops"),
                },
                changed = self.inputs.wanted.changed() => {
                    // An error means that the other thread ended: what was wanted last stays so.
                    if changed.is_ok() {
                        self.handle_wanted();
                    }
                }
                Some(record) = self.inputs.records.recv() => match record {
                    Record::Written(claims) => self.ownership.handle_records(claims, Instant::now()),
                    Record::Withdrawn(claims) => self.ownership.handle_withdrawn(claims, Instant::now()),
                    Record::Stations(stations) => self.ownership.handle_stations(stations),
                },
                command = self.inputs.commands.recv() => match command {
                    Some(Command::Drain) => {
                        self.draining = true;
                        self.stale = true;
                        self.ownership.handle_drain(Instant::now());
                    }
                    Some(Command::Leave) | None => break,
                },
                () = tokio::time::sleep_until(due.into()) => {}
            }
            self.ownership.handle_timeout(Instant::now());
            self.flush();
            if Instant::now() >= self.publish_at {
                self.publish();
            }
        }
        self.ownership.handle_leave(Instant::now());
        self.flush();
        self.publish();
    }

    fn read_datagrams(&mut self, buffer: &mut [u8; MAX_DATAGRAM_BYTES]) {
        for _ in 0..BATCH {
            let Ok((length, from)) = self.peers.try_recv(buffer) else { return };
            self.handle_datagram(from, &mut buffer[..length]);
        }
    }

    fn handle_datagram(&mut self, from: SocketAddr, datagram: &mut [u8]) {
        match self.peers.open(datagram) {
            Some(plain) => self.ownership.handle_datagram(from, plain, Instant::now()),
            None => drop(self.inputs.metrics.refused.inc()),
        }
    }

    fn handle_wanted(&mut self) {
        let Some(wanted) = self.inputs.wanted.borrow_and_update().clone() else { return };
        let now = Instant::now();
        let own = self.ownership.membership().identity().addr;
        let port = own.port();
        let of_node = wanted.nodes.get(self.options.node_name.as_str()).cloned().unwrap_or_default();
        if self.own.of_node != of_node {
            self.own.of_node = of_node;
            self.find_self(now);
        }
        let nodes = wanted.nodes.iter().filter(|(name, _)| name.as_str() != self.options.node_name);
        // One address per node is enough; of the family that we speak.
        let of_family = |ips: &Vec<IpAddr>| ips.iter().find(|ip| ip.is_ipv4() == own.is_ipv4()).copied();
        let mut seeds: Vec<_> =
            nodes.filter_map(|(_, ips)| of_family(ips)).map(|ip| (ip, port).into()).collect();
        seeds.extend(self.options.peers.iter().copied());
        self.ownership.handle_seeds(seeds);
        self.ownership.handle_unready(wanted.unready.clone());
        let before = self.wanted.replace(wanted.clone());
        for vip in before.iter().flat_map(|before| before.demands.keys()) {
            if !wanted.demands.contains_key(vip) {
                self.inputs.metrics.forget(*vip);
                self.conflicts.remove(vip);
            }
        }
        self.suit(before.as_deref(), now);
        self.ownership.handle_demands(wanted.demands.clone(), now);
        self.stale = true;
    }

    fn handle_links(&mut self) {
        let now = Instant::now();
        let links = self.links.borrow_and_update().clone();
        let refresh = self.ports.handle_links(&links, now);
        self.find_self(now);
        self.suit(None, now);
        if refresh {
            self.announcer.refresh(now);
        }
        self.stale = true;
    }

    /// Looks whether the other speakers can find this one, and where.
    fn find_self(&mut self, now: Instant) {
        let reach = self.own.look(&self.links.borrow(), self.ports.exclusions());
        let known = self.ownership.membership().identity().addr;
        if let Some(ip) = self.own.current.filter(|ip| *ip != known.ip()) {
            info!(from = %known.ip(), to = %ip, "this node has another address");
            self.ownership.handle_readdress(SocketAddr::new(ip, known.port()), now);
        }
        if std::mem::replace(&mut self.reach, reach) == reach {
            return;
        }
        match reach {
            Reach::Connected => {
                info!(address = %known.ip(), "connected again; asking the peers before answering")
            }
            Reach::NoCarrier => {
                warn!(address = %known.ip(), "the interface that has this node's address is down")
            }
            Reach::NoAddress => {
                warn!(address = %known.ip(), "no interface has this node's address any more: nothing is answered until one has")
            }
        }
        self.ownership.handle_cut(reach != Reach::Connected, now);
        self.stale = true;
    }

    /// Chooses the interfaces of every VIP anew, or of those whose place is not the same as `before`.
    fn suit(&mut self, before: Option<&Wanted>, now: Instant) {
        let Some(wanted) = &self.wanted else { return };
        let mut distinct: Vec<Interfaces> = Vec::new();
        let mut fresh = BTreeMap::new();
        for (vip, place) in &wanted.places {
            if before
                .and_then(|before| before.places.get(vip))
                .is_some_and(|known| known.interfaces == place.interfaces)
                && let Some(on) = self.suitable.get(vip)
            {
                if distinct.is_empty() {
                    distinct.push(on.clone());
                }
                fresh.insert(*vip, on.clone());
                continue;
            }
            let on = self.ports.suitable(*vip, place.interfaces.as_ref());
            let known = distinct.iter().find(|known| ***known == on).cloned();
            let on = known.unwrap_or_else(|| {
                distinct.push(Arc::new(on));
                distinct.last().expect("just pushed").clone()
            });
            fresh.insert(*vip, on);
        }
        let changed: Vec<_> =
            self.announcer.announced().filter(|vip| fresh.get(vip) != self.suitable.get(vip)).collect();
        self.suitable = fresh;
        for vip in changed {
            self.announcer.start(vip, now); // from other interfaces now
            if let Some(held) = self.held.get_mut(&vip) {
                held.on = self.suitable.get(&vip).cloned().unwrap_or_default();
            }
        }
        // Cut off, the others find out by themselves; what we decided here would only be in the way of their decision.
        if self.reach == Reach::Connected {
            let name = &self.ownership.membership().identity().name;
            let mine = |vip: &IpAddr| {
                wanted.demands.get(vip).is_some_and(|demand| demand.candidates.contains_key(name))
            };
            let unable =
                self.suitable.iter().filter(|(vip, on)| on.is_empty() && mine(vip)).map(|(vip, _)| *vip);
            let unable: BTreeSet<_> = unable.collect();
            self.ownership.handle_interfaces(unable, self.ports.macs(), self.ports.networks(), now);
        }
        self.regroup = true;
    }

    /// Joins the groups of the IPv6 VIPs that are held.
    fn join_groups(&mut self) {
        let groups = self.held.keys().filter_map(|vip| match vip {
            IpAddr::V6(v6) => Some((vip, ndp::solicited_node(*v6))),
            IpAddr::V4(_) => None,
        });
        let groups = groups.flat_map(|(vip, group)| {
            self.suitable.get(vip).into_iter().flat_map(move |on| on.keys().map(move |index| (*index, group)))
        });
        let groups = groups.collect();
        self.ports.join(&groups);
    }

    /// Carries out what the machines decided.
    fn flush(&mut self) {
        let now = Instant::now();
        while let Some(event) = self.ownership.poll_event() {
            self.handle_event(event, now);
        }
        self.put_out(now);
        while let Some(event) = self.ownership.poll_event() {
            self.handle_event(event, now);
        }
        // After the announcements: a new owner is heard on the wire before the old one learns that it may stop.
        while let Some((to, data)) = self.ownership.poll_transmit() {
            if self.reach == Reach::Connected {
                self.peers.send(to, &data);
            }
        }
        if std::mem::take(&mut self.regroup) {
            self.join_groups();
        }
    }

    /// Puts out what is due on the wire. Many addresses may be found free at once: ownership decides on them once.
    fn put_out(&mut self, now: Instant) {
        let mut free = Vec::new();
        while let Some(output) = self.announcer.poll(now) {
            match output {
                Output::Probe(vip) => {
                    if let Some(on) = self.suitable.get(&vip) {
                        self.ports.probe(vip, on);
                    }
                }
                Output::Free(vip) => free.push(vip),
                Output::Announce(vip) => self.announce(vip),
            }
        }
        if !free.is_empty() {
            self.ownership.handle_free(&free, now);
        }
    }

    fn handle_event(&mut self, event: Event, now: Instant) {
        self.stale = true;
        match event {
            Event::Probe(vip) => self.announcer.probe(vip, now),
            Event::Gained { vip, why } => self.gain(vip, why, now),
            Event::Lost { vip, why } => {
                info!(%vip, ?why, "no longer announced from here");
                self.announcer.stop(vip);
                self.held.remove(&vip);
                self.regroup = true;
            }
            Event::SecondLook { suspect, vips } => {
                debug!(suspect = %suspect.name, "no answer; looking over a second path");
                let look = self.peers.look(suspect.addr);
                let name = suspect.name.clone();
                self.looks.spawn(async move { (name, look.await) });
                for vip in vips {
                    if let Some(on) = self.suitable.get(&vip) {
                        self.ports.probe(vip, on);
                        self.sought.insert(vip, (suspect.name.clone(), now + SECOND_LOOK));
                    }
                }
            }
            Event::MemberUp(node) => info!(%node, "speaker up"),
            Event::MemberMoved(at) => {
                info!(node = %at.name, address = %at.addr, "speaker at another address")
            }
            Event::MemberDown(node) => warn!(%node, "speaker down"),
            Event::Fenced => {
                warn!("this process stood still or was cut off; asking the peers before answering");
                self.inputs.metrics.fences.inc();
            }
            Event::Unfenced => info!("in agreement with the peers"),
        }
        let alive = self.ownership.membership().alive().count() + 1;
        self.inputs.metrics.members.set(i64::try_from(alive).unwrap_or(i64::MAX));
    }

    fn gain(&mut self, vip: IpAddr, why: Gain, now: Instant) {
        // On the wire first; everything else can wait.
        self.announcer.start(vip, now);
        self.put_out(now);
        info!(%vip, ?why, "announced from here");
        if let Gain::TakeOver { silent: Some(silent), .. } = &why {
            self.inputs.metrics.take_over.observe(silent.as_secs_f64());
        }
        self.conflicts.remove(&vip);
        let on = self.suitable.get(&vip).cloned().unwrap_or_default();
        let since = i64::try_from(since_1970().as_millis()).unwrap_or(0);
        match self.held.get_mut(&vip) {
            Some(held) if matches!(why, Gain::Resumed) => held.on = on,
            _ => drop(self.held.insert(vip, Held { since, why, on })),
        }
        self.regroup = true;
    }

    fn announce(&mut self, vip: IpAddr) {
        // A fenced node claims nothing on the wire either.
        if !self.ownership.may_answer(vip, Instant::now()) {
            return;
        }
        let Some(on) = self.suitable.get(&vip) else { return };
        let sent = self.ports.announce(vip, on);
        Metrics::count(&self.inputs.metrics.gratuitous, vip, sent);
    }

    /// The gauge of announced Services follows what is held and wanted.
    fn refresh_announced(&mut self) {
        let mut fresh = BTreeSet::new();
        for vip in self.held.keys() {
            let place = self.wanted.as_ref().and_then(|wanted| wanted.places.get(vip));
            fresh.extend(
                place.iter().flat_map(|place| &place.services).map(|service| (*vip, service.clone())),
            );
        }
        let node = self.options.node_name.clone();
        let labels = |(vip, service): &(IpAddr, Arc<ServiceKey>)| Announced {
            service: service.to_string(),
            protocol: "layer2",
            node: node.clone(),
            ip: vip.to_string(),
        };
        for gone in self.announced.difference(&fresh) {
            self.inputs.metrics.announced.remove(&labels(gone));
        }
        for new in fresh.difference(&self.announced) {
            self.inputs.metrics.announced.get_or_create(&labels(new)).set(1);
        }
        self.announced = fresh;
    }

    /// Publishes a snapshot if something changed.
    fn publish(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let start = Instant::now();
        self.refresh_announced();
        let state = self.snapshot();
        self.inputs.state.send_if_modified(|known| {
            let changed = **known != state;
            if changed {
                *known = Arc::new(state);
            }
            changed
        });
        self.publish_at = Instant::now() + SNAPSHOT_EVERY.max(start.elapsed() * SNAPSHOT_PART);
    }

    fn snapshot(&self) -> State {
        let membership = self.ownership.membership();
        let members = membership.members().map(|member| Member {
            node: member.identity.name.to_string(),
            address: member.identity.addr,
            up: member.up,
        });
        let unable = self.suitable.iter().filter(|(_, on)| on.is_empty()).map(|(vip, _)| *vip);
        State {
            boot: membership.identity().boot,
            address: membership.identity().addr,
            reach: self.reach,
            macs: self.ports.macs(),
            fenced: self.ownership.is_fenced(),
            draining: self.draining,
            members: members.collect(),
            stopped: self.ownership.stopped().cloned().collect(),
            claims: self.ownership.claims().cloned().collect(),
            held: self.held.clone(),
            conflicts: self.conflicts.clone(),
            rivals: self.ownership.contests().map(|(vip, node)| (vip, node.clone())).collect(),
            unable: unable.collect(),
        }
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

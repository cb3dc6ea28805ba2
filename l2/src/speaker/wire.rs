//! The wire thread: one loop that owns the sockets, the ownership machine and the announcer.
//!
//! It runs on a thread of its own, at a higher priority where that is allowed, and depends on nobody else's progress:
//! what it should announce and which links exist reach it as the latest value, what it did leaves as a snapshot.
//! Datagrams of the other speakers are read before frames, so that news of a lost VIP precedes questions for it.

mod deeds;
mod frames;
mod places;
mod snapshot;

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
use tracing::{info, warn};

use super::{
    address::{Own, Reach},
    metrics::Metrics,
    options::Options,
    peers::{MAX_DATAGRAM_BYTES, Peers},
    ports::Ports,
    state::{Held, Interfaces, State},
    wanted::{ServiceKey, Wanted},
    written::Record,
};
use crate::{
    announce::Announcer,
    mac::Mac,
    membership::{Identity, Verdict},
    netlink::{self, Links},
    node_name::NodeName,
    ownership::{Ownership, Settings},
    packet::{Listen, MAX_FRAME_BYTES},
};

/// Datagrams and frames taken in one go before the other sources get their turn.
const BATCH: usize = 64;

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
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

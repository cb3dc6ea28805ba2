//! A UDP relay between connector and edge: the link that a test cuts and mends, and that can delay packets or forget its peers'
//! ports, as a NAT does.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Largest UDP datagram.
const DATAGRAM_BYTES: usize = 65_536;

/// A running relay in front of one target, which may change.
#[derive(Debug)]
pub struct Relay {
    addr: SocketAddr,
    link: Arc<Link>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Link {
    up: AtomicBool,
    /// Nothing comes back from the target.
    one_way: AtomicBool,
    target: Mutex<Option<SocketAddr>>,
    /// Added to every packet, each way.
    delay_us: AtomicU64,
    /// Packets seen towards the target, also those dropped.
    packets: AtomicU64,
    /// How often the ports were forgotten.
    rebinds: AtomicU64,
    /// How often the known peers were left alone.
    strandings: AtomicU64,
}

impl Relay {
    /// # Panics
    /// When the loopback has no free port.
    pub async fn start() -> Self {
        let socket = Arc::new(UdpSocket::bind(crate::origin::ANY).await.expect("a free port"));
        let addr = socket.local_addr().expect("a bound socket has an address");
        let link = Arc::new(Link {
            up: AtomicBool::new(true),
            one_way: AtomicBool::new(false),
            target: Mutex::new(None),
            delay_us: AtomicU64::new(0),
            packets: AtomicU64::new(0),
            rebinds: AtomicU64::new(0),
            strandings: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(forward(socket, link.clone()));
        Self { addr, link, _tasks: tasks }
    }

    /// The address that a token must carry.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sets where packets go from now on.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.link.target.lock() = Some(target);
    }

    /// Drops every packet from now on.
    pub fn cut(&self) {
        self.link.up.store(false, Relaxed);
    }

    /// Drops from now on what comes back from the target, and nothing else.
    pub fn cut_the_way_back(&self) {
        self.link.one_way.store(true, Relaxed);
    }

    /// Lets packets through again.
    pub fn mend(&self) {
        self.link.one_way.store(false, Relaxed);
        self.link.up.store(true, Relaxed);
    }

    /// Delays every packet by this, each way.
    pub fn delay(&self, delay: Duration) {
        self.link.delay_us.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Forgets the ports that it has towards the target: each peer has another one from its next packet on, and what comes to
    /// the old one is lost.
    pub fn rebind(&self) {
        self.link.rebinds.fetch_add(1, Relaxed);
    }

    /// Loses from now on what comes from those peers that it knows, and what is for them. Others pass.
    pub fn strand(&self) {
        self.link.strandings.fetch_add(1, Relaxed);
    }

    /// How many packets came from the connectors.
    pub fn packets(&self) -> u64 {
        self.link.packets.load(Relaxed)
    }
}

impl Link {
    async fn pass(&self, socket: &UdpSocket, packet: &[u8], to: SocketAddr) {
        let delay = self.delay_us.load(Relaxed);
        if delay > 0 {
            tokio::time::sleep(Duration::from_micros(delay)).await;
        }
        if self.up.load(Relaxed) {
            let _ = socket.send_to(packet, to).await;
        }
    }
}

/// One socket towards the target for each peer, so that the edge tells them apart.
async fn forward(socket: Arc<UdpSocket>, link: Arc<Link>) {
    let mut peers: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut backs = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    let (mut rebinds, mut strandings) = (0, 0);
    let mut stranded = HashSet::new();
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        link.packets.fetch_add(1, Relaxed);
        let wanted = link.rebinds.load(Relaxed);
        if std::mem::replace(&mut rebinds, wanted) != wanted {
            peers.clear();
            backs.abort_all();
        }
        let wanted = link.strandings.load(Relaxed);
        if std::mem::replace(&mut strandings, wanted) != wanted {
            stranded.extend(peers.drain().map(|(peer, _)| peer));
            backs.abort_all();
        }
        if stranded.contains(&peer) {
            continue;
        }
        let Some(target) = *link.target.lock() else { continue };
        if !link.up.load(Relaxed) {
            continue;
        }
        let own = match peers.entry(peer) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(unknown) => {
                let own = Arc::new(UdpSocket::bind(crate::origin::ANY).await.expect("a free port"));
                backs.spawn(back(own.clone(), socket.clone(), link.clone(), peer));
                unknown.insert(own).clone()
            }
        };
        link.pass(&own, &buffer[..length], target).await;
    }
}

/// What the target sends to one peer.
async fn back(own: Arc<UdpSocket>, socket: Arc<UdpSocket>, link: Arc<Link>, peer: SocketAddr) {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let Ok((length, _)) = own.recv_from(&mut buffer).await else { continue };
        if link.one_way.load(Relaxed) {
            continue;
        }
        link.pass(&socket, &buffer[..length], peer).await;
    }
}

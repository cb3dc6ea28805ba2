//! The packet sockets of this node's interfaces: opened and closed as links come and go, and what is sent on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv6Addr},
    task::{Context, Poll},
    time::Instant,
};

use ipnet::IpNet;
use socket2::{Domain, Socket as PlainSocket, Type};
use tracing::{info, warn};

use crate::{
    arp,
    interfaces::{self, Exclusions},
    mac::Mac,
    ndp,
    netlink::Link,
    packet::{Listen, MAX_FRAME_BYTES, Socket},
};

/// Answers per interface: what remains below any storm that a LAN can survive. A second's worth may burst.
const ANSWERS_PER_SECOND: u32 = 2000;

/// One interface with its socket.
#[derive(Debug)]
struct Port {
    link: Link,
    socket: Socket,
    bucket: Bucket,
}

#[derive(Debug)]
struct Bucket {
    tokens: u32,
    filled: Instant,
}

#[derive(Debug)]
pub(super) struct Ports {
    exclusions: Exclusions,
    listen: Listen,
    links: BTreeMap<u32, Link>,
    ports: BTreeMap<u32, Port>,
    /// Networks that an interface is or was on, by its index.
    former: BTreeMap<u32, BTreeSet<IpNet>>,
    /// Where the next look for a frame begins, so that no interface starves another.
    turn: u32,
    /// Holds the memberships in the groups of IPv6 VIPs, so that switches which snoop MLD send us their frames.
    groups: Option<PlainSocket>,
    joined: BTreeSet<(u32, Ipv6Addr)>,
}

impl Ports {
    pub(super) fn new(exclusions: Exclusions, listen: Listen) -> Self {
        let groups = PlainSocket::new(Domain::IPV6, Type::DGRAM, None).ok();
        Self {
            exclusions,
            listen,
            links: BTreeMap::new(),
            ports: BTreeMap::new(),
            former: BTreeMap::new(),
            turn: 0,
            groups,
            joined: BTreeSet::new(),
        }
    }

    /// Follows the kernel's links. Whether everything is to be announced again: an interface came up or has another
    /// hardware address.
    pub(super) fn handle_links(&mut self, links: &BTreeMap<u32, Link>, now: Instant) -> bool {
        let before: BTreeMap<_, _> =
            self.ports.iter().map(|(index, port)| (*index, (port.link.up, port.link.mac))).collect();
        self.links = links.clone();
        let usable: Vec<Link> = interfaces::usable(links, &self.exclusions).into_iter().cloned().collect();
        self.ports.retain(|index, _| usable.iter().any(|link| link.index == *index));
        self.joined.retain(|(index, _)| links.contains_key(index));
        for link in usable {
            if let Some(port) = self.ports.get_mut(&link.index) {
                port.link = link;
                continue;
            }
            match Socket::open(link.index, self.listen) {
                Ok(socket) => {
                    info!(interface = link.name, mac = %link.mac, up = link.up, "listening");
                    let bucket = Bucket { tokens: ANSWERS_PER_SECOND, filled: now };
                    self.ports.insert(link.index, Port { link, socket, bucket });
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    warn!(interface = link.name, "no packet socket: the speaker needs CAP_NET_RAW");
                }
                // Gone again already; the next message of the kernel tells.
                Err(error) => warn!(interface = link.name, %error, "no packet socket"),
            }
        }
        let fresh = |port: &Port| {
            let known = before.get(&port.link.index);
            port.link.up && known.is_none_or(|(up, mac)| !up || *mac != port.link.mac)
        };
        let refresh = self.ports.values().any(fresh);
        self.former.retain(|index, _| links.contains_key(index));
        for (index, port) in &self.ports {
            self.former.entry(*index).or_default().extend(port.link.networks.iter().map(IpNet::trunc));
        }
        refresh
    }

    pub(super) fn exclusions(&self) -> &Exclusions {
        &self.exclusions
    }

    /// The networks that this node is on: where VIPs of theirs can be reached by way of it.
    pub(super) fn networks(&self) -> Vec<IpNet> {
        let up = self.ports.values().filter(|port| port.link.up);
        let networks = up.flat_map(|port| &port.link.networks).map(IpNet::trunc);
        let global = |net: &IpNet| match net {
            IpNet::V4(v4) => !v4.addr().is_link_local(),
            IpNet::V6(v6) => !v6.addr().is_unicast_link_local(),
        };
        networks.filter(global).collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(super) fn macs(&self) -> Vec<Mac> {
        self.ports.values().map(|port| port.link.mac).collect()
    }

    /// Whether a frame came from this very node, over whichever interface.
    pub(super) fn is_own(&self, mac: Mac) -> bool {
        self.links.values().any(|link| link.mac == mac)
    }

    /// Interfaces for a VIP, by index and name.
    pub(super) fn suitable(&self, vip: IpAddr, named: Option<&BTreeSet<String>>) -> BTreeMap<u32, String> {
        let links: Vec<_> = self.ports.values().map(|port| &port.link).collect();
        let chosen = interfaces::for_vip(vip, &links, &self.former, named);
        chosen.into_iter().map(|link| (link.index, link.name.clone())).collect()
    }

    pub(super) fn mac(&self, index: u32) -> Option<Mac> {
        self.ports.get(&index).map(|port| port.link.mac)
    }

    /// Waits for a frame on any interface.
    pub(super) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8; MAX_FRAME_BYTES],
    ) -> Poll<(u32, usize)> {
        let after = self.ports.range(self.turn.saturating_add(1)..);
        for (index, port) in after.chain(self.ports.range(..=self.turn)) {
            // The link went down: told once, then the socket waits for it to come up again. Twice is enough to look.
            for _ in 0..2 {
                match port.socket.poll_recv(cx, buffer) {
                    Poll::Ready(Ok(length)) => {
                        let index = *index;
                        self.turn = index;
                        return Poll::Ready((index, length));
                    }
                    Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::NetworkDown => {}
                    Poll::Ready(Err(_)) | Poll::Pending => break,
                }
            }
        }
        Poll::Pending
    }

    /// Whether another answer may be sent on this interface now.
    pub(super) fn allow(&mut self, index: u32, now: Instant) -> bool {
        let Some(port) = self.ports.get_mut(&index) else { return false };
        let bucket = &mut port.bucket;
        let elapsed = now.saturating_duration_since(bucket.filled).as_millis();
        let grown = u32::try_from(elapsed).unwrap_or(u32::MAX).saturating_mul(ANSWERS_PER_SECOND / 1000);
        if grown > 0 {
            bucket.tokens = bucket.tokens.saturating_add(grown).min(ANSWERS_PER_SECOND);
            bucket.filled = now;
        }
        bucket.tokens.checked_sub(1).map(|left| bucket.tokens = left).is_some()
    }

    /// Sends one frame; a frame that cannot go is lost, as on any wire.
    pub(super) fn send(&self, index: u32, frame: &[u8]) -> bool {
        self.ports.get(&index).is_some_and(|port| port.socket.send(frame).is_ok())
    }

    /// Says on these interfaces that the VIP is here. Returns the frames sent.
    pub(super) fn announce(&self, vip: IpAddr, on: &BTreeMap<u32, String>) -> i64 {
        let mut sent = 0;
        for (index, mac) in on.keys().filter_map(|index| Some((*index, self.mac(*index)?))) {
            match vip {
                IpAddr::V4(vip) => {
                    for operation in [arp::Operation::Request, arp::Operation::Reply] {
                        sent += i64::from(
                            self.send(index, &arp::Frame::announcement(operation, vip, mac).encode()),
                        );
                    }
                }
                IpAddr::V6(vip) => {
                    sent += i64::from(self.send(index, &ndp::Frame::announcement(vip, mac).encode()));
                }
            }
        }
        sent
    }

    /// Asks on these interfaces whether anybody uses the VIP.
    pub(super) fn probe(&self, vip: IpAddr, on: &BTreeMap<u32, String>) {
        for (index, mac) in on.keys().filter_map(|index| Some((*index, self.mac(*index)?))) {
            match vip {
                IpAddr::V4(vip) => self.send(index, &arp::Frame::probe(vip, mac).encode()),
                IpAddr::V6(vip) => self.send(index, &ndp::Frame::probe(vip, mac).encode()),
            };
        }
    }

    /// Joins the groups that solicitations for these VIPs are sent to, and leaves the others.
    pub(super) fn join(&mut self, wanted: &BTreeSet<(u32, Ipv6Addr)>) {
        let Some(socket) = &self.groups else { return };
        for (index, group) in self.joined.difference(wanted) {
            let _ = socket.leave_multicast_v6(group, *index);
        }
        let failed = |(index, group): &&(u32, Ipv6Addr)| socket.join_multicast_v6(group, *index).is_err();
        let refused: Vec<_> = wanted.difference(&self.joined).filter(failed).copied().collect();
        self.joined.clone_from(wanted);
        for one in refused {
            self.joined.remove(&one); // tried again at the next change; the packet socket hears all groups anyway
        }
    }
}

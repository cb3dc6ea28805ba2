//! Who should own each VIP: a pure function of demands, peers and current holders, the same on every node.
//!
//! ```text
//! candidates (advertisements, node labels, conditions, endpoints)
//!   ∩ peers that live and are able          nobody left → no owner
//!   → only those on the VIP's network       where any is: who lost its address there is no match for who has one
//!   → only those of the highest preference  a pinned node wins over everything if it can
//!   → the current holder, if among them     sticky: a node that returns takes nothing back
//!   → else the least loaded, ties by hash   among nodes that the control plane finds ready, where any is
//! then: a holder with more than one VIP above its fair share hands over to the least loaded
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use crate::{chance::mix, node_name::NodeName};

/// The nodes that may own a VIP, each with its preference (higher wins; 0 is neutral).
pub type Candidates = BTreeMap<NodeName, i32>;

/// A VIP that some Service has, with what the API server says about its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    pub vip: IpAddr,
    /// Shared between VIPs with equal rules, so 5,000 VIPs on 200 nodes stay small.
    pub candidates: Arc<Candidates>,
    /// Moved by hand: this node, as long as it is able.
    pub pin: Option<NodeName>,
    /// The first address of the same Service: both families go to one node where possible.
    pub leader: Option<IpAddr>,
}

/// One living member as the election sees it.
#[derive(Clone, Debug)]
pub struct Peer {
    pub name: NodeName,
    /// It is leaving: it keeps what nobody else can take, and gets nothing.
    pub standing: Standing,
    /// VIPs that it cannot announce: no suitable interface, or a conflict on its wire.
    pub unable: Arc<std::collections::BTreeSet<IpAddr>>,
    /// The networks that it is on; None where it does not say.
    pub networks: Option<Arc<[IpNet]>>,
    /// The control plane does not say the opposite. Takes nothing from a node, as in MetalLB; it only gets nothing new.
    pub ready: bool,
}

impl Peer {
    fn is_on_network_of(&self, vip: IpAddr) -> bool {
        self.networks.as_ref().is_none_or(|networks| networks.iter().any(|net| net.contains(&vip)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Long enough here to be given VIPs that have an owner.
    Settled,
    /// Just joined: gets VIPs without an owner only, so that a flapping node moves nothing.
    Fresh,
    Draining,
}

/// For each demand the index of the peer that should own it.
///
/// `demands` must come in the order of their addresses; `holder` says which peer owns a VIP now.
pub fn elect<'a>(
    demands: impl Iterator<Item = &'a Demand>,
    peers: &'a [Peer],
    holder: impl Fn(IpAddr) -> Option<usize>,
) -> BTreeMap<IpAddr, Option<usize>> {
    let mut election = Election::new(demands, peers, holder);
    election.keep();
    election.fill();
    election.balance();
    election.follow();
    election.seats.into_iter().map(|seat| (seat.demand.vip, seat.owner)).collect()
}

/// The order in which equal nodes are preferred for a VIP; also decides between two equal claims.
pub fn rank(vip: IpAddr, node: &NodeName) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let octets = match vip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    for byte in node.as_str().bytes().chain([b'#']).chain(octets) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    mix(hash)
}

struct Seat<'a> {
    demand: &'a Demand,
    /// Peers that may own it, of the best preference only.
    eligible: Vec<usize>,
    owner: Option<usize>,
    held_by: Option<usize>,
}

struct Election<'a> {
    seats: Vec<Seat<'a>>,
    peers: &'a [Peer],
    /// VIPs per peer, without followers: a dual-stack Service counts once.
    load: Vec<usize>,
}

impl<'a> Election<'a> {
    fn new(
        demands: impl Iterator<Item = &'a Demand>,
        peers: &'a [Peer],
        holder: impl Fn(IpAddr) -> Option<usize>,
    ) -> Self {
        // VIPs with equal rules share their candidates, so these are looked up once and not for every VIP.
        let mut living: HashMap<*const Candidates, Vec<(i32, usize)>> = HashMap::new();
        // As a rule all nodes are on the same networks, and nothing has to be compared.
        let alike = peers.windows(2).all(|pair| pair[0].networks == pair[1].networks);
        let seats = demands
            .map(|demand| {
                let held_by = holder(demand.vip);
                let candidates = &demand.candidates;
                let living = living.entry(Arc::as_ptr(candidates)).or_insert_with(|| {
                    let preference =
                        |(index, peer): (usize, &Peer)| Some((*candidates.get(&peer.name)?, index));
                    peers.iter().enumerate().filter_map(preference).collect()
                });
                let eligible = eligible(demand, peers, living, (held_by, alike));
                Seat { demand, eligible, owner: None, held_by }
            })
            .collect();
        Self { seats, peers, load: vec![0; peers.len()] }
    }

    /// Who holds a VIP and may, keeps it.
    fn keep(&mut self) {
        for seat in &mut self.seats {
            seat.owner = seat.held_by.filter(|holder| seat.eligible.contains(holder));
            if let Some(owner) = seat.owner
                && seat.demand.leader.is_none()
            {
                self.load[owner] += 1;
            }
        }
    }

    /// VIPs without an owner go to the least loaded.
    fn fill(&mut self) {
        for seat in &mut self.seats {
            if seat.owner.is_some() || seat.demand.leader.is_some() {
                continue;
            }
            seat.owner = least_loaded(seat, &self.load, self.peers, |_| true);
            if let Some(owner) = seat.owner {
                self.load[owner] += 1;
            }
        }
    }

    /// Nobody stays more than one above the fair share of the nodes that could do the same work.
    fn balance(&mut self) {
        for seat in &mut self.seats {
            let Some(owner) = seat.owner else { continue };
            if seat.demand.leader.is_some() || pinned(seat, self.peers) == Some(owner) {
                continue;
            }
            let total: usize = seat.eligible.iter().map(|peer| self.load[*peer]).sum();
            let share = total.div_ceil(seat.eligible.len());
            if self.load[owner] <= share + 1 {
                continue;
            }
            let settled = |peer: usize| self.peers[peer].standing == Standing::Settled;
            let Some(other) = least_loaded(seat, &self.load, self.peers, settled) else { continue };
            if self.load[other] + 1 < self.load[owner] {
                self.load[owner] -= 1;
                self.load[other] += 1;
                seat.owner = Some(other);
            }
        }
    }

    /// Second addresses go where the first is.
    fn follow(&mut self) {
        for at in 0..self.seats.len() {
            let Some(leader) = self.seats[at].demand.leader else { continue };
            let found = self.seats.binary_search_by(|seat| seat.demand.vip.cmp(&leader));
            let led = found.ok().and_then(|index| self.seats[index].owner);
            let seat = &self.seats[at];
            let owner = led
                .filter(|owner| seat.eligible.contains(owner))
                .or(seat.owner)
                .or_else(|| least_loaded(seat, &self.load, self.peers, |_| true));
            self.seats[at].owner = owner;
        }
    }
}

fn pinned(seat: &Seat<'_>, peers: &[Peer]) -> Option<usize> {
    let pin = seat.demand.pin.as_ref()?;
    seat.eligible.iter().copied().find(|peer| peers[*peer].name == *pin)
}

/// Of the living candidates, each with its preference and index, those that may own this VIP.
fn eligible(
    demand: &Demand,
    peers: &[Peer],
    living: &[(i32, usize)],
    (held_by, alike): (Option<usize>, bool),
) -> Vec<usize> {
    let mut able: Vec<_> =
        living.iter().map(|(preference, index)| (*preference, *index, &peers[*index])).collect();
    able.retain(|(.., peer)| !peer.unable.contains(&demand.vip));
    let staying = |peer: &Peer| peer.standing != Standing::Draining;
    let near = |peer: &Peer| alike || peer.is_on_network_of(demand.vip);
    let held_near = able.iter().any(|(_, index, peer)| held_by == Some(*index) && near(peer));
    if !able.iter().any(|(.., peer)| staying(peer) && (near(peer) || !held_near)) {
        // Nobody as able can take it from a node that leaves: it serves until its end.
        return able.iter().map(|(_, index, _)| *index).filter(|index| held_by == Some(*index)).collect();
    }
    able.retain(|(_, _, peer)| staying(peer));
    if able.iter().any(|(.., peer)| near(peer)) {
        able.retain(|(.., peer)| near(peer));
    }
    if able.iter().any(|(.., peer)| peer.ready) {
        able.retain(|(_, index, peer)| peer.ready || held_by == Some(*index));
    }
    if let Some(pin) = &demand.pin
        && let Some((_, index, _)) = able.iter().find(|(_, _, peer)| peer.name == *pin)
    {
        return vec![*index];
    }
    // A holder is displaced by a preferred node only when that one has settled.
    let held = |index: usize| held_by == Some(index);
    if let Some(own) = able.iter().find(|(_, index, _)| held(*index)).map(|(preference, ..)| *preference) {
        able.retain(|(preference, _, peer)| *preference <= own || peer.standing == Standing::Settled);
    }
    let best = able.iter().map(|(preference, ..)| *preference).max();
    able.iter().filter(|(preference, ..)| Some(*preference) == best).map(|(_, index, _)| *index).collect()
}

fn least_loaded(
    seat: &Seat<'_>,
    load: &[usize],
    peers: &[Peer],
    allowed: impl Fn(usize) -> bool,
) -> Option<usize> {
    let eligible = seat.eligible.iter().copied().filter(|peer| allowed(*peer));
    eligible.min_by_key(|peer| (load[*peer], rank(seat.demand.vip, &peers[*peer].name)))
}

#[cfg(test)]
mod tests;

//! What is known of each other speaker: where it is, what it says of itself, when it was heard last.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::IpNet;

use super::message::Status;
use crate::{mac::Mac, membership::Identity, node_name::NodeName};

/// A speaker that was silent for so long is forgotten; a node that returns is found through the seeds.
const MEMORY: Duration = Duration::from_secs(3600);
/// More speakers than any supported cluster: the bound of what strangers with the key could make us store.
const MOST: usize = 1000;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) identity: Identity,
    pub(super) status: Option<Status>,
    pub(super) unable: Arc<BTreeSet<IpAddr>>,
    pub(super) networks: Option<Arc<[IpNet]>>,
    pub(super) heard: Instant,
    /// It said that it stops; what it owned is free.
    pub(super) left: bool,
    /// When its differing claims were last answered with ours.
    pub(super) corrected: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Peers {
    by_name: BTreeMap<NodeName, Peer>,
}

impl Peers {
    pub(super) fn get(&self, name: &NodeName) -> Option<&Peer> {
        self.by_name.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &NodeName) -> Option<&mut Peer> {
        self.by_name.get_mut(name)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(super) fn left(&self) -> impl Iterator<Item = &NodeName> {
        self.by_name.values().filter(|peer| peer.left).map(|peer| &peer.identity.name)
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.by_name.values().map(|peer| peer.identity.addr).filter(|addr| addr.port() != 0)
    }

    pub(super) fn by_mac(&self, mac: Mac) -> Option<NodeName> {
        let owns = |peer: &&Peer| peer.status.as_ref().is_some_and(|status| status.macs.contains(&mac));
        self.by_name.values().find(owns).map(|peer| peer.identity.name.clone())
    }

    /// A sign of life of this identity. A later life of the same node starts from nothing.
    pub(super) fn meet(&mut self, identity: &Identity, now: Instant) -> Option<&mut Peer> {
        if self.by_name.len() >= MOST && !self.by_name.contains_key(&identity.name) {
            return None;
        }
        let fresh = || Peer {
            identity: identity.clone(),
            status: None,
            unable: Arc::default(),
            networks: None,
            heard: now,
            left: false,
            corrected: None,
        };
        let peer = self.by_name.entry(identity.name.clone()).or_insert_with(fresh);
        if peer.identity.boot < identity.boot {
            *peer = fresh();
        } else if peer.identity.boot > identity.boot {
            return None;
        }
        let moved = peer.identity.addr != identity.addr;
        peer.identity = identity.clone();
        peer.heard = now;
        if moved {
            self.forget_address(identity);
        }
        self.by_name.get_mut(&identity.name)
    }

    /// An address that has passed to another node is no sign of life of the one that had it.
    fn forget_address(&mut self, identity: &Identity) {
        let had =
            |peer: &&mut Peer| peer.identity.name != identity.name && peer.identity.addr == identity.addr;
        self.by_name.values_mut().filter(had).for_each(|peer| peer.identity.addr.set_port(0));
    }

    pub(super) fn heard_from(&mut self, addr: SocketAddr, now: Instant) {
        if let Some(peer) = self.by_name.values_mut().find(|peer| peer.identity.addr == addr) {
            peer.heard = now;
        }
    }

    pub(super) fn forget(&mut self, now: Instant) {
        self.by_name.retain(|_, peer| now.saturating_duration_since(peer.heard) < MEMORY);
    }
}

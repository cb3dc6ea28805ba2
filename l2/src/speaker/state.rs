//! What the wire thread shows of itself: for the status page, the reports to the cluster, and the stop.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::address::Reach;
use crate::{
    mac::Mac,
    node_name::NodeName,
    ownership::{Claim, Gain, Tenure},
};

/// The interfaces on which a VIP is announced, by index and name. Shared: most VIPs have the same ones.
pub(super) type Interfaces = Arc<BTreeMap<u32, String>>;

/// A snapshot, published on change. Names and lists in it are shared with the wire thread's own state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// Which life of this node claims.
    pub(super) boot: u64,
    /// Where the other speakers find this one, and whether they can.
    pub(super) address: SocketAddr,
    pub(super) reach: Reach,
    /// Of its interfaces.
    pub(super) macs: Vec<Mac>,
    /// Nothing is answered while the speaker asks its peers what it missed.
    pub(super) fenced: bool,
    pub(super) draining: bool,
    pub(super) members: Vec<Member>,
    /// Nodes whose speakers said that they stop, or whose hosts say that none runs.
    pub(super) stopped: BTreeSet<NodeName>,
    /// What is claimed by anybody, in the order of the addresses.
    pub(super) claims: Vec<Claim>,
    /// VIPs that this node announces.
    pub(super) held: BTreeMap<IpAddr, Held>,
    /// Addresses that a host which is no speaker uses, with its hardware address.
    pub(super) conflicts: BTreeMap<IpAddr, Mac>,
    /// VIPs of ours that a speaker which is not heard claims on the wire as well, and its node.
    pub(super) rivals: BTreeMap<IpAddr, NodeName>,
    /// VIPs that no interface of this node suits.
    pub(super) unable: BTreeSet<IpAddr>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            boot: 0,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            reach: Reach::default(),
            macs: Vec::new(),
            fenced: false,
            draining: false,
            members: Vec::new(),
            stopped: BTreeSet::new(),
            claims: Vec::new(),
            held: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            rivals: BTreeMap::new(),
            unable: BTreeSet::new(),
        }
    }
}

/// Another speaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    pub node: String,
    pub address: SocketAddr,
    pub up: bool,
}

/// A VIP that is announced from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Milliseconds since 1970.
    pub(super) since: i64,
    pub(super) why: Gain,
    pub(super) on: Interfaces,
}

impl State {
    pub(super) fn claim(&self, vip: IpAddr) -> Option<&Claim> {
        self.claims.binary_search_by_key(&vip, |claim| claim.vip).ok().map(|at| &self.claims[at])
    }

    pub(super) fn in_conflict(&self, vip: IpAddr) -> bool {
        self.claim(vip).is_some_and(|claim| claim.tenure == Tenure::Conflict)
    }
}

/// A gain in the words of the status.
pub(super) fn reason(gain: &Gain) -> String {
    match gain {
        Gain::FirstUse => "first use".to_owned(),
        Gain::TakeOver { from, .. } => format!("took over from {from}, which died"),
        Gain::HandOver { from } => format!("handed over by {from}"),
        Gain::Resumed => "kept over a pause".to_owned(),
    }
}

/// The node that owned it before.
pub(super) fn owner_before(gain: &Gain) -> Option<&NodeName> {
    match gain {
        Gain::TakeOver { from, .. } | Gain::HandOver { from } => Some(from),
        Gain::FirstUse | Gain::Resumed => None,
    }
}

//! What the wire thread shows of itself: for the status page, the reports to the cluster, and tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use crate::ownership::Gain;

/// A snapshot, published on change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub node: String,
    /// Which life of this node claims.
    pub boot: u64,
    /// Nothing is answered while the speaker asks its peers what it missed.
    pub fenced: bool,
    pub draining: bool,
    pub members: Vec<MemberState>,
    /// Every VIP of which an owner is known or wanted.
    pub vips: BTreeMap<IpAddr, VipState>,
    /// VIPs that this node announces.
    pub held: BTreeMap<IpAddr, Held>,
    /// Addresses that a host which is no speaker uses, with its hardware address.
    pub conflicts: BTreeMap<IpAddr, String>,
    /// VIPs that no interface of this node suits.
    pub unable: BTreeSet<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberState {
    pub node: String,
    pub address: SocketAddr,
    pub up: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VipState {
    pub owner: Option<String>,
    /// owned, probing, conflict or free.
    pub tenure: String,
    pub epoch: u64,
    /// Services on it, as namespace/name.
    pub services: Vec<String>,
    /// How many nodes may own it.
    pub candidates: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Milliseconds since 1970.
    pub since: i64,
    pub reason: String,
    /// The node that owned it before.
    pub from: Option<String>,
    pub interfaces: Vec<String>,
}

/// A gain in the words of the status.
pub(super) fn reason(gain: &Gain) -> (String, Option<String>) {
    match gain {
        Gain::FirstUse => ("first use".to_owned(), None),
        Gain::TakeOver { from, .. } => (format!("took over from {from}, which died"), Some(from.to_string())),
        Gain::HandOver { from } => (format!("handed over by {from}"), Some(from.to_string())),
        Gain::Resumed => ("kept over a pause".to_owned(), None),
    }
}

//! The page `/status`: who owns which VIP and why, put together when somebody asks for it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use super::{
    address::Reach,
    state::{self, Member, State},
    wanted::Wanted,
};
use crate::ownership::Tenure;

/// One look at the speaker of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    pub node: String,
    /// Where the other speakers find this one, and whether they can.
    pub address: Option<SocketAddr>,
    pub reach: Reach,
    /// Nothing is answered while the speaker asks its peers what it missed.
    pub fenced: bool,
    pub draining: bool,
    pub members: Vec<Member>,
    /// Every VIP of which an owner is known or wanted.
    pub vips: BTreeMap<IpAddr, Vip>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vip {
    pub owner: Option<String>,
    /// owned, probing, conflict or free.
    pub tenure: String,
    pub epoch: u64,
    /// Services on it, as namespace/name.
    pub services: Vec<String>,
    /// How many nodes may own it.
    pub candidates: usize,
    /// Present where this node announces it.
    pub held: Option<HeldVip>,
    /// The hardware address of a host that uses it and is no speaker.
    pub used_by: Option<String>,
    /// The node whose speaker claims it on the wire as well, and is not heard.
    pub contested_by: Option<String>,
    /// No interface of this node suits it.
    pub unable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldVip {
    /// Milliseconds since 1970.
    pub since: i64,
    pub reason: String,
    /// The node that owned it before.
    pub from: Option<String>,
    pub interfaces: Vec<String>,
}

impl Page {
    pub(super) fn new(node: &str, state: &State, wanted: Option<&Wanted>) -> Self {
        let mut vips: BTreeMap<IpAddr, Vip> = BTreeMap::new();
        for (vip, demand) in wanted.iter().flat_map(|wanted| wanted.demands.iter()) {
            let place = wanted.and_then(|wanted| wanted.places.get(vip));
            let services = place.iter().flat_map(|place| &place.services).map(ToString::to_string).collect();
            let candidates = demand.candidates.len();
            vips.insert(*vip, Vip { services, candidates, tenure: "free".to_owned(), ..Vip::default() });
        }
        for claim in &state.claims {
            if claim.tenure == Tenure::Free && !vips.contains_key(&claim.vip) {
                continue;
            }
            let vip = vips.entry(claim.vip).or_default();
            vip.owner = claim.owner().map(|owner| owner.name.to_string());
            tenure(&claim.tenure).clone_into(&mut vip.tenure);
            vip.epoch = claim.epoch;
        }
        for (address, vip) in &mut vips {
            vip.held = state.held.get(address).map(|held| HeldVip {
                since: held.since,
                reason: state::reason(&held.why),
                from: state::owner_before(&held.why).map(ToString::to_string),
                interfaces: held.on.values().cloned().collect(),
            });
            vip.used_by = state.conflicts.get(address).map(ToString::to_string);
            vip.contested_by = state.rivals.get(address).map(ToString::to_string);
            vip.unable = state.unable.contains(address);
        }
        let (fenced, draining, members) = (state.fenced, state.draining, state.members.clone());
        let (address, reach) = (Some(state.address), state.reach);
        Self { node: node.to_owned(), address, reach, fenced, draining, members, vips }
    }
}

fn tenure(tenure: &Tenure) -> &'static str {
    match tenure {
        Tenure::Owned(_) => "owned",
        Tenure::Probing(_) => "probing",
        Tenure::Conflict => "conflict",
        Tenure::Free => "free",
    }
}

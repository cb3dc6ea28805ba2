//! What the other thread and the metrics learn of the loop's state.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::Wire;
use crate::speaker::{
    metrics::Announced,
    state::{Member, State},
    wanted::ServiceKey,
};

/// How often the snapshot follows changes at most; and the part of the time, one in so many, that it may take.
const SNAPSHOT_EVERY: Duration = Duration::from_millis(20);
const SNAPSHOT_PART: u32 = 10;

impl Wire {
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
    pub(super) fn publish(&mut self) {
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

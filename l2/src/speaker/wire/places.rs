//! What should be announced and which links there are, turned into the interfaces of each VIP.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use tracing::{info, warn};

use super::Wire;
use crate::{
    ndp,
    speaker::{address::Reach, state::Interfaces, wanted::Wanted},
};

impl Wire {
    pub(super) fn handle_wanted(&mut self) {
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

    pub(super) fn handle_links(&mut self) {
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
    pub(super) fn join_groups(&mut self) {
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
}

//! The address at which the other speakers find this one: chosen, followed while it changes, and missed when it is gone. Pure.
//!
//! ```text
//! --node-ip or the bound address   where an interface has it
//! else the Node object's           where an interface has it: the kubelet follows what DHCP does
//! else the one in use              where an interface still has it, whichever that is now
//! else another one of the interface that had it; at a start, of any interface
//! ```
//! An interface that has an address of another network is no substitute: the others could not be reached from it.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{
    interfaces::{self, Exclusions},
    netlink::Link,
};

/// What is known of this node's address, apart from its interfaces.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    /// Given by the operator.
    pub(super) given: Option<IpAddr>,
    /// The addresses of the Node object.
    pub(super) of_node: Vec<IpAddr>,
    /// The one in use.
    pub(super) current: Option<IpAddr>,
    /// The interface that had it when it was last seen.
    pub(super) seen_on: Option<u32>,
    pub(super) is_v4: bool,
}

/// Whether the other speakers can reach this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reach {
    #[default]
    Connected,
    /// The interface that has the address is down.
    NoCarrier,
    /// No interface has it any more.
    NoAddress,
}

impl Own {
    /// Looks at the interfaces. What is chosen is kept as the current address.
    pub(super) fn look(&mut self, links: &BTreeMap<u32, Link>, exclusions: &Exclusions) -> Reach {
        let place = |ip: IpAddr| {
            let has = |link: &&Link| link.networks.iter().any(|net| net.addr() == ip);
            // Up before down: while a bridge is rebuilt two interfaces may have it.
            links.values().filter(has).max_by_key(|link| link.up)
        };
        let wanted = self.given.into_iter().chain(self.of_node.iter().copied()).chain(self.current);
        let mut wanted = wanted.filter(|ip| ip.is_ipv4() == self.is_v4);
        let found = wanted.find_map(|ip| Some((ip, place(ip)?)));
        if let Some((ip, link)) = found.or_else(|| self.other(links, exclusions)) {
            (self.current, self.seen_on) = (Some(ip), Some(link.index));
            return if link.up { Reach::Connected } else { Reach::NoCarrier };
        }
        let usable = interfaces::usable(links, exclusions);
        let any = |link: &&Link| link.networks.iter().any(|net| self.is_global(net.addr()));
        match self.given {
            // Never on an interface, and there are others: translated on its way, as in some clouds.
            Some(given) if self.may_be_translated(given) && usable.iter().any(any) => {
                self.current = Some(given);
                if usable.iter().any(|link| link.up) { Reach::Connected } else { Reach::NoCarrier }
            }
            _ => Reach::NoAddress,
        }
    }

    /// Another address of the interface that had the last one; at a start of any.
    fn other<'a>(
        &self,
        links: &'a BTreeMap<u32, Link>,
        exclusions: &Exclusions,
    ) -> Option<(IpAddr, &'a Link)> {
        if self.given.is_some_and(|given| self.may_be_translated(given)) {
            return None;
        }
        let candidates = interfaces::usable(links, exclusions).into_iter();
        let mut candidates = candidates
            .filter(|link| self.seen_on.is_none_or(|index| link.index == index))
            .filter(|link| link.up || self.seen_on.is_some());
        candidates.find_map(|link| {
            let ip = link.networks.iter().map(ipnet::IpNet::addr).find(|ip| self.is_global(*ip))?;
            Some((ip, link))
        })
    }

    /// What the Node object does not have is an old one, not a translated one.
    fn may_be_translated(&self, given: IpAddr) -> bool {
        self.seen_on.is_none() && (self.of_node.is_empty() || self.of_node.contains(&given))
    }

    fn is_global(&self, ip: IpAddr) -> bool {
        let global = match ip {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        };
        global && ip.is_ipv4() == self.is_v4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::Mac;

    fn links(all: &[(u32, &str, bool, &[&str])]) -> BTreeMap<u32, Link> {
        let link = |(index, name, up, networks): &(u32, &str, bool, &[&str])| Link {
            index: *index,
            name: (*name).to_owned(),
            mac: Mac([2; 6]),
            up: *up,
            enslaved: false,
            arp: true,
            networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
        };
        all.iter().map(|one| (one.0, link(one))).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn look(own: &mut Own, all: &[(u32, &str, bool, &[&str])]) -> (Option<IpAddr>, Reach) {
        let exclusions = Exclusions::compile(&["^cni.*"]).unwrap();
        let reach = own.look(&links(all), &exclusions);
        (own.current, reach)
    }

    fn fresh() -> Own {
        Own { is_v4: true, ..Own::default() }
    }

    #[test]
    fn an_address_that_is_gone_is_not_replaced_by_one_of_another_network() {
        let mut own = fresh();
        let both: &[(u32, &str, bool, &[&str])] =
            &[(1, "eth0", true, &["10.77.0.11/16", "fd77::b/64"]), (2, "eth1", true, &["10.78.0.11/16"])];
        assert_eq!(look(&mut own, both), (Some(ip("10.77.0.11")), Reach::Connected));
        let lost: &[(u32, &str, bool, &[&str])] = &[
            (1, "eth0", true, &["fd77::b/64"]),
            (2, "eth1", true, &["10.78.0.11/16"]),
            (3, "cni0", true, &["10.244.1.1/24"]),
        ];
        assert_eq!(look(&mut own, lost).1, Reach::NoAddress);
        assert_eq!(look(&mut own, both), (Some(ip("10.77.0.11")), Reach::Connected));
    }

    #[test]
    fn a_new_lease_on_the_same_interface_is_followed() {
        let mut own = Own { given: Some(ip("10.77.0.11")), ..fresh() };
        look(&mut own, &[(1, "eth0", true, &["10.77.0.11/16"])]);
        assert_eq!(look(&mut own, &[(1, "eth0", true, &[])]).1, Reach::NoAddress);
        let renewed: &[(u32, &str, bool, &[&str])] = &[(1, "eth0", true, &["10.77.0.99/16"])];
        assert_eq!(look(&mut own, renewed), (Some(ip("10.77.0.99")), Reach::Connected));
    }

    #[test]
    fn the_node_object_is_followed_to_another_interface() {
        let mut own = fresh();
        look(&mut own, &[(1, "eth0", true, &["10.77.0.11/16"])]);
        own.of_node = vec![ip("10.78.0.11")];
        let both: &[(u32, &str, bool, &[&str])] =
            &[(1, "eth0", true, &["10.77.0.11/16"]), (2, "eth1", true, &["10.78.0.11/16"])];
        assert_eq!(look(&mut own, both), (Some(ip("10.78.0.11")), Reach::Connected));
    }

    #[test]
    fn an_address_that_moves_to_a_bridge_stays_the_same() {
        let mut own = fresh();
        look(&mut own, &[(1, "eth0", true, &["10.77.0.11/16"])]);
        let bridged: &[(u32, &str, bool, &[&str])] =
            &[(1, "eth0", true, &[]), (7, "br0", true, &["10.77.0.11/16"])];
        assert_eq!(look(&mut own, bridged), (Some(ip("10.77.0.11")), Reach::Connected));
        let down: &[(u32, &str, bool, &[&str])] = &[(7, "br0", false, &["10.77.0.11/16"])];
        assert_eq!(look(&mut own, down).1, Reach::NoCarrier);
    }

    #[test]
    fn an_address_that_no_interface_ever_had_is_taken_for_translated() {
        let mut own = Own { given: Some(ip("203.0.113.7")), ..fresh() };
        let behind: &[(u32, &str, bool, &[&str])] = &[(1, "eth0", true, &["10.0.0.5/24"])];
        assert_eq!(look(&mut own, behind), (Some(ip("203.0.113.7")), Reach::Connected));
        // The Node object has another one by now: the given one is from before the last lease.
        own.of_node = vec![ip("10.0.0.77")];
        assert_eq!(look(&mut own, behind), (Some(ip("10.0.0.5")), Reach::Connected));
        // Nothing at all: the lease has not come yet.
        let mut own = Own { given: Some(ip("10.77.0.11")), ..fresh() };
        assert_eq!(look(&mut own, &[(1, "eth0", true, &["fe80::1/64"])]).1, Reach::NoAddress);
    }
}

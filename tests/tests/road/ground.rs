//! The networks of the road, each machine in a namespace of its own, and nothing of it on the host.
//!
//! ```text
//!  home, 10.77.0.0/16 (the cluster's LAN)                    the Internet
//!  node1-3, their VIPs                                       visitor 198.51.100.2
//!  home .50, a docker engine ── router .1 ── NAT ── core ──  VPS 203.0.113.10, a docker engine
//!                               192.0.2.2           .1       authority 198.18.0.2, pebble and its DNS
//! ```
//! An engine's network is the machine's own namespace: its bridge, its address translation and its published ports are
//! those of any machine with docker, and nothing has to be joined by hand. The router lets nothing in that nobody at home asked for.

use std::net::Ipv4Addr;

use anyhow::Result;
use causeway_tests::cluster::{Cluster, Host, Namespace};

/// In the names of its namespaces.
pub(super) const NAME: &str = "road";
pub(super) const VPS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
pub(super) const VISITOR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
pub(super) const AUTHORITY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// What the cable of the docker machine at home is called in the switch.
pub(super) const HOME: &str = "home";
const HOME_LAST: u8 = 50;

/// What is outside of the house.
pub(super) struct Internet {
    pub(super) visitor: Namespace,
    pub(super) vps: Namespace,
    pub(super) authority: Namespace,
    core: Namespace,
}

impl Internet {
    pub(super) fn lay() -> Result<Self> {
        let core = Namespace::new(NAME, "core")?;
        core.sysctl(&[("ipv4/ip_forward", "1")])?;
        let machine = |role: &str, at: Ipv4Addr| {
            let namespace = Namespace::new(NAME, role)?;
            let [a, b, c, _] = at.octets();
            core.ip(&format!(
                "link add {role} type veth peer name eth0 netns {}\naddr add {a}.{b}.{c}.1/24 dev {role}\nlink set {role} up\n",
                namespace.name()
            ))?;
            namespace.ip(&format!(
                "addr add {at}/24 dev eth0\nlink set eth0 up\nroute add default via {a}.{b}.{c}.1\n"
            ))?;
            anyhow::Ok(namespace)
        };
        let visitor = machine("visitor", VISITOR)?;
        let (vps, authority) = (machine("vps", VPS)?, machine("authority", AUTHORITY)?);
        Ok(Self { visitor, vps, authority, core })
    }

    /// Connects the house by a router that translates addresses, and plugs a machine into its LAN.
    pub(super) fn connect(&self, cluster: &Cluster, machine: Namespace) -> Result<Host> {
        let router = &cluster.lan.router;
        router
            .namespace
            .ip(&format!("link add wan type veth peer name house netns {}\n", self.core.name()))?;
        self.core.ip("addr add 192.0.2.1/24 dev house\nlink set house up\n")?;
        router
            .namespace
            .ip("addr add 192.0.2.2/24 dev wan\nlink set wan up\nroute add default via 192.0.2.1\n")?;
        router.namespace.nft(
            "table ip house {\n chain out {\n  type nat hook postrouting priority srcnat\n  oifname wan masquerade\n }\n \
             chain in {\n  type filter hook forward priority filter\n  \
             iifname wan ct state established,related accept\n  iifname wan drop\n }\n}\n",
        )?;
        let home = cluster.lan.plug_machine(machine, HOME, HOME_LAST)?;
        home.namespace.ip(&format!("route add default via {}\n", router.v4))?;
        Ok(home)
    }
}

//! The wire: a switch with two LANs, and the hosts on them (control, client, router, nodes with their pods), each in its own namespace.
//!
//! ```text
//!            far client 10.79.0.2
//!                 |
//!              router .1       client .2      control .3     node1 .11  node2 .12 …
//!                 |               |               |             |          |        10.77.0.0/16, fd77::/64   (br0)
//!  =====================================================================================
//!              second client .2                               eth1       eth1       10.78.0.0/16, fd78::/64   (br1)
//! ```
//! The bridges have a namespace of their own: nothing on the host (Docker's filter, for one) sees their frames.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};

use crate::netns::Namespace;

/// A host on the LANs.
#[derive(Clone, Debug)]
pub struct Host {
    pub name: String,
    pub namespace: Namespace,
    /// Of eth0, on the first LAN.
    pub mac: [u8; 6],
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

/// A node: a host with a second interface, which forwards to a pod.
#[derive(Clone, Debug)]
pub struct NodeHost {
    pub host: Host,
    /// Of eth1, on the second LAN.
    pub mac1: [u8; 6],
    pub pod: Namespace,
    pub pod_v4: Ipv4Addr,
    pub pod_v6: Ipv6Addr,
}

#[derive(Debug)]
pub struct Lan {
    pub switch: Namespace,
    pub control: Host,
    pub client: Host,
    pub router: Host,
    /// On the second LAN: its eth0 has 10.78.0.2.
    pub client2: Host,
    /// Behind the router, on no LAN.
    pub far: Namespace,
    pub nodes: Vec<NodeHost>,
    test: String,
    /// Further IPv4 networks of the first LAN: the first three octets of its hosts, and the prefix' length.
    more: Vec<([u8; 3], u8)>,
}

const QUIET: &[(&str, &str)] = &[
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/all/router_solicitations", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
];

impl Lan {
    pub fn new(test: &str, nodes: u8) -> Result<Self> {
        let switch = Namespace::new(test, "switch")?;
        switch.ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             link add br1 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             link set br0 up\nlink set br1 up\n")?;
        let host = |role: &str, lan: u8, last: u8| host(test, &switch, role, lan, last);
        let control = host("control", 0, 3)?;
        let client = host("client", 0, 2)?;
        let router = host("router", 0, 1)?;
        let client2 = host("client2", 1, 2)?;
        let far = Namespace::new(test, "far")?;
        router.namespace.ip(&format!(
            "link add far type veth peer name eth0 netns {}\naddr add 10.79.0.1/24 dev far\nlink set far up\n",
            far.name()
        ))?;
        router.namespace.sysctl(&[("ipv4/ip_forward", "1")])?;
        far.ip("addr add 10.79.0.2/24 dev eth0\nlink set eth0 up\nroute add default via 10.79.0.1\n")?;
        let test = test.to_owned();
        let mut lan =
            Self { switch, control, client, router, client2, far, nodes: Vec::new(), test, more: Vec::new() };
        for number in 1..=nodes {
            lan.add_node(number)?;
        }
        Ok(lan)
    }

    fn add_node(&mut self, number: u8) -> Result<()> {
        let last = 10 + number;
        let host = host(&self.test, &self.switch, &format!("node{number}"), 0, last)?;
        let mac1 = [2, 0, 0, 78, 1, last];
        plug(&self.switch, &host.namespace, &host.name, 1, last, mac1)?;
        let pod = Namespace::new(&self.test, &format!("pod{number}"))?;
        let (pod_v4, pod_v6) = pod_addresses(number);
        let node = &host.namespace;
        // eth0 as in a pod; the node's end is named as a CNI would.
        node.ip(&format!(
            "link add veth-pod type veth peer name eth0 netns {}\n\
             addr add 10.244.{number}.1/24 dev veth-pod\naddr add fd44:0:0:{number}::1/64 dev veth-pod nodad\n\
             link set veth-pod up\nroute add default via 10.77.0.1\n",
            pod.name()
        ))?;
        node.sysctl(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
        pod.sysctl(QUIET)?;
        pod.ip(&format!(
            "addr add {pod_v4}/24 dev eth0\naddr add {pod_v6}/64 dev eth0 nodad\nlink set eth0 up\n\
             route add default via 10.244.{number}.1\nroute add ::/0 via fd44:0:0:{number}::1\n"
        ))?;
        for (index, other) in (1u8..).zip(&self.nodes) {
            let route = |to: u8, via: &Host| {
                format!(
                    "route add 10.244.{to}.0/24 via {}\nroute add fd44:0:0:{to}::/64 via {}\n",
                    via.v4, via.v6
                )
            };
            node.ip(&route(index, &other.host))?;
            other.host.namespace.ip(&route(number, &host))?;
        }
        self.nodes.push(NodeHost { host, mac1, pod, pod_v4, pod_v6 });
        Ok(())
    }

    /// A further IPv4 network on the first LAN: every host has an address in it, with the last octet of its first one.
    pub fn add_network(&mut self, octets: [u8; 3], prefix: u8) -> Result<()> {
        let nodes = self.nodes.iter().map(|node| &node.host);
        for host in [&self.router, &self.client].into_iter().chain(nodes) {
            host.namespace.ip(&more_of(host, (octets, prefix)))?;
        }
        self.more.push((octets, prefix));
        Ok(())
    }

    /// Takes a cable out (`lan` 0 or 1): the host sees its carrier go as well.
    pub fn cut(&self, host: &str, lan: u8) -> Result<()> {
        self.switch.ip(&format!("link set {host}-{lan} down\n"))
    }

    pub fn mend(&self, host: &str, lan: u8) -> Result<()> {
        self.switch.ip(&format!("link set {host}-{lan} up\n"))
    }

    /// A node loses the IPv4 address of its eth0 and with it the routes over it, as at the end of a DHCP lease; its
    /// carrier stays up, and so does everything else that it has.
    pub fn take_address(&self, node: &str) -> Result<()> {
        self.node(node)?.host.namespace.output("ip", &["-4", "addr", "flush", "dev", "eth0"]).map(drop)
    }

    /// The address comes back, and the routes; nothing happens where it is there.
    pub fn give_address(&self, node: &str) -> Result<()> {
        self.node(node)?.host.namespace.ip(&self.address_and_routes(node)?)
    }

    /// The lines for `ip -batch` that give a node what [`Self::take_address`] took.
    pub fn address_and_routes(&self, node: &str) -> Result<String> {
        let host = &self.node(node)?.host;
        let mut lines =
            format!("addr replace {}/16 dev eth0\nroute replace default via {}\n", host.v4, self.router.v4);
        lines.extend(self.more.iter().map(|net| more_of(host, *net)));
        for (number, other) in (1u8..).zip(&self.nodes).filter(|(_, other)| other.host.name != node) {
            let _ = writeln!(lines, "route replace 10.244.{number}.0/24 via {}", other.host.v4);
        }
        Ok(lines)
    }

    fn node(&self, name: &str) -> Result<&NodeHost> {
        self.nodes.iter().find(|n| n.host.name == name).with_context(|| format!("no node is called {name}"))
    }

    /// Parts the first LAN in the switch: no frame passes between `left` and `right`; every carrier stays up.
    pub fn part(&self, left: &[&str], right: &[&str]) -> Result<()> {
        let set = |hosts: &[&str]| hosts.iter().map(|h| format!("\"{h}-0\"")).collect::<Vec<_>>().join(", ");
        let (left, right) = (set(left), set(right));
        self.switch.nft(&format!(
            "table bridge parted {{\n chain forward {{\n  type filter hook forward priority 0;\n  \
             iifname {{ {left} }} oifname {{ {right} }} drop\n  \
             iifname {{ {right} }} oifname {{ {left} }} drop\n }}\n}}\n"
        ))
    }

    pub fn join(&self) -> Result<()> {
        self.switch.nft("delete table bridge parted\n")
    }

    /// One more host on the first LAN, as a visitor plugs in a laptop.
    pub fn plug_host(&self, role: &str, last: u8) -> Result<Host> {
        host(&self.test, &self.switch, role, 0, last)
    }

    /// The same with a machine that stands already.
    pub fn plug_machine(&self, namespace: Namespace, role: &str, last: u8) -> Result<Host> {
        plugged(&self.switch, namespace, role, 0, last)
    }
}

fn more_of(host: &Host, ([a, b, c], prefix): ([u8; 3], u8)) -> String {
    format!("addr replace {a}.{b}.{c}.{}/{prefix} dev eth0\n", host.v4.octets()[3])
}

/// The addresses of the pod on node `number`.
pub(super) fn pod_addresses(number: u8) -> (Ipv4Addr, Ipv6Addr) {
    (Ipv4Addr::new(10, 244, number, 2), Ipv6Addr::new(0xfd44, 0, 0, number.into(), 0, 0, 0, 2))
}

fn host(test: &str, switch: &Namespace, role: &str, lan: u8, last: u8) -> Result<Host> {
    plugged(switch, Namespace::new(test, role)?, role, lan, last)
}

fn plugged(switch: &Namespace, namespace: Namespace, role: &str, lan: u8, last: u8) -> Result<Host> {
    namespace.sysctl(QUIET)?;
    let mac = [2, 0, 0, 77 + lan, 0, last];
    plug(switch, &namespace, role, lan, last, mac)?;
    let net = 77 + lan;
    let v6 = Ipv6Addr::new(0xfd00 + if lan == 0 { 0x77 } else { 0x78 }, 0, 0, 0, 0, 0, 0, last.into());
    Ok(Host { name: role.to_owned(), namespace, mac, v4: Ipv4Addr::new(10, net, 0, last), v6 })
}

/// A cable from the switch to the host's `eth0` or `eth1`; the switch's end is called `<host>-<lan>`.
fn plug(
    switch: &Namespace,
    namespace: &Namespace,
    role: &str,
    lan: u8,
    last: u8,
    mac: [u8; 6],
) -> Result<()> {
    let mac = mac.map(|b| format!("{b:02x}")).join(":");
    let eth = if role.starts_with("node") { lan } else { 0 };
    let (net, net6) = if lan == 0 { (77, "fd77") } else { (78, "fd78") };
    switch.ip(&format!(
        "link add {role}-{lan} type veth peer name eth{eth} address {mac} netns {}\n\
         link set {role}-{lan} master br{lan}\nlink set {role}-{lan} up\n",
        namespace.name()
    ))?;
    namespace.ip(&format!(
        "addr add 10.{net}.0.{last}/16 dev eth{eth}\naddr add {net6}::{last:x}/64 dev eth{eth} nodad\nlink set eth{eth} up\n"
    ))
}

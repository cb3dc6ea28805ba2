//! Which interfaces may be used at all, and which of them for a VIP. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
};

use ipnet::IpNet;
use regex_lite::Regex;
use serde::Deserialize;

use crate::netlink::Link;

/// MetalLB's list: interfaces of containers, tunnels and the kernel's own.
const DEFAULT_EXCLUSIONS: &[&str] = &[
    "^docker.*",
    "^cbr.*",
    "^dummy.*",
    "^virbr.*",
    "^lxcbr.*",
    "^veth.*",
    "^lo$",
    "^cali.*",
    "^tunl.*",
    "^flannel.*",
    "^kube-ipvs.*",
    "^cni.*",
    "^nodelocaldns.*",
    "^lxc.*",
];

/// Names of interfaces that are never used.
#[derive(Clone, Debug)]
pub(crate) struct Exclusions(Vec<Regex>);

#[derive(Debug, thiserror::Error)]
pub(crate) enum ExclusionError {
    #[error("cannot read {0}")]
    Read(String, #[source] std::io::Error),
    #[error(transparent)]
    Parse(#[from] causeway_daemon::config::ConfigError),
    #[error("`{0}` is not a regular expression")]
    Regex(String, #[source] Box<regex_lite::Error>),
}

/// MetalLB's `excludel2.yaml`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExclusionFile {
    announced_interfaces_to_exclude: Vec<String>,
}

impl Exclusions {
    /// # Errors
    /// When one of them is not a regular expression.
    pub(crate) fn compile<S: AsRef<str>>(patterns: &[S]) -> Result<Self, ExclusionError> {
        let compile = |text: &S| {
            let text = text.as_ref();
            Regex::new(text).map_err(|error| ExclusionError::Regex(text.to_owned(), Box::new(error)))
        };
        patterns.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// The file's list if there is such a file, else the default.
    ///
    /// # Errors
    /// When the file is there and wrong.
    pub(crate) fn load(file: &Path) -> Result<Self, ExclusionError> {
        let name = file.display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => {
                let parsed: ExclusionFile = causeway_daemon::config::parse(&name, &text)?;
                Self::compile(&parsed.announced_interfaces_to_exclude)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::compile(DEFAULT_EXCLUSIONS),
            Err(error) => Err(ExclusionError::Read(name, error)),
        }
    }

    fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|regex| regex.is_match(name))
    }
}

/// Interfaces that ever come into question, carrier or not.
pub(crate) fn usable<'a>(links: &'a BTreeMap<u32, Link>, exclusions: &Exclusions) -> Vec<&'a Link> {
    let usable = |link: &&Link| link.arp && !link.enslaved && !exclusions.matches(&link.name);
    links.values().filter(usable).collect()
}

/// The interfaces on which this VIP is announced now: those that the advertisements name, as MetalLB; where they name
/// none, those whose network contains the VIP, and where there never was such a network, all.
///
/// An interface without carrier is not chosen, but its network still counts, and so does a network that it was on
/// before (`former`, by index): a VIP does not move to another network because a cable was pulled or a lease ended.
pub(crate) fn for_vip<'a>(
    vip: IpAddr,
    usable: &[&'a Link],
    former: &BTreeMap<u32, BTreeSet<IpNet>>,
    named: Option<&BTreeSet<String>>,
) -> Vec<&'a Link> {
    let connects = |link: &&Link| link.connects(vip);
    let connected = |link: &&Link| {
        former.get(&link.index).is_some_and(|networks| networks.iter().any(|net| net.contains(&vip)))
    };
    let is_home: &dyn Fn(&&Link) -> bool = if usable.iter().any(connects) {
        &connects
    } else if usable.iter().any(connected) {
        &connected
    } else {
        &|_| true
    };
    let suits = |link: &&&Link| match named {
        Some(names) => names.contains(&link.name),
        None => is_home(link),
    };
    let speaks = |link: &&&Link| vip.is_ipv4() || link.has_link_local();
    usable.iter().filter(suits).filter(|link| link.up).filter(speaks).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::Mac;

    fn link(index: u32, name: &str, up: bool, network: &str) -> Link {
        Link {
            index,
            name: name.into(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            up,
            enslaved: false,
            arp: true,
            networks: vec![network.parse().unwrap(), "fe80::1/64".parse().unwrap()],
        }
    }

    fn names(links: &[&Link]) -> Vec<String> {
        links.iter().map(|link| link.name.clone()).collect()
    }

    fn chosen(vip: [u8; 4], links: &[&Link], named: Option<&BTreeSet<String>>) -> Vec<String> {
        names(&for_vip(vip.into(), links, &BTreeMap::new(), named))
    }

    #[test]
    fn the_interface_in_the_vips_network_is_chosen_else_all() {
        let (a, b) = (link(1, "eth0", true, "10.0.0.1/24"), link(2, "eth1", true, "192.168.1.1/24"));
        let all = [&a, &b];
        assert_eq!(chosen([10, 0, 0, 9], &all, None), ["eth0"]);
        assert_eq!(chosen([172, 16, 0, 9], &all, None), ["eth0", "eth1"]);
        let named = BTreeSet::from(["eth1".to_owned()]);
        assert_eq!(chosen([10, 0, 0, 9], &all, Some(&named)), ["eth1"]);
        let missing = BTreeSet::from(["eth9".to_owned()]);
        assert!(chosen([10, 0, 0, 9], &all, Some(&missing)).is_empty());
    }

    #[test]
    fn a_lost_address_does_not_move_a_vip_to_another_network() {
        let (mut a, b) = (link(1, "eth0", true, "10.0.0.1/24"), link(2, "eth1", true, "192.168.1.1/24"));
        a.networks.remove(0);
        let former = BTreeMap::from([(1, BTreeSet::from(["10.0.0.0/24".parse().unwrap()]))]);
        assert_eq!(names(&for_vip([10, 0, 0, 9].into(), &[&a, &b], &former, None)), ["eth0"]);
        assert_eq!(names(&for_vip([172, 16, 0, 9].into(), &[&a, &b], &former, None)), ["eth0", "eth1"]);
    }

    #[test]
    fn hazard_184_a_pulled_cable_does_not_move_a_vip_to_another_network() {
        let (a, b) = (link(1, "eth0", false, "10.0.0.1/24"), link(2, "eth1", true, "192.168.1.1/24"));
        assert!(chosen([10, 0, 0, 9], &[&a, &b], None).is_empty());
    }

    #[test]
    fn excluded_and_enslaved_interfaces_are_left_alone() {
        let mut slave = link(3, "eth2", true, "10.0.0.3/24");
        slave.enslaved = true;
        let links = [link(1, "eth0", true, "10.0.0.1/24"), link(2, "cni0", true, "10.1.0.1/24"), slave];
        let table = links.into_iter().map(|link| (link.index, link)).collect();
        let exclusions = Exclusions::load(Path::new("/nonexistent/excludel2.yaml")).unwrap();
        assert_eq!(names(&usable(&table, &exclusions)), ["eth0"]);
    }

    #[test]
    fn metallbs_file_of_exclusions_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("excludel2.yaml");
        std::fs::write(&file, "announcedInterfacesToExclude: [\"^lo$\", \"^wg.*\"]\n").unwrap();
        let exclusions = Exclusions::load(&file).unwrap();
        assert!(exclusions.matches("wg0") && !exclusions.matches("docker0"));
        std::fs::write(&file, "announcedInterfacesToExclude: [\"(\"]\n").unwrap();
        assert!(matches!(Exclusions::load(&file), Err(ExclusionError::Regex(..))));
    }
}

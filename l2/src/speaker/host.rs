//! What the kernel of this node says that the cluster should know: default gateways, and IPVS without strictARP.

use std::{collections::BTreeSet, fs, net::IpAddr};

use crate::host_routes;

/// Where kube-proxy in IPVS mode puts the address of every Service.
const IPVS_LINK: &str = "kube-ipvs0";
const STRICT_ARP: &str = "kube-proxy runs in IPVS mode without strictARP: every node answers for every VIP, not only its owner; \
                          set `ipvs.strictARP: true` in kube-proxy's configuration and restart it";

/// One look at this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) gateways: BTreeSet<IpAddr>,
    /// What keeps the owner from being the only one that answers, and the mend.
    pub(super) trouble: Option<&'static str>,
}

impl Host {
    pub(super) fn read() -> Self {
        let devices = fs::read_to_string("/proc/net/dev").unwrap_or_default();
        // What cannot be read is taken for right: a false alarm would make the true one unbelievable.
        let ignore =
            fs::read_to_string("/proc/sys/net/ipv4/conf/all/arp_ignore").unwrap_or_else(|_| "1".to_owned());
        Self {
            gateways: host_routes::gateways(),
            trouble: answers_for_all(&devices, &ignore).then_some(STRICT_ARP),
        }
    }
}

/// Whether the kernel answers ARP for addresses of IPVS on all interfaces (`arp_ignore` of ip-sysctl.rst).
fn answers_for_all(devices: &str, arp_ignore: &str) -> bool {
    let ipvs =
        devices.lines().filter_map(|line| line.split_once(':')).any(|(name, _)| name.trim() == IPVS_LINK);
    ipvs && arp_ignore.trim() == "0"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipvs_without_strict_arp_is_noticed() {
        let devices = "Inter-|   Receive\n face |bytes\n    lo: 1 2\n  kube-ipvs0: 0 0\n";
        assert!(answers_for_all(devices, "0\n"));
        assert!(!answers_for_all(devices, "1\n"));
        assert!(!answers_for_all("    lo: 1 2\n  eth0: 0 0\n", "0\n"));
    }
}

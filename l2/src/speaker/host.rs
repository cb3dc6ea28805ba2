//! What the kernel of this node says that the cluster should know: default gateways, and IPVS without strictARP.

use std::{collections::BTreeSet, fs, net::IpAddr};

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
        Self { gateways: gateways(), trouble: answers_for_all(&devices, &ignore).then_some(STRICT_ARP) }
    }
}

/// Whether the kernel answers ARP for addresses of IPVS on all interfaces (`arp_ignore` of ip-sysctl.rst).
fn answers_for_all(devices: &str, arp_ignore: &str) -> bool {
    let ipvs =
        devices.lines().filter_map(|line| line.split_once(':')).any(|(name, _)| name.trim() == IPVS_LINK);
    ipvs && arp_ignore.trim() == "0"
}

/// The default gateways of this network namespace.
fn gateways() -> BTreeSet<IpAddr> {
    let v4 = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    v4.lines().filter_map(gateway_v4).chain(v6.lines().filter_map(gateway_v6)).collect()
}

/// `Iface Destination Gateway Flags …`, addresses as hexadecimal numbers in the host's byte order.
fn gateway_v4(line: &str) -> Option<IpAddr> {
    let mut fields = line.split_whitespace().skip(1);
    let destination = fields.next()?;
    let gateway = u32::from_str_radix(fields.next()?, 16).ok()?;
    (destination == "00000000" && gateway != 0).then(|| IpAddr::from(gateway.to_ne_bytes()))
}

/// `destination prefix source prefix next-hop …`, all hexadecimal in network order.
fn gateway_v6(line: &str) -> Option<IpAddr> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let default = fields.first()?.bytes().all(|b| b == b'0') && *fields.get(1)? == "00";
    let hop = u128::from_str_radix(fields.get(4)?, 16).ok()?;
    (default && hop != 0).then(|| IpAddr::from(hop.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_gateways_are_read_from_the_kernels_tables() {
        assert_eq!(
            gateway_v4("eth0 00000000 0101A8C0 0003 0 0 0 00000000 0 0 0"),
            Some([192, 168, 1, 1].into())
        );
        assert_eq!(gateway_v4("eth0 0001A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0"), None);
        assert_eq!(gateway_v4("Iface Destination Gateway Flags"), None);
        let line = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                    fe800000000000000000000000000001 00000400 00000000 00000000 00000003 eth0";
        assert_eq!(gateway_v6(line), Some("fe80::1".parse().unwrap()));
    }

    #[test]
    fn ipvs_without_strict_arp_is_noticed() {
        let devices = "Inter-|   Receive\n face |bytes\n    lo: 1 2\n  kube-ipvs0: 0 0\n";
        assert!(answers_for_all(devices, "0\n"));
        assert!(!answers_for_all(devices, "1\n"));
        assert!(!answers_for_all("    lo: 1 2\n  eth0: 0 0\n", "0\n"));
    }
}

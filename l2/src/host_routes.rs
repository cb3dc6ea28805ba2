//! The default gateways of this network namespace, from the kernel's own tables. Both programs look: the speaker for its
//! node, the allocator for itself.

use std::{collections::BTreeSet, fs, net::IpAddr};

/// The default gateways of both families.
pub(crate) fn gateways() -> BTreeSet<IpAddr> {
    // A kernel without one of the families has no such file, and no gateway of it.
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
}

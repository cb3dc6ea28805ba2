//! Whether the kernel asked for an address on the LAN and nobody answered.

use std::net::IpAddr;

/// For addresses of IPv4: what `/proc/net/arp` has of it.
pub(super) fn is_unanswered(address: IpAddr) -> bool {
    std::fs::read_to_string("/proc/net/arp").is_ok_and(|table| says_unanswered(&table, address))
}

/// A line has the address, the type and flags, which are 0 while the neighbour is not known.
fn says_unanswered(table: &str, address: IpAddr) -> bool {
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace();
        fields.next() == Some(&address.to_string()) && fields.nth(1) == Some("0x0")
    })
}

#[test]
fn an_entry_without_flags_is_a_question_without_an_answer() {
    let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                 10.0.0.1         0x1         0x2         02:00:00:00:00:01     *        eth0\n\
                 10.0.0.104       0x1         0x0         00:00:00:00:00:00     *        eth0\n";
    let is = |text: &str| says_unanswered(table, text.parse().unwrap());
    assert!(is("10.0.0.104") && !is("10.0.0.1") && !is("10.0.0.10"));
}

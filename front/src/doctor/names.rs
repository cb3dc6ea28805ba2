//! Where names lead, beside where they should.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use causeway_daemon::doctor::{Finding, Severity};
use tokio::time::timeout;

use super::PATIENCE;

/// By the system's resolver, as all programs of this machine do.
///
/// # Errors
/// When nobody knows the name, or the resolver does not answer.
pub async fn addresses(name: &str) -> io::Result<Vec<IpAddr>> {
    let looked_up = timeout(PATIENCE, tokio::net::lookup_host((name, 0)));
    let found = looked_up.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    let mut found: Vec<_> = found.map(|address| address.ip().to_canonical()).collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Whether an address is this machine's: only its own can be bound.
pub fn is_own(address: IpAddr) -> bool {
    !address.is_unspecified() && UdpSocket::bind((address, 0)).is_ok()
}

/// What this machine's packets to the Internet come from; nothing is sent.
pub fn outward() -> Vec<IpAddr> {
    let ways = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    let from = |(local, remote): (&str, &str)| {
        let socket = UdpSocket::bind(local.parse::<SocketAddr>().ok()?).ok()?;
        socket.connect(remote.parse::<SocketAddr>().ok()?).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback())
    };
    ways.into_iter().filter_map(from).collect()
}

/// `found` for the name, which should lead to the edge at `edge`. `is_edge`: whether an address is the edge's.
pub fn compare(
    name: &str,
    found: io::Result<Vec<IpAddr>>,
    edge: &[IpAddr],
    is_edge: impl Fn(IpAddr) -> bool,
) -> Finding {
    let at = list(edge);
    let record = match edge {
        [] => format!("add a record for {name} that leads to this edge"),
        _ => {
            format!("add to DNS: {name} {} {at}", if edge.iter().all(IpAddr::is_ipv6) { "AAAA" } else { "A" })
        }
    };
    let found = match found {
        Ok(found) if found.is_empty() => {
            return Finding::fault("dns", name, "the name has no address", record);
        }
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            let mend = "mend this machine's resolver (/etc/resolv.conf)";
            return Finding::fault("dns", name, "the resolver does not answer", mend)
                .at_most(Severity::Warning);
        }
        Err(error) => return Finding::fault("dns", name, format!("the name is not found ({error})"), record),
    };
    let strays: Vec<_> = found.iter().copied().filter(|address| !is_edge(*address)).collect();
    if strays.is_empty() {
        return Finding::ok("dns", name, format!("leads to {}", list(&found)));
    }
    let cause = format!(
        "leads to {}, and the edge is at {}",
        list(&strays),
        if at.is_empty() { "another address" } else { &at }
    );
    let mend = format!(
        "change the record to {at}; if {} is a proxy or a NAT in front of the edge, nothing is wrong: name the proxy in `trustedProxies`, \
         and the edge's public address in `address`",
        list(&strays)
    );
    match strays.len() < found.len() {
        true => Finding::warning("dns", name, format!("{cause} as well"), mend),
        false => Finding::fault("dns", name, cause, mend),
    }
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(found: &[&str]) -> Finding {
        let found: Vec<IpAddr> = found.iter().map(|text| text.parse().unwrap()).collect();
        let edge = ["192.0.2.7".parse().unwrap()];
        compare("a.example", Ok(found), &edge, |address| edge.contains(&address))
    }

    #[test]
    fn a_name_leads_to_the_edge_to_it_and_others_or_elsewhere() {
        assert_eq!(judge(&["192.0.2.7"]).severity, Severity::Ok);
        assert_eq!(judge(&["192.0.2.7", "192.0.2.8"]).severity, Severity::Warning);
        let elsewhere = judge(&["192.0.2.8"]);
        assert_eq!(elsewhere.severity, Severity::Fault);
        assert!(elsewhere.mend.unwrap().contains("change the record to 192.0.2.7"));
        let nowhere = judge(&[]);
        assert!(nowhere.mend.unwrap().contains("a.example A 192.0.2.7"));
    }

    #[test]
    fn an_address_of_this_machine_is_known_as_such() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        assert!(!is_own("192.0.2.1".parse().unwrap()) && !is_own("0.0.0.0".parse().unwrap()));
    }
}

//! The edge's own ports: of a running one each has to answer; where none runs, each has to be free.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use causeway_daemon::doctor::Finding;
use causeway_front::doctor::{milliseconds, quic, visit};

use super::holders::{self, Protocol};
use crate::config::Listen;
use crate::status::Listening;

/// From this machine: what stands before it, such as the provider's firewall, `causeway-connector doctor` sees from home.
pub(super) async fn answering(listening: &Listening) -> Vec<Finding> {
    let mut found = Vec::new();
    for address in listening.https.iter().chain(&listening.http) {
        let subject = format!("TCP {address}");
        found.push(match visit::tcp(reachable(*address)).await {
            Ok(took) => Finding::ok("port", subject, format!("answers after {}", milliseconds(took))),
            Err(error) => {
                let mend = "a firewall of this machine? `nft list ruleset`, `ufw status`";
                Finding::fault(
                    "port",
                    subject,
                    format!("the edge listens there and is not reached: {error}"),
                    mend,
                )
            }
        });
    }
    for address in &listening.tunnel {
        let subject = format!("UDP {address}");
        found.push(match quic::answers(reachable(*address)).await {
            true => Finding::ok("port", subject, "answers"),
            false => {
                let mend = "a firewall of this machine drops UDP? `nft list ruleset`, `ufw status`";
                Finding::fault("port", subject, "the edge listens there and does not answer", mend)
            }
        });
    }
    let usual = [(&listening.https, 443, "HTTPS"), (&listening.http, 80, "HTTP")];
    for (addresses, port, what) in usual {
        if !addresses.iter().any(|address| address.port() == port) {
            let cause = format!(
                "the edge has no listener on {port}: visitors come there, so something has to forward it"
            );
            found.push(Finding::note("port", what, cause));
        }
    }
    found
}

/// Who listens everywhere is reached here.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    // `[::]` is IPv4's as well, and IPv6 may be switched off.
    let ip = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
    SocketAddr::new(ip, address.port())
}

pub(super) fn free(listen: &Listen) -> Vec<Finding> {
    let tcp = listen
        .https
        .iter()
        .chain(&listen.http)
        .map(|address| taken(Protocol::Tcp, *address, |address| TcpListener::bind(address).map(drop)));
    let udp = listen
        .tunnel
        .iter()
        .map(|address| taken(Protocol::Udp, *address, |address| UdpSocket::bind(address).map(drop)));
    tcp.chain(udp).collect()
}

fn taken(protocol: Protocol, address: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<()>) -> Finding {
    let subject = format!("{protocol} {address}");
    let bound = match bind(address) {
        // A machine without IPv6 has `[::]` as all of IPv4.
        Err(error) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !is_taken(&error) => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        bound => bound,
    };
    match bound {
        Ok(()) => Finding::ok("port", subject, "free"),
        Err(error) if is_taken(&error) => {
            let holder = holders::of(protocol, address.port());
            let who = holder.as_deref().unwrap_or("a program of another user: ask as root");
            let mend = format!("stop what has the port ({who}), or choose another in `listen`");
            Finding::fault("port", subject, format!("taken by {who}"), mend)
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let mend = "ask as the edge's user; ports below 1024 need CAP_NET_BIND_SERVICE, or `sysctl net.ipv4.ip_unprivileged_port_start=80`";
            Finding::warning("port", subject, "this user may not have it", mend)
        }
        Err(error) => Finding::fault("port", subject, error.to_string(), "correct the address in `listen`"),
    }
}

fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

#[cfg(test)]
mod tests {
    use causeway_daemon::doctor::Severity;

    use super::*;

    #[test]
    fn a_taken_port_names_the_program_that_has_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let busy = taken.local_addr().unwrap();
        let listen = |https| Listen { https: vec![https], http: Vec::new(), tunnel: Vec::new() };
        let found = free(&listen(busy));
        let [finding] = &found[..] else { panic!("one listener, one finding") };
        assert_eq!(finding.severity, Severity::Fault);
        let own = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert!(finding.cause.contains(own.trim()), "{finding:?}");
        drop(taken);
        assert_eq!(free(&listen(busy))[0].severity, Severity::Ok);
    }
}

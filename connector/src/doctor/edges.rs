//! One edge, from home: its name, its ports, and the way that sessions take.

use std::net::SocketAddr;
use std::time::SystemTime;

use causeway_daemon::doctor::{Finding, Severity};
use causeway_front::doctor::{PATIENCE, clock, milliseconds, visit};
use causeway_tunnel::Token;
use tokio::time::timeout;

use super::tunnel::{self, Way};

/// The addresses of an edge `host:port` that this machine reaches by itself, and what is to be said of it.
pub(super) async fn examine(name: &str, token: Option<&Token>, way: &Way) -> (Vec<SocketAddr>, Vec<Finding>) {
    let found = timeout(PATIENCE, tokio::net::lookup_host(name)).await;
    let found = found.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let mut findings = Vec::new();
    let mut addresses: Vec<_> = match (found, way.detour()) {
        (Ok(found), _) => found.collect(),
        (Err(error), Some(_)) => {
            let cause = format!("the name is not found: {error}; the proxy looks it up");
            findings.push(Finding::note("edge", name, cause));
            Vec::new()
        }
        (Err(error), None) => {
            let mend = "mend the name's DNS or this machine's resolver; `--edge ADDRESS:PORT` does without";
            findings.push(Finding::fault("edge", name, format!("the name is not found: {error}"), mend));
            return (Vec::new(), findings);
        }
    };
    for address in &addresses {
        let ports = ports(name, *address).await;
        // Where a proxy leads out, it may be the only way.
        let most = if way.detour().is_some() { Severity::Note } else { Severity::Fault };
        findings.extend(ports.into_iter().map(|finding| finding.at_most(most)));
    }
    findings.extend(tunnel::examine(name, &addresses, token, way).await);
    if way.detour().is_some() {
        let mut reached = Vec::new();
        for address in addresses {
            if visit::tcp(address).await.is_ok() {
                reached.push(address);
            }
        }
        addresses = reached;
    }
    (addresses, findings)
}

/// Where visitors come in: by habit the tunnel's number over TCP, and 80.
async fn ports(name: &str, address: SocketAddr) -> Vec<Finding> {
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    let plain = SocketAddr::new(address.ip(), HTTP_PORT);
    let (https, http) = tokio::join!(visit::tcp(address), visit::http(plain, host));
    let mut findings = Vec::new();
    findings.push(match https {
        Ok(took) => Finding::ok("tcp", address.to_string(), format!("answers after {}", milliseconds(took))),
        Err(error) if address.port() == HTTPS_PORT => {
            let mend = "open TCP 443 in the firewall of the edge's machine and of its provider; `causeway-edge doctor` looks who has the port";
            Finding::fault("tcp", address.to_string(), format!("no visitor comes in: {error}"), mend)
        }
        Err(error) => Finding::note("tcp", address.to_string(), format!("{error}: visitors have another port, perhaps")),
    });
    match http {
        Ok(head) => {
            findings.push(Finding::ok("tcp", plain.to_string(), format!("answers HTTP ({})", head.status)));
            if let Some(date) = head.date {
                findings.push(clock::compare(
                    SystemTime::now(),
                    date,
                    &format!("the edge at {}", address.ip()),
                ));
            }
        }
        Err(error) => {
            let mend =
                "open TCP 80: visitors without https:// and proofs of certificates (HTTP-01) come there";
            let closed =
                Finding::warning("tcp", plain.to_string(), format!("does not answer HTTP: {error}"), mend);
            findings.push(closed);
        }
    }
    findings
}

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

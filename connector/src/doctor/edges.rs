//! One edge, from home: its name, its ports, and a trial session, which shows whether the token is good and what the way is like.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use causeway_daemon::doctor::Finding;
use causeway_front::doctor::{PATIENCE, clock, milliseconds, quic, visit};
use causeway_tunnel::code::CloseCode;
use causeway_tunnel::dial::{DialError, Dialer};
use causeway_tunnel::message::RefusalCode;
use causeway_tunnel::{ConnectorId, Role, Session, Token};
use tokio::time::{sleep, timeout};

use crate::failure::chain;

/// The addresses of an edge `host:port`, and what is to be said of it.
pub(super) async fn examine(name: &str, token: Option<&Token>) -> (Vec<SocketAddr>, Vec<Finding>) {
    let found = timeout(PATIENCE, tokio::net::lookup_host(name)).await;
    let addresses: Vec<_> = match found.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
        Ok(found) => found.collect(),
        Err(error) => {
            let mend = "mend the name's DNS or this machine's resolver; `--edge ADDRESS:PORT` does without";
            return (
                Vec::new(),
                vec![Finding::fault("edge", name, format!("the name is not found: {error}"), mend)],
            );
        }
    };
    let mut findings = Vec::new();
    for address in &addresses {
        findings.extend(ports(name, *address).await);
        findings.extend(tunnel(*address, token).await);
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

async fn tunnel(address: SocketAddr, token: Option<&Token>) -> Vec<Finding> {
    let subject = address.to_string();
    // Asked first, and shortly: a handshake waits long for an answer.
    if !quic::answers(address).await {
        let port = address.port();
        let mend = format!(
            "open UDP {port} in the firewall of the edge's machine and of its provider, and outward at home; the edge runs? \
             (`causeway-edge status` there)"
        );
        return vec![Finding::fault("udp", subject, "UDP is not answered: no tunnel without it", mend)];
    }
    let mut findings = vec![Finding::ok("udp", &subject, "answers")];
    let Some(token) = token else { return findings };
    let provider = causeway_daemon::tls::provider();
    let dialer = match Dialer::new(token.clone(), ConnectorId::random(), "doctor".to_owned(), provider) {
        Ok(dialer) => dialer,
        Err(error) => {
            findings.push(Finding::fault(
                "token",
                subject,
                error.to_string(),
                "this build speaks no TLS 1.3",
            ));
            return findings;
        }
    };
    let since = Instant::now();
    match dialer.dial(address, Role::Standby).await {
        Ok((session, _control)) => {
            let took = since.elapsed();
            let tunnel = &session.info().tunnel_name;
            findings.push(Finding::ok("token", &subject, format!("valid, of tunnel {tunnel}")));
            let mtu = settled_mtu(&session).await;
            let way = format!("handshake {}, round trip {}", milliseconds(took), milliseconds(session.rtt()));
            findings.push(Finding::ok("latency", format!("home → {subject}"), way));
            findings.extend(mtu.map(|mtu| of_mtu(&subject, mtu)));
            session.close(CloseCode::Done, "");
        }
        Err(error) => findings.push(refused(&subject, &error)),
    }
    findings
}

fn refused(subject: &str, error: &DialError) -> Finding {
    match error {
        DialError::Refused { refused, .. } => {
            // The edge's reason names the mend after the last colon.
            let (cause, mend) =
                refused.reason.rsplit_once(": ").unwrap_or((&refused.reason, "look at the edge's log"));
            match refused.code {
                RefusalCode::Unauthorized | RefusalCode::Revoked | RefusalCode::Expired => {
                    Finding::fault("token", subject, cause, mend)
                }
                RefusalCode::Overloaded | RefusalCode::Draining => {
                    Finding::warning("edge", subject, cause, mend)
                }
                _ => Finding::fault("edge", subject, cause, mend),
            }
        }
        DialError::WrongEdge { .. } => {
            let mend = "the address leads elsewhere, or the edge lost its identity.pem: restore it, or make a new token there";
            Finding::fault("token", subject, "another edge answers than the one that made this token", mend)
        }
        error => Finding::fault("udp", subject, chain(error), "the edge's log says more"),
    }
}

/// The way's size is found out within a few round trips of the beginning.
async fn settled_mtu(session: &Session) -> Option<u16> {
    let patience = (session.rtt() * MTU_ROUND_TRIPS).clamp(Duration::from_millis(500), PATIENCE);
    let since = Instant::now();
    while session.path_mtu()? < USUAL_MTU && since.elapsed() < patience {
        sleep(LOOK_EVERY).await;
    }
    session.path_mtu()
}

fn of_mtu(subject: &str, mtu: u16) -> Finding {
    let cause = format!("packets of {mtu} bytes get through");
    match mtu {
        USUAL_MTU.. => Finding::ok("mtu", subject, cause),
        _ => {
            let why = "a tunnel, a VPN or PPPoE is on the way: it works, each byte costs a little more";
            Finding::note("mtu", subject, format!("{cause}, no larger ones: {why}"))
        }
    }
}

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;
/// What Ethernet leaves to a UDP packet over IPv4 or IPv6, rounded down.
const USUAL_MTU: u16 = 1400;
/// Each size that is tried takes one.
const MTU_ROUND_TRIPS: u32 = 20;
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use causeway_daemon::doctor::Severity;
    use causeway_tunnel::message::{Refused, Retry};

    use super::*;

    #[test]
    fn a_refusal_is_a_fault_of_the_token_with_the_edges_own_mend() {
        let address = "192.0.2.1:443".to_owned();
        let reason =
            "tunnel `home` was revoked: make a new one with `causeway-edge tunnel create`".to_owned();
        let refused_ = Refused { code: RefusalCode::Revoked, reason, retry: Retry::Permanent };
        let finding = refused("e", &DialError::Refused { address: address.clone(), refused: refused_ });
        assert_eq!((finding.severity, finding.check), (Severity::Fault, "token"));
        assert_eq!(finding.cause, "tunnel `home` was revoked");
        assert_eq!(finding.mend.unwrap(), "make a new one with `causeway-edge tunnel create`");
        assert_eq!(refused("e", &DialError::WrongEdge { address }).severity, Severity::Fault);
    }

    #[test]
    fn a_small_way_is_no_fault() {
        assert_eq!(of_mtu("e", 1452).severity, Severity::Ok);
        assert_eq!(of_mtu("e", 1200).severity, Severity::Note);
    }
}

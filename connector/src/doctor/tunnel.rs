//! A trial session over each carrier that the connector would dial: which of them leads to the edge, what the way is like, and
//! whether the token is good.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use causeway_daemon::doctor::{Finding, Severity};
use causeway_front::doctor::{PATIENCE, milliseconds, quic, visit};
use causeway_tunnel::code::CloseCode;
use causeway_tunnel::dial::{DialError, Dialer};
use causeway_tunnel::message::RefusalCode;
use causeway_tunnel::{ConnectorId, Control, Role, Session, Token, Transport};
use tokio::time::sleep;

use crate::carriers::Protocol;
use crate::failure::chain;
use crate::forward_proxy::Proxy;

/// How the connector would dial an edge.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) protocol: Protocol,
    pub(super) proxy: Option<Arc<Proxy>>,
}

/// What was found on a way that leads to the edge, or why it does not.
type Trial = Result<Vec<Finding>, Finding>;

impl Way {
    /// The proxy that is dialled through, if TCP is dialled at all.
    pub(super) fn detour(&self) -> Option<&Proxy> {
        self.proxy.as_deref().filter(|_| self.protocol != Protocol::Quic)
    }
}

pub(super) async fn examine(
    name: &str,
    addresses: &[SocketAddr],
    token: Option<&Token>,
    way: &Way,
) -> Vec<Finding> {
    let provider = causeway_daemon::tls::provider();
    let made = token
        .map(|token| Dialer::new(token.clone(), ConnectorId::random(), "doctor".to_owned(), provider))
        .transpose();
    let dialer = match made {
        Ok(dialer) => dialer,
        Err(error) => {
            return vec![Finding::fault("token", name, error.to_string(), "this build speaks no TLS 1.3")];
        }
    };
    let dialer = dialer.as_ref();
    let mut findings = Vec::new();
    let mut carriers = Carriers::default();
    // Once for all addresses: the proxy has the name.
    let detour = match way.detour() {
        Some(proxy) => Some((proxy, through(proxy, name, dialer).await)),
        None => None,
    };
    carriers.tcp = matches!(detour, Some((_, Ok(_))));
    for address in addresses {
        if way.protocol != Protocol::Tcp {
            match udp(*address, dialer).await {
                Ok(found) => {
                    carriers.quic = true;
                    findings.extend(found);
                    continue;
                }
                Err(fault) if way.protocol == Protocol::Quic => {
                    findings.push(alone(fault, visit::tcp(*address).await.is_ok()));
                    continue;
                }
                Err(fault) => match &detour {
                    Some((proxy, trial)) => {
                        let proxy = trial.is_ok().then(|| format!(" through the proxy {}", proxy.address));
                        findings.push(in_reserve(fault, proxy.as_deref()));
                    }
                    None => {
                        let trial = tcp(*address, dialer).await;
                        findings.push(in_reserve(fault, trial.is_ok().then_some("")));
                        carriers.tcp |= trial.is_ok();
                        findings.extend(either(trial));
                    }
                },
            }
        } else if detour.is_none() {
            let trial = tcp(*address, dialer).await;
            carriers.tcp |= trial.is_ok();
            findings.extend(either(trial));
        }
    }
    let proxy = detour.as_ref().map(|(proxy, _)| proxy.address.to_string());
    if let Some((_, trial)) = detour {
        let most = if carriers.quic { Severity::Warning } else { Severity::Fault };
        findings.extend(either(trial).into_iter().map(|finding| finding.at_most(most)));
    }
    findings.extend(carriers.words(proxy.as_deref()).map(|words| Finding::ok("carrier", name, words)));
    findings
}

/// Which lead to the edge.
#[derive(Clone, Copy, Debug, Default)]
struct Carriers {
    quic: bool,
    tcp: bool,
}

impl Carriers {
    fn words(self, proxy: Option<&str>) -> Option<String> {
        let through = proxy.map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
        match (self.quic, self.tcp) {
            (true, true) => Some(format!("sessions go over QUIC, with TCP{through} in reserve")),
            (true, false) => Some("sessions go over QUIC".to_owned()),
            (false, true) => Some(format!("sessions go over TCP{through}")),
            (false, false) => None,
        }
    }
}

/// UDP is not answered, and TCP is dialled beside it. `tcp`: it leads there, this way.
fn in_reserve(udp: Finding, tcp: Option<&str>) -> Finding {
    let mend = udp.mend.unwrap_or_default();
    match tcp {
        Some(how) => Finding::warning(
            udp.check,
            udp.subject,
            format!("{}: sessions go over TCP{how}, which is slower on a bad line", udp.cause),
            format!("{mend}. Where that cannot be, `protocol: tcp` spares the tries"),
        ),
        None => Finding::fault(
            udp.check,
            udp.subject,
            format!("{}, and TCP leads nowhere either: no tunnel", udp.cause),
            mend,
        ),
    }
}

/// UDP is not answered, and nothing else is dialled.
fn alone(udp: Finding, tcp_answers: bool) -> Finding {
    let mend = udp.mend.unwrap_or_default();
    let other = if tcp_answers { ". Or write `protocol: auto`: TCP is answered" } else { "" };
    let cause = format!("{}: no tunnel without it (`protocol: quic`)", udp.cause);
    Finding::fault(udp.check, udp.subject, cause, format!("{mend}{other}"))
}

fn either(trial: Trial) -> Vec<Finding> {
    trial.unwrap_or_else(|finding| vec![finding])
}

async fn udp(address: SocketAddr, dialer: Option<&Dialer>) -> Trial {
    let subject = address.to_string();
    // Asked first, and shortly: a handshake waits long for an answer.
    if !quic::answers(address).await {
        let port = address.port();
        let mend = format!(
            "open UDP {port} in the firewall of the edge's machine and of its provider, and outward at home; the edge runs? \
             (`causeway-edge status` there)"
        );
        return Err(Finding::fault("udp", subject, "UDP is not answered", mend));
    }
    let mut findings = vec![Finding::ok("udp", &subject, "answers")];
    let Some(dialer) = dialer else { return Ok(findings) };
    let since = Instant::now();
    match dialer.dial(address, Role::Standby).await {
        Ok(session) => findings.extend(of_session(&subject, "QUIC", since, session).await),
        Err(error) => findings.push(refused("udp", &subject, &error)),
    }
    Ok(findings)
}

/// Whether TCP is answered is said of the port.
async fn tcp(address: SocketAddr, dialer: Option<&Dialer>) -> Trial {
    let subject = address.to_string();
    let port = address.port();
    let mend = format!(
        "open TCP {port} in the firewall of the edge's machine and of its provider, and outward at home"
    );
    visit::tcp(address)
        .await
        .map_err(|error| Finding::fault("tcp", &subject, format!("no session over TCP: {error}"), mend))?;
    let Some(dialer) = dialer else { return Ok(Vec::new()) };
    let since = Instant::now();
    let dialled = dialer.dial_over(Transport::Tcp, address, Role::Standby).await;
    over_tcp("tcp", &subject, "TCP", since, dialled).await
}

/// Over TCP, through a proxy that knows the edge's name.
async fn through(proxy: &Proxy, name: &str, dialer: Option<&Dialer>) -> Trial {
    let by = proxy.address.to_string();
    let since = Instant::now();
    let opened = proxy.open(name).await;
    let relayed = opened.map_err(|error| Finding::fault("proxy", &by, error.cause(), error.mend()))?;
    let mut findings = vec![Finding::ok("proxy", &by, format!("opens connections to {name}"))];
    let Some(dialer) = dialer else { return Ok(findings) };
    let dialled = dialer.dial_relayed(relayed, Role::Standby).await;
    if let Err(DialError::WrongEdge { .. }) = dialled {
        let cause = format!("another key than the edge's is shown for {name}");
        let mend = "have the proxy leave TLS to the edge alone, without looking into it; or the name leads elsewhere there";
        return Err(Finding::fault("proxy", &by, cause, mend));
    }
    findings.extend(over_tcp("proxy", name, &format!("TCP through {by}"), since, dialled).await?);
    Ok(findings)
}

/// An edge that refuses is reached; what says something else is none.
async fn over_tcp(
    check: &'static str,
    subject: &str,
    over: &str,
    since: Instant,
    dialled: Result<(Session, Control), DialError>,
) -> Trial {
    match dialled {
        Ok(session) => Ok(of_session(subject, over, since, session).await),
        Err(error @ DialError::Refused { .. }) => Ok(vec![refused(check, subject, &error)]),
        Err(error) => Err(refused(check, subject, &error)),
    }
}

async fn of_session(
    subject: &str,
    over: &str,
    since: Instant,
    (session, _control): (Session, Control),
) -> Vec<Finding> {
    let took = since.elapsed();
    let tunnel = &session.info().tunnel_name;
    let mut findings = vec![Finding::ok("token", subject, format!("valid, of tunnel {tunnel}"))];
    let mtu = settled_mtu(&session).await;
    let way =
        format!("over {over}: handshake {}, round trip {}", milliseconds(took), milliseconds(session.rtt()));
    findings.push(Finding::ok("latency", format!("home → {subject}"), way));
    findings.extend(mtu.map(|mtu| of_mtu(subject, mtu)));
    session.close(CloseCode::Done, "");
    findings
}

/// `check`: of what it is when the edge has said nothing.
fn refused(check: &'static str, subject: &str, error: &DialError) -> Finding {
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
        error => Finding::fault(check, subject, chain(error), "the edge's log says more"),
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

/// What Ethernet leaves to a UDP packet over IPv4 or IPv6, rounded down.
const USUAL_MTU: u16 = 1400;
/// Each size that is tried takes one.
const MTU_ROUND_TRIPS: u32 = 20;
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use causeway_tunnel::message::{Refused, Retry};

    use super::*;

    #[test]
    fn a_refusal_is_a_fault_of_the_token_with_the_edges_own_mend() {
        let address = "192.0.2.1:443".to_owned();
        let reason =
            "tunnel `home` was revoked: make a new one with `causeway-edge tunnel create`".to_owned();
        let refused_ = Refused { code: RefusalCode::Revoked, reason, retry: Retry::Permanent };
        let finding =
            refused("udp", "e", &DialError::Refused { address: address.clone(), refused: refused_ });
        assert_eq!((finding.severity, finding.check), (Severity::Fault, "token"));
        assert_eq!(finding.cause, "tunnel `home` was revoked");
        assert_eq!(finding.mend.unwrap(), "make a new one with `causeway-edge tunnel create`");
        assert_eq!(refused("udp", "e", &DialError::WrongEdge { address }).severity, Severity::Fault);
    }

    #[test]
    fn a_small_way_is_no_fault() {
        assert_eq!(of_mtu("e", 1452).severity, Severity::Ok);
        assert_eq!(of_mtu("e", 1200).severity, Severity::Note);
    }

    #[test]
    fn udp_that_is_not_answered_is_a_fault_only_where_nothing_else_leads_there() {
        let udp = || Finding::fault("udp", "e", "UDP is not answered", "open UDP 443");
        let told = in_reserve(udp(), Some(" through the proxy P"));
        assert_eq!(told.severity, Severity::Warning);
        assert!(told.cause.contains("sessions go over TCP through the proxy P"), "{told:?}");
        assert!(told.mend.unwrap().starts_with("open UDP 443. Where that cannot be, `protocol: tcp`"));
        assert_eq!(in_reserve(udp(), None).severity, Severity::Fault);
        let told = alone(udp(), true);
        assert_eq!(told.severity, Severity::Fault);
        assert!(told.mend.unwrap().contains("`protocol: auto`: TCP is answered"));
    }
}

//! Each rule's service, asked as a visitor's request would ask it, by the code that serves requests: name, TCP, TLS, HTTP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use causeway_daemon::doctor::Finding;
use causeway_front::doctor::milliseconds;
use causeway_tunnel::TlsEnd;
use futures_util::{StreamExt, stream};
use http::header::{CONNECTION, HOST, HeaderMap, LOCATION, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::timeout;

use super::answers::{self, Answer, Asked};
use super::{arp, visitors};
use crate::config::{Config, Rule};
use crate::failure::chain;
use crate::origin::mend::mend;
use crate::origin::{ConnectError, Egress, Io, Origin};
use crate::service::{OriginAddress, OriginHost, Service};

/// Rules that are looked at together.
const AT_ONCE: usize = 8;
/// Of one step at one origin. An address that nobody on the LAN has is known after three seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Enough to tell one page from another.
const BODY_BYTES: usize = 4096;
/// Nobody has it (RFC 6761).
const STRANGER: &str = "causeway-doctor.invalid";

/// `admin`: where the running connector's own pages are, which no rule may lead to.
pub(super) async fn examine(config: &Config, admin: Option<SocketAddr>) -> Vec<Finding> {
    let egress = Arc::new(Egress::default());
    if let Some(admin) = admin {
        egress.set_admin(admin);
    }
    let looks = config.rules.iter().map(|rule| look(rule, Arc::clone(&egress)));
    stream::iter(looks).buffered(AT_ONCE).collect().await
}

async fn look(rule: &Rule, egress: Arc<Egress>) -> Finding {
    let label = match &rule.path {
        Some(path) => format!("{} {path}", rule.hostname),
        None => rule.hostname.to_string(),
    };
    match &rule.service {
        Service::Status(_) | Service::HelloWorld => {
            return Finding::ok("origin", label, "answered by the connector itself");
        }
        Service::Unserved(service) => {
            let mend = "such a service is not carried; remove the rule, or name an http:// or https:// service without `access`";
            return Finding::warning("origin", label, format!("{service} is answered 501"), mend);
        }
        _ => {}
    }
    let origin = match Origin::new(rule.service.clone(), rule.origin.clone(), egress, 1) {
        Ok(origin) => origin,
        Err(error) => return Finding::fault("origin", label, error.to_string(), "mend `caPool`"),
    };
    match probe(rule, &label, &origin).await {
        Ok(finding) => finding,
        Err(Trouble::Connect(error)) => unreached(&label, &rule.service, &error),
        Err(Trouble::Silent) => silent(&label, &rule.service),
        Err(Trouble::Http(error)) => {
            let mend = "does the service speak HTTP on this port? `https://` if it speaks TLS, `h2c://` if HTTP/2 alone";
            Finding::fault(
                "origin",
                label,
                format!("{} gives no answer of HTTP: {error}", rule.service),
                mend,
            )
        }
    }
}

enum Trouble {
    Connect(ConnectError),
    /// Not even a refusal.
    Silent,
    Http(String),
}

async fn probe(rule: &Rule, label: &str, origin: &Origin) -> Result<Finding, Trouble> {
    let since = Instant::now();
    let bare = in_time(origin.raw(0)).await?;
    let tcp = since.elapsed();
    drop(bare);
    if rule.tls == TlsEnd::Passthrough {
        return Ok(Finding::ok("origin", label, format!("takes connections; TCP {}", milliseconds(tcp))));
    }
    let public = visitors::one_of(&rule.hostname).unwrap_or_else(|| authority(&rule.service));
    let host = rule.origin.http_host_header.clone().unwrap_or_else(|| public.clone());
    let since = Instant::now();
    let io = in_time(origin.probe(&host)).await?;
    let tls = since.elapsed().saturating_sub(tcp);
    let path = path_of(rule);
    let since = Instant::now();
    let answer = ask(&rule.service, io, &host, &public, &path).await?;
    let mut took = format!("TCP {}", milliseconds(tcp));
    if matches!(rule.service, Service::Https(_) | Service::UnixTls(_)) {
        took += &format!(", TLS {}", milliseconds(tls));
    }
    took += &format!(", answer {}", milliseconds(since.elapsed()));
    let stranger = match answers::is_doubtful(answer.status) {
        true => {
            let io = in_time(origin.probe(&host)).await?;
            ask(&rule.service, io, STRANGER, STRANGER, &path).await.ok()
        }
        false => None,
    };
    let asked = Asked { rule: label, public: &public, host: &host, path: &path };
    Ok(answers::judge(asked, &answer, stranger.as_ref(), &took))
}

async fn in_time(connecting: impl Future<Output = Result<Io, ConnectError>>) -> Result<Io, Trouble> {
    timeout(PATIENCE, connecting).await.map_err(|_| Trouble::Silent)?.map_err(Trouble::Connect)
}

/// The request of a visitor who came by HTTPS.
async fn ask(service: &Service, io: Io, host: &str, public: &str, path: &str) -> Result<Answer, Trouble> {
    let http = |error: &dyn std::error::Error| Trouble::Http(chain(error));
    let is_h2 = matches!(service, Service::H2c(_));
    let target = if is_h2 { format!("http://{host}{path}") } else { path.to_owned() };
    let mut request = Request::get(target).body(Empty::<Bytes>::new()).map_err(|error| http(&error))?;
    let fields = [
        (USER_AGENT.as_str(), "causeway-doctor"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", public),
        ("x-forwarded-for", "192.0.2.1"),
    ];
    for (name, value) in fields {
        insert(request.headers_mut(), name, value);
    }
    let exchanged = async {
        let io = TokioIo::new(io);
        if is_h2 {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            return beside(connection, async { read(sender.send_request(request).await?).await }).await;
        }
        insert(request.headers_mut(), HOST.as_str(), host);
        insert(request.headers_mut(), CONNECTION.as_str(), "close");
        let (mut sender, connection) = http1::handshake(io).await?;
        beside(connection, async { read(sender.send_request(request).await?).await }).await
    };
    timeout(PATIENCE, exchanged)
        .await
        .map_err(|_| Trouble::Silent)?
        .map_err(|error: hyper::Error| http(&error))
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) {
    let name = http::HeaderName::try_from(name);
    if let (Ok(name), Ok(value)) = (name, http::HeaderValue::try_from(value)) {
        headers.insert(name, value);
    }
}

/// Drives the connection while its one exchange lasts.
async fn beside<T>(
    connection: impl Future<Output = Result<(), hyper::Error>>,
    exchange: impl Future<Output = Result<T, hyper::Error>>,
) -> Result<T, hyper::Error> {
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        done = &mut exchange => return done,
        // It is over, so that all there is to read has arrived; a failure shows in what is read.
        _ = connection => {}
    }
    exchange.await
}

async fn read(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let (head, mut body) = response.into_parts();
    let mut start = Vec::new();
    while start.len() < BODY_BYTES
        && let Some(frame) = body.frame().await
    {
        start.extend_from_slice(frame?.data_ref().map_or(&[][..], Bytes::as_ref));
    }
    start.truncate(BODY_BYTES);
    let location = head.headers.get(LOCATION).and_then(|location| location.to_str().ok());
    Ok(Answer { status: head.status, location: location.map(str::to_owned), body: start })
}

/// A path that the rule takes, as far as its expression begins with plain text.
fn path_of(rule: &Rule) -> String {
    let Some(path) = &rule.path else { return "/".to_owned() };
    let plain = path.as_str().trim_start_matches('^');
    let end = plain.find(|c: char| !(c.is_ascii_alphanumeric() || "/-_~".contains(c))).unwrap_or(plain.len());
    let plain = &plain[..end];
    if plain.starts_with('/') { plain.to_owned() } else { "/".to_owned() }
}

fn authority(service: &Service) -> String {
    match service {
        Service::Http(address) | Service::Https(address) | Service::H2c(address) => address.to_string(),
        _ => "localhost".to_owned(),
    }
}

fn address_of(service: &Service) -> Option<&OriginAddress> {
    match service {
        Service::Http(at) | Service::Https(at) | Service::H2c(at) | Service::Tcp(at) => Some(at),
        _ => None,
    }
}

fn ip_of(service: &Service) -> Option<IpAddr> {
    match address_of(service) {
        Some(OriginAddress { host: OriginHost::Ip(ip), .. }) => Some(*ip),
        _ => None,
    }
}

fn unreached(label: &str, service: &Service, error: &ConnectError) -> Finding {
    let cause = chain(error);
    match error {
        ConnectError::Resolve(..) | ConnectError::NoAddress(_) => {
            let mend = "correct the name in `service`, or this machine's resolver; names such as x.svc.cluster.local are known inside the \
                        cluster alone: write the VIP";
            Finding::fault("origin", label, cause, mend)
        }
        ConnectError::Refused(_, error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                let mend = "start what should listen there, or correct the port in `service`; behind a VIP: its Service has this port and a \
                            ready pod? (`kubectl get svc,endpointslices -A`)";
                Finding::fault("origin", label, cause, mend)
            }
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                no_vip(label, service, &cause)
            }
            _ => Finding::fault("origin", label, cause, "the cause says what the system refuses"),
        },
        ConnectError::ConnectTimeout(..) => silent(label, service),
        ConnectError::Tls(_, error) => {
            Finding::fault("tls", label, format!("TLS with {service} failed: {}", chain(error)), mend(error))
        }
        ConnectError::TlsTimeout(..) => {
            Finding::fault("tls", label, cause, "does it speak TLS on this port? `http://` if not")
        }
        ConnectError::Forbidden(..) | ConnectError::OwnAdmin(_) => {
            Finding::fault("origin", label, cause, "lead the rule elsewhere")
        }
        _ => Finding::fault("origin", label, cause, "the cause names the setting"),
    }
}

/// Packets go nowhere.
fn silent(label: &str, service: &Service) -> Finding {
    match ip_of(service) {
        Some(ip) if arp::is_unanswered(ip) => no_vip(label, service, "nothing comes back"),
        _ => {
            let cause = format!("{service} does not answer within {} s", PATIENCE.as_secs());
            let mend = "a firewall drops the packets, or nobody has the address: from this machine, `curl -v` the service; behind a VIP, \
                        `kubectl get svc -A` and the speaker's `status`";
            Finding::fault("vip", label, cause, mend)
        }
    }
}

fn no_vip(label: &str, service: &Service, cause: &str) -> Finding {
    let cause = match ip_of(service) {
        Some(ip) if arp::is_unanswered(ip) => format!("nobody on the LAN answers for {ip} (ARP): {cause}"),
        _ => format!("there is no way to the address: {cause}"),
    };
    let mend = "`kubectl get svc -A` shows who has the VIP, `kubectl get servicel2statuses -A` which node announces it: the speaker runs? \
                This machine must be on the VIP's LAN, or have a route to it";
    Finding::fault("vip", label, cause, mend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn a_path_is_asked_that_the_rule_takes() {
        let path = |text: &str| {
            let rules = format!(
                "ingress:\n  - {{ hostname: a.dev, path: '{text}', service: 'http://10.0.0.1' }}\n  - service: http_status:404\n"
            );
            path_of(&parse("c.yml", &rules).unwrap().rules[0])
        };
        assert_eq!(
            [path("^/api"), path("/static/.*"), path("^/v[12]/x"), path("png$")],
            ["/api", "/static/", "/v", "/"]
        );
    }

    #[test]
    fn each_way_not_to_be_there_has_its_own_mend() {
        let config = parse("c.yml", "ingress:\n  - service: http://10.0.0.104\n").unwrap();
        let service = &config.rules[0].service;
        let refused = |kind: io::ErrorKind| {
            unreached("r", service, &ConnectError::Refused("10.0.0.104:80".to_owned(), kind.into()))
        };
        let down = refused(io::ErrorKind::ConnectionRefused);
        assert!(down.check == "origin" && down.mend.unwrap().contains("start what should listen"));
        let nobody = refused(io::ErrorKind::HostUnreachable);
        assert!(nobody.check == "vip" && nobody.mend.unwrap().contains("servicel2statuses"));
    }
}

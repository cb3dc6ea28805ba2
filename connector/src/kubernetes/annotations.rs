//! What one Service asks for: its annotations, read as untrusted input. Pure.
//!
//! | annotation | means |
//! |---|---|
//! | `causeway.dev/hostname` | the public names, with commas as external-dns has them |
//! | `causeway.dev/port` | number or name of one of the Service's ports |
//! | `causeway.dev/path` | only requests below this path, whole segments |
//! | `causeway.dev/scheme` | `http`, `https`, `h2c` |
//! | `causeway.dev/host-header` | the Host that the origin gets |
//! | `causeway.dev/tls` | where TLS of visitors ends: `edge`, `passthrough`, `connector` |
//!
//! None of them can lead anywhere else than to the VIP and a port of the Service that has it: address and port are taken from
//! its status and its spec, never from a text.

use std::net::IpAddr;

use causeway_daemon::config::nearest;
use causeway_tunnel::{Pattern, TlsEnd};

use super::object::{EXTERNAL_DNS, PREFIX, Port, Service};
use crate::config::is_host_header;
use crate::origin::is_reserved;
use crate::path::PathPattern;
use crate::service::{OriginAddress, OriginHost, Service as Target};

/// How annotations are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) names: Names,
    pub(crate) loopback: Loopback,
}

/// Whose annotations name hostnames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    Ours,
    /// External-dns's too, on Services without ours.
    WithExternalDns,
}

/// Whether a VIP may be an address of this machine's own loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loopback {
    Refuse,
    /// The API server is on it as well: the cluster is this machine.
    Allow,
}

/// What a Service asks for.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) names: Vec<Pattern>,
    pub(super) path: Option<PathPattern>,
    pub(super) target: Target,
    pub(super) host_header: Option<String>,
    pub(super) tls: TlsEnd,
}

/// One public name more than this is a mistake, or somebody who wants the others to have none.
const MAX_NAMES: usize = 20;
const MAX_PATH_BYTES: usize = 256;
/// Of what a message quotes.
const MAX_QUOTED_CHARS: usize = 80;

const HOSTNAME: &str = "hostname";
const PORT: &str = "port";
const PATH: &str = "path";
const SCHEME: &str = "scheme";
const HOST_HEADER: &str = "host-header";
const TLS: &str = "tls";
const ALL: [&str; 6] = [HOSTNAME, PORT, PATH, SCHEME, HOST_HEADER, TLS];
const SCHEMES: [&str; 3] = ["http", "https", "h2c"];
const ENDS: [&str; 3] = ["edge", "passthrough", "connector"];

/// What the Service asks for, if that is something and all of it is sound; and what there is to say to whoever wrote it.
pub(super) fn read(service: &Service, reading: Reading) -> (Option<Wish>, Vec<String>) {
    let mut remarks = unknown(service);
    let (names, written) = names(service, reading, &mut remarks);
    if !written {
        let ours: Vec<_> = ALL[1..].iter().filter(|name| ours(service, name).is_some()).collect();
        if let Some(first) = ours.first() {
            let text = format!("`{PREFIX}{first}` says nothing without `{PREFIX}{HOSTNAME}`: add it");
            remarks.push(remark(service, &text));
        }
    }
    if names.is_empty() {
        return (None, remarks);
    }
    match wish(service, reading, names) {
        Ok(wish) => return (wish, remarks),
        Err(text) => remarks.push(remark(service, &text)),
    }
    (None, remarks)
}

/// A message about a Service. The API server has checked its name.
pub(super) fn remark(service: &Service, text: &str) -> String {
    format!("Service {}: {text}", service.shown())
}

fn ours<'a>(service: &'a Service, name: &str) -> Option<&'a str> {
    service.annotation(&format!("{PREFIX}{name}"))
}

fn unknown(service: &Service) -> Vec<String> {
    let names = service.annotations().filter_map(|(name, _)| name.strip_prefix(PREFIX));
    let foreign = names.filter(|name| !ALL.contains(name)).map(|name| {
        let mend = match nearest(name, &ALL) {
            Some(near) => format!("did you mean `{PREFIX}{near}`?"),
            None => format!("there are {}", ALL.map(|name| format!("`{name}`")).join(", ")),
        };
        remark(service, &format!("{} means nothing: {mend}", quoted(&format!("{PREFIX}{name}"))))
    });
    foreign.take(MAX_NAMES).collect()
}

/// The names that are sound, and whether any were written.
fn names(service: &Service, reading: Reading, remarks: &mut Vec<String>) -> (Vec<Pattern>, bool) {
    let mut written = Vec::new();
    let own = format!("{PREFIX}{HOSTNAME}");
    if let Some(text) = service.annotation(&own) {
        written.push((own.as_str(), text));
    } else if reading.names == Names::WithExternalDns {
        written.extend(EXTERNAL_DNS.iter().filter_map(|name| Some((*name, service.annotation(name)?))));
    }
    let mut names = Vec::new();
    for (annotation, text) in &written {
        let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
        for text in texts {
            if names.len() == MAX_NAMES {
                let text = format!("`{annotation}` has more than {MAX_NAMES} names: the others are left out");
                remarks.push(remark(service, &text));
                break;
            }
            match Pattern::parse(text) {
                Ok(Pattern::Any) => {
                    let text = format!(
                        "`{annotation}`: `*` is for the last rule of a file; write names, or `*.` and a name"
                    );
                    remarks.push(remark(service, &text));
                }
                Ok(name) if names.contains(&name) => {}
                Ok(name) => names.push(name),
                Err(_) => {
                    let text = format!(
                        "`{annotation}`: {} is no hostname: write names with commas, as in `a.example.dev,b.example.dev`",
                        quoted(text)
                    );
                    remarks.push(remark(service, &text));
                }
            }
        }
    }
    (names, !written.is_empty())
}

/// None: there is no VIP yet.
fn wish(service: &Service, reading: Reading, names: Vec<Pattern>) -> Result<Option<Wish>, String> {
    let kind = service.spec.kind.as_deref().unwrap_or("ClusterIP");
    if kind != "LoadBalancer" {
        return Err(format!(
            "it is of type {kind}, which has no address on the LAN: make it a LoadBalancer, or take `{PREFIX}{HOSTNAME}` away"
        ));
    }
    let tls = tls(service)?;
    let path = path(service)?;
    let host_header = host_header(service)?;
    if tls == TlsEnd::Passthrough {
        let unseen = [(PATH, path.is_some()), (HOST_HEADER, host_header.is_some())];
        if let Some((name, _)) = unseen.iter().find(|(_, is_set)| *is_set) {
            return Err(format!(
                "`{PREFIX}{name}` cannot be done with `{PREFIX}{TLS}: passthrough`, which leaves what is encrypted unread: take \
                 one of the two away"
            ));
        }
    }
    let scheme = ours(service, SCHEME).map(|text| one_of(SCHEME, text, &SCHEMES)).transpose()?;
    let port = port(service, scheme, tls)?;
    let Some(ip) = vip(service, reading)? else { return Ok(None) };
    let address = OriginAddress { host: OriginHost::Ip(ip), port: port.port };
    let target = match scheme.unwrap_or_else(|| scheme_of(port)) {
        _ if tls == TlsEnd::Passthrough => Target::Tcp(address),
        "https" => Target::Https(address),
        "h2c" => Target::H2c(address),
        _ => Target::Http(address),
    };
    Ok(Some(Wish { names, path, target, host_header, tls }))
}

fn vip(service: &Service, reading: Reading) -> Result<Option<IpAddr>, String> {
    let ingress = service.status.load_balancer.ingress.as_deref().unwrap_or_default();
    let mut refused = None;
    for text in ingress.iter().filter_map(|ingress| ingress.ip.as_deref()) {
        let ip = text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        match ip {
            Some(ip) if is_reserved(ip) || (ip.is_loopback() && reading.loopback == Loopback::Refuse) => {
                refused = Some(text);
            }
            Some(ip) => return Ok(Some(ip)),
            None => refused = Some(text),
        }
    }
    match refused {
        Some(text) => Err(format!(
            "its address {} is none that a connector goes to: it is of this machine alone, or reserved; what gives addresses \
             to Services has to give one of the LAN",
            quoted(text)
        )),
        None if ingress.iter().any(|ingress| ingress.hostname.is_some()) => {
            Err("its load balancer has a name and no address: write a rule for it into the rule file"
                .to_owned())
        }
        None => Ok(None),
    }
}

fn port<'a>(service: &'a Service, scheme: Option<&str>, tls: TlsEnd) -> Result<&'a Port, String> {
    let all = service.spec.ports.as_deref().unwrap_or_default();
    let mut tcp = all
        .iter()
        .filter(|port| port.port != 0 && port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
    let shown = || {
        let ports: Vec<_> = tcp.clone().map(|port| port.port.to_string()).collect();
        if ports.is_empty() { "none for TCP".to_owned() } else { ports.join(", ") }
    };
    if let Some(text) = ours(service, PORT) {
        let is_it = |port: &&Port| {
            port.port.to_string() == text || port.name.as_deref().is_some_and(|name| name == text)
        };
        let found = tcp.clone().find(is_it);
        return found.ok_or_else(|| {
            format!(
                "`{PREFIX}{PORT}`: {} is no TCP port of the Service: its ports are {}; write the number or the name of one",
                quoted(text),
                shown()
            )
        });
    }
    let usual = match scheme {
        Some("https") => 443,
        None if tls == TlsEnd::Passthrough => 443,
        _ => 80,
    };
    let shown = shown();
    match (tcp.next(), tcp.clone().count()) {
        (Some(only), 0) => Ok(only),
        (first, _) => first.into_iter().chain(tcp).find(|port| port.port == usual).ok_or_else(|| {
            format!(
                "its ports are {shown}, and none is {usual}: say with `{PREFIX}{PORT}` which one is meant"
            )
        }),
    }
}

/// Where nobody says it.
fn scheme_of(port: &Port) -> &'static str {
    match port.app_protocol.as_deref() {
        Some("https" | "kubernetes.io/wss") => "https",
        Some("kubernetes.io/h2c") => "h2c",
        Some(_) => "http",
        None if port.port == 443 || port.name.as_deref() == Some("https") => "https",
        None => "http",
    }
}

/// A prefix of whole segments, as Ingress has it: no expression, which could be made to cost what it likes.
fn path(service: &Service) -> Result<Option<PathPattern>, String> {
    let Some(text) = ours(service, PATH) else { return Ok(None) };
    let bad = |why: &str| Err(format!("`{PREFIX}{PATH}`: {} {why}", quoted(text)));
    if !text.starts_with('/') {
        return bad("does not begin with `/`: write the beginning of a path, as in `/api`");
    }
    if text.len() > MAX_PATH_BYTES {
        return bad(&format!("is longer than {MAX_PATH_BYTES} bytes"));
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || PATH_SIGNS.contains(&b)) {
        return bad(
            "has signs that a path's beginning cannot have: write it as in `/api`, without `*`, `%` and `?`",
        );
    }
    let segments = text.trim_end_matches('/');
    if segments.split('/').skip(1).any(|segment| matches!(segment, "" | "." | "..")) {
        return bad("has a segment that is empty or made of dots: write `/a/b`");
    }
    if segments.is_empty() {
        return Ok(None);
    }
    let expression = format!("^{}(/|$)", regex::escape(segments));
    PathPattern::parse(&expression).map(Some).or_else(|error| bad(&error.to_string()))
}

/// RFC 3986 section 3.3, without `*`, which people write for "and all below", and `%`.
const PATH_SIGNS: &[u8] = b"/-._~!$&'()+,;=:@";

fn host_header(service: &Service) -> Result<Option<String>, String> {
    match ours(service, HOST_HEADER) {
        None => Ok(None),
        Some(text) if !text.is_empty() && is_host_header(text) => Ok(Some(text.to_owned())),
        Some(text) => Err(format!(
            "`{PREFIX}{HOST_HEADER}`: {} cannot be a Host header: write a name, or a name and a port",
            quoted(text)
        )),
    }
}

fn tls(service: &Service) -> Result<TlsEnd, String> {
    let text = ours(service, TLS).map(|text| one_of(TLS, text, &ENDS)).transpose()?;
    Ok(match text {
        Some("passthrough") => TlsEnd::Passthrough,
        Some("connector") => TlsEnd::Connector,
        _ => TlsEnd::Edge,
    })
}

fn one_of(annotation: &str, text: &str, known: &'static [&'static str]) -> Result<&'static str, String> {
    known.iter().copied().find(|known| *known == text).ok_or_else(|| {
        let list = known.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        format!("`{PREFIX}{annotation}`: {} is not known: write one of {list}", quoted(text))
    })
}

/// What somebody wrote, so that it can neither break a line of the log nor colour a terminal.
fn quoted(text: &str) -> String {
    let mut chars = text.chars();
    let mut shown = String::from("`");
    for c in chars.by_ref().take(MAX_QUOTED_CHARS) {
        if c.is_control() || c == '`' { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    if chars.next().is_some() {
        shown.push('…');
    }
    shown.push('`');
    shown
}

#[cfg(test)]
mod tests;

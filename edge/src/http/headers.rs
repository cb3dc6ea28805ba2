//! Header fields on their way through: hop-by-hop fields end here, forwarding fields are ours.
//!
//! `Trailer` is kept: since RFC 9110 it is not a connection option, and announces the trailers that we do forward.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use causeway_tunnel::may_be_trailer;
use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, HeaderName, TE};
use http::{HeaderMap, HeaderValue, Method};
use ipnet::IpNet;

use crate::exchange::{RequestId, Scheme};

const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What becomes of a request field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Forward,
    /// Belongs to one connection only (RFC 9110 section 7.6.1).
    HopByHop,
    /// Says where the request came from: ours to say (hazard 49).
    Origin,
    /// Reserved for Causeway itself (hazard 53).
    Reserved,
    /// Decides framing or routing: forwarded, but nobody may remove or alias it.
    Vital,
}

fn class(name: &str) -> Class {
    match name {
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "te"
        | "transfer-encoding"
        | "upgrade"
        | "http2-settings"
        | "proxy-authorization"
        | "proxy-authenticate"
        | "proxy-authentication-info" => Class::HopByHop,
        "x-real-ip"
        | "forwarded"
        | "cf-connecting-ip"
        | "cf-connecting-ipv6"
        | "cf-pseudo-ipv4"
        | "true-client-ip"
        | "x-client-ip"
        | "x-cluster-client-ip"
        | "fastly-client-ip"
        | "x-original-forwarded-for"
        | "client-ip"
        | "x-envoy-external-address"
        | "x-request-id" => Class::Origin,
        "host" | "content-length" | "content-type" | "authorization" | "cookie" | "cdn-loop" => Class::Vital,
        _ if name.starts_with("x-forwarded-") || name == "x-forwarded" => Class::Origin,
        _ if name.starts_with("x-causeway-") || name.starts_with("causeway-") => Class::Reserved,
        _ => Class::Forward,
    }
}

/// Whether the peer is a proxy whose forwarding fields are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    Visitor,
    Proxy,
}

/// Removes what ends at this hop from a request: hop-by-hop fields, fields named by Connection (hazard 47), forged
/// forwarding fields and their `_` aliases (hazard 23).
pub(crate) fn clean_request(headers: &mut HeaderMap, trust: Trust) {
    let wants_trailers = has_token(headers, &TE, "trailers");
    remove_named_by_connection(headers);
    let mut doomed = Vec::new();
    for name in headers.keys() {
        let text = name.as_str();
        let is_doomed = match class(text) {
            Class::HopByHop | Class::Reserved => true,
            Class::Origin => trust == Trust::Visitor,
            Class::Forward => text.contains('_') && class(&text.replace('_', "-")) != Class::Forward,
            Class::Vital => false,
        };
        if is_doomed {
            doomed.push(name.clone());
        }
    }
    for name in doomed {
        headers.remove(name);
    }
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes what ends at this hop from a response.
pub(crate) fn clean_response(headers: &mut HeaderMap) {
    remove_named_by_connection(headers);
    let mut doomed = Vec::new();
    for name in headers.keys() {
        if class(name.as_str()) == Class::HopByHop {
            doomed.push(name.clone());
        }
    }
    for name in doomed {
        headers.remove(name);
    }
}

/// Removes from trailers what must not be there (hazard 16), of requests and of answers: what no trailer may be, and what
/// is ours to say.
pub(crate) fn keep_trailers(trailers: &mut HeaderMap) {
    let is_forbidden = |name: &str| {
        !may_be_trailer(name)
            || class(name) != Class::Forward
            || (name.contains('_') && class(&name.replace('_', "-")) != Class::Forward)
    };
    let doomed: Vec<HeaderName> =
        trailers.keys().filter(|name| is_forbidden(name.as_str())).cloned().collect();
    for name in doomed {
        trailers.remove(name);
    }
}

pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
    )
}

/// Cookies that came as several fields, as HTTP/2 allows, become one (RFC 9113 section 8.2.3, hazard 69).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut values = headers.get_all(COOKIE).iter();
    if values.next().is_none() || values.next().is_none() {
        return;
    }
    let parts: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// The elements of a comma-separated field, in all its lines.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|element| !element.is_empty())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(token))
}

fn remove_named_by_connection(headers: &mut HeaderMap) {
    let mut named = Vec::new();
    for element in elements(headers, &CONNECTION) {
        if element.eq_ignore_ascii_case("close") || element.eq_ignore_ascii_case("keep-alive") {
            continue;
        }
        let Ok(name) = HeaderName::from_bytes(element.as_bytes()) else { continue };
        if class(name.as_str()) == Class::Forward && headers.contains_key(&name) {
            named.push(name);
        }
    }
    for name in named {
        headers.remove(name);
    }
}

/// Which proxies in front of us are believed, and the mark by which this edge knows its own requests.
#[derive(Clone, Debug)]
pub struct Forwarding {
    pub trusted: Arc<[IpNet]>,
    /// Our element of CDN-Loop (RFC 8586): unique to this edge, a token.
    pub loop_mark: HeaderValue,
}

impl Forwarding {
    /// `mark` names this edge among all others; characters that do not fit a token are left out.
    pub fn new(trusted: Vec<IpNet>, mark: &str) -> Self {
        let token: String =
            mark.chars().filter(|char| char.is_ascii_alphanumeric() || "-.".contains(*char)).collect();
        let loop_mark = HeaderValue::from_str(&format!("causeway-{token}"))
            .expect("letters, digits, hyphens and dots fit a field value");
        Self { trusted: trusted.into(), loop_mark }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }

    /// Whether the request has been here before (hazard 51).
    pub(crate) fn is_loop(&self, headers: &HeaderMap) -> bool {
        let mark = self.loop_mark.as_bytes();
        elements(headers, &CDN_LOOP)
            .any(|element| element.split(';').next().is_some_and(|id| id.trim().as_bytes() == mark))
    }
}

/// Writes the forwarding fields of one connection's requests. Their values are made once and shared.
#[derive(Debug)]
pub(crate) struct Forwarder {
    forwarding: Forwarding,
    peer: SocketAddr,
    trust: Trust,
    scheme: Scheme,
    peer_value: HeaderValue,
    /// The Forwarded field for the Host seen last: on most connections the only one.
    last: Option<(HeaderValue, HeaderValue)>,
}

impl Forwarder {
    pub(crate) fn new(forwarding: &Forwarding, peer: SocketAddr, scheme: Scheme) -> Self {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let trust = if forwarding.trusts(peer.ip()) { Trust::Proxy } else { Trust::Visitor };
        let peer_value = value(&peer.ip().to_string());
        Self { forwarding: forwarding.clone(), peer, trust, scheme, peer_value, last: None }
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(crate) fn trust(&self) -> Trust {
        self.trust
    }

    /// Sets the forwarding fields of a cleaned request and returns who the visitor is.
    pub(crate) fn apply(&mut self, headers: &mut HeaderMap, id: RequestId) -> SocketAddr {
        headers.insert(X_REQUEST_ID, value(&id.to_string()));
        headers.append(CDN_LOOP, self.forwarding.loop_mark.clone());
        let visitor = match self.trust {
            Trust::Visitor => self.peer,
            Trust::Proxy => self.believe(headers),
        };
        let host = headers.get(HOST).cloned().unwrap_or_else(|| HeaderValue::from_static(""));
        if self.trust == Trust::Visitor || !headers.contains_key(X_FORWARDED_HOST) {
            headers.insert(X_FORWARDED_HOST, host.clone());
        }
        if self.trust == Trust::Visitor || !headers.contains_key(X_FORWARDED_PROTO) {
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(self.scheme.as_str()));
        }
        let real_ip =
            if visitor == self.peer { self.peer_value.clone() } else { value(&visitor.ip().to_string()) };
        headers.insert(X_REAL_IP, real_ip);
        extend(headers, X_FORWARDED_FOR, self.peer_value.clone());
        let forwarded = self.forwarded(host);
        extend(headers, FORWARDED, forwarded);
        visitor
    }

    /// The rightmost address in X-Forwarded-For that is not one of our proxies.
    fn believe(&self, headers: &HeaderMap) -> SocketAddr {
        let addresses: Vec<&str> = elements(headers, &X_FORWARDED_FOR).collect();
        let mut visitor = self.peer;
        for address in addresses.into_iter().rev() {
            let Ok(ip) = address.parse::<IpAddr>() else { break };
            visitor = SocketAddr::new(ip.to_canonical(), 0);
            if !self.forwarding.trusts(visitor.ip()) {
                break;
            }
        }
        visitor
    }

    fn forwarded(&mut self, host: HeaderValue) -> HeaderValue {
        if let Some((last, forwarded)) = &self.last
            && *last == host
        {
            return forwarded.clone();
        }
        let mut text = match self.peer.ip() {
            IpAddr::V4(ip) => format!("for={ip}"),
            IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
        };
        if let Ok(name) = host.to_str() {
            // A validated host has no quote or backslash; with a port or brackets it is no token.
            let quote = if name.contains([':', '[']) { "\"" } else { "" };
            let _ = write!(text, ";host={quote}{name}{quote}");
        }
        let _ = write!(text, ";proto={}", self.scheme.as_str());
        let forwarded = value(&text);
        self.last = Some((host, forwarded.clone()));
        forwarded
    }
}

/// Adds our element at the right end of a list, as one field line.
fn extend(headers: &mut HeaderMap, name: HeaderName, ours: HeaderValue) {
    if !headers.contains_key(&name) {
        headers.insert(name, ours);
        return;
    }
    let mut parts: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
    parts.push(ours.as_bytes());
    let joined = HeaderValue::from_bytes(&parts.join(&b", "[..])).unwrap_or(ours);
    headers.insert(name, joined);
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// Whether a request asks for a stream of server-sent events.
pub(crate) fn wants_event_stream(headers: &HeaderMap) -> bool {
    elements(headers, &ACCEPT)
        .any(|range| range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(EVENT_STREAM))
}

const EVENT_STREAM: &str = "text/event-stream";

/// The length that the head declares. The value has been validated.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests;

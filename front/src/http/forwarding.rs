//! The forwarding fields of a cleaned request: who the visitor is, what it asked for, and that it came through here.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use causeway_tunnel::semantics::elements;
use causeway_tunnel::{RequestId, Scheme};
use http::header::{FORWARDED, HOST, HeaderName};
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

use super::headers::Trust;

const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

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
    pub fn is_loop(&self, headers: &HeaderMap) -> bool {
        let mark = self.loop_mark.as_bytes();
        elements(headers, &CDN_LOOP)
            .any(|element| element.split(';').next().is_some_and(|id| id.trim().as_bytes() == mark))
    }
}

/// Writes the forwarding fields of one connection's requests. Their values are made once and shared.
#[derive(Debug)]
pub struct Forwarder {
    forwarding: Forwarding,
    peer: SocketAddr,
    trust: Trust,
    scheme: Scheme,
    peer_value: HeaderValue,
    /// The Forwarded field for the Host seen last: on most connections the only one.
    last: Option<(HeaderValue, HeaderValue)>,
}

impl Forwarder {
    pub fn new(forwarding: &Forwarding, peer: SocketAddr, scheme: Scheme) -> Self {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let trust = if forwarding.trusts(peer.ip()) { Trust::Proxy } else { Trust::Visitor };
        let peer_value = value(&peer.ip().to_string());
        Self { forwarding: forwarding.clone(), peer, trust, scheme, peer_value, last: None }
    }

    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// Sets the forwarding fields of a cleaned request and returns who the visitor is.
    pub fn apply(&mut self, headers: &mut HeaderMap, id: RequestId) -> SocketAddr {
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

#[cfg(test)]
mod tests;

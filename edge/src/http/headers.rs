//! Header fields on their way through: what ends at this hop and what nobody but us may say is removed.
//!
//! `Trailer` is kept: since RFC 9110 it is not a connection option, and announces the trailers that we do forward.

use causeway_tunnel::may_be_trailer;
use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, COOKIE, HeaderName, TE};
use http::{HeaderMap, HeaderValue, Method};

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
pub(super) fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
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

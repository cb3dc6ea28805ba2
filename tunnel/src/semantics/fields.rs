//! What becomes of a field on its way: the one table of names, for requests, answers and trailers.

use http::header::{HeaderMap, HeaderName};

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Forward,
    /// Belongs to one connection only (RFC 9110 section 7.6.1).
    HopByHop,
    /// Says where a request came from: the edge's to say (hazard 49).
    Forwarding,
    /// Reserved for Causeway itself (hazard 53).
    Reserved,
    /// Decides framing or routing: forwarded, but nobody may remove or alias it.
    Vital,
}

/// The class of a field by its lower-case name.
///
/// `Trailer` is no field of one connection: since RFC 9110 it announces the trailers, which are forwarded.
pub fn class(name: &str) -> Class {
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
        | "x-request-id" => Class::Forwarding,
        "host" | "content-length" | "content-type" | "trailer" | "authorization" | "cookie" | "cdn-loop" => {
            Class::Vital
        }
        _ if name.starts_with("x-forwarded-") || name == "x-forwarded" => Class::Forwarding,
        _ if name.starts_with("x-causeway-") || name.starts_with("causeway-") => Class::Reserved,
        _ => Class::Forward,
    }
}

/// The elements of a comma-separated field, in all its lines.
pub fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|element| !element.is_empty())
}

//! Header fields on their way through: what ends at this hop and what nobody but us may say is removed.
//!
//! `Trailer` is kept: since RFC 9110 it is not a connection option, and announces the trailers that we do forward.

use causeway_tunnel::semantics::{Class, Direction, class, end_hop};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;

/// Whether the peer is a proxy whose forwarding fields are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    Visitor,
    Proxy,
}

/// Removes what ends at this hop from a request: hop-by-hop fields, fields named by Connection (hazard 47), forged
/// forwarding fields and their `_` aliases (hazard 23).
pub fn clean_request(headers: &mut HeaderMap, trust: Trust) {
    end_hop(headers, Direction::Request, |name, class_of| match class_of {
        Class::HopByHop | Class::Reserved => true,
        Class::Forwarding => trust == Trust::Visitor,
        Class::Forward => name.contains('_') && class(&name.replace('_', "-")) != Class::Forward,
        Class::Vital => false,
    });
}

/// Removes what ends at this hop from a response.
pub fn clean_response(headers: &mut HeaderMap) {
    end_hop(headers, Direction::Answer, |_, _| false);
}

/// The length that the head declares. The value has been validated.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests;

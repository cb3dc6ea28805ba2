//! Which fields may come behind a body (RFC 9110 section 6.5.1), the same for both ends and both directions: whoever takes
//! trailers over into a head must not be told a length, a host or a cookie by them.

/// Whether a field of this lower-case name may be a trailer: not framing, routing, authentication, cookies, caching,
/// where a request came from, or what concerns one connection only.
pub fn may_be_trailer(name: &str) -> bool {
    // Programs that map names to variables read `content_length` as `content-length`.
    let alias = name.contains('_').then(|| name.replace('_', "-"));
    let name = alias.as_deref().unwrap_or(name);
    !matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "proxy-authorization"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "host"
            | "content-length"
            | "content-type"
            | "content-encoding"
            | "content-range"
            | "trailer"
            | "authorization"
            | "www-authenticate"
            | "authentication-info"
            | "cookie"
            | "set-cookie"
            | "cache-control"
            | "expires"
            | "age"
            | "pragma"
            | "vary"
            | "date"
            | "location"
            | "retry-after"
            | "range"
            | "expect"
            | "max-forwards"
            | "via"
            | "cdn-loop"
            | "forwarded"
            | "x-real-ip"
    ) && !name.starts_with("x-forwarded")
        && !name.starts_with("sec-websocket-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_routing_and_cookies_are_no_trailers_and_the_rest_is() {
        for name in [
            "content-length",
            "content_length",
            "transfer-encoding",
            "connection",
            "host",
            "set-cookie",
            "x-forwarded-for",
            "x_forwarded_for",
            "sec-websocket-accept",
            "trailer",
        ] {
            assert!(!may_be_trailer(name), "{name}");
        }
        for name in ["grpc-status", "grpc-message", "x-sum", "etag", "server-timing", "digest", "a_b"] {
            assert!(may_be_trailer(name), "{name}");
        }
    }
}

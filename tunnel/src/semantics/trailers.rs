//! Which fields may come behind a body (RFC 9110 section 6.5.1), the same for both ends and both directions: whoever takes
//! trailers over into a head must not be told a length, a host or a cookie by them.

use http::header::{HeaderMap, HeaderName};

use super::fields::{Class, class};

/// Drops from trailers what must not be there, in either direction (hazard 16).
pub fn keep_trailers(trailers: &mut HeaderMap) {
    let doomed: Vec<HeaderName> =
        trailers.keys().filter(|name| !may_be_trailer(name.as_str())).cloned().collect();
    for name in doomed {
        trailers.remove(name);
    }
}

/// Whether a field of this lower-case name may be a trailer: not framing, routing, authentication, cookies, caching,
/// what is ours to say, or what concerns one connection only.
pub fn may_be_trailer(name: &str) -> bool {
    // Programs that map names to variables read `content_length` as `content-length`.
    let alias = name.contains('_').then(|| name.replace('_', "-"));
    let name = alias.as_deref().unwrap_or(name);
    class(name) == Class::Forward
        && !matches!(
            name,
            "content-encoding"
                | "content-range"
                | "www-authenticate"
                | "authentication-info"
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
        )
        && !name.starts_with("x-forwarded")
        && !name.starts_with("sec-websocket-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_016_trailers_cannot_smuggle_what_belongs_in_the_head() {
        let mut trailers = HeaderMap::new();
        for name in [
            "host",
            "content-length",
            "transfer-encoding",
            "authorization",
            "x-forwarded-for",
            "connection",
            "x_forwarded_for",
            "grpc-status",
            "x-checksum",
        ] {
            trailers.append(name, http::HeaderValue::from_static("1"));
        }
        keep_trailers(&mut trailers);
        let mut names: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["grpc-status", "x-checksum"]);
    }

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
            "cookie",
            "connection",
            "client-ip",
            "x_request_id",
            "x-causeway-shard",
        ] {
            assert!(!may_be_trailer(name), "{name}");
        }
        for name in ["grpc-status", "grpc-message", "x-sum", "etag", "server-timing", "digest", "a_b"] {
            assert!(may_be_trailer(name), "{name}");
        }
    }
}

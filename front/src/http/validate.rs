//! What makes a parsed request acceptable whatever HTTP version it came by: method, target, and one unambiguous
//! host (hazards 25-42). Leaves the target in origin form and exactly one Host field.

use causeway_tunnel::{Authority, Host, Scheme};
use http::header::{CONTENT_LENGTH, EXPECT, HOST};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};

use super::guard::{check_method, check_path};
use super::refusal::Refusal;
use super::sizes::{MAX_FIELD_BYTES, MAX_FIELDS, MAX_TARGET_BYTES};

/// The host parsed last on a connection: most have only one.
#[derive(Debug, Default)]
pub(super) struct HostCache(Option<(HeaderValue, Authority)>);

impl HostCache {
    fn parse(&mut self, value: &HeaderValue) -> Result<Authority, Refusal> {
        if let Some((last, authority)) = &self.0
            && last == value
        {
            return Ok(authority.clone());
        }
        let authority = Authority::parse(value.as_bytes()).map_err(|_| Refusal::bad("malformed Host"))?;
        self.0 = Some((value.clone(), authority.clone()));
        Ok(authority)
    }
}

/// Checks a request and normalises it: see the module.
pub(super) fn request(parts: &mut Parts, scheme: Scheme, hosts: &mut HostCache) -> Result<Host, Refusal> {
    check_method(parts.method.as_str().as_bytes())?;
    match parts.version {
        // The guard measured these as bytes.
        Version::HTTP_10 | Version::HTTP_11 => {}
        Version::HTTP_2 | Version::HTTP_3 => check_fields(&parts.headers)?,
        _ => {
            return Err(Refusal::new(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "nobody has checked the fields of this HTTP version",
            ));
        }
    }
    check_expectation(&parts.headers)?;
    let target = target(parts)?;
    let host = host(parts, scheme, hosts)?;
    parts.uri = Uri::from(target);
    Ok(host)
}

/// Of heads of HTTP/2 and 3 only the sum is bounded by the protocol.
fn check_fields(headers: &HeaderMap) -> Result<(), Refusal> {
    // Browsers split one Cookie field into many.
    let cookies = headers.get_all(http::header::COOKIE).iter().count();
    if headers.len() - cookies > MAX_FIELDS {
        return Err(Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too many fields"));
    }
    for (name, value) in headers {
        if name.as_str().len() + value.len() > MAX_FIELD_BYTES {
            return Err(Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "field is too long"));
        }
        let bytes = value.as_bytes();
        let is_padded = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        if is_padded(bytes.first()) || is_padded(bytes.last()) {
            return Err(Refusal::bad("space around a field value"));
        }
    }
    if headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return Err(Refusal::bad("more than one Content-Length"));
    }
    let is_number = |value: &HeaderValue| {
        (1..=18).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_digit)
    };
    if headers.get(CONTENT_LENGTH).is_some_and(|value| !is_number(value)) {
        return Err(Refusal::bad("malformed Content-Length"));
    }
    Ok(())
}

fn check_expectation(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.get_all(EXPECT).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::EXPECTATION_FAILED, "unknown expectation"))
}

/// The target in origin form, or `*`.
fn target(parts: &Parts) -> Result<PathAndQuery, Refusal> {
    let Some(path) = parts.uri.path_and_query() else {
        // Absolute form without a path, which is the path `/` (RFC 9110 section 4.2.3).
        return Ok(PathAndQuery::from_static("/"));
    };
    let text = path.as_str();
    if text.len() > MAX_TARGET_BYTES {
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, "request target is too long"));
    }
    let is_asterisk = text == "*" && parts.method == Method::OPTIONS;
    if !is_asterisk && !text.starts_with('/') {
        return Err(Refusal::bad("malformed request target"));
    }
    check_path(text.as_bytes())?;
    Ok(path.clone())
}

/// The one host that all parts of the request agree on.
fn host(parts: &mut Parts, scheme: Scheme, hosts: &mut HostCache) -> Result<Host, Refusal> {
    let mut fields = parts.headers.get_all(HOST).iter();
    let (field, more) = (fields.next(), fields.next());
    if more.is_some() {
        return Err(Refusal::bad("more than one Host"));
    }
    let from_field = field.map(|value| hosts.parse(value)).transpose()?;
    let Some(authority) = parts.uri.authority() else {
        return from_field.map(|authority| authority.host).ok_or(Refusal::bad("no Host"));
    };
    let text = HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::bad("malformed authority"))?;
    let from_target = hosts.parse(&text)?;
    let default_port = if scheme == Scheme::Https { 443 } else { 80 };
    if from_field.is_some_and(|field| !field.is_same(&from_target, default_port)) {
        return Err(Refusal::bad("Host differs from the target's authority"));
    }
    parts.headers.insert(HOST, text);
    Ok(from_target.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, uri: &str, version: Version, fields: &[(&'static str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri(uri).version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn checked(mut parts: Parts) -> Result<(String, String, String), u16> {
        let host =
            request(&mut parts, Scheme::Https, &mut HostCache::default()).map_err(|r| r.status.as_u16())?;
        assert_eq!(parts.headers.get_all(HOST).iter().count(), 1);
        Ok((host.to_string(), parts.headers[HOST].to_str().unwrap().to_owned(), parts.uri.to_string()))
    }

    fn h1(uri: &str, fields: &[(&'static str, &str)]) -> Result<(String, String, String), u16> {
        checked(parts("GET", uri, Version::HTTP_11, fields))
    }

    fn h2(uri: &str, fields: &[(&'static str, &str)]) -> Result<(String, String, String), u16> {
        checked(parts("GET", uri, Version::HTTP_2, fields))
    }

    fn ok(host: &str, field: &str, uri: &str) -> Result<(String, String, String), u16> {
        Ok((host.to_owned(), field.to_owned(), uri.to_owned()))
    }

    #[test]
    fn hazard_035_there_is_exactly_one_host() {
        assert_eq!(h1("/x", &[("host", "A.example:8443")]), ok("a.example", "A.example:8443", "/x"));
        assert_eq!(h1("/x", &[]), Err(400));
        assert_eq!(h1("/x", &[("host", "a.example"), ("host", "a.example")]), Err(400));
        assert_eq!(h1("/x", &[("host", "a.example, b.example")]), Err(400));
        assert_eq!(h2("/x", &[]), Err(400));
    }

    #[test]
    fn a_version_whose_fields_nobody_checks_is_refused() {
        assert_eq!(checked(parts("GET", "https://a.example/", Version::HTTP_09, &[])), Err(505));
    }

    #[test]
    fn hazard_036_a_malformed_host_is_refused() {
        for host in ["user@a.example", "a.example/x", "a b", "a.example:99999", "[fe80::1%25e]", ""] {
            assert_eq!(h1("/", &[("host", host)]), Err(400), "{host}");
        }
    }

    #[test]
    fn hazard_038_an_absolute_target_must_agree_with_host() {
        let host = [("host", "a.example")];
        assert_eq!(h1("https://A.example:443/x?y", &host), ok("a.example", "A.example:443", "/x?y"));
        assert_eq!(h1("https://a.example", &host), ok("a.example", "a.example", "/"));
        assert_eq!(h1("https://b.example/x", &host), Err(400));
        assert_eq!(h1("https://a.example:8443/x", &host), Err(400));
        assert_eq!(h1("https://user@a.example/x", &host), Err(400));
    }

    #[test]
    fn hazard_039_authority_must_agree_with_host() {
        assert_eq!(h2("https://a.example/x", &[]), ok("a.example", "a.example", "/x"));
        assert_eq!(
            h2("https://a.example/x", &[("host", "a.example:443")]),
            ok("a.example", "a.example", "/x")
        );
        assert_eq!(h2("https://a.example/x", &[("host", "b.example")]), Err(400));
        assert_eq!(h2("https://a.example/x", &[("host", "a.example"), ("host", "a.example")]), Err(400));
    }

    #[test]
    fn hazard_026_and_062_methods() {
        let status = |method| checked(parts(method, "/", Version::HTTP_2, &[("host", "a.example")])).err();
        assert_eq!(status("PROPFIND"), None);
        assert_eq!(status("M-SEARCH"), None);
        assert_eq!(status("TRACE"), Some(405));
        assert_eq!(status("TRACK"), Some(405));
        assert_eq!(status("get"), Some(400));
        assert_eq!(status("AVERYLONGMETHODNAMETHATNOBODYUSES"), Some(501));
    }

    #[test]
    fn hazard_027_targets_of_http_2_are_checked_too() {
        assert_eq!(h2("https://a.example/a\\b", &[]), Err(400));
        assert_eq!(h2("https://a.example/\u{fc}", &[]), Err(400));
        assert_eq!(h2("https://a.example/a?b=\\d", &[]), ok("a.example", "a.example", "/a?b=\\d"));
        assert_eq!(h2(&format!("https://a.example/{}", "a".repeat(8192)), &[]), Err(414));
        assert_eq!(checked(parts("OPTIONS", "*", Version::HTTP_11, &[("host", "a")])), ok("a", "a", "*"));
        assert_eq!(checked(parts("GET", "*", Version::HTTP_11, &[("host", "a")])), Err(400));
    }

    #[test]
    fn hazard_028_odd_paths_are_forwarded_byte_for_byte() {
        for path in ["/a/../b", "//a//", "/%2f%5c%00", "/a;x=1", "/?", "/a?b?c=%zz"] {
            assert_eq!(h1(path, &[("host", "a")]), ok("a", "a", path));
        }
    }

    #[test]
    fn hazard_029_and_067_fields_of_http_2_are_bounded_and_not_padded() {
        assert_eq!(h2("https://a/", &[("x", &"a".repeat(16 * 1024))]), Err(431));
        assert_eq!(h2("https://a/", &[("x", "a ")]), Err(400));
        assert_eq!(h2("https://a/", &vec![("cookie", "a=b"); 200]), ok("a", "a", "/"));
        assert_eq!(h2("https://a/", &vec![("x", "b"); 101]), Err(431));
        assert_eq!(h2("https://a/", &[("content-length", "5"), ("content-length", "5")]), Err(400));
        assert_eq!(h2("https://a/", &[("content-length", "+5")]), Err(400));
    }

    #[test]
    fn hazard_033_an_unknown_expectation_fails() {
        assert_eq!(h1("/", &[("host", "a"), ("expect", "100-Continue")]), ok("a", "a", "/"));
        assert_eq!(h1("/", &[("host", "a"), ("expect", "200-ok")]), Err(417));
    }
}

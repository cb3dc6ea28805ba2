//! Header fields on their way: what a rule changes, what framing needs, and what ends at each hop. Nothing else.

use causeway_tunnel::{BodyKind, RequestHead};
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, StatusCode};

/// The origin's answer breaks HTTP's framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FramingError {
    #[error("the answer has both Content-Length and Transfer-Encoding")]
    LengthAndChunked,
    #[error("the answer's Transfer-Encoding is not exactly `chunked`")]
    TransferCoding,
    #[error("the answer's Content-Length is not one number")]
    Length,
}

/// Rewrites a visitor's fields for the origin, in place, but for their framing. Returns the authority for the origin.
///
/// `httpHostHeader` sets Host; the public name then goes to X-Forwarded-Host, as in cloudflared.
pub(crate) fn for_origin(head: &mut RequestHead, host_header: Option<&HeaderValue>) -> HeaderValue {
    remove_hop_by_hop(&mut head.headers);
    let public = HeaderValue::try_from(&head.authority).unwrap_or_else(|_| HeaderValue::from_static(""));
    match host_header {
        Some(host) => {
            head.headers.insert(X_FORWARDED_HOST, public);
            host.clone()
        }
        None => public,
    }
}

/// Tells the origin the visitor's address in a field of the rule's choice. Nothing that the visitor said about it stays,
/// not by another spelling either: some origins take `_` for `-`.
pub(crate) fn tell_visitor(head: &mut RequestHead, name: &HeaderName) {
    let plain = |name: &HeaderName| name.as_str().replace('_', "-");
    let alike: Vec<_> = head.headers.keys().filter(|other| plain(other) == plain(name)).cloned().collect();
    for other in alike {
        head.headers.remove(other);
    }
    let address = HeaderValue::try_from(head.visitor.ip().to_canonical().to_string());
    head.headers.insert(name, address.expect("an address is a header value"));
}

/// Adds Host and exactly one framing field of our own for HTTP/1.1.
pub(crate) fn frame_h1(
    headers: &mut HeaderMap,
    method: &Method,
    host: HeaderValue,
    body: BodyKind,
    expect: bool,
) {
    headers.insert(HOST, host);
    join_cookies(headers);
    match body {
        // hyper writes `Content-Length: 0` for nobody; methods that usually have a body are clearer with it.
        BodyKind::None if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        BodyKind::None => {}
        BodyKind::Known(length) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        BodyKind::Unknown => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    expectation(headers, body, expect);
}

/// Adds the declared length for HTTP/2, where `:authority` stands in for Host.
pub(crate) fn frame_h2(headers: &mut HeaderMap, method: &Method, body: BodyKind, expect: bool) {
    headers.remove(HOST);
    match body {
        BodyKind::Known(length) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        BodyKind::None if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        BodyKind::None | BodyKind::Unknown => {}
    }
    expectation(headers, body, expect);
}

/// HTTP/2 visitors may send many; HTTP/1.1 knows one (hazard 69).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

fn expectation(headers: &mut HeaderMap, body: BodyKind, expect: bool) {
    if expect && body != BodyKind::None {
        headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
    } else {
        headers.remove(EXPECT);
    }
}

/// Checks an answer's framing, cleans its fields for the tunnel, and says what body follows.
pub(crate) fn from_origin(
    status: StatusCode,
    headers: &mut HeaderMap,
    to_head: bool,
) -> Result<BodyKind, FramingError> {
    let chunked = match single(headers, &TRANSFER_ENCODING) {
        Field::Absent => false,
        Field::One(value) if value.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        _ => return Err(FramingError::TransferCoding),
    };
    // hyper lets equal lengths pass when there are several; one is kept.
    let length = match headers.get(CONTENT_LENGTH).map(length_of) {
        None => None,
        Some(Some(length)) => Some(length),
        Some(None) => return Err(FramingError::Length),
    };
    if chunked && length.is_some() {
        return Err(FramingError::LengthAndChunked);
    }
    remove_hop_by_hop(headers);
    let bodyless = to_head
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if let Some(length) = length {
        // Metadata only where no body follows (hazard 144); with 204 not even that.
        if status == StatusCode::NO_CONTENT {
            headers.remove(CONTENT_LENGTH);
        } else {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
    }
    Ok(match length {
        _ if bodyless => BodyKind::None,
        Some(length) => BodyKind::Known(length),
        None => BodyKind::Unknown,
    })
}

/// Cleans an interim answer's fields.
pub(crate) fn from_origin_interim(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    headers.remove(CONTENT_LENGTH);
}

enum Field<'a> {
    Absent,
    One(&'a HeaderValue),
    Several,
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Field<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Field::Absent,
        (Some(one), None) => Field::One(one),
        (Some(_), Some(_)) => Field::Several,
    }
}

fn length_of(value: &HeaderValue) -> Option<u64> {
    let mut lengths = value.to_str().ok()?.split(',').map(|one| {
        let one = one.trim();
        one.bytes().all(|byte| byte.is_ascii_digit()).then(|| one.parse::<u64>().ok()).flatten()
    });
    let first = lengths.next()??;
    lengths.all(|other| other == Some(first)).then_some(first)
}

/// Removes what concerns one connection only (RFC 9110 §7.6.1), what Connection names, and a client's framing.
/// `TE: trailers` and Trailer stay: gRPC asks for the one, HTTP/1.1 announces trailers by the other.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let mut found: [Option<HeaderName>; 8] = [const { None }; 8];
    let hop_by_hop = headers.keys().filter(|name| is_hop_by_hop(name));
    for (slot, name) in found.iter_mut().zip(hop_by_hop) {
        *slot = Some(name.clone());
    }
    if found[0].is_none() {
        return;
    }
    if let Some(named) =
        found.iter().flatten().any(|name| name == CONNECTION).then(|| named_by_connection(headers))
    {
        for name in named {
            headers.remove(name);
        }
    }
    let keeps_trailers = headers.get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    for name in found.into_iter().flatten() {
        if name != TE || !keeps_trailers {
            headers.remove(name);
        }
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == UPGRADE
        || *name == TE
        || *name == PROXY_AUTHENTICATE
        || *name == http::header::PROXY_AUTHORIZATION
        || name.as_str() == "keep-alive"
        || name.as_str() == "proxy-connection"
}

/// Connection may name any field, but not take away what routing, framing or we rely on (hazard 47).
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let protected = [HOST, CONTENT_LENGTH, TE, TRAILER, http::header::AUTHORIZATION, COOKIE];
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse::<HeaderName>().ok())
        .filter(|name| !protected.contains(name) && !name.as_str().starts_with("x-forwarded-"))
        .collect()
}

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn hazard_048_hop_by_hop_fields_end_here_both_ways() {
        let mut headers = fields(&[
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("x-kept", "1"),
        ]);
        assert_eq!(from_origin(StatusCode::OK, &mut headers, false), Ok(BodyKind::Unknown));
        assert_eq!(names(&headers), ["x-kept"]);
        let mut grpc = fields(&[("te", "trailers")]);
        remove_hop_by_hop(&mut grpc);
        assert_eq!(names(&grpc), ["te"]);
    }

    #[test]
    fn hazard_047_connection_cannot_take_away_what_others_rely_on() {
        let mut headers = fields(&[
            ("connection", "x-forwarded-for, authorization, cookie, x-mine"),
            ("x-forwarded-for", "1.2.3.4"),
            ("authorization", "a"),
            ("cookie", "c"),
            ("x-mine", "1"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(names(&headers), ["authorization", "cookie", "x-forwarded-for"]);
    }

    #[test]
    fn hazard_142_an_answer_with_two_framings_is_refused() {
        let framing = |pairs: &[_]| from_origin(StatusCode::OK, &mut fields(pairs), false);
        assert_eq!(
            framing(&[("content-length", "3"), ("transfer-encoding", "chunked")]),
            Err(FramingError::LengthAndChunked)
        );
        assert_eq!(framing(&[("transfer-encoding", "gzip, chunked")]), Err(FramingError::TransferCoding));
        assert_eq!(
            framing(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]),
            Err(FramingError::TransferCoding)
        );
        assert_eq!(framing(&[("content-length", "3, 4")]), Err(FramingError::Length));
        assert_eq!(framing(&[("content-length", "+3")]), Err(FramingError::Length));
        assert_eq!(framing(&[("content-length", "3")]), Ok(BodyKind::Known(3)));
        assert_eq!(framing(&[("transfer-encoding", "Chunked")]), Ok(BodyKind::Unknown));
    }

    #[test]
    fn hazard_144_head_204_and_304_have_no_body_whatever_their_length_says() {
        let kind = |status: u16, to_head| {
            let mut headers = fields(&[("content-length", "9")]);
            let kind = from_origin(StatusCode::from_u16(status).unwrap(), &mut headers, to_head).unwrap();
            (kind, headers.contains_key(CONTENT_LENGTH))
        };
        assert_eq!(kind(200, true), (BodyKind::None, true));
        assert_eq!(kind(304, false), (BodyKind::None, true));
        assert_eq!(kind(204, false), (BodyKind::None, false));
        assert_eq!(kind(200, false), (BodyKind::Known(9), true));
    }

    #[test]
    fn hazard_069_cookie_crumbs_become_one_field() {
        let mut headers = fields(&[("cookie", "a=1"), ("cookie", "b=2")]);
        frame_h1(&mut headers, &Method::GET, HeaderValue::from_static("h"), BodyKind::None, false);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    #[test]
    fn one_framing_field_goes_to_the_origin_and_it_is_ours() {
        let framed = |method: Method, body| {
            let mut headers = HeaderMap::new();
            frame_h1(&mut headers, &method, HeaderValue::from_static("h"), body, false);
            let get = |name| headers.get(name).map(|v: &HeaderValue| v.to_str().unwrap().to_owned());
            (get(CONTENT_LENGTH), get(TRANSFER_ENCODING))
        };
        assert_eq!(framed(Method::GET, BodyKind::None), (None, None));
        assert_eq!(framed(Method::POST, BodyKind::None), (Some("0".into()), None));
        assert_eq!(framed(Method::GET, BodyKind::Known(0)), (Some("0".into()), None));
        assert_eq!(framed(Method::PUT, BodyKind::Known(7)), (Some("7".into()), None));
        assert_eq!(framed(Method::PUT, BodyKind::Unknown), (None, Some("chunked".into())));
    }
}

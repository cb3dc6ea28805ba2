//! Header fields on their way: what a rule changes, what framing needs, and what ends at each hop. Nothing else.

use causeway_tunnel::semantics::{Direction, elements, end_hop, join_cookies, may_be_trailer};
use causeway_tunnel::{BodyKind, RequestHead};
use http::header::{
    CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TRAILER, TRANSFER_ENCODING,
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
    end_hop(&mut head.headers, Direction::Request, |_, _| false);
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

/// What a request's framing is made from: what will really be sent, never what somebody said of it.
#[derive(Clone, Debug)]
pub(crate) struct Framing<'a> {
    pub(crate) method: &'a Method,
    pub(crate) body: BodyKind,
    /// The visitor waits for 100 before it sends its body.
    pub(crate) expect: bool,
    /// The names of trailers that are known already.
    pub(crate) trailers: Option<HeaderValue>,
}

impl Framing<'_> {
    /// Host and exactly one framing field for HTTP/1.1.
    pub(crate) fn h1(mut self, headers: &mut HeaderMap, host: HeaderValue) {
        let announced = self.remove_old(headers);
        headers.insert(HOST, host);
        join_cookies(headers);
        self.add_length(headers);
        if self.body == BodyKind::Unknown {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            // Only a chunked body has a place for trailers.
            if let Some(announced) = announced {
                headers.insert(TRAILER, announced);
            }
        }
    }

    /// The length for HTTP/2, where `:authority` stands in for Host.
    pub(crate) fn h2(mut self, headers: &mut HeaderMap) {
        let announced = self.remove_old(headers);
        headers.remove(HOST);
        self.add_length(headers);
        if let Some(announced) = announced.filter(|_| self.body != BodyKind::None) {
            headers.insert(TRAILER, announced);
        }
    }

    /// Takes away every framing field that came with the request: a length that is not ours makes the origin read the
    /// next visitor's request as this one's body. Returns which trailers were announced.
    fn remove_old(&mut self, headers: &mut HeaderMap) -> Option<HeaderValue> {
        let announced = self.trailers.take().or_else(|| announcement(headers));
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER, EXPECT] {
            headers.remove(name);
        }
        announced
    }

    fn add_length(&self, headers: &mut HeaderMap) {
        match self.body {
            BodyKind::Known(length) => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            // hyper writes `Content-Length: 0` for nobody; methods that usually have a body are clearer with it.
            BodyKind::None if matches!(*self.method, Method::POST | Method::PUT | Method::PATCH) => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            BodyKind::None | BodyKind::Unknown => {}
        }
        if self.expect && self.body != BodyKind::None {
            headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
        }
    }
}

/// The names in Trailer that may be trailers.
fn announcement(headers: &HeaderMap) -> Option<HeaderValue> {
    if !headers.contains_key(TRAILER) {
        return None;
    }
    let names = elements(headers, &TRAILER).filter_map(|name| name.parse::<HeaderName>().ok());
    let kept: Vec<String> =
        names.filter(|name| may_be_trailer(name.as_str())).map(|name| name.as_str().to_owned()).collect();
    (!kept.is_empty()).then(|| HeaderValue::try_from(kept.join(", ")).ok()).flatten()
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
    end_hop(headers, Direction::Answer, |_, _| false);
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
    end_hop(headers, Direction::Answer, |_, _| false);
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

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

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
        let framing = Framing { method: &Method::GET, body: BodyKind::None, expect: false, trailers: None };
        framing.h1(&mut headers, HeaderValue::from_static("h"));
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    #[test]
    fn one_framing_field_goes_to_the_origin_and_it_is_ours() {
        let hostile = [
            &[][..],
            &[("content-length", "90")],
            &[("content-length", "90"), ("content-length", "91")],
            &[("transfer-encoding", "chunked"), ("content-length", "90")],
            &[("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")],
            &[("trailer", "x"), ("expect", "100-continue"), ("content-length", "0")],
        ];
        for said in hostile {
            let framed = |method: Method, body| {
                let (mut h1, mut h2) = (fields(said), fields(said));
                let framing = Framing { method: &method, body, expect: false, trailers: None };
                framing.clone().h1(&mut h1, HeaderValue::from_static("h"));
                framing.h2(&mut h2);
                assert!(!h1.contains_key(EXPECT) && !h2.contains_key(EXPECT), "{said:?}");
                assert!(!h2.contains_key(TRANSFER_ENCODING), "{said:?}");
                assert!(body != BodyKind::None || !(h1.contains_key(TRAILER) || h2.contains_key(TRAILER)));
                let get = |headers: &HeaderMap, name: HeaderName| {
                    let values: Vec<_> = headers.get_all(name).iter().collect();
                    assert!(values.len() <= 1, "{values:?}");
                    values.first().map(|value| value.to_str().unwrap().to_owned())
                };
                assert_eq!(get(&h1, CONTENT_LENGTH), get(&h2, CONTENT_LENGTH), "{said:?}");
                (get(&h1, CONTENT_LENGTH), get(&h1, TRANSFER_ENCODING))
            };
            assert_eq!(framed(Method::GET, BodyKind::None), (None, None), "{said:?}");
            assert_eq!(framed(Method::POST, BodyKind::None), (Some("0".into()), None), "{said:?}");
            assert_eq!(framed(Method::GET, BodyKind::Known(0)), (Some("0".into()), None), "{said:?}");
            assert_eq!(framed(Method::PUT, BodyKind::Known(7)), (Some("7".into()), None), "{said:?}");
            assert_eq!(framed(Method::PUT, BodyKind::Unknown), (None, Some("chunked".into())), "{said:?}");
        }
    }

    #[test]
    fn only_trailers_that_may_be_some_are_announced() {
        let mut headers = fields(&[("trailer", "x-sum, Content-Length"), ("trailer", "host,,grpc-status")]);
        let framing =
            Framing { method: &Method::POST, body: BodyKind::Unknown, expect: true, trailers: None };
        framing.h1(&mut headers, HeaderValue::from_static("h"));
        assert_eq!(headers.get_all(TRAILER).iter().collect::<Vec<_>>(), ["x-sum, grpc-status"]);
        assert_eq!(headers[EXPECT], "100-continue");
    }
}

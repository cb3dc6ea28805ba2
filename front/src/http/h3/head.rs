//! Heads and trailers between field sections and what the rest of the edge knows (RFC 9114 §4.2, §4.3). Pure.

use bytes::Bytes;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};

use super::frames::{self, MAX_SECTION_BYTES};
use super::qpack::{Encoder, SectionError, decode};

/// Why a section is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    #[error(transparent)]
    Section(#[from] SectionError),
    #[error("malformed message: {0}")]
    Malformed(&'static str),
}

/// A request's head, and the protocol that an extended CONNECT asks for (RFC 9220).
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) parts: Parts,
    pub(super) protocol: Option<String>,
}

#[derive(Default)]
struct Pseudo {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    protocol: Option<String>,
}

/// Reads a request's head.
pub(super) fn request(section: &[u8]) -> Result<Asked, HeadError> {
    let (mut pseudo, mut headers) = (Pseudo::default(), HeaderMap::new());
    decode(section, MAX_SECTION_BYTES, |name, value| {
        if name.first() != Some(&b':') {
            return add(&mut headers, name, value);
        }
        if !headers.is_empty() {
            return Err(HeadError::Malformed("a pseudo-field behind a field"));
        }
        pseudo.set(name, value)
    })?;
    pseudo.into_request(headers)
}

/// Reads trailers.
pub(super) fn trailers(section: &[u8]) -> Result<HeaderMap, HeadError> {
    let mut headers = HeaderMap::new();
    decode(section, MAX_SECTION_BYTES, |name, value| add(&mut headers, name, value))?;
    Ok(headers)
}

fn add(headers: &mut HeaderMap, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
    const MALFORMED: HeadError = HeadError::Malformed("a field");
    let name = HeaderName::from_lowercase(name).map_err(|_| MALFORMED)?;
    // Those end at each hop, and HTTP/3 has other means (RFC 9114 §4.2).
    let ends_here = match name.as_str() {
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => true,
        "te" => value != b"trailers",
        _ => false,
    };
    if ends_here {
        return Err(HeadError::Malformed("a field of another version of HTTP"));
    }
    let value = HeaderValue::from_bytes(value).map_err(|_| MALFORMED)?;
    headers.try_append(name, value).map(drop).map_err(|_| HeadError::Malformed("too many fields"))
}

impl Pseudo {
    fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        match name {
            b":method" => once(&mut self.method, Method::from_bytes(value).ok()),
            b":scheme" => once(&mut self.scheme, Scheme::try_from(value).ok()),
            b":authority" => once(&mut self.authority, Authority::try_from(value).ok()),
            b":path" => once(&mut self.path, path(value)),
            b":protocol" => once(&mut self.protocol, std::str::from_utf8(value).ok().map(str::to_owned)),
            _ => Err(HeadError::Malformed("an unknown pseudo-field")),
        }
    }

    fn into_request(self, headers: HeaderMap) -> Result<Asked, HeadError> {
        const MISSING: HeadError = HeadError::Malformed("a pseudo-field is missing");
        let method = self.method.ok_or(MISSING)?;
        let is_tunnel = method == Method::CONNECT && self.protocol.is_none();
        if is_tunnel && (self.scheme.is_some() || self.path.is_some()) {
            return Err(HeadError::Malformed("CONNECT with a path"));
        }
        if self.protocol.is_some() && method != Method::CONNECT {
            return Err(HeadError::Malformed(":protocol without CONNECT"));
        }
        if self.authority.is_none() && (is_tunnel || !headers.contains_key(http::header::HOST)) {
            return Err(MISSING);
        }
        let mut uri = http::uri::Parts::default();
        if !is_tunnel {
            // Without an authority the target is in origin form, which has no scheme.
            let scheme = self.scheme.ok_or(MISSING)?;
            uri.scheme = self.authority.is_some().then_some(scheme);
            uri.path_and_query = Some(self.path.ok_or(MISSING)?);
        }
        uri.authority = self.authority;
        let uri = Uri::from_parts(uri).map_err(|_| HeadError::Malformed("a target"))?;
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_3;
        *request.headers_mut() = headers;
        Ok(Asked { parts: request.into_parts().0, protocol: self.protocol })
    }
}

/// Each pseudo-field comes once (hazard 40).
fn once<T>(place: &mut Option<T>, value: Option<T>) -> Result<(), HeadError> {
    let value = value.ok_or(HeadError::Malformed("a pseudo-field"))?;
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(HeadError::Malformed("a pseudo-field comes twice")),
    }
}

/// Not empty: that is what the path of a URI without one is sent as.
fn path(value: &[u8]) -> Option<PathAndQuery> {
    PathAndQuery::try_from(value).ok().filter(|_| !value.is_empty())
}

/// A HEADERS frame, and the size that a limit on sections counts.
pub(super) fn response(status: StatusCode, headers: &HeaderMap) -> (Bytes, usize) {
    let mut encoder = Encoder::new();
    encoder.field(":status", status.as_str().as_bytes());
    fields(encoder, headers)
}

/// The same of trailers.
pub(super) fn end(trailers: &HeaderMap) -> (Bytes, usize) {
    fields(Encoder::new(), trailers)
}

fn fields(mut encoder: Encoder, headers: &HeaderMap) -> (Bytes, usize) {
    for (name, value) in headers {
        encoder.field(name.as_str(), value.as_bytes());
    }
    (frames::headers(encoder.section()), encoder.size())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/x?y")];

    fn section(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut encoder = Encoder::new();
        fields.iter().for_each(|(name, value)| encoder.field(name, value.as_bytes()));
        encoder.section().to_vec()
    }

    fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        [&GET[..], more].concat()
    }

    fn is_malformed(fields: &[(&str, &str)]) -> bool {
        matches!(request(&section(fields)), Err(HeadError::Malformed(_)))
    }

    #[test]
    fn a_head_keeps_its_target_and_its_fields() {
        let asked =
            request(&section(&with(&[("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")]))).unwrap();
        assert_eq!(asked.parts.uri, "https://a.example/x?y");
        assert_eq!((asked.parts.version, asked.parts.headers.len()), (Version::HTTP_3, 3));
        let by_host = [GET[0], GET[1], GET[3], ("host", "a.example")];
        assert_eq!(request(&section(&by_host)).unwrap().parts.uri, "/x?y");
        let connect = [(":method", "CONNECT"), (":authority", "a.example:22")];
        assert_eq!(request(&section(&connect)).unwrap().parts.uri, "a.example:22");
        let websocket = [(":method", "CONNECT"), (":protocol", "websocket"), GET[1], GET[2], GET[3]];
        assert_eq!(request(&section(&websocket)).unwrap().protocol.as_deref(), Some("websocket"));
    }

    #[test]
    fn hazard_040_pseudo_fields_come_once_in_front_and_all() {
        for pseudo in GET {
            assert!(is_malformed(&with(&[pseudo])), "twice: {pseudo:?}");
            let without: Vec<_> = GET.into_iter().filter(|field| *field != pseudo).collect();
            assert!(is_malformed(&without), "without {pseudo:?}");
            let behind: Vec<_> = without.into_iter().chain([("x", "y"), pseudo]).collect();
            assert!(is_malformed(&behind), "behind a field: {pseudo:?}");
        }
        for odd in [(":status", "200"), (":odd", "x"), (":protocol", "websocket")] {
            let all: Vec<_> = [odd].into_iter().chain(GET).collect();
            assert!(is_malformed(&all), "{odd:?}");
        }
        assert!(is_malformed(&[GET[0], GET[1], GET[2], (":path", "")]));
        assert!(is_malformed(&[(":method", "CONNECT"), GET[2], GET[3]]));
        assert!(matches!(trailers(&section(&[(":path", "/")])), Err(HeadError::Malformed(_))));
    }

    #[test]
    fn hazard_067_fields_that_are_none_of_this_version_are_malformed() {
        for field in [
            ("Upper", "x"),
            ("connection", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
            ("", "x"),
            ("x y", "z"),
            ("x", "a\nb"),
            ("x", "a\0b"),
        ] {
            assert!(is_malformed(&with(&[field])), "{field:?}");
        }
    }
}

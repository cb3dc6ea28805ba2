//! The heads of a request stream and their layouts.
//!
//! ```text
//! request   flags: u8 (1 https, 2 upgrade, 4 expects 100-continue)
//!           body: u8 (0 none, 1 length known, 2 unknown), [length: varint]
//!           request id: 16 bytes, route: varint
//!           visitor: u8 (4 or 6), address: 4 or 16 bytes, port: u16
//!           method, authority, path: byte strings, [upgrade: byte string], fields
//! response  status: u16, body as above, fields
//! interim   status: u16, fields
//! ```
//! A byte string is a varint length and that many bytes; `fields` has the fields.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};

use super::fields;
use super::wire::{Malformed, Reader, put_bytes, put_varint};

/// How the visitor spoke to the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What is known of a body before it flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// There is none.
    None,
    /// Its length in bytes was declared; the sender holds to it or aborts.
    Known(u64),
    /// It ends when it ends: chunked, or HTTP/2 without Content-Length.
    Unknown,
}

/// Names one request in every log on its way: 16 random bytes, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub [u8; 16]);

impl RequestId {
    pub fn random(rng: &mut impl rand::Rng) -> Self {
        Self(rng.random())
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// A public request as the edge hands it to a connector: validated, hop-by-hop fields removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    pub method: Method,
    pub scheme: Scheme,
    /// The public name as the visitor wrote it, with its port if it had one.
    pub authority: String,
    /// Path and query, byte for byte as the visitor sent them.
    pub path: String,
    pub headers: HeaderMap,
    pub visitor: SocketAddr,
    /// Which announced route it came in by.
    pub route: u32,
    pub request_id: RequestId,
    /// The protocol that the visitor asks to switch to, lower case (`websocket`).
    pub upgrade: Option<String>,
    pub body: BodyKind,
    /// The visitor waits for 100 before it sends its body.
    pub expect_continue: bool,
}

/// The final answer's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: BodyKind,
}

const HTTPS: u8 = 1;
const UPGRADE: u8 = 2;
const EXPECT: u8 = 4;

impl RequestHead {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let https = if self.scheme == Scheme::Https { HTTPS } else { 0 };
        let upgrade = if self.upgrade.is_some() { UPGRADE } else { 0 };
        let expect = if self.expect_continue { EXPECT } else { 0 };
        out.put_u8(https | upgrade | expect);
        put_body(out, self.body);
        out.put_slice(&self.request_id.0);
        put_varint(out, u64::from(self.route));
        put_visitor(out, self.visitor);
        put_bytes(out, self.method.as_str().as_bytes());
        put_bytes(out, self.authority.as_bytes());
        put_bytes(out, self.path.as_bytes());
        if let Some(upgrade) = &self.upgrade {
            put_bytes(out, upgrade.as_bytes());
        }
        fields::encode(out, &self.headers);
    }

    /// Reads one REQUEST payload.
    ///
    /// # Errors
    /// When the payload ends early, has bytes left over, or holds what is not a method, text or header field.
    pub fn decode(payload: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let flags = reader.u8()?;
        if flags & !(HTTPS | UPGRADE | EXPECT) != 0 {
            return Err(Malformed("unknown flags in a request head"));
        }
        let body = body(&mut reader)?;
        let request_id = RequestId(reader.array()?);
        let route = u32::try_from(reader.varint()?).map_err(|_| Malformed("route id out of range"))?;
        let visitor = visitor(&mut reader)?;
        let method = Method::from_bytes(&reader.bytes()?).map_err(|_| Malformed("method is not a token"))?;
        let authority = reader.string()?;
        let path = reader.string()?;
        let upgrade = if flags & UPGRADE != 0 { Some(reader.string()?) } else { None };
        let headers = fields::decode(&mut reader)?;
        reader.end()?;
        Ok(Self {
            method,
            scheme: if flags & HTTPS != 0 { Scheme::Https } else { Scheme::Http },
            authority,
            path,
            headers,
            visitor,
            route,
            request_id,
            upgrade,
            body,
            expect_continue: flags & EXPECT != 0,
        })
    }
}

impl ResponseHead {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u16(self.status.as_u16());
        put_body(out, self.body);
        fields::encode(out, &self.headers);
    }

    /// Reads one RESPONSE payload.
    ///
    /// # Errors
    /// As [`RequestHead::decode`]; a status below 200 other than 101 is refused too.
    pub fn decode(payload: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let status = status(&mut reader)?;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Malformed("an interim status in a final head"));
        }
        let body = body(&mut reader)?;
        let headers = fields::decode(&mut reader)?;
        reader.end()?;
        Ok(Self { status, headers, body })
    }
}

pub(crate) fn encode_interim(out: &mut BytesMut, status: StatusCode, headers: &HeaderMap) {
    out.put_u16(status.as_u16());
    fields::encode(out, headers);
}

pub(crate) fn decode_interim(payload: Bytes) -> Result<(StatusCode, HeaderMap), Malformed> {
    let mut reader = Reader::new(payload);
    let status = status(&mut reader)?;
    if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Malformed("not an interim status"));
    }
    let headers = fields::decode(&mut reader)?;
    reader.end()?;
    Ok((status, headers))
}

pub(crate) fn decode_trailers(payload: Bytes) -> Result<HeaderMap, Malformed> {
    let mut reader = Reader::new(payload);
    let trailers = fields::decode(&mut reader)?;
    reader.end()?;
    Ok(trailers)
}

fn status(reader: &mut Reader) -> Result<StatusCode, Malformed> {
    StatusCode::from_u16(reader.u16()?).map_err(|_| Malformed("status out of range"))
}

fn put_body(out: &mut BytesMut, body: BodyKind) {
    match body {
        BodyKind::None => out.put_u8(0),
        BodyKind::Known(length) => {
            out.put_u8(1);
            put_varint(out, length.min((1 << 62) - 1));
        }
        BodyKind::Unknown => out.put_u8(2),
    }
}

fn body(reader: &mut Reader) -> Result<BodyKind, Malformed> {
    match reader.u8()? {
        0 => Ok(BodyKind::None),
        1 => Ok(BodyKind::Known(reader.varint()?)),
        2 => Ok(BodyKind::Unknown),
        _ => Err(Malformed("unknown kind of body")),
    }
}

pub(crate) fn put_visitor(out: &mut BytesMut, visitor: SocketAddr) {
    match visitor.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(4);
            out.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(6);
            out.put_slice(&ip.octets());
        }
    }
    out.put_u16(visitor.port());
}

pub(crate) fn visitor(reader: &mut Reader) -> Result<SocketAddr, Malformed> {
    let ip: IpAddr = match reader.u8()? {
        4 => Ipv4Addr::from(reader.array::<4>()?).into(),
        6 => Ipv6Addr::from(reader.array::<16>()?).into(),
        _ => return Err(Malformed("unknown kind of address")),
    };
    Ok(SocketAddr::new(ip, reader.u16()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heads() -> impl Strategy<Value = RequestHead> {
        (
            "[A-Z]{1,10}",
            any::<bool>(),
            "[a-z0-9.:-]{0,40}",
            "/[ -~]{0,80}",
            any::<(u32, [u8; 16], bool, [u8; 16], u16)>(),
            proptest::option::of("[a-z]{1,12}"),
            prop_oneof![
                Just(BodyKind::None),
                Just(BodyKind::Unknown),
                (0_u64..1 << 62).prop_map(BodyKind::Known)
            ],
            any::<bool>(),
        )
            .prop_map(
                |(method, https, authority, path, (route, id, v6, ip, port), upgrade, body, expect)| {
                    RequestHead {
                        method: Method::from_bytes(method.as_bytes()).unwrap(),
                        scheme: if https { Scheme::Https } else { Scheme::Http },
                        authority,
                        path,
                        headers: HeaderMap::new(),
                        visitor: if v6 {
                            (Ipv6Addr::from(ip), port).into()
                        } else {
                            (Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]), port).into()
                        },
                        route,
                        request_id: RequestId(id),
                        upgrade,
                        body,
                        expect_continue: expect,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn request_heads_survive_the_wire(head in heads()) {
            let mut out = BytesMut::new();
            head.encode(&mut out);
            let payload = out.freeze();
            prop_assert_eq!(RequestHead::decode(payload.clone()).unwrap(), head);
            for cut in 0..payload.len() {
                prop_assert!(RequestHead::decode(payload.slice(..cut)).is_err());
            }
        }

        #[test]
        fn any_payload_decodes_or_is_refused(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let payload = Bytes::from(payload);
            let _ = RequestHead::decode(payload.clone());
            let _ = ResponseHead::decode(payload.clone());
            let _ = decode_interim(payload.clone());
            let _ = decode_trailers(payload);
        }
    }

    #[test]
    fn a_final_head_is_never_interim() {
        let mut out = BytesMut::new();
        ResponseHead { status: StatusCode::EARLY_HINTS, headers: HeaderMap::new(), body: BodyKind::None }
            .encode(&mut out);
        assert!(ResponseHead::decode(out.freeze()).is_err());
    }
}

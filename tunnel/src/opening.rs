//! The first message of a stream: what it is for. A request's is a frame of its own (REQUEST); any other is an OPEN frame,
//! which says its kind by name, so that who does not know it can refuse it by name.
//!
//! ```text
//! OPEN      kind: byte string, then by kind
//! credit               nothing; the credit stream, which is no opening ([`crate::flow`])
//! connect, datagrams   request id: 16 bytes, route: varint, visitor: as in a request, name: byte string
//! ```
//! A connector announces of each route which kind of stream it takes ([`Kind`]); an edge refuses routes of kinds that it does not carry, with the reason. So a stream of an unknown kind is seldom, and
//! costs only itself ([`AbortCode::UnknownKind`](crate::AbortCode::UnknownKind)).

use std::fmt;
use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::stream::frame::FrameType;
use crate::stream::head::{RequestHead, RequestId, put_visitor, visitor};
use crate::stream::wire::{Malformed, Reader, put_bytes, put_varint};

/// What a stream is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    Request(RequestHead),
    /// A visitor's connection, whose bytes pass as they are.
    Connect(Passage),
    /// A visitor's datagrams, which travel beside the streams of the session.
    Datagrams(Passage),
    /// Of a later version: to be refused by this name.
    Unknown(String),
}

/// What is told of a visitor whose bytes pass as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    pub request_id: RequestId,
    /// Which announced route it came in by.
    pub route: u32,
    pub visitor: SocketAddr,
    /// The public name that the visitor asked for.
    pub name: String,
}

/// What a route takes. Written as its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Kind {
    #[default]
    Request,
    Connect,
    Datagrams,
    /// Of a later version; no more of its name than would be given to one.
    Unknown(String),
}

impl Kind {
    pub(crate) fn is_request(&self) -> bool {
        *self == Self::Request
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Request => "request",
            Self::Connect => "connect",
            Self::Datagrams => "datagrams",
            Self::Unknown(name) => name,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A stranger chose the name.
        write!(f, "{}", self.as_str().escape_default())
    }
}

impl From<String> for Kind {
    fn from(name: String) -> Self {
        match name.as_str() {
            "request" => Self::Request,
            "connect" => Self::Connect,
            "datagrams" => Self::Datagrams,
            _ => {
                let end = name.floor_char_boundary(MAX_NAME_BYTES);
                Self::Unknown(name[..end].to_owned())
            }
        }
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Unknown(name) => name,
            known => known.as_str().to_owned(),
        }
    }
}

impl Opening {
    /// Which announced route it came in by.
    pub fn route(&self) -> Option<u32> {
        match self {
            Self::Request(head) => Some(head.route),
            Self::Connect(passage) | Self::Datagrams(passage) => Some(passage.route),
            Self::Unknown(_) => None,
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Request(_) => Kind::Request,
            Self::Connect(_) => Kind::Connect,
            Self::Datagrams(_) => Kind::Datagrams,
            Self::Unknown(name) => Kind::Unknown(name.clone()),
        }
    }

    pub fn into_request(self) -> Option<RequestHead> {
        match self {
            Self::Request(head) => Some(head),
            _ => None,
        }
    }

    /// Writes the payload; says of which frame.
    pub(crate) fn encode(&self, out: &mut BytesMut) -> FrameType {
        match self {
            Self::Request(head) => {
                head.encode(out);
                return FrameType::Request;
            }
            Self::Connect(passage) | Self::Datagrams(passage) => {
                put_bytes(out, self.kind().as_str().as_bytes());
                passage.encode(out);
            }
            Self::Unknown(name) => put_bytes(out, name.as_bytes()),
        }
        FrameType::Open
    }

    /// Reads the payload of a REQUEST or OPEN frame.
    ///
    /// # Errors
    /// When it ends early, has bytes left over, or holds what does not belong there. An unknown kind is no error.
    pub fn decode(frame: FrameType, payload: Bytes) -> Result<Self, Malformed> {
        if frame == FrameType::Request {
            return RequestHead::decode(payload).map(Self::Request);
        }
        let mut reader = Reader::new(payload);
        let name = reader.string()?;
        if name.len() > MAX_NAME_BYTES {
            return Err(Malformed("the name of a kind is too long"));
        }
        match Kind::from(name) {
            Kind::Request => Err(Malformed("a request is opened by REQUEST")),
            Kind::Connect => Passage::decode(reader).map(Self::Connect),
            Kind::Datagrams => Passage::decode(reader).map(Self::Datagrams),
            Kind::Unknown(name) => Ok(Self::Unknown(name)),
        }
    }
}

/// Long enough for any name that we would give, short enough for a log.
const MAX_NAME_BYTES: usize = 64;

impl Passage {
    fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&self.request_id.0);
        put_varint(out, u64::from(self.route));
        put_visitor(out, self.visitor);
        put_bytes(out, self.name.as_bytes());
    }

    fn decode(mut reader: Reader) -> Result<Self, Malformed> {
        let request_id = RequestId(reader.array()?);
        let route = u32::try_from(reader.varint()?).map_err(|_| Malformed("route id out of range"))?;
        let visitor = visitor(&mut reader)?;
        let name = reader.string()?;
        reader.end()?;
        Ok(Self { request_id, route, visitor, name })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    fn round_trip(opening: &Opening) -> Result<Opening, Malformed> {
        let mut out = BytesMut::new();
        let frame = opening.encode(&mut out);
        Opening::decode(frame, out.freeze())
    }

    proptest! {
        #[test]
        fn openings_survive_the_wire(id: [u8; 16], route: u32, ip: u128, port: u16, name in "[a-z.]{0,40}", kind in "[a-z-]{1,64}") {
            let visitor = (Ipv6Addr::from_bits(ip), port).into();
            let passage = Passage { request_id: RequestId(id), route, visitor, name };
            let mut openings = vec![Opening::Connect(passage.clone()), Opening::Datagrams(passage)];
            if matches!(Kind::from(kind.clone()), Kind::Unknown(_)) {
                openings.push(Opening::Unknown(kind));
            }
            for opening in openings {
                prop_assert_eq!(round_trip(&opening), Ok(opening));
            }
        }

        #[test]
        fn any_payload_decodes_or_is_refused(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Opening::decode(FrameType::Open, payload.into());
        }
    }

    #[test]
    fn what_an_unknown_kind_brings_is_not_looked_at() {
        let mut out = BytesMut::new();
        put_bytes(&mut out, b"hologram");
        out.extend_from_slice(&[0xff; 20]);
        assert_eq!(
            Opening::decode(FrameType::Open, out.freeze()),
            Ok(Opening::Unknown("hologram".to_owned()))
        );
        let long = Opening::Unknown("x".repeat(MAX_NAME_BYTES + 1));
        assert!(round_trip(&long).is_err());
    }

    #[test]
    fn kinds_are_written_as_their_names() {
        for kind in [Kind::Request, Kind::Connect, Kind::Datagrams, Kind::Unknown("later".to_owned())] {
            let text = serde_json::to_string(&kind).unwrap();
            assert_eq!(serde_json::from_str::<Kind>(&text).unwrap(), kind);
        }
        let long = format!("\"{}\"", "x".repeat(10_000));
        assert_eq!(serde_json::from_str::<Kind>(&long).unwrap().to_string().len(), MAX_NAME_BYTES);
        assert_eq!(serde_json::to_string(&Kind::Connect).unwrap(), r#""connect""#);
    }
}

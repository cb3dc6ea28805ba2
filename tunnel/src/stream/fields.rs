//! Header fields in a head: a common name is one byte, any other its text; values are opaque bytes.
//!
//! Layout: `count: varint`, then for each field `name: u8` (index into [`NAMES`] plus one, or 0 and a byte string),
//! `value: byte string`. The table belongs to protocol version 1: never reorder it.

use bytes::{BufMut, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::wire::{Malformed, Reader, put_bytes, put_varint};
use crate::limits::MAX_FIELDS;

pub(crate) fn encode(out: &mut BytesMut, fields: &HeaderMap) {
    put_varint(out, fields.len() as u64);
    for (name, value) in fields {
        match NAMES.iter().position(|known| known == name) {
            Some(index) => out.put_u8(u8::try_from(index + 1).expect("the table is short")),
            None => {
                out.put_u8(0);
                put_bytes(out, name.as_str().as_bytes());
            }
        }
        put_bytes(out, value.as_bytes());
    }
}

pub(crate) fn decode(reader: &mut Reader) -> Result<HeaderMap, Malformed> {
    let count = reader.varint()?;
    if count > MAX_FIELDS as u64 {
        return Err(Malformed("too many header fields"));
    }
    let count = usize::try_from(count).expect("at most MAX_FIELDS");
    let mut fields = HeaderMap::with_capacity(count);
    for _ in 0..count {
        let name = match reader.u8()? {
            0 => HeaderName::from_lowercase(&reader.bytes()?)
                .map_err(|_| Malformed("a field name is not a lower-case token"))?,
            index => {
                NAMES.get(usize::from(index) - 1).cloned().ok_or(Malformed("unknown field name index"))?
            }
        };
        let value = HeaderValue::from_maybe_shared(reader.bytes()?)
            .map_err(|_| Malformed("a field value holds control bytes"))?;
        fields.append(name, value);
    }
    Ok(fields)
}

const fn name(text: &'static str) -> HeaderName {
    HeaderName::from_static(text)
}

static NAMES: [HeaderName; 56] = [
    header::HOST,
    header::USER_AGENT,
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::COOKIE,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::DATE,
    header::SERVER,
    header::ETAG,
    header::LAST_MODIFIED,
    header::CACHE_CONTROL,
    header::ACCEPT_RANGES,
    header::CONTENT_ENCODING,
    header::SET_COOKIE,
    header::LOCATION,
    header::VARY,
    header::REFERER,
    header::ORIGIN,
    header::AUTHORIZATION,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::RANGE,
    header::CONTENT_RANGE,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    header::EXPIRES,
    header::PRAGMA,
    header::AGE,
    header::LINK,
    header::CONTENT_DISPOSITION,
    header::CONTENT_SECURITY_POLICY,
    header::STRICT_TRANSPORT_SECURITY,
    header::X_CONTENT_TYPE_OPTIONS,
    header::X_FRAME_OPTIONS,
    header::REFERRER_POLICY,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::UPGRADE_INSECURE_REQUESTS,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_ACCEPT,
    header::FORWARDED,
    name("x-forwarded-for"),
    name("x-forwarded-proto"),
    name("x-forwarded-host"),
    name("x-real-ip"),
    name("x-request-id"),
    name("sec-fetch-site"),
    name("sec-fetch-mode"),
    name("sec-fetch-dest"),
    name("traceparent"),
    name("priority"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_survive_the_wire(
            pairs in proptest::collection::vec(("[a-z][a-z0-9-]{0,20}", proptest::collection::vec(0x20_u8..0x7f, 0..40)), 0..40)
        ) {
            let mut fields = HeaderMap::new();
            for (name, value) in &pairs {
                fields.append(HeaderName::try_from(name.as_str()).unwrap(), HeaderValue::from_bytes(value).unwrap());
            }
            let mut out = BytesMut::new();
            encode(&mut out, &fields);
            prop_assert_eq!(decode(&mut Reader::new(out.freeze())).unwrap(), fields);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&mut Reader::new(payload.into()));
        }
    }

    #[test]
    fn common_names_take_one_byte() {
        let mut fields = HeaderMap::new();
        fields.insert(header::HOST, HeaderValue::from_static("a"));
        let mut out = BytesMut::new();
        encode(&mut out, &fields);
        assert_eq!(&out[..], [1, 1, 1, b'a']);
    }
}

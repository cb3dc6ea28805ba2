//! Bounded reading and plain writing of integers and byte strings: a length can never overrun its buffer.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The payload ended early, or a field of it is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Reads one payload from front to back; hands out sub-slices without copying.
#[derive(Debug)]
pub(crate) struct Reader(Bytes);

impl Reader {
    pub(crate) fn new(payload: Bytes) -> Self {
        Self(payload)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| SHORT)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.0.try_get_u16().map_err(|_| SHORT)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut out = [0; N];
        self.0.try_copy_to_slice(&mut out).map_err(|_| SHORT)?;
        Ok(out)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let (value, used) = peek_varint(&self.0).ok_or(SHORT)?;
        self.0.advance(used);
        Ok(value)
    }

    /// A varint length and that many bytes.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| SHORT)?;
        if length > self.0.len() {
            return Err(SHORT);
        }
        Ok(self.0.split_to(length))
    }

    pub(crate) fn string(&mut self) -> Result<String, Malformed> {
        let bytes = self.bytes()?;
        std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| Malformed("text is not UTF-8"))
    }

    /// What was not read.
    pub(crate) fn into_rest(self) -> Bytes {
        self.0
    }

    /// The payload must have been used up.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("bytes left over at the end of a payload")) }
    }
}

/// A varint (RFC 9000 §16) at the front of `bytes`, and how many bytes it takes; `None` when it is not whole yet.
pub(crate) fn peek_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1_usize << (first >> 6);
    let rest = bytes.get(1..length)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, length))
}

/// Writes `value` as a varint; values above 2^62 do not occur (lengths and ids only).
pub(crate) fn put_varint(out: &mut BytesMut, value: u64) {
    match value {
        0..0x40 => out.put_u8(u8::try_from(value).expect("below 0x40")),
        0x40..0x4000 => out.put_u16(0x4000 | u16::try_from(value).expect("below 0x4000")),
        0x4000..0x4000_0000 => out.put_u32(0x8000_0000 | u32::try_from(value).expect("below 0x4000_0000")),
        _ => out.put_u64(0xc000_0000_0000_0000 | value),
    }
}

/// How many bytes [`put_varint`] writes.
pub(crate) fn varint_len(value: u64) -> usize {
    match value {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

const SHORT: Malformed = Malformed("payload ends early");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_survive_and_never_over_read(value in 0_u64..1 << 62, cut in 0_usize..8) {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            prop_assert_eq!(peek_varint(&out), Some((value, out.len())));
            if cut < out.len() {
                prop_assert_eq!(peek_varint(&out[..cut]), None);
            }
        }

        #[test]
        fn a_reader_never_reads_past_its_end(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(payload.clone().into());
            let mut total = 0;
            while let Ok(bytes) = reader.bytes() {
                total += bytes.len();
                prop_assert!(total <= payload.len());
            }
        }
    }
}

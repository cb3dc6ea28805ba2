//! The records of the credit stream: `stream: varint, limit: varint`, one behind the other. Of a stream that is over, or was
//! never there, they say nothing.

use bytes::{Buf, BytesMut};

use crate::stream::wire::{peek_varint, put_varint};

/// So many bytes of this stream may be sent in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub stream: u64,
    pub limit: u64,
}

/// Cuts the credit stream into records; sans-I/O. Holds less than one of them.
#[derive(Debug, Default)]
pub struct Decoder {
    rest: BytesMut,
}

impl Record {
    pub fn encode(&self, out: &mut BytesMut) {
        put_varint(out, self.stream);
        put_varint(out, self.limit);
    }
}

impl Decoder {
    /// Hands out each record that is whole by now.
    pub fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(Record)) {
        self.rest.extend_from_slice(bytes);
        while let Some((record, used)) = next(&self.rest) {
            self.rest.advance(used);
            take(record);
        }
    }
}

fn next(bytes: &[u8]) -> Option<(Record, usize)> {
    let (stream, first) = peek_varint(bytes)?;
    let (limit, second) = peek_varint(bytes.get(first..)?)?;
    Some((Record { stream, limit }, first + second))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Record>, usize) {
        let (mut decoder, mut records) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.feed(piece, |record| records.push(record));
        }
        (records, decoder.rest.len())
    }

    proptest! {
        #[test]
        fn records_survive_the_wire_cut_anywhere(
            numbers in proptest::collection::vec((0_u64..1 << 62, 0_u64..1 << 62), 0..20), step in 1_usize..20
        ) {
            let records: Vec<_> = numbers.into_iter().map(|(stream, limit)| Record { stream, limit }).collect();
            let mut out = BytesMut::new();
            records.iter().for_each(|record| record.encode(&mut out));
            prop_assert_eq!(decode([&out[..]]), (records.clone(), 0));
            prop_assert_eq!(decode(out.chunks(step)), (records, 0));
        }

        #[test]
        fn any_bytes_are_records_and_less_than_one_is_kept(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (records, kept) = decode([&bytes[..]]);
            prop_assert!(kept < 16 && records.len() * 2 <= bytes.len());
        }
    }
}

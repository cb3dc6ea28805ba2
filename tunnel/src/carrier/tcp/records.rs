//! What stands in the DATA of one direction of a stream: HTTP/2 alone cannot end one direction with a code, nor ask for that.
//!
//! ```text
//! DATA  0x00  length: u32, bytes      more of the stream
//! FIN   0x01                          its end
//! RESET 0x02  code: u32               it is broken off
//! STOP  0x03  code: u32               the other direction is not read any more; also behind FIN or RESET of this one
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A record, or a part of the bytes of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Data(Bytes),
    Fin,
    Reset(u32),
    Stop(u32),
}

/// The peer broke the protocol of the carrier: the connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// One DATA record: more than anybody sends.
pub const MAX_DATA_BYTES: u32 = 1 << 20;
/// A record but for its bytes.
pub(super) const HEAD_BYTES: usize = 5;

const DATA: u8 = 0;
const FIN: u8 = 1;
const RESET: u8 = 2;
const STOP: u8 = 3;

impl Record {
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Data(bytes) => {
                put_data_head(out, bytes.len());
                out.put_slice(bytes);
            }
            Self::Fin => out.put_u8(FIN),
            Self::Reset(code) => put(out, RESET, *code),
            Self::Stop(code) => put(out, STOP, *code),
        }
    }
}

/// So many bytes follow, at most [`MAX_DATA_BYTES`].
pub(super) fn put_data_head(out: &mut BytesMut, length: usize) {
    put(out, DATA, u32::try_from(length).expect("a piece is short"));
}

fn put(out: &mut BytesMut, kind: u8, number: u32) {
    out.put_u8(kind);
    out.put_u32(number);
}

/// Cuts one direction into records; sans-I/O. Holds what it is fed, and less than a record's head beside it.
#[derive(Debug, Default)]
pub struct Decoder {
    fed: Bytes,
    head: BytesMut,
    /// Of the DATA record that it is in.
    left: usize,
    is_over: bool,
    is_stopped: bool,
}

impl Decoder {
    /// To be called when all that was fed before has been taken.
    pub fn feed(&mut self, bytes: Bytes) {
        self.fed = bytes;
    }

    /// Whether FIN or RESET was seen.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The next record, or `None` until more is fed.
    ///
    /// # Errors
    /// When the peer broke the protocol.
    pub fn next_record(&mut self) -> Result<Option<Record>, Malformed> {
        loop {
            if self.left > 0 && !self.fed.is_empty() {
                let bytes = self.fed.split_to(self.left.min(self.fed.len()));
                self.left -= bytes.len();
                return Ok(Some(Record::Data(bytes)));
            }
            let Some(kind) =
                self.head.first().or_else(|| self.fed.first()).copied().filter(|_| self.left == 0)
            else {
                return Ok(None);
            };
            let length = if kind == FIN { 1 } else { HEAD_BYTES };
            let missing = (length - self.head.len()).min(self.fed.len());
            self.head.put_slice(&self.fed.split_to(missing));
            if self.head.len() < length {
                return Ok(None);
            }
            let mut head = self.head.split();
            head.advance(1);
            let number = head.try_get_u32().unwrap_or(0);
            match kind {
                DATA => self.begin(number)?,
                FIN => return self.end(Record::Fin),
                RESET => return self.end(Record::Reset(number)),
                STOP if std::mem::replace(&mut self.is_stopped, true) => {
                    return Err(Malformed("a second STOP"));
                }
                STOP => return Ok(Some(Record::Stop(number))),
                _ => return Err(Malformed("a record of no kind")),
            }
        }
    }

    fn begin(&mut self, length: u32) -> Result<(), Malformed> {
        if self.is_over {
            return Err(Malformed("DATA behind the end"));
        }
        if length == 0 || length > MAX_DATA_BYTES {
            return Err(Malformed("DATA of a length that nobody sends"));
        }
        self.left = usize::try_from(length).map_err(|_| Malformed("DATA of a length that nobody sends"))?;
        Ok(())
    }

    fn end(&mut self, record: Record) -> Result<Option<Record>, Malformed> {
        if std::mem::replace(&mut self.is_over, true) {
            return Err(Malformed("a second end"));
        }
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes out, the parts of DATA joined.
    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Record>, Malformed> {
        let (mut decoder, mut records) = (Decoder::default(), Vec::<Record>::new());
        for piece in pieces {
            decoder.feed(Bytes::copy_from_slice(piece));
            while let Some(record) = decoder.next_record()? {
                match (records.last_mut(), record) {
                    (Some(Record::Data(before)), Record::Data(more)) => {
                        *before = [&before[..], &more[..]].concat().into();
                    }
                    (_, record) => records.push(record),
                }
            }
        }
        Ok(records)
    }

    #[test]
    fn what_nobody_sends_is_refused() {
        for bad in [
            &[4, 0, 0, 0, 0][..],
            &[0, 0, 0, 0, 0],
            &[0, 0xff, 0, 0, 0],
            &[1, 1],
            &[1, 0, 0, 0, 0, 1],
            &[3, 0, 0, 0, 1, 3, 0, 0, 0, 1],
        ] {
            assert!(decode([bad]).is_err(), "{bad:?}");
        }
        assert_eq!(decode([&[1, 3, 0, 0, 0, 9][..]]), Ok(vec![Record::Fin, Record::Stop(9)]));
    }

    proptest! {
        #[test]
        fn records_survive_the_wire_cut_anywhere(
            bytes in proptest::collection::vec(any::<u8>(), 1..300), stop in any::<bool>(), code in any::<u32>(),
            step in 1_usize..20
        ) {
            let mut records = vec![Record::Data(bytes.into())];
            records.extend(stop.then_some(Record::Stop(code)));
            records.push(if stop { Record::Reset(code) } else { Record::Fin });
            let mut out = BytesMut::new();
            records.iter().for_each(|record| record.encode(&mut out));
            prop_assert_eq!(decode([&out[..]]), Ok(records.clone()));
            prop_assert_eq!(decode(out.chunks(step)), Ok(records));
        }

        #[test]
        fn any_bytes_are_records_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), step in 1_usize..20) {
            prop_assert_eq!(decode([&bytes[..]]), decode(bytes.chunks(step)));
        }
    }
}

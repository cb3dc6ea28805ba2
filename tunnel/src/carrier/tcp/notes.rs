//! What the two ends tell each other of the connection itself, in the DATA of a stream of its own. It is the first that the edge
//! opens, and it ends with the connection.
//!
//! ```text
//! PING  0x00  number: u32                              to be answered
//! PONG  0x01  number: u32
//! CLOSE 0x02  code: u32, length: u32, reason           the connection ends here
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::records::Malformed;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    Ping(u32),
    Pong(u32),
    Close(u32, String),
}

/// A reason is a sentence for people.
const MAX_REASON_BYTES: usize = 4096;

const PING: u8 = 0;
const PONG: u8 = 1;
const CLOSE: u8 = 2;

impl Note {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Ping(number) => {
                out.put_u8(PING);
                out.put_u32(*number);
            }
            Self::Pong(number) => {
                out.put_u8(PONG);
                out.put_u32(*number);
            }
            Self::Close(code, reason) => {
                let mut end = reason.len().min(MAX_REASON_BYTES);
                while !reason.is_char_boundary(end) {
                    end -= 1;
                }
                out.put_u8(CLOSE);
                out.put_u32(*code);
                out.put_u32(u32::try_from(end).unwrap_or(0));
                out.put_slice(&reason.as_bytes()[..end]);
            }
        }
        out.freeze()
    }
}

/// Cuts the stream into notes; sans-I/O.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next note, or `None` until more is fed.
    ///
    /// # Errors
    /// When the peer broke the protocol.
    pub fn next_note(&mut self) -> Result<Option<Note>, Malformed> {
        let mut rest = &self.buffer[..];
        let Some((kind, number)) = rest.try_get_u8().ok().zip(rest.try_get_u32().ok()) else {
            return Ok(None);
        };
        let note = match kind {
            PING => Note::Ping(number),
            PONG => Note::Pong(number),
            CLOSE => {
                let Ok(length) = rest.try_get_u32() else { return Ok(None) };
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > MAX_REASON_BYTES {
                    return Err(Malformed("a reason too long to be one"));
                }
                let Some((reason, after)) = rest.split_at_checked(length) else { return Ok(None) };
                rest = after;
                Note::Close(number, String::from_utf8_lossy(reason).into_owned())
            }
            _ => return Err(Malformed("a note of no kind")),
        };
        self.buffer.advance(self.buffer.len() - rest.len());
        Ok(Some(note))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Note>, Malformed> {
        let (mut decoder, mut notes) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.feed(piece);
            while let Some(note) = decoder.next_note()? {
                notes.push(note);
            }
        }
        Ok(notes)
    }

    #[test]
    fn a_reason_is_cut_where_a_letter_ends() {
        let note = Note::Close(7, "ü".repeat(MAX_REASON_BYTES));
        let Ok([Note::Close(7, reason)]) =
            decode([&note.encode()[..]]).as_deref().map(|notes| <&[_; 1]>::try_from(notes).unwrap()).cloned()
        else {
            panic!("one note")
        };
        assert_eq!(reason, "ü".repeat(MAX_REASON_BYTES / 2));
    }

    proptest! {
        #[test]
        fn notes_survive_the_wire_cut_anywhere(number in any::<u32>(), reason in ".{0,40}", step in 1_usize..20) {
            let notes = vec![Note::Ping(number), Note::Close(number, reason), Note::Pong(number)];
            let wire: Vec<u8> = notes.iter().flat_map(Note::encode).collect();
            prop_assert_eq!(decode([&wire[..]]), Ok(notes.clone()));
            prop_assert_eq!(decode(wire.chunks(step)), Ok(notes));
        }

        #[test]
        fn any_bytes_are_notes_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), step in 1_usize..20) {
            prop_assert_eq!(decode([&bytes[..]]), decode(bytes.chunks(step)));
        }
    }
}

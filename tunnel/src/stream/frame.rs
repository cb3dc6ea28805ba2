//! Frames of a request stream: a sans-I/O decoder that turns chunks of bytes, cut anywhere, into frames.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::wire::{peek_varint, put_varint};
use crate::limits::{MAX_DATA_BYTES, MAX_HEAD_BYTES, MAX_TRAILER_BYTES};

pub use super::wire::Malformed;

/// The body part of a stream, as the receiver sees it: `Data* Trailers? End`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Data(Bytes),
    Trailers(HeaderMap),
    /// The message is whole.
    End,
}

/// The number of a frame's type on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameType {
    Request = 0x01,
    Response = 0x02,
    Interim = 0x03,
    Data = 0x04,
    Trailers = 0x05,
    End = 0x06,
    /// The opening of a stream that carries no request.
    Open = 0x07,
}

/// Types from here on are skipped by a receiver that does not know them; unknown ones below are an error.
const FIRST_OPTIONAL: u8 = 0x40;

/// What the decoder found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole payload of any type but DATA and END.
    Block(FrameType, Bytes),
    /// Some bytes of a DATA frame; its frame may bring more.
    Data(Bytes),
    End,
}

/// Cuts a stream into [`Event`]s. Holds at most one head and what was fed to it.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes not looked at yet, in order.
    input: VecDeque<Bytes>,
    /// Sum of the lengths in `input`.
    buffered: usize,
    state: State,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    /// Between frames.
    #[default]
    Header,
    /// Inside a frame whose payload is needed whole.
    Block(FrameType, usize),
    /// Inside a DATA frame, with so many bytes to come.
    Data(u64),
    /// Inside a frame of an unknown optional type.
    Skip(usize),
    /// END was seen: nothing may follow but FIN.
    Ended,
}

impl Decoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes in the order of their arrival.
    pub fn feed(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.buffered += bytes.len();
            self.input.push_back(bytes);
        }
    }

    /// The next event, or `None` until more bytes are fed.
    ///
    /// # Errors
    /// On an unknown type, a length above its limit, or bytes after END. The stream is lost, its session is not.
    pub fn next_event(&mut self) -> Result<Option<Event>, Malformed> {
        loop {
            match self.state {
                State::Header => match self.header()? {
                    Some(state) => self.state = state,
                    None => return Ok(None),
                },
                State::Block(FrameType::End, 0) => {
                    self.state = State::Ended;
                    return Ok(Some(Event::End));
                }
                State::Block(kind, length) => {
                    let Some(payload) = self.take(length) else { return Ok(None) };
                    self.state = State::Header;
                    return Ok(Some(Event::Block(kind, payload)));
                }
                State::Data(0) => self.state = State::Header,
                State::Data(left) => {
                    let Some(bytes) = self.take_some(usize::try_from(left).unwrap_or(usize::MAX)) else {
                        return Ok(None);
                    };
                    self.state = State::Data(left - bytes.len() as u64);
                    return Ok(Some(Event::Data(bytes)));
                }
                State::Skip(length) => {
                    if self.take(length).is_none() {
                        return Ok(None);
                    }
                    self.state = State::Header;
                }
                State::Ended if self.buffered > 0 => return Err(Malformed("bytes after END")),
                State::Ended => return Ok(None),
            }
        }
    }

    /// Whether END has been seen: only then is a FIN a clean end.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// What was fed and not handed out, in bytes.
    pub(crate) fn buffered(&self) -> usize {
        self.buffered
    }

    /// What was fed and not handed out: the first raw bytes after a switch of protocols.
    pub fn into_rest(self) -> VecDeque<Bytes> {
        self.input
    }

    fn header(&mut self) -> Result<Option<State>, Malformed> {
        // A frame header is at most nine bytes; they may lie in several chunks.
        let mut head = [0_u8; 9];
        let mut have = 0;
        for chunk in &self.input {
            let n = chunk.len().min(head.len() - have);
            head[have..have + n].copy_from_slice(&chunk[..n]);
            have += n;
            if have == head.len() {
                break;
            }
        }
        let Some((&kind, rest)) = head[..have].split_first() else { return Ok(None) };
        let Some((length, used)) = peek_varint(rest) else { return Ok(None) };
        let state = match kind {
            0x01 => State::Block(FrameType::Request, bounded(length, MAX_HEAD_BYTES)?),
            0x02 => State::Block(FrameType::Response, bounded(length, MAX_HEAD_BYTES)?),
            0x03 => State::Block(FrameType::Interim, bounded(length, MAX_HEAD_BYTES)?),
            0x04 if length <= MAX_DATA_BYTES => State::Data(length),
            0x05 => State::Block(FrameType::Trailers, bounded(length, MAX_TRAILER_BYTES)?),
            0x06 => State::Block(FrameType::End, bounded(length, 0)?),
            0x07 => State::Block(FrameType::Open, bounded(length, MAX_HEAD_BYTES)?),
            FIRST_OPTIONAL.. => State::Skip(bounded(length, MAX_HEAD_BYTES)?),
            _ => return Err(Malformed("unknown frame type or length")),
        };
        self.discard(1 + used);
        Ok(Some(state))
    }

    /// Exactly `length` bytes, without a copy when one chunk holds them.
    fn take(&mut self, length: usize) -> Option<Bytes> {
        if self.buffered < length {
            return None;
        }
        match self.input.front() {
            Some(first) if first.len() < length => {
                let mut whole = BytesMut::with_capacity(length);
                while whole.len() < length {
                    let part = self.take_some(length - whole.len()).expect("enough is buffered");
                    whole.extend_from_slice(&part);
                }
                Some(whole.freeze())
            }
            Some(_) => self.take_some(length).or(Some(Bytes::new())),
            None => Some(Bytes::new()),
        }
    }

    /// At most `limit` bytes of the first chunk.
    fn take_some(&mut self, limit: usize) -> Option<Bytes> {
        let first = self.input.front_mut()?;
        if limit == 0 {
            return None;
        }
        let bytes = if first.len() <= limit {
            self.input.pop_front().expect("there is a first chunk")
        } else {
            first.split_to(limit)
        };
        self.buffered -= bytes.len();
        Some(bytes)
    }

    fn discard(&mut self, mut count: usize) {
        self.buffered -= count;
        while count > 0 {
            let first = self.input.front_mut().expect("counted bytes are buffered");
            let n = first.len().min(count);
            first.advance(n);
            count -= n;
            if first.is_empty() {
                self.input.pop_front();
            }
        }
    }
}

fn bounded(length: u64, limit: usize) -> Result<usize, Malformed> {
    match usize::try_from(length) {
        Ok(length) if length <= limit => Ok(length),
        _ => Err(Malformed("a frame is longer than its type allows")),
    }
}

/// Writes a frame header.
pub(crate) fn put_header(out: &mut BytesMut, kind: FrameType, length: u64) {
    out.extend_from_slice(&[kind as u8]);
    put_varint(out, length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(out: &mut BytesMut, kind: FrameType, payload: &[u8]) {
        put_header(out, kind, payload.len() as u64);
        out.extend_from_slice(payload);
    }

    /// Events with neighbouring data joined, so that two ways of cutting can be compared.
    fn decode(chunks: impl IntoIterator<Item = Bytes>) -> Result<Vec<Event>, Malformed> {
        let mut decoder = Decoder::new();
        let mut events: Vec<Event> = Vec::new();
        for chunk in chunks {
            decoder.feed(chunk);
            while let Some(event) = decoder.next_event()? {
                match (events.last_mut(), event) {
                    (Some(Event::Data(last)), Event::Data(more)) => {
                        *last = [last.clone(), more].concat().into()
                    }
                    (_, event) => events.push(event),
                }
            }
        }
        Ok(events)
    }

    proptest! {
        #[test]
        fn cutting_a_stream_anywhere_changes_nothing(
            head in proptest::collection::vec(any::<u8>(), 0..300),
            data in proptest::collection::vec(any::<u8>(), 1..500),
            cuts in proptest::collection::vec(1_usize..40, 1..60),
        ) {
            let mut out = BytesMut::new();
            put(&mut out, FrameType::Response, &head);
            out.extend_from_slice(&[0x41, 3, 1, 2, 3]);
            put(&mut out, FrameType::Data, &data);
            put(&mut out, FrameType::Trailers, &head[..head.len().min(20)]);
            put(&mut out, FrameType::End, &[]);
            let whole = out.freeze();
            let mut pieces = Vec::new();
            let mut rest = whole.clone();
            let mut cut = cuts.iter().cycle();
            while !rest.is_empty() {
                pieces.push(rest.split_to((*cut.next().unwrap()).min(rest.len())));
            }
            let expected = vec![
                Event::Block(FrameType::Response, head.clone().into()),
                Event::Data(data.into()),
                Event::Block(FrameType::Trailers, head[..head.len().min(20)].to_vec().into()),
                Event::End,
            ];
            prop_assert_eq!(&decode([whole]).unwrap(), &expected);
            prop_assert_eq!(&decode(pieces).unwrap(), &expected);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode([Bytes::from(bytes)]);
        }
    }

    #[test]
    fn lengths_above_their_limit_and_bytes_after_the_end_are_refused() {
        assert!(decode([Bytes::from_static(&[0x01, 0x80, 0xff, 0xff, 0xff])]).is_err());
        assert!(decode([Bytes::from_static(&[0x06, 0x01, 0x00])]).is_err());
        assert!(decode([Bytes::from_static(&[0x06, 0x00, 0x04])]).is_err());
        assert!(decode([Bytes::from_static(&[0x09, 0x00])]).is_err());
    }

    #[test]
    fn a_fin_without_end_is_not_clean() {
        let mut decoder = Decoder::new();
        decoder.feed(Bytes::from_static(&[0x04, 0x02, b'a']));
        assert_eq!(decoder.next_event(), Ok(Some(Event::Data(Bytes::from_static(b"a")))));
        assert!(!decoder.is_ended());
    }
}

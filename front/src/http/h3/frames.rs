//! HTTP/3 frames (RFC 9114 §7), cut out of a stream's bytes as they come. Pure.
//!
//! DATA is handed on as it arrives; what else is known comes whole and is bounded; what is not known is skipped, however
//! long. What may come on which stream, and in which order, is decided here.

use bytes::{Buf, Bytes, BytesMut};

use super::code::{self, Fault};
use super::varint;

/// Which stream it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Request,
    Control,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// An encoded field section. None: it was longer than [`MAX_SECTION_BYTES`] and is skipped.
    Headers(Option<Bytes>),
    /// Some of a DATA frame's bytes; none of one that has none.
    Data(Bytes),
    Settings(Bytes),
    CancelPush(u64),
    GoAway(u64),
    MaxPushId(u64),
    /// One that nobody knows.
    Unknown,
}

/// Cuts one stream.
#[derive(Debug)]
pub struct Frames {
    on: On,
    state: State,
    /// What of a frame's head or payload has come.
    partial: BytesMut,
    /// The first frame was seen.
    has_begun: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    Whole { kind: u64, length: usize },
    Data { left: u64 },
    Skip { left: u64 },
}

/// An encoded field section; decoded it may not be longer either.
pub const MAX_SECTION_BYTES: usize = 64 * 1024;
/// Any other frame that is read whole: 100 settings of the longest kind.
const MAX_CONTROL_BYTES: usize = 2 * 1024;

const DATA: u64 = 0x0;
const HEADERS: u64 = 0x1;
const CANCEL_PUSH: u64 = 0x3;
const SETTINGS: u64 = 0x4;
const PUSH_PROMISE: u64 = 0x5;
const GOAWAY: u64 = 0x7;
const MAX_PUSH_ID: u64 = 0xd;

const UNEXPECTED: Fault = Fault::new(code::FRAME_UNEXPECTED, "a frame that may not come here");

impl Frames {
    pub fn new(on: On) -> Self {
        Self { on, state: State::Head, partial: BytesMut::new(), has_begun: false }
    }

    /// The next frame, or some of it, from the front of `input`. None: more bytes are needed, and all were taken.
    ///
    /// # Errors
    /// When the connection must end.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Frame>, Fault> {
        loop {
            match self.state {
                State::Head => {
                    let Some((kind, length)) = self.head(input) else { return Ok(None) };
                    if let Some(frame) = self.begin(kind, length)? {
                        return Ok(Some(frame));
                    }
                }
                State::Data { left: 0 } | State::Skip { left: 0 } => self.state = State::Head,
                State::Data { left } | State::Skip { left } if !input.is_empty() => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let bytes = input.split_to(taken);
                    let left = left - taken as u64;
                    if let State::Data { .. } = self.state {
                        self.state = State::Data { left };
                        return Ok(Some(Frame::Data(bytes)));
                    }
                    self.state = State::Skip { left };
                }
                State::Whole { kind, length } => {
                    let Some(payload) = self.payload(length, input) else { return Ok(None) };
                    self.state = State::Head;
                    return whole(kind, payload).map(Some);
                }
                State::Data { .. } | State::Skip { .. } => return Ok(None),
            }
        }
    }

    /// Whether the stream may end here.
    pub fn is_between(&self) -> bool {
        let is_head = matches!(self.state, State::Head | State::Data { left: 0 } | State::Skip { left: 0 });
        is_head && self.partial.is_empty()
    }

    /// A frame's kind and length.
    fn head(&mut self, input: &mut Bytes) -> Option<(u64, u64)> {
        loop {
            let mut seen = if self.partial.is_empty() { &input[..] } else { &self.partial[..] };
            let before = seen.len();
            if let (Some(kind), Some(length)) = (varint::take(&mut seen), varint::take(&mut seen)) {
                let taken = before - seen.len();
                if self.partial.is_empty() {
                    input.advance(taken);
                } else {
                    self.partial.clear();
                }
                return Some((kind, length));
            }
            // At most 16 bytes, one by one: it happens where a packet ends within a frame's head.
            let next = input.split_to(input.len().min(1));
            if next.is_empty() {
                return None;
            }
            self.partial.extend_from_slice(&next);
        }
    }

    fn begin(&mut self, kind: u64, length: u64) -> Result<Option<Frame>, Fault> {
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        if self.on == On::Control && (kind == SETTINGS) != is_first {
            return Err(match is_first {
                true => Fault::new(code::MISSING_SETTINGS, "the control stream does not begin with SETTINGS"),
                false => Fault::new(code::FRAME_UNEXPECTED, "a second SETTINGS"),
            });
        }
        let whole = usize::try_from(length).unwrap_or(usize::MAX);
        match (kind, self.on) {
            (DATA, On::Request) => {
                self.state = State::Data { left: length };
                Ok((length == 0).then(|| Frame::Data(Bytes::new())))
            }
            (HEADERS, On::Request) if whole > MAX_SECTION_BYTES => {
                self.state = State::Skip { left: length };
                Ok(Some(Frame::Headers(None)))
            }
            (HEADERS, On::Request) | (SETTINGS | CANCEL_PUSH | GOAWAY | MAX_PUSH_ID, On::Control) => {
                if kind != HEADERS && whole > MAX_CONTROL_BYTES {
                    return Err(Fault::new(code::EXCESSIVE_LOAD, "a control frame that is too long"));
                }
                self.state = State::Whole { kind, length: whole };
                Ok(None)
            }
            // The last four are HTTP/2's (RFC 9114 §7.2.8).
            (
                DATA | HEADERS | CANCEL_PUSH | SETTINGS | PUSH_PROMISE | GOAWAY | MAX_PUSH_ID | 0x2 | 0x6
                | 0x8 | 0x9,
                _,
            ) => Err(UNEXPECTED),
            _ => {
                self.state = State::Skip { left: length };
                Ok(Some(Frame::Unknown))
            }
        }
    }

    /// All of a payload, without a copy where it is in one piece.
    fn payload(&mut self, length: usize, input: &mut Bytes) -> Option<Bytes> {
        if self.partial.is_empty() && input.len() >= length {
            return Some(input.split_to(length));
        }
        let taken = (length - self.partial.len()).min(input.len());
        self.partial.extend_from_slice(&input.split_to(taken));
        (self.partial.len() == length).then(|| self.partial.split().freeze())
    }
}

fn whole(kind: u64, payload: Bytes) -> Result<Frame, Fault> {
    match kind {
        HEADERS => return Ok(Frame::Headers(Some(payload))),
        SETTINGS => return Ok(Frame::Settings(payload)),
        _ => {}
    }
    let mut rest = &payload[..];
    let id = varint::take(&mut rest).filter(|_| rest.is_empty());
    let id = id.ok_or(Fault::new(code::FRAME_ERROR, "a frame that is not one number"))?;
    Ok(match kind {
        CANCEL_PUSH => Frame::CancelPush(id),
        GOAWAY => Frame::GoAway(id),
        _ => Frame::MaxPushId(id),
    })
}

/// Appends the head of a DATA frame.
pub(super) fn put_data(length: usize, into: &mut Vec<u8>) {
    varint::put(DATA, into);
    varint::put(length as u64, into);
}

/// A HEADERS frame around an encoded section.
pub(super) fn headers(section: &[u8]) -> Bytes {
    framed(HEADERS, section)
}

/// GOAWAY: requests from this stream on are not served.
pub(super) fn go_away(id: u64) -> Bytes {
    let mut payload = Vec::new();
    varint::put(id, &mut payload);
    framed(GOAWAY, &payload)
}

/// A frame that nobody knows (RFC 9114 §7.2.8): a sign of life.
pub(super) fn reserved() -> Bytes {
    framed(0x21, &[])
}

pub(super) fn settings(pairs: &[(u64, u64)]) -> Bytes {
    let mut payload = Vec::new();
    for (name, value) in pairs {
        varint::put(*name, &mut payload);
        varint::put(*value, &mut payload);
    }
    framed(SETTINGS, &payload)
}

fn framed(kind: u64, payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(payload.len() + 8);
    varint::put(kind, &mut frame);
    varint::put(payload.len() as u64, &mut frame);
    frame.extend_from_slice(payload);
    frame.into()
}

#[cfg(test)]
mod tests;

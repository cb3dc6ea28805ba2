//! What has come of a stream, and in which order it may come. No I/O.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::frame::{Decoder, Event, Frame, FrameType};
use super::head::{ResponseHead, decode_interim, decode_trailers};
use super::wire::{Malformed, Reader};
use crate::limits::MAX_INTERIM;
use crate::opening::Opening;

/// One step of an answer's heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseEvent {
    Interim(StatusCode, HeaderMap),
    Final(ResponseHead),
}

/// Each method gives the next message of its kind, or `None` until more bytes are fed.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    decoder: Decoder,
    stage: Stage,
}

/// Which frames may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A head; so many interim answers were seen.
    Head(usize),
    Body,
    /// Trailers were seen: only END may follow.
    Trailers,
    /// END was seen.
    Over,
}

impl Default for Stage {
    fn default() -> Self {
        Self::Head(0)
    }
}

impl Incoming {
    pub(super) fn feed(&mut self, bytes: Bytes) {
        self.decoder.feed(bytes);
    }

    /// What the stream is for, and how much may be answered before more is granted.
    ///
    /// # Errors
    /// When the first message is none, or cannot be read.
    pub(super) fn opening(&mut self) -> Result<Option<(Opening, u64)>, Malformed> {
        match (self.stage, self.decoder.next_event()?) {
            (_, None) => Ok(None),
            (Stage::Head(0), Some(Event::Block(frame @ (FrameType::Request | FrameType::Open), payload))) => {
                self.stage = Stage::Body;
                let mut reader = Reader::new(payload);
                let answer_window = reader.varint()?;
                let opening = Opening::decode(frame, reader.into_rest())?;
                Ok(Some((opening, answer_window)))
            }
            _ => Err(Malformed("a stream does not begin with an opening")),
        }
    }

    /// # Errors
    /// When something else comes, too many interim answers, or what cannot be read.
    pub(super) fn response(&mut self) -> Result<Option<ResponseEvent>, Malformed> {
        match (self.stage, self.decoder.next_event()?) {
            (_, None) => Ok(None),
            (Stage::Head(seen), Some(Event::Block(FrameType::Interim, payload))) if seen < MAX_INTERIM => {
                self.stage = Stage::Head(seen + 1);
                let (status, headers) = decode_interim(payload)?;
                Ok(Some(ResponseEvent::Interim(status, headers)))
            }
            (Stage::Head(_), Some(Event::Block(FrameType::Response, payload))) => {
                self.stage = Stage::Body;
                ResponseHead::decode(payload).map(ResponseEvent::Final).map(Some)
            }
            _ => Err(Malformed("not an answer's head, or too many interim ones")),
        }
    }

    /// # Errors
    /// When frames come out of their order, or cannot be read.
    pub(super) fn frame(&mut self) -> Result<Option<Frame>, Malformed> {
        match (self.stage, self.decoder.next_event()?) {
            (_, None) => Ok(None),
            (Stage::Body, Some(Event::Data(bytes))) => Ok(Some(Frame::Data(bytes))),
            (Stage::Body, Some(Event::Block(FrameType::Trailers, payload))) => {
                self.stage = Stage::Trailers;
                decode_trailers(payload).map(Frame::Trailers).map(Some)
            }
            (Stage::Body | Stage::Trailers, Some(Event::End)) => {
                self.stage = Stage::Over;
                Ok(Some(Frame::End))
            }
            _ => Err(Malformed("frames out of order")),
        }
    }

    /// Whether END has been seen.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// What was fed and not handed out, in bytes.
    pub(super) fn buffered(&self) -> usize {
        self.decoder.buffered()
    }

    /// What was fed and not handed out: the first raw bytes after a switch of protocols.
    pub(super) fn into_rest(self) -> VecDeque<Bytes> {
        self.decoder.into_rest()
    }
}

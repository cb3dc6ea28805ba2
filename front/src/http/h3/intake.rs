//! What a visitor sends on one stream: a head, a body as long as the head says, trailers, and the end. Whatever is
//! otherwise breaks the stream, or the whole connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use causeway_tunnel::guest::Receiver;
use http::HeaderMap;
use tokio::time::Instant;

use super::code::{self, Fault};
use super::frames::{Frame, Frames, On};
use super::head::{self, HeadError};
use super::limits::TAKEN_IN_BYTES;
use super::qpack::SectionError;
use super::responder::Responder;
use super::shared::Shared;

#[derive(Debug)]
pub(super) enum Event {
    /// The head's section. None: it is too long.
    Head(Option<Bytes>),
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

/// Why there will be no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Gone,
    Malformed(&'static str),
}

pub(super) struct Intake {
    id: u64,
    recv: Receiver,
    frames: Frames,
    /// Read and not cut into frames, in order: `input` is first.
    input: Bytes,
    came: VecDeque<Bytes>,
    /// The carrier has no more.
    is_read: bool,
    phase: Phase,
    /// What of the declared length is to come.
    left: Option<u64>,
    trailers: Option<HeaderMap>,
    /// Taken in ahead of whoever wants it, and what that weighs.
    ahead: VecDeque<Event>,
    weight: usize,
    cut: Option<Cut>,
    responder: Arc<Responder>,
    shared: Arc<Shared>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    Body,
    Trailers,
    Over,
}

/// What an event costs beyond its bytes.
const EVENT_BYTES: usize = 64;
const UNEXPECTED: Fault = Fault::new(code::FRAME_UNEXPECTED, "a frame out of its order");

impl Intake {
    pub(super) fn new(id: u64, recv: Receiver, responder: Arc<Responder>, shared: Arc<Shared>) -> Self {
        Self {
            id,
            recv,
            frames: Frames::new(On::Request),
            input: Bytes::new(),
            came: VecDeque::new(),
            is_read: false,
            phase: Phase::Head,
            left: None,
            trailers: None,
            ahead: VecDeque::new(),
            weight: 0,
            cut: None,
            responder,
            shared,
        }
    }

    /// How long the body is to be.
    pub(super) fn declare(&mut self, length: Option<u64>) {
        self.left = length;
    }

    /// What comes next; behind the end, the end again.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Cut>> {
        let event = match self.ahead.pop_front() {
            Some(event) => {
                self.weight -= weight(&event);
                Poll::Ready(Ok(event))
            }
            None => self.poll_fresh(cx),
        };
        if self.phase == Phase::Body {
            match &event {
                Poll::Ready(Ok(Event::Data(_))) => self.shared.upload(self.id, Some(Instant::now())),
                Poll::Pending => self.shared.upload(self.id, None),
                Poll::Ready(_) => {}
            }
        }
        event
    }

    /// Takes in what has come. To be polled while nobody wants it; the waker is told of more.
    pub(super) fn take_in(&mut self, cx: &mut Context<'_>) {
        while self.weight < TAKEN_IN_BYTES && self.phase != Phase::Over && self.cut.is_none() {
            match self.poll_fresh(cx) {
                Poll::Ready(Ok(event)) => {
                    self.weight += weight(&event);
                    self.ahead.push_back(event);
                }
                Poll::Ready(Err(_)) | Poll::Pending => return,
            }
        }
    }

    /// Ready when the visitor broke off, ahead of what was taken in before; else as [`Intake::take_in`].
    pub(super) fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Cut> {
        self.take_in(cx);
        self.cut.map_or(Poll::Pending, Poll::Ready)
    }

    /// Whether anything has come behind the head, the end included.
    pub(super) fn has_started(&mut self, cx: &mut Context<'_>) -> bool {
        self.take_in(cx);
        !self.ahead.is_empty() || self.phase == Phase::Over || self.cut.is_some()
    }

    /// Whether all there is was handed on.
    pub(super) fn is_end(&self) -> bool {
        self.phase == Phase::Over && self.ahead.iter().all(|event| matches!(event, Event::End))
    }

    fn poll_fresh(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Cut>> {
        loop {
            if let Some(cut) = self.cut {
                return Poll::Ready(Err(cut));
            }
            if self.phase == Phase::Over {
                return Poll::Ready(Ok(Event::End));
            }
            if self.input.is_empty() {
                self.input = self.came.pop_front().unwrap_or_default();
            }
            let step = match self.frames.next(&mut self.input) {
                Ok(Some(frame)) => self.frame(frame),
                Ok(None) if !self.came.is_empty() => continue,
                Ok(None) if self.is_read => self.end().map(Some),
                Ok(None) => {
                    let came = &mut self.came;
                    match self.recv.poll_read(cx, |chunk| came.push_back(chunk)) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Ok(has_more)) => self.is_read = !has_more,
                        Poll::Ready(Err(_)) => {
                            self.is_read = true;
                            self.cut = Some(Cut::Gone);
                        }
                    }
                    continue;
                }
                Err(fault) => Err(self.broke(fault)),
            };
            match step {
                Ok(Some(event)) => return Poll::Ready(Ok(event)),
                Ok(None) => {}
                Err(cut) => self.cut = Some(cut),
            }
        }
    }

    fn frame(&mut self, frame: Frame) -> Result<Option<Event>, Cut> {
        match (frame, self.phase) {
            (Frame::Headers(section), Phase::Head) => {
                self.phase = Phase::Body;
                Ok(Some(Event::Head(section)))
            }
            (Frame::Headers(section), Phase::Body) => {
                let section = section.ok_or_else(|| self.malformed("trailers that are too long"))?;
                self.trailers = match head::trailers(&section) {
                    Ok(trailers) => Some(trailers),
                    Err(HeadError::Section(SectionError::Malformed)) => return Err(self.broke(UNDECODABLE)),
                    Err(_) => return Err(self.malformed("trailers")),
                };
                self.phase = Phase::Trailers;
                Ok(None)
            }
            (Frame::Data(bytes), Phase::Body) if bytes.is_empty() => {
                self.shared.cheap();
                Ok(None)
            }
            (Frame::Data(bytes), Phase::Body) => {
                if let Some(left) = &mut self.left {
                    match left.checked_sub(bytes.len() as u64) {
                        Some(less) => *left = less,
                        None => return Err(self.malformed("a body that is longer than declared")),
                    }
                }
                self.shared.moved(bytes.len());
                Ok(Some(Event::Data(bytes)))
            }
            (Frame::Unknown, _) => {
                self.shared.cheap();
                Ok(None)
            }
            _ => Err(self.broke(UNEXPECTED)),
        }
    }

    /// The visitor says that this is all.
    fn end(&mut self) -> Result<Event, Cut> {
        if !self.frames.is_between() {
            return Err(self.broke(Fault::new(code::FRAME_ERROR, "a stream that ends within a frame")));
        }
        if self.phase == Phase::Head {
            self.responder.reset(code::REQUEST_INCOMPLETE);
            return Err(Cut::Malformed("no head"));
        }
        if self.left.is_some_and(|left| left > 0) {
            return Err(self.malformed("a body that is shorter than declared"));
        }
        self.phase = Phase::Over;
        // Behind trailers the end comes when it is asked for.
        Ok(self.trailers.take().map_or(Event::End, Event::Trailers))
    }

    /// The message is malformed: its stream ends.
    fn malformed(&mut self, reason: &'static str) -> Cut {
        self.recv.stop(code::MESSAGE_ERROR);
        self.responder.reset(code::MESSAGE_ERROR);
        Cut::Malformed(reason)
    }

    fn broke(&mut self, fault: Fault) -> Cut {
        self.shared.fail(fault);
        self.responder.reset(fault.code);
        Cut::Malformed(fault.reason)
    }

    /// Gives up reading.
    pub(super) fn stop(&mut self, code: u32) {
        if !self.is_read {
            self.is_read = true;
            self.recv.stop(code);
        }
    }
}

/// The section's format was broken.
pub(super) const UNDECODABLE: Fault =
    Fault::new(code::DECOMPRESSION_FAILED, "a field section that cannot be decoded");

impl Drop for Intake {
    fn drop(&mut self) {
        self.shared.upload_over(self.id);
        // Nobody wants the rest: a complete answer is one all the same (RFC 9114 §4.1).
        self.stop(code::NO_ERROR);
    }
}

fn weight(event: &Event) -> usize {
    match event {
        Event::Head(Some(bytes)) | Event::Data(bytes) => bytes.len() + EVENT_BYTES,
        _ => EVENT_BYTES,
    }
}

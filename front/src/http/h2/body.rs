//! A request body as h2 delivers it, and how long it may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use causeway_tunnel::semantics::{asks_for_event_stream, is_long_silent};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use tokio::time::Instant;

use super::super::headers;
use super::super::timing::{Alarm, Limits, Meter};
use super::intake::Intake;
use super::responder::Responder;
use crate::exchange::{Arriving, InError, InterimSink};

pub(super) struct H2Body {
    intake: Intake,
    respond: Arc<Responder>,
    /// 100 has not been said.
    expects: bool,
    clock: Clock,
}

/// Gives up a body that comes too slowly (hazards 107 and 140).
pub(in crate::http) struct Clock {
    pace: Pace,
    limits: Limits,
    /// The answer's head is out.
    is_answered: Arc<AtomicBool>,
    meter: Meter,
    alarm: Alarm,
}

/// What a request's head says of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Pace {
    /// Its length: nobody converses with a file.
    Declared,
    Open,
    /// That it is one side of a conversation: gRPC, or a request for an event stream.
    Conversation,
}

impl Pace {
    pub(in crate::http) fn of(headers: &HeaderMap) -> Self {
        if headers::content_length(headers).is_some() {
            Self::Declared
        } else if is_long_silent(headers) || asks_for_event_stream(headers) {
            Self::Conversation
        } else {
            Self::Open
        }
    }
}

impl Clock {
    pub(in crate::http) fn new(pace: Pace, limits: Limits, is_answered: Arc<AtomicBool>) -> Self {
        Self { pace, limits, is_answered, meter: limits.reading(), alarm: Alarm::default() }
    }

    pub(in crate::http) fn moved(&mut self, bytes: usize) {
        self.meter.moved(bytes);
    }

    /// Nothing has come. Ready when that is so for too long.
    pub(in crate::http) fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline();
        self.alarm.poll(deadline, cx)
    }

    fn deadline(&mut self) -> Instant {
        let pause = match (self.pace, self.is_answered.load(Ordering::Relaxed)) {
            // As over HTTP/1.1.
            (Pace::Declared, _) | (Pace::Open, false) => return self.meter.deadline(),
            // Both sides speak: it may think as long as an answer may.
            (Pace::Open, true) | (Pace::Conversation, false) => self.limits.body_idle,
            // And a call that was taken is like a WebSocket.
            (Pace::Conversation, true) => self.limits.body_idle.max(self.limits.upgraded_idle),
        };
        self.meter.pending_since() + pause
    }
}

impl H2Body {
    pub(super) fn new(intake: Intake, respond: Arc<Responder>, expects: bool, clock: Clock) -> Self {
        Self { intake, respond, expects, clock }
    }
}

impl Arriving for H2Body {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, InError>>> {
        let Poll::Ready(data) = self.intake.poll_data(cx) else {
            ready!(self.clock.poll_slow(cx));
            return Poll::Ready(Some(Err(InError::Slow)));
        };
        match data {
            Some(Ok(data)) => {
                self.clock.moved(data.len());
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(in_error(&error)))),
            None => Poll::Ready(match ready!(self.intake.poll_trailers(cx)) {
                Ok(None) => None,
                Ok(Some(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Err(error) => Some(Err(in_error(&error))),
            }),
        }
    }

    fn is_end(&self) -> bool {
        self.intake.is_end()
    }

    fn has_started(&mut self, cx: &mut Context<'_>) -> bool {
        self.intake.has_started(cx)
    }

    fn take_in(&mut self, cx: &mut Context<'_>) {
        self.intake.take_in(cx);
    }

    fn go_on(&mut self) {
        if std::mem::take(&mut self.expects) {
            self.respond.interim(StatusCode::CONTINUE, HeaderMap::new());
        }
    }
}

/// A stream that h2 itself reset broke the protocol, for instance by a body that is not as long as declared.
fn in_error(error: &h2::Error) -> InError {
    if error.is_library() { InError::Malformed("HTTP/2 stream error") } else { InError::Gone }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn hazard_140_grpc_and_event_streams_are_known_by_their_head_whatever_its_case() {
        for (fields, pace) in [
            (&[("content-type", "Application/gRPC+proto")][..], Pace::Conversation),
            (&[("content-type", "application/grpc"), ("content-length", "5")], Pace::Declared),
            (&[("accept", "application/json, Text/Event-Stream;q=0.9")], Pace::Conversation),
            (&[("content-type", "application/grpcx"), ("accept", "*/*")], Pace::Open),
            (&[], Pace::Open),
        ] {
            assert_eq!(Pace::of(&headers(fields)), pace, "{fields:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn hazard_107_every_body_has_a_clock_and_a_conversation_a_longer_one() {
        let limits = Limits::default();
        let due = |pace, is_answered: bool| {
            Clock::new(pace, limits, Arc::new(is_answered.into())).deadline() - Instant::now()
        };
        assert_eq!(due(Pace::Declared, true), Duration::from_secs(10));
        assert_eq!(due(Pace::Open, false), Duration::from_secs(10));
        assert_eq!(due(Pace::Open, true), Duration::from_secs(300));
        assert_eq!(due(Pace::Conversation, false), Duration::from_secs(300));
        assert_eq!(due(Pace::Conversation, true), Duration::from_secs(600));
    }
}

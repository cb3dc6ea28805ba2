//! A request body as it comes over HTTP/3, and how long it may take.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Frame;

use super::super::h2::body::Clock;
use super::intake::{Cut, Event, Intake};
use super::responder::Responder;
use crate::exchange::{Arriving, InError, InterimSink};

pub(super) struct H3Body {
    intake: Intake,
    respond: Arc<Responder>,
    /// 100 has not been said.
    expects: bool,
    clock: Clock,
}

impl H3Body {
    pub(super) fn new(intake: Intake, respond: Arc<Responder>, expects: bool, clock: Clock) -> Self {
        Self { intake, respond, expects, clock }
    }
}

impl Arriving for H3Body {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, InError>>> {
        let Poll::Ready(event) = self.intake.poll_event(cx) else {
            ready!(self.clock.poll_slow(cx));
            return Poll::Ready(Some(Err(InError::Slow)));
        };
        Poll::Ready(match event {
            Ok(Event::Data(data)) => {
                self.clock.moved(data.len());
                Some(Ok(Frame::data(data)))
            }
            Ok(Event::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            // A head comes first alone.
            Ok(Event::End | Event::Head(_)) => None,
            Err(Cut::Gone) => Some(Err(InError::Gone)),
            Err(Cut::Malformed(reason)) => Some(Err(InError::Malformed(reason))),
        })
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

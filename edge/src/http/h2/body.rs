//! A request body as h2 delivers it.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, StatusCode};
use http_body::Frame;

use super::intake::Intake;
use super::pace::Clock;
use super::responder::Responder;
use crate::exchange::{Arriving, InError, InterimSink};

pub(super) struct H2Body {
    intake: Intake,
    respond: Arc<Responder>,
    /// 100 has not been said.
    expects: bool,
    clock: Clock,
}

impl H2Body {
    pub(super) fn new(recv: RecvStream, respond: Arc<Responder>, expects: bool, clock: Clock) -> Self {
        Self { intake: Intake::new(recv), respond, expects, clock }
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

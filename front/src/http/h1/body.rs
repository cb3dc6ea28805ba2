//! The request body as hyper reads it.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;

use super::super::guard::Turn;
use crate::exchange::{Arriving, InError};

pub(super) struct H1Body {
    incoming: Incoming,
    turn: Turn,
    ended: bool,
}

impl H1Body {
    pub(super) fn new(incoming: Incoming, turn: Turn) -> Self {
        Self { incoming, turn, ended: false }
    }
}

impl Arriving for H1Body {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, InError>>> {
        let poll = Pin::new(&mut self.incoming).poll_frame(cx).map_err(|error| in_error(&error));
        self.ended |= matches!(poll, Poll::Ready(None)) || self.incoming.is_end_stream();
        poll
    }

    fn is_end(&self) -> bool {
        self.incoming.is_end_stream()
    }
}

impl Drop for H1Body {
    fn drop(&mut self) {
        if !self.ended {
            self.turn.abandon_body();
        }
    }
}

/// Why the guard failed the read on which hyper's body broke; without that it is the connection that broke.
fn in_error(error: &hyper::Error) -> InError {
    let guards = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()?.get_ref());
    guards.and_then(|cause| cause.downcast_ref().copied()).unwrap_or(InError::Gone)
}

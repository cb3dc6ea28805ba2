//! The visitor's windows: how much of a stream it lets us send.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;

use crate::exchange::Abort;

/// How many of `wanted` bytes the visitor's windows let us send; at least one.
pub(super) fn poll_capacity(
    send: &mut SendStream<Bytes>,
    wanted: usize,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, Abort>> {
    send.reserve_capacity(wanted);
    loop {
        let capacity = send.capacity().min(wanted);
        if capacity > 0 {
            return Poll::Ready(Ok(capacity));
        }
        match ready!(send.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(gone(error))),
            None => return Poll::Ready(Err(Abort::new("the visitor closed the stream"))),
        }
    }
}

pub(super) fn gone(error: h2::Error) -> Abort {
    Abort::new(format!("the visitor reset the stream: {error}"))
}

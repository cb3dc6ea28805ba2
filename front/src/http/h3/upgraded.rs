//! A stream after an extended CONNECT was granted (RFC 9220): its DATA frames are the raw bytes.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::code;
use super::intake::{Cut, Event, Intake};
use super::responder::Responder;
use crate::exchange::{Abort, RawHalves, RawSink, RawSource};

/// Ready once the response head was sent.
pub(super) async fn halves(
    intake: Intake,
    responder: Arc<Responder>,
    granted: oneshot::Receiver<()>,
) -> Result<RawHalves, Abort> {
    granted.await.map_err(|_| Abort::new("the visitor went away before the upgrade"))?;
    Ok((Box::new(intake), Box::new(Raw(responder))))
}

impl RawSource for Intake {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Abort>> {
        Poll::Ready(match ready!(self.poll_event(cx)) {
            Ok(Event::Data(bytes)) => Ok(Some(bytes)),
            Ok(_) => Ok(None),
            Err(cut) => Err(broke_off(cut)),
        })
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Abort> {
        self.poll_cut(cx).map(broke_off)
    }
}

/// Where raw bytes go. Dropped, it breaks off, unless it was finished.
struct Raw(Arc<Responder>);

/// At once, so that what waits for a slow visitor is little.
const PIECE_BYTES: usize = 16 * 1024;

impl RawSink for Raw {
    fn poll_write(&mut self, bytes: &mut Bytes, cx: &mut Context<'_>) -> Poll<Result<usize, Abort>> {
        // What was taken before goes out first.
        ready!(self.0.poll_flush(&mut 0, cx))?;
        let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
        let length = piece.len();
        self.0.data(piece);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Abort>> {
        self.0.poll_flush(&mut 0, cx)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Abort>> {
        ready!(self.0.poll_flush(&mut 0, cx))?;
        self.0.finish();
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {
        self.0.reset(code::REQUEST_CANCELLED);
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.0.reset(code::REQUEST_CANCELLED);
    }
}

fn broke_off(cut: Cut) -> Abort {
    match cut {
        Cut::Gone => Abort::new("the visitor broke off"),
        Cut::Malformed(reason) => Abort::new(reason),
    }
}

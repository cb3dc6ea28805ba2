//! A stream after an extended CONNECT was granted (RFC 8441): its DATA frames are the raw bytes.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use tokio::sync::oneshot;

use super::intake::Intake;
use super::sending::{gone, poll_capacity};
use crate::exchange::{Abort, RawHalves, RawSink, RawSource};

/// The sending half exists only once the response head was sent.
pub(super) async fn halves(
    intake: Intake,
    granted: oneshot::Receiver<SendStream<Bytes>>,
) -> Result<RawHalves, Abort> {
    let send = granted.await.map_err(|_| Abort::new("the visitor went away before the upgrade"))?;
    Ok((Box::new(intake), Box::new(send)))
}

impl RawSource for Intake {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Abort>> {
        self.poll_data(cx).map(|data| data.transpose().map_err(gone))
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Abort> {
        self.poll_error(cx).map(gone)
    }
}

impl RawSink for SendStream<Bytes> {
    fn poll_write(&mut self, bytes: &mut Bytes, cx: &mut Context<'_>) -> Poll<Result<usize, Abort>> {
        let capacity = ready!(poll_capacity(self, bytes.len(), cx))?;
        self.send_data(bytes.split_to(capacity), false).map_err(gone)?;
        Poll::Ready(Ok(capacity))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Abort>> {
        // The connection's task writes what it was handed.
        Poll::Ready(Ok(()))
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Abort>> {
        Poll::Ready(self.send_data(Bytes::new(), true).map_err(gone))
    }

    fn abort(&mut self) {
        self.send_reset(Reason::CANCEL);
    }
}

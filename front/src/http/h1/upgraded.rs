//! A connection after its upgrade was granted with 101: what comes on it are the raw bytes.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};

use super::super::guard::SideChannel;
use crate::exchange::{Abort, RawHalves, RawSink, RawSource};

/// What one read takes at most.
const READ_BYTES: usize = 16 * 1024;

/// Ready once the response head was sent. The connection's end is a reset until the side says otherwise.
pub(super) async fn halves(on_upgrade: OnUpgrade, side: Arc<SideChannel>) -> Result<RawHalves, Abort> {
    let upgraded = on_upgrade.await.map_err(|_| Abort::new("the visitor went away before the upgrade"))?;
    let (read, write) = tokio::io::split(TokioIo::new(upgraded));
    Ok((Box::new(Reading(read)), Box::new(Writing { write, side })))
}

struct Reading(ReadHalf<TokioIo<Upgraded>>);

impl RawSource for Reading {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Abort>> {
        // On the stack, so that an idle WebSocket holds no buffer.
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut buf = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buf)).map_err(broke)?;
        let bytes = Bytes::copy_from_slice(buf.filled());
        Poll::Ready(Ok(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    fn poll_broken(&mut self, _cx: &mut Context<'_>) -> Poll<Abort> {
        // Only reading tells, and then there would be bytes to keep.
        Poll::Pending
    }
}

struct Writing {
    write: WriteHalf<TokioIo<Upgraded>>,
    side: Arc<SideChannel>,
}

impl RawSink for Writing {
    fn poll_write(&mut self, bytes: &mut Bytes, cx: &mut Context<'_>) -> Poll<Result<usize, Abort>> {
        let written = ready!(Pin::new(&mut self.write).poll_write(cx, bytes)).map_err(broke)?;
        if written == 0 {
            return Poll::Ready(Err(Abort::new("the visitor's connection takes no more bytes")));
        }
        bytes.advance(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Abort>> {
        Pin::new(&mut self.write).poll_flush(cx).map_err(broke)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Abort>> {
        self.side.complete();
        Pin::new(&mut self.write).poll_shutdown(cx).map_err(broke)
    }

    fn abort(&mut self) {
        self.side.reset();
    }
}

fn broke(error: io::Error) -> Abort {
    Abort::new(format!("the visitor's connection broke: {error}"))
}

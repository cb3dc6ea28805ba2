//! A visitor whose TLS ends elsewhere: what he said is given to the core with the rest of his connection, unread.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use causeway_tunnel::{Host, TlsEnd};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::exchange::{Abort, Handler, Passing, RawHalves, RawLimits, RawSink, RawSource, Refused, raw};
use crate::household::Household;
use crate::http::entry::Service;
use crate::http::guard::Transport;
use crate::tls::{Alert, TlsHello};

/// What one read takes at most: a record of TLS in full size.
const READ_BYTES: usize = 16 * 1024 + 512;

/// Serves the connection to its end.
pub(super) async fn serve<H: Handler>(
    stream: TcpStream,
    hello: TlsHello,
    (name, end): (Host, TlsEnd),
    visitor: SocketAddr,
    household: &Arc<Household>,
    service: &Service<H>,
) {
    // Whatever cuts the connection off must not look like its end.
    stream.reset_on_close();
    let (id, record) = match service.pass(visitor, &name, end, household) {
        Ok(admitted) => admitted,
        Err(crowded) => {
            tracing::debug!(%visitor, host = %name, reason = crowded.reason(), "connection refused");
            return;
        }
    };
    let (read, write) = stream.into_split();
    let halves: RawHalves = (Box::new(Reading(read)), Box::new(Writing { half: Some(write) }));
    let (from_visitor, to_visitor) = raw(halves, RawLimits::of(&service.limits), record.clone());
    let hello = Bytes::from(hello.into_bytes());
    let passing = Passing { id, visitor, name, end, hello, from_visitor, to_visitor, record };
    if let Err(Refused { mut to_visitor }) = service.handler.pass(passing).await {
        // He has sent a ClientHello and heard nothing: to this he listens. If he is gone it ends all the same.
        let _ = to_visitor.write(Bytes::copy_from_slice(&Alert::InternalError.record())).await;
        let _ = to_visitor.finish().await;
    }
}

struct Reading(OwnedReadHalf);

impl RawSource for Reading {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Abort>> {
        // On the stack, so that an idle connection holds no buffer.
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
    /// There until it is dropped.
    half: Option<OwnedWriteHalf>,
}

impl Writing {
    fn half(&mut self) -> &mut OwnedWriteHalf {
        self.half.as_mut().expect("it is there until it is dropped")
    }
}

impl RawSink for Writing {
    fn poll_write(&mut self, bytes: &mut Bytes, cx: &mut Context<'_>) -> Poll<Result<usize, Abort>> {
        let written = ready!(Pin::new(self.half()).poll_write(cx, bytes)).map_err(broke)?;
        if written == 0 {
            return Poll::Ready(Err(Abort::new("the visitor's connection takes no more bytes")));
        }
        bytes.advance(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Abort>> {
        // A socket has nothing to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Abort>> {
        let half = self.half();
        let socket: &TcpStream = half.as_ref();
        // From now on the close is the end that it looks like.
        SockRef::from(socket).set_linger(None).map_err(broke)?;
        Pin::new(half).poll_shutdown(cx).map_err(broke)
    }

    fn abort(&mut self) {
        let half = self.half();
        let socket: &TcpStream = half.as_ref();
        socket.reset_on_close();
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // Dropped as it is it would end its direction in good order first, whatever happened.
        if let Some(half) = self.half.take() {
            half.forget();
        }
    }
}

fn broke(error: io::Error) -> Abort {
    Abort::new(format!("the visitor's connection broke: {error}"))
}

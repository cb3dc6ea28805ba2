//! A connect stream as a socket, for those who speak TLS on one.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use causeway_front::http::guard::Transport;
use causeway_tunnel::{AbortCode, RawRecv, RawSend, StreamError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Both directions. Dropped, it ends as a socket does that is closed: in good order, unless it was to be reset.
pub(super) struct Wire {
    send: RawSend,
    recv: RawRecv,
    /// Came, and was not read yet.
    ahead: Bytes,
    resets: AtomicBool,
    is_finished: bool,
}

/// What one write takes at most: a few records of TLS.
const WRITE_BYTES: usize = 64 * 1024;

impl Wire {
    pub(super) fn new(send: RawSend, recv: RawRecv) -> Self {
        Self { send, recv, ahead: Bytes::new(), resets: AtomicBool::new(false), is_finished: false }
    }

    fn finish(&mut self) {
        if std::mem::replace(&mut self.is_finished, true) {
            return;
        }
        if self.resets.load(Ordering::Relaxed) {
            self.send.abort(AbortCode::Cancelled);
        } else {
            self.send.finish();
        }
    }

    fn write(&mut self, bytes: BytesMut, cx: &mut Context<'_>) -> io::Result<()> {
        self.send.give(bytes.freeze());
        match self.send.poll_flush(cx) {
            // It is taken: the next write waits for it.
            Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(error)) => Err(broken(&error)),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            match ready!(self.recv.poll_chunk(cx)).map_err(|error| broken(&error))? {
                Some(bytes) => self.ahead = bytes,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..length]);
        self.ahead.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.send.poll_flush(cx)).map_err(|error| broken(&error))?;
        let taken = &buf[..buf.len().min(WRITE_BYTES)];
        self.write(BytesMut::from(taken), cx)?;
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.send.poll_flush(cx)).map_err(|error| broken(&error))?;
        let whole: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut joined = BytesMut::with_capacity(whole.min(WRITE_BYTES));
        for buf in bufs {
            let room = WRITE_BYTES - joined.len();
            joined.extend_from_slice(&buf[..buf.len().min(room)]);
        }
        let length = joined.len();
        self.write(joined, cx)?;
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send.poll_flush(cx).map_err(|error| broken(&error))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_finished {
            ready!(self.send.poll_flush(cx)).map_err(|error| broken(&error))?;
            self.finish();
        }
        Poll::Ready(Ok(()))
    }
}

impl Transport for Wire {
    fn reset_on_close(&self) {
        self.resets.store(true, Ordering::Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.finish();
    }
}

fn broken(error: &StreamError) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error.to_string())
}

#[cfg(test)]
mod tests {
    use causeway_tunnel::flow::Budget;
    use causeway_tunnel::{ConnectorId, First, Opening, Passage, RequestId, Session, TunnelId};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What the edge holds, and what is held at home.
    async fn joined() -> ((RawSend, RawRecv), Wire) {
        let (opens, accepts) = Session::within(TunnelId::random(), ConnectorId::random(), &Budget::default());
        let (mut send, recv) = opens.open().await.unwrap();
        let passage = Passage {
            request_id: RequestId::random(&mut rand::rng()),
            route: 1,
            visitor: ([192, 0, 2, 1], 1).into(),
            name: "a.example".to_owned(),
        };
        send.open(&Opening::Connect(passage), First::More).await.unwrap();
        let mut there = send.into_raw();
        there.write(Bytes::from_static(b"hello")).await.unwrap();
        let (answers, mut asked) = accepts.accept().await.unwrap();
        asked.opening().await.unwrap();
        ((there, recv.into_raw()), Wire::new(answers.into_raw(), asked.into_raw()))
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_each_direction_ends_for_itself() {
        let ((mut there, mut back), mut wire) = joined().await;
        let mut read = [0; 5];
        wire.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello");
        there.finish();
        assert_eq!(wire.read(&mut read).await.unwrap(), 0);
        wire.write_all(b"answer").await.unwrap();
        drop(wire);
        assert_eq!(back.chunk().await.unwrap().as_deref(), Some(&b"answer"[..]));
        assert_eq!(back.chunk().await.unwrap(), None, "closed as a socket is");
    }

    #[tokio::test]
    async fn hazard_138_what_is_to_be_reset_never_ends_in_good_order() {
        let ((_there, mut back), mut wire) = joined().await;
        wire.write_all(b"half an ans").await.unwrap();
        wire.reset_on_close();
        let _ = wire.shutdown().await;
        drop(wire);
        let end = loop {
            match back.chunk().await {
                Ok(Some(_)) => {}
                end => break end,
            }
        };
        assert!(end.is_err(), "{end:?}");
    }
}

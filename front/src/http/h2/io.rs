//! The transport under an HTTP/2 connection: counts frames, gives up a visitor that takes nothing, and lets the streams
//! have their turn.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use super::flood::FrameBudget;
use super::limits::TURN_BYTES;

pub(super) struct Watched<T> {
    io: T,
    budget: FrameBudget,
    /// Told once when the budget is spent; from then on nothing is read.
    flooded: Arc<Notify>,
    is_flooded: bool,
    /// Read since the task last gave way.
    turn: usize,
    write_idle: Duration,
    stalled_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T> Watched<T> {
    pub(super) fn new(io: T, flooded: Arc<Notify>, write_idle: Duration) -> Self {
        let budget = FrameBudget::new(std::time::Instant::now());
        let timer = None;
        Self { io, budget, flooded, is_flooded: false, turn: 0, write_idle, stalled_since: None, timer }
    }

    /// Fails a write that made no progress for too long.
    fn watch<R>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if poll.is_ready() {
            self.stalled_since = None;
            return poll;
        }
        let deadline = *self.stalled_since.get_or_insert_with(Instant::now) + self.write_idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.is_flooded {
            return Poll::Pending;
        }
        if this.turn >= TURN_BYTES {
            this.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut this.io).poll_read(cx, buf) else {
            this.turn = 0;
            return Poll::Pending;
        };
        read?;
        this.turn += buf.filled().len() - before;
        if this.budget.received(&buf.filled()[before..], std::time::Instant::now()).is_err() {
            this.is_flooded = true;
            this.flooded.notify_one();
            buf.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = &poll {
            self.budget.sent(*count);
        }
        self.watch(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(count)) = &poll {
            self.budget.sent(*count);
        }
        self.watch(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch(cx, poll)
    }
}

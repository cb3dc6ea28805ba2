//! A line with a delay and a rate, by tokio's clock: two ends of a connection that exists only in memory.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// What a socket takes ahead of the line, in time.
const AHEAD: Duration = Duration::from_millis(20);
const PIECE_BYTES: usize = 16 * 1024;

pub(super) struct End {
    out: Arc<Mutex<Way>>,
    into: Arc<Mutex<Way>>,
    delay: Duration,
    /// Bytes a second.
    rate: u64,
    arrives: Pin<Box<Sleep>>,
    drains: Pin<Box<Sleep>>,
}

struct Way {
    under_way: VecDeque<(Instant, Bytes)>,
    /// When the line has sent what it has.
    free_at: Instant,
    is_closed: bool,
    reader: Option<Waker>,
}

/// `delay` is that of one direction.
pub(super) fn line(delay: Duration, rate: u64) -> (End, End) {
    let way = || Arc::new(Mutex::new(Way::new()));
    let (there, back) = (way(), way());
    let end = |out: &Arc<_>, into: &Arc<_>| {
        let timer = || Box::pin(sleep_until(Instant::now()));
        End { out: Arc::clone(out), into: Arc::clone(into), delay, rate, arrives: timer(), drains: timer() }
    };
    (end(&there, &back), end(&back, &there))
}

impl Way {
    fn new() -> Self {
        Self { under_way: VecDeque::new(), free_at: Instant::now(), is_closed: false, reader: None }
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut way = self.into.lock();
            way.reader = Some(cx.waker().clone());
            let is_closed = way.is_closed;
            let Some((due, bytes)) = way.under_way.front_mut() else {
                return if is_closed { Poll::Ready(Ok(())) } else { Poll::Pending };
            };
            if *due <= Instant::now() {
                let length = bytes.len().min(buf.remaining());
                buf.put_slice(&bytes[..length]);
                bytes.advance(length);
                if bytes.is_empty() {
                    way.under_way.pop_front();
                }
                return Poll::Ready(Ok(()));
            }
            let due = *due;
            drop(way);
            self.arrives.as_mut().reset(due);
            ready!(self.arrives.as_mut().poll(cx));
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let (now, free_at) = (Instant::now(), self.out.lock().free_at);
        if free_at > now + AHEAD {
            self.drains.as_mut().reset(free_at - AHEAD);
            ready!(self.drains.as_mut().poll(cx));
        }
        let mut way = self.out.lock();
        let bytes = Bytes::copy_from_slice(&buf[..buf.len().min(PIECE_BYTES)]);
        let length = bytes.len();
        way.free_at =
            way.free_at.max(now) + Duration::from_secs(length as u64) / u32::try_from(self.rate).unwrap();
        let due = way.free_at + self.delay;
        way.under_way.push_back((due, bytes));
        way.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut way = self.out.lock();
        way.is_closed = true;
        way.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut way = self.out.lock();
        way.is_closed = true;
        way.reader.take().into_iter().for_each(Waker::wake);
    }
}

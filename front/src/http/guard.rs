//! The guard between a visitor's connection and hyper: every byte passes the strict [`scan::Scanner`] first, and
//! the timers, informational responses and the lingering close that hyper's server lacks are here.
//!
//! ```text
//!   visitor ──bytes──▶ held ──scanner──▶ hyper ──▶ service (h1.rs)
//!                        │ refused head: hyper gets a stand-in request instead,      ▲
//!                        └────── and the refusal goes by the side channel ───────────┘
//! ```
//! For each head that hyper is given, one [`Admitted`] is put on the [`SideChannel`]: the service takes them in the same
//! order, so answers to refused messages leave in their turn and through the normal path.

mod chunk;
mod head;
mod linger;
mod scan;
mod side_channel;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

pub use chunk::{Chunks, Fed};
pub use head::{Framing, Head};
pub use head::{check_method, check_path};
use linger::Linger;
pub use scan::{Scanner, Step};
pub(crate) use side_channel::{Admitted, SideChannel, Turn};

use super::refusal::Refusal;
use super::sizes::MAX_HEAD_BYTES;
use super::timing::{Alarm, Limits, Meter};
use crate::exchange::InError;
use crate::room::Pressure;

/// A connection that can be broken off so that the peer sees a reset, not an end.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// From now on closing the connection sends a reset.
    fn reset_on_close(&self);
}

/// See the module.
pub(crate) struct Guard<T: Transport> {
    io: T,
    side: Arc<SideChannel>,
    scanner: Scanner,
    /// Arrived and not passed yet: a head that is not complete, or what follows the current message.
    held: BytesMut,
    /// Allowed to pass, from the front of `held`.
    allowed: usize,
    /// Instead of a refused head.
    stand_in: Bytes,
    input: Input,
    limits: Limits,
    pressure: Arc<Pressure>,
    /// When the first byte of the current head came.
    head_since: Option<Instant>,
    reading: Meter,
    writing: Meter,
    /// One for all deadlines.
    timer: Alarm,
    linger: Option<Linger>,
}

/// What may still come from the visitor.
///
/// ```text
///   Open ──refuse──▶ Refused ──its end──▶ Ended
///     └──────────────its end──────────────▶
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Open,
    /// A message was refused: more of it may be on its way, and nobody reads it.
    Refused,
    /// Nothing.
    Ended,
}

/// What hyper reads in place of a refused head. Never answered by anything but the refusal.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\n\r\n";
/// Reads into `held`: a head is seldom longer.
const READ_BYTES: usize = 4 * 1024;
/// What may wait behind the current message: a head in full size, so that the limits decide, not the buffer.
const MAX_HELD_BYTES: usize = MAX_HEAD_BYTES + READ_BYTES;

impl<T: Transport> Guard<T> {
    pub(crate) fn new(io: T, side: Arc<SideChannel>, limits: Limits, pressure: Arc<Pressure>) -> Self {
        Self {
            io,
            side,
            scanner: Scanner::new(),
            held: BytesMut::new(),
            allowed: 0,
            stand_in: Bytes::new(),
            input: Input::Open,
            limits,
            pressure,
            head_since: None,
            reading: limits.reading(),
            writing: limits.writing(),
            timer: Alarm::default(),
            linger: None,
        }
    }

    /// Gives hyper what has been allowed already. False when there is nothing.
    fn pass(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.stand_in.has_remaining() {
            let count = self.stand_in.len().min(buf.remaining());
            buf.put_slice(&self.stand_in.split_to(count));
            return true;
        }
        let count = self.allowed.min(buf.remaining());
        if count == 0 {
            return false;
        }
        buf.put_slice(&self.held[..count]);
        self.held.advance(count);
        self.allowed -= count;
        if self.held.is_empty() {
            // Idle connections hold no buffer.
            self.held = BytesMut::new();
        }
        true
    }

    /// Shows the scanner what is held. True when something may pass now.
    fn scan(&mut self) -> io::Result<bool> {
        if self.scanner.awaits_upgrade() && self.side.is_upgraded() {
            self.scanner.upgraded();
        }
        let in_body = self.scanner.is_mid_body();
        match self.scanner.step(&self.held) {
            Step::More => Ok(false),
            Step::Head { skip, len, head } => {
                self.held.advance(skip);
                self.allowed = len;
                self.head_since = None;
                self.reading = self.limits.reading();
                self.writing = self.limits.writing();
                let has_more = self.held.len() > len;
                self.side.admit(Admitted::Request { head, has_more });
                Ok(true)
            }
            Step::Body { len, end } => {
                self.allowed = len;
                self.passed(len, end);
                Ok(true)
            }
            Step::Refuse(refusal) if in_body => Err(self.fail_body(InError::Malformed(refusal.reason))),
            Step::Refuse(refusal) => {
                self.refuse(refusal);
                Ok(true)
            }
        }
    }

    /// Body bytes are on their way to hyper.
    fn passed(&mut self, len: usize, end: bool) {
        self.reading.moved(len);
        if end {
            self.side.end_body();
        }
    }

    /// A refused head is answered in its turn.
    fn refuse(&mut self, refusal: Refusal) {
        self.stop_reading();
        self.side.admit(Admitted::Refused(refusal));
        self.stand_in = Bytes::from_static(STAND_IN);
    }

    /// In a body it is too late for an answer in the request's place: hyper's reader fails, and hands on why.
    fn fail_body(&mut self, error: InError) -> io::Error {
        self.stop_reading();
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    fn stop_reading(&mut self) {
        if self.input == Input::Open {
            self.input = Input::Refused;
        }
        self.scanner.end();
        self.held = BytesMut::new();
        self.allowed = 0;
        self.head_since = None;
    }

    /// Reads from the visitor: body bytes straight to hyper, everything else into `held`. Ready with true when
    /// hyper got something.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        if self.held.is_empty()
            && let Some(ahead) = self.scanner.body_ahead()
        {
            return self.poll_body(cx, buf, ahead);
        }
        if self.held.len() >= MAX_HELD_BYTES {
            return Poll::Pending;
        }
        let mut space = [std::mem::MaybeUninit::uninit(); READ_BYTES];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        if read.filled().is_empty() {
            self.input = Input::Ended;
        } else if self.held.is_empty() && self.scanner.is_at_head() {
            self.head_since = Some(Instant::now());
        }
        // After the last message bytes are read only to see whether the visitor is still there.
        self.held.extend_from_slice(read.filled());
        Poll::Ready(Ok(false))
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        ahead: u64,
    ) -> Poll<io::Result<bool>> {
        let room = usize::try_from(ahead).unwrap_or(usize::MAX).min(buf.remaining());
        let before = buf.filled().len();
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
        let count = part.filled().len();
        buf.advance(count);
        if count == 0 {
            self.input = Input::Ended;
            return Poll::Ready(Ok(false));
        }
        match self.scanner.step(&buf.filled()[before..]) {
            Step::Body { len, end } => {
                self.held.extend_from_slice(&buf.filled()[before + len..]);
                buf.set_filled(before + len);
                self.passed(len, end);
                Poll::Ready(Ok(len > 0))
            }
            Step::Refuse(refusal) => {
                buf.set_filled(before);
                Poll::Ready(Err(self.fail_body(InError::Malformed(refusal.reason))))
            }
            Step::More | Step::Head { .. } => Poll::Ready(Ok(false)),
        }
    }

    /// What is due when nothing comes, and when.
    fn read_deadline(&mut self) -> Option<(Instant, Due)> {
        if self.scanner.is_mid_body() {
            return Some((self.reading.deadline(), Due::Body));
        }
        if let Some(since) = self.head_since {
            return Some((since + self.limits.header, Due::Head));
        }
        if !self.scanner.is_at_head() {
            return None;
        }
        let idle =
            if self.side.is_draining() { Duration::ZERO } else { self.pressure.idle(self.limits.idle) };
        // hyper does not ask for the next head when a response ends, so the timer runs during the response already
        // and is moved when it fires.
        let until = self.side.idle_since().unwrap_or_else(Instant::now) + idle;
        Some((self.pressure.look(until), Due::Idle))
    }

    /// The visitor keeps us waiting: sets the timer, and does what is due.
    fn poll_read_timer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Due>> {
        let Some((deadline, due)) = self.read_deadline() else { return Poll::Pending };
        ready!(self.timer.poll(deadline, cx));
        if due == Due::Idle && self.side.idle_since().is_none() {
            return Poll::Pending;
        }
        match due {
            Due::Head => self.refuse(Refusal::new(StatusCode::REQUEST_TIMEOUT, "head came too slowly")),
            Due::Body => return Poll::Ready(Err(self.fail_body(InError::Slow))),
            Due::Idle => self.scanner.end(),
        }
        Poll::Ready(Ok(due))
    }

    /// Sends informational responses that wait. hyper has nothing buffered when this is called.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(mut bytes) = self.side.take_interim() {
            while bytes.has_remaining() {
                match Pin::new(&mut self.io).poll_write(cx, &bytes) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(count)) => bytes.advance(count),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        self.side.put_back_interim(&bytes);
                        return Poll::Pending;
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Fails a write that the visitor has not taken for too long. After an upgrade others watch over that.
    fn check_write<R>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        match poll {
            Poll::Pending if self.scanner.is_raw() => Poll::Pending,
            Poll::Pending => {
                let deadline = self.writing.deadline();
                ready!(self.timer.poll(deadline, cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(result) => Poll::Ready(result.inspect(|_| self.writing.moved(0))),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Head,
    Body,
    Idle,
}

impl<T: Transport> AsyncRead for Guard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.pass(buf) || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if this.scan()? {
                continue;
            }
            if this.input == Input::Ended {
                // An end while we answer means that the visitor is gone (hazard 147): hyper cancels the request.
                return Poll::Ready(Ok(()));
            }
            match this.poll_fill(cx, buf) {
                Poll::Ready(Ok(true)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(false)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => match ready!(this.poll_read_timer(cx))? {
                    Due::Idle => return Poll::Ready(Ok(())),
                    Due::Head | Due::Body => {}
                },
            }
        }
    }
}

impl<T: Transport> AsyncWrite for Guard<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = &poll {
            self.writing.moved(*count);
        }
        self.check_write(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(count)) = &poll {
            self.writing.moved(*count);
        }
        self.check_write(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let interim = self.poll_interim(cx);
        ready!(self.check_write(cx, interim))?;
        let poll = Pin::new(&mut self.io).poll_flush(cx);
        self.check_write(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let poll = Pin::new(&mut this.io).poll_shutdown(cx);
        ready!(this.check_write(cx, poll))?;
        this.side.ended();
        if this.scanner.is_raw() || this.input == Input::Ended {
            return Poll::Ready(Ok(()));
        }
        let is_expected =
            this.input == Input::Refused || this.scanner.is_mid_body() || this.scanner.awaits_upgrade();
        this.linger.get_or_insert_with(Linger::new).poll(&mut this.io, is_expected, cx).map(Ok)
    }
}

impl<T: Transport> Drop for Guard<T> {
    fn drop(&mut self) {
        if self.side.close() {
            self.io.reset_on_close();
        }
    }
}

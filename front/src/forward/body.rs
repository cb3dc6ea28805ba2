//! The response body as it comes out of the tunnel: whole when it is here already, else a stream that knows how long
//! it has to be and how long it may be silent.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use causeway_tunnel::semantics::{is_long_silent, keep_trailers};
use causeway_tunnel::{BodyKind, Frame, ResponseHead, StreamError};
use http_body::{Body, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::exchange::{Abort, OutBody};
use crate::household::{EVICTED, Reader, Stalled};
use crate::http::sizes::SEND_BUFFER_BYTES;
use crate::record::Record;
use crate::session::RecvHalf;

/// QUIC hands out one packet's worth at a time. Joining what is here makes one TLS record or DATA frame of many; the copy
/// costs less than the frames.
const JOIN_BYTES: usize = 32 * 1024;
/// Pieces from this size on are handed on as they are.
const JOIN_BELOW_BYTES: usize = 8 * 1024;

type Read = Result<Frame, StreamError>;

/// The body that follows `head` on this stream.
pub(super) fn out_body(
    mut recv: RecvHalf,
    head: &ResponseHead,
    idle: Duration,
    record: Record,
    session: &Arc<Stalled>,
) -> OutBody {
    let mut ahead = VecDeque::new();
    let first = read_now(&mut recv);
    match (first, head.body) {
        // Nothing follows but END, and a line may bring it late: who waited for it would have an empty body, where HTTP has none
        // (a 304 with a length, the one head of a gRPC error).
        (_, BodyKind::None) => return OutBody::empty(),
        (Some(Ok(Frame::End)), BodyKind::Unknown | BodyKind::Known(0)) => return OutBody::empty(),
        (Some(Ok(Frame::Data(bytes))), kind) => {
            let next = read_now(&mut recv);
            let is_right_length = !matches!(kind, BodyKind::Known(length) if length != bytes.len() as u64);
            if is_right_length && matches!(next, Some(Ok(Frame::End))) {
                return OutBody::full(bytes);
            }
            ahead.push_back(Ok(Frame::Data(bytes)));
            ahead.extend(next);
        }
        (first, _) => ahead.extend(first),
    }
    let left = match head.body {
        BodyKind::Known(length) => Some(length),
        BodyKind::None | BodyKind::Unknown => None,
    };
    let idle = if idle.is_zero() || is_long_silent(&head.headers) { None } else { Some(idle) };
    let last = Instant::now();
    let reader = record.with_ticket(|ticket| ticket.reader(session));
    let body = TunnelBody {
        recv,
        ahead,
        held: None,
        left,
        is_over: false,
        idle,
        timer: None,
        last,
        record,
        handed_out: 0,
        reader: reader.clone(),
    };
    // Until the front end asks for the first piece.
    body.block(0);
    OutBody::stream(body).read_by(reader)
}

fn read_now(recv: &mut RecvHalf) -> Option<Read> {
    match recv.poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(read) => Some(read),
        Poll::Pending => None,
    }
}

struct TunnelBody {
    recv: RecvHalf,
    /// Read already, not handed out yet. An error or the end is the last.
    ahead: VecDeque<Read>,
    /// The last bytes of a declared length, held back until the end is seen: hyper asks no further once it has them, so
    /// a body that is too long, or was broken off behind them, would look whole.
    held: Option<Bytes>,
    /// What the declared length leaves to come.
    left: Option<u64>,
    is_over: bool,
    idle: Option<Duration>,
    /// Made at the first wait: most bodies never wait. Moved only when it fires.
    timer: Option<Pin<Box<Sleep>>>,
    /// When something last came.
    last: Instant,
    record: Record,
    /// Bytes that may wait on the other side of this body, as far as it buffers.
    handed_out: usize,
    reader: Option<Arc<Reader>>,
}

impl TunnelBody {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        match self.ahead.pop_front() {
            Some(read) => Poll::Ready(read),
            None => self.recv.poll_frame(cx),
        }
    }

    /// `first` and what else is here, up to [`JOIN_BYTES`].
    fn join(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        if first.len() >= JOIN_BELOW_BYTES {
            return first;
        }
        let mut joined = BytesMut::new();
        let mut only = Some(first);
        while only.as_ref().map_or(joined.len(), Bytes::len) < JOIN_BYTES {
            match self.poll_read(cx) {
                Poll::Ready(Ok(Frame::Data(bytes))) => {
                    if let Some(first) = only.take() {
                        joined.reserve(JOIN_BYTES);
                        joined.extend_from_slice(&first);
                    }
                    joined.extend_from_slice(&bytes);
                }
                Poll::Ready(other) => {
                    self.ahead.push_front(other);
                    break;
                }
                Poll::Pending => break,
            }
        }
        only.unwrap_or_else(|| joined.freeze())
    }

    fn hand_out(&mut self, bytes: Bytes) -> Poll<Option<Result<http_body::Frame<Bytes>, Abort>>> {
        self.handed_out = (self.handed_out + bytes.len()).min(SEND_BUFFER_BYTES);
        self.block(bytes.len());
        Poll::Ready(Some(Ok(http_body::Frame::data(bytes))))
    }

    /// Until the next poll the visitor keeps us waiting: what the tunnel may fill meanwhile, and what was handed out.
    fn block(&self, piece: usize) {
        let Some(reader) = &self.reader else { return };
        let waiting = match self.left {
            _ if self.is_over => 0,
            Some(left) => usize::try_from(left).unwrap_or(usize::MAX).min(self.recv.waiting_bytes()),
            None => self.recv.waiting_bytes(),
        };
        let counted = self.recv.held_bytes().min(waiting);
        reader.blocked(piece, waiting + self.handed_out, counted);
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(idle) = self.idle else { return Poll::Pending };
        let last = self.last;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(last + idle)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if last + idle <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(last + idle);
        }
    }

    /// The visitor's stream will be reset: what he has is not the whole (hazard 138).
    fn abort(&mut self, reason: &'static str) -> Poll<Option<Result<http_body::Frame<Bytes>, Abort>>> {
        self.is_over = true;
        self.record.set_failure(reason);
        Poll::Ready(Some(Err(Abort::new(reason))))
    }
}

impl Body for TunnelBody {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Abort>>> {
        if self.reader.as_ref().is_some_and(|reader| !reader.moving()) {
            return self.abort(EVICTED);
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        let Poll::Ready(read) = self.poll_read(cx) else {
            ready!(self.poll_idle(cx));
            return self.abort("body_idle_timeout");
        };
        match read {
            Ok(Frame::Data(bytes)) => {
                let bytes = self.join(bytes, cx);
                if self.idle.is_some() {
                    self.last = Instant::now();
                }
                if let Some(left) = &mut self.left {
                    match left.checked_sub(bytes.len() as u64) {
                        Some(rest) => *left = rest,
                        None => return self.abort("body_longer_than_declared"),
                    }
                    if *left == 0 {
                        self.held = Some(bytes);
                        return self.poll_frame(cx);
                    }
                }
                self.hand_out(bytes)
            }
            Ok(Frame::Trailers(trailers)) => match self.held.take() {
                Some(bytes) => {
                    self.ahead.push_front(Ok(Frame::Trailers(trailers)));
                    self.hand_out(bytes)
                }
                None => {
                    // A connection field among them would cost an HTTP/2 visitor the whole answer.
                    let mut trailers = trailers;
                    keep_trailers(&mut trailers);
                    Poll::Ready(Some(Ok(http_body::Frame::trailers(trailers))))
                }
            },
            Ok(Frame::End) if self.left.is_none_or(|left| left == 0) => {
                self.is_over = true;
                match self.held.take() {
                    Some(bytes) => self.hand_out(bytes),
                    None => Poll::Ready(None),
                }
            }
            Ok(Frame::End) => self.abort("body_shorter_than_declared"),
            Err(StreamError::Aborted(code)) => self.abort(code.as_str()),
            Err(StreamError::Lost(_)) => self.abort("session_lost"),
            Err(StreamError::Malformed(_)) => self.abort("tunnel_protocol"),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.as_ref().map_or(0, |bytes| bytes.len() as u64);
        self.left.map_or_else(SizeHint::default, |left| SizeHint::with_exact(left + held))
    }
}

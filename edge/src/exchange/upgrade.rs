//! A visitor's connection or stream after an accepted upgrade: raw bytes both ways, with half-close and an idle limit.
//! One that is broken off ends in a reset, never in what looks like a half-close.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::Abort;
use crate::access::Record;
use crate::http::guard::{Alarm, Limits, Meter, Side};
use crate::http::h2::intake::Intake;

/// The visitor's wish to leave HTTP, granted by answering 101 (for HTTP/2 too: the front end makes it 200).
pub struct Upgrade {
    protocol: &'static str,
    origin: Origin,
    limits: RawLimits,
    record: Record,
}

pub(crate) enum Origin {
    /// Its end is a reset until the side says otherwise.
    H1(hyper::upgrade::OnUpgrade, Arc<Side>),
    /// The sending half exists only once the front end has sent the response head.
    H2(h2::RecvStream, oneshot::Receiver<h2::SendStream<Bytes>>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct RawLimits {
    /// Neither direction moved for this long: the connection is given up. Zero: it may stand idle for ever.
    pub(crate) idle: Duration,
    /// How slowly the visitor may take what we have for it.
    pub(crate) http: Limits,
}

impl RawLimits {
    pub(crate) fn of(limits: &Limits) -> Self {
        Self { idle: limits.upgraded_idle, http: *limits }
    }
}

impl Upgrade {
    pub(crate) fn new(protocol: &'static str, origin: Origin, limits: RawLimits, record: Record) -> Self {
        Self { protocol, origin, limits, record }
    }

    /// Lower case: `websocket`.
    pub fn protocol(&self) -> &str {
        self.protocol
    }

    /// Whether it is an extended CONNECT (RFC 8441), which any 2xx would grant.
    pub(crate) fn is_connect(&self) -> bool {
        matches!(self.origin, Origin::H2(..))
    }

    /// The raw halves, as soon as the 101 response has been sent. Await it in a task of its own *after* returning the
    /// response: it cannot finish earlier. Dropping the upgrade refuses it.
    ///
    /// # Errors
    /// When the visitor went away first.
    pub async fn accept(self) -> Result<(RawIn, RawOut), Abort> {
        let gone = |_| Abort::new("the visitor went away before the upgrade");
        let (input, output) = match self.origin {
            Origin::H1(upgrade, side) => {
                let upgraded =
                    upgrade.await.map_err(|_| Abort::new("the visitor went away before the upgrade"))?;
                let (read, write) = tokio::io::split(TokioIo::new(upgraded));
                (In::H1(read), Out::H1(write, side))
            }
            Origin::H2(recv, send) => (In::H2(Intake::new(recv)), Out::H2(send.await.map_err(gone)?)),
        };
        let clock = Arc::new(Clock { start: Instant::now(), last: AtomicU64::new(0) });
        let raw_in =
            RawIn { input, clock: Arc::clone(&clock), idle: self.limits.idle, record: self.record.clone() };
        let (meter, alarm) = (self.limits.http.writing(), Alarm::default());
        let limit = self.limits.http.write_idle;
        let raw_out = RawOut { output, clock, meter, alarm, limit, record: self.record };
        Ok((raw_in, raw_out))
    }
}

impl std::fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upgrade").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// When either direction last moved, in milliseconds since the start.
#[derive(Debug)]
struct Clock {
    start: Instant,
    last: AtomicU64,
}

impl Clock {
    fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

/// Bytes from the visitor.
pub struct RawIn {
    input: In,
    clock: Arc<Clock>,
    idle: Duration,
    record: Record,
}

enum In {
    H1(ReadHalf<TokioIo<Upgraded>>),
    H2(Intake),
}

/// What one read takes at most.
const READ_BYTES: usize = 16 * 1024;

impl RawIn {
    /// The next bytes; `None` when the visitor half-closed. Cancel safe.
    ///
    /// # Errors
    /// When the connection broke or was reset: abort the other side, never end it.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Abort> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Abort>> {
        let chunk = ready!(self.input.poll_chunk(cx));
        if let Ok(Some(bytes)) = &chunk {
            self.clock.touch();
            self.record.add_in(bytes.len());
        }
        Poll::Ready(chunk)
    }

    /// For the time in which nobody can take more bytes: ends when the visitor resets the stream, and keeps what else
    /// comes. Over HTTP/1.1 nothing is looked at.
    pub(crate) async fn broken(&mut self) -> Abort {
        match &mut self.input {
            In::H1(_) => std::future::pending().await,
            In::H2(intake) => gone(poll_fn(|cx| intake.poll_broken(cx)).await),
        }
    }

    /// Ends when neither direction has moved for the idle time, whoever waits for whom and whichever of them has ended.
    pub(crate) fn idle(&self) -> impl Future<Output = ()> + Send + use<> {
        let (clock, limit) = (Arc::clone(&self.clock), self.idle);
        async move {
            if limit.is_zero() {
                return std::future::pending().await;
            }
            let mut due = clock.last() + limit;
            while due > Instant::now() {
                // One timer, moved only when it fires: data resets the clock, not the timer.
                tokio::time::sleep_until(due).await;
                due = clock.last() + limit;
            }
        }
    }
}

impl In {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Abort>> {
        match self {
            Self::H1(read) => {
                // On the stack, so that an idle WebSocket holds no buffer.
                let mut space = [MaybeUninit::uninit(); READ_BYTES];
                let mut buf = ReadBuf::uninit(&mut space);
                ready!(Pin::new(read).poll_read(cx, &mut buf))
                    .map_err(|error| Abort::new(format!("the visitor's connection broke: {error}")))?;
                let bytes = Bytes::copy_from_slice(buf.filled());
                Poll::Ready(Ok(Some(bytes).filter(|bytes| !bytes.is_empty())))
            }
            Self::H2(intake) => Poll::Ready(ready!(intake.poll_data(cx)).transpose().map_err(gone)),
        }
    }
}

impl std::fmt::Debug for RawIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawIn").field("idle", &self.idle).finish_non_exhaustive()
    }
}

/// Bytes to the visitor. Dropped without [`RawOut::finish`] it breaks the connection off.
pub struct RawOut {
    output: Out,
    clock: Arc<Clock>,
    meter: Meter,
    alarm: Alarm,
    /// For what moves no bytes: a flush, the end.
    limit: Duration,
    record: Record,
}

enum Out {
    H1(WriteHalf<TokioIo<Upgraded>>, Arc<Side>),
    H2(h2::SendStream<Bytes>),
}

impl RawOut {
    /// Writes all of `bytes`, with back-pressure. Not cancel safe: a part may have been written.
    ///
    /// # Errors
    /// When the visitor is gone, or takes nothing or too little for too long.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), Abort> {
        while bytes.has_remaining() {
            let Self { output, meter, alarm, .. } = self;
            let written = poll_fn(|cx| {
                if let Poll::Ready(written) = output.poll_write(cx, &mut bytes) {
                    return Poll::Ready(written);
                }
                ready!(alarm.poll(meter.deadline(), cx));
                Poll::Ready(Err(Abort::new("the visitor took too little for too long")))
            });
            let written = written.await?;
            self.meter.moved(written);
            self.clock.touch();
            self.record.add_out(written);
        }
        if let Out::H1(write, _) = &mut self.output {
            let flushed = timeout(self.limit, write.flush()).await;
            flushed.map_err(|_| Abort::new("the visitor took nothing for too long"))?.map_err(broke)?;
        }
        Ok(())
    }

    /// Ends our direction; the visitor may go on sending.
    ///
    /// # Errors
    /// When the visitor is gone.
    pub async fn finish(&mut self) -> Result<(), Abort> {
        match &mut self.output {
            Out::H1(write, side) => {
                side.complete();
                timeout(self.limit, write.shutdown())
                    .await
                    .map_err(|_| Abort::new("the visitor took nothing for too long"))?
                    .map_err(broke)
            }
            Out::H2(send) => send.send_data(Bytes::new(), true).map_err(gone),
        }
    }

    /// Breaks the connection off, so that the visitor cannot take it for an end.
    pub fn abort(&mut self) {
        match &mut self.output {
            Out::H1(_, side) => side.reset(),
            Out::H2(send) => send.send_reset(h2::Reason::CANCEL),
        }
    }
}

impl Out {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<Result<usize, Abort>> {
        let written = match self {
            Self::H1(write, _) => {
                let written = ready!(Pin::new(write).poll_write(cx, bytes)).map_err(broke)?;
                if written == 0 {
                    return Poll::Ready(Err(Abort::new("the visitor's connection takes no more bytes")));
                }
                bytes.advance(written);
                written
            }
            Self::H2(send) => {
                let capacity = ready!(poll_capacity(send, bytes.len(), cx))?;
                send.send_data(bytes.split_to(capacity), false).map_err(gone)?;
                capacity
            }
        };
        Poll::Ready(Ok(written))
    }
}

impl std::fmt::Debug for RawOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawOut").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// How many of `wanted` bytes the visitor's windows let us send; at least one.
pub(crate) fn poll_capacity(
    send: &mut h2::SendStream<Bytes>,
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

fn broke(error: std::io::Error) -> Abort {
    Abort::new(format!("the visitor's connection broke: {error}"))
}

pub(crate) fn gone(error: h2::Error) -> Abort {
    Abort::new(format!("the visitor reset the stream: {error}"))
}

//! A visitor's connection or stream after an accepted upgrade: raw bytes both ways, with half-close and an idle limit.
//! One that is broken off ends in a reset, never in what looks like a half-close. How an HTTP version does that is its
//! own: it implements [`RawSource`] and [`RawSink`].

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout};

use super::Abort;
use crate::http::timing::{Alarm, Limits, Meter};
use crate::record::Record;

/// The visitor's wish to leave HTTP, granted by answering 101 (for HTTP/2 too: the front end makes it 200).
pub struct Upgrade {
    protocol: &'static str,
    wish: Wish,
    halves: BoxFuture<'static, Result<RawHalves, Abort>>,
    limits: RawLimits,
    record: Record,
}

/// How the visitor asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// By `Upgrade`, which only 101 grants.
    Upgrade,
    /// By extended CONNECT (RFC 8441).
    Connect,
}

/// The two directions of what was upgraded.
pub type RawHalves = (Box<dyn RawSource>, Box<dyn RawSink>);

/// Where raw bytes of a visitor come from. Holds no buffer while nothing comes.
pub trait RawSource: Send {
    /// The next bytes; `None` when the visitor half-closed. An error when it broke off.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Abort>>;
    /// Ready when the visitor broke off, ahead of what came before. Keeps what else comes; where that is not known
    /// without taking bytes it is never ready.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Abort>;
}

/// Where raw bytes to a visitor go. Dropped unfinished it breaks off.
pub trait RawSink: Send {
    /// Takes from the front of `bytes`, which are not empty, and says how many; at least one.
    fn poll_write(&mut self, bytes: &mut Bytes, cx: &mut Context<'_>) -> Poll<Result<usize, Abort>>;
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Abort>>;
    /// Ends this direction; the other goes on.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Abort>>;
    /// Makes the end one that cannot be taken for [`RawSink::poll_finish`].
    fn abort(&mut self);
}

#[derive(Clone, Copy, Debug)]
pub struct RawLimits {
    /// Neither direction moved for this long: the connection is given up. Zero: it may stand idle for ever.
    pub idle: Duration,
    /// How slowly the visitor may take what we have for it.
    pub http: Limits,
}

impl RawLimits {
    pub fn of(limits: &Limits) -> Self {
        Self { idle: limits.upgraded_idle, http: *limits }
    }
}

impl Upgrade {
    /// `halves` is ready as soon as the front end has sent the head that grants it, and fails when the visitor went away
    /// first.
    pub fn new(
        protocol: &'static str,
        wish: Wish,
        halves: impl Future<Output = Result<RawHalves, Abort>> + Send + 'static,
        limits: RawLimits,
        record: Record,
    ) -> Self {
        Self { protocol, wish, halves: Box::pin(halves), limits, record }
    }

    /// Lower case: `websocket`.
    pub fn protocol(&self) -> &str {
        self.protocol
    }

    /// Whether it is an extended CONNECT, which any 2xx would grant.
    pub fn is_connect(&self) -> bool {
        self.wish == Wish::Connect
    }

    /// The raw halves, as soon as the 101 response has been sent. Await it in a task of its own *after* returning the
    /// response: it cannot finish earlier. Dropping the upgrade refuses it.
    ///
    /// # Errors
    /// When the visitor went away first.
    pub async fn accept(self) -> Result<(RawIn, RawOut), Abort> {
        Ok(raw(self.halves.await?, self.limits, self.record))
    }
}

/// The two directions under their limits, and with their account.
pub fn raw((source, sink): RawHalves, limits: RawLimits, record: Record) -> (RawIn, RawOut) {
    let moved = Arc::new(Moved { start: Instant::now(), last: AtomicU64::new(0) });
    let raw_in = RawIn { source, moved: Arc::clone(&moved), idle: limits.idle, record: record.clone() };
    let (meter, alarm, limit) = (limits.http.writing(), Alarm::default(), limits.http.write_idle);
    (raw_in, RawOut { sink, moved, meter, alarm, limit, record })
}

impl std::fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upgrade").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// When either direction last moved, in milliseconds since the start.
#[derive(Debug)]
struct Moved {
    start: Instant,
    last: AtomicU64,
}

impl Moved {
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
    source: Box<dyn RawSource>,
    moved: Arc<Moved>,
    idle: Duration,
    record: Record,
}

impl RawIn {
    /// The next bytes; `None` when the visitor half-closed. Cancel safe.
    ///
    /// # Errors
    /// When the connection broke or was reset: abort the other side, never end it.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Abort> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Abort>> {
        let chunk = ready!(self.source.poll_chunk(cx));
        if let Ok(Some(bytes)) = &chunk {
            self.moved.touch();
            self.record.add_in(bytes);
        }
        Poll::Ready(chunk)
    }

    /// For the time in which nobody can take more bytes: ends when the visitor resets the stream, and keeps what else
    /// comes. Over HTTP/1.1 nothing is looked at.
    pub async fn broken(&mut self) -> Abort {
        poll_fn(|cx| self.source.poll_broken(cx)).await
    }

    /// Ends when neither direction has moved for the idle time, whoever waits for whom and whichever of them has ended.
    pub fn idle(&self) -> impl Future<Output = ()> + Send + use<> {
        let (moved, limit) = (Arc::clone(&self.moved), self.idle);
        async move {
            if limit.is_zero() {
                return std::future::pending().await;
            }
            let mut due = moved.last() + limit;
            while due > Instant::now() {
                // One timer, moved only when it fires: data moves the mark, not the timer.
                tokio::time::sleep_until(due).await;
                due = moved.last() + limit;
            }
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
    sink: Box<dyn RawSink>,
    moved: Arc<Moved>,
    meter: Meter,
    alarm: Alarm,
    /// For what moves no bytes: a flush, the end.
    limit: Duration,
    record: Record,
}

impl RawOut {
    /// Writes all of `bytes`, with back-pressure. Not cancel safe: a part may have been written.
    ///
    /// # Errors
    /// When the visitor is gone, or takes nothing or too little for too long.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), Abort> {
        while bytes.has_remaining() {
            let Self { sink, meter, alarm, .. } = self;
            let left = bytes.clone();
            let written = poll_fn(|cx| {
                if let Poll::Ready(written) = sink.poll_write(&mut bytes, cx) {
                    return Poll::Ready(written);
                }
                ready!(alarm.poll(meter.deadline(), cx));
                Poll::Ready(Err(Abort::new("the visitor took too little for too long")))
            });
            let written = written.await?;
            self.meter.moved(written);
            self.moved.touch();
            self.record.add_out(&left[..written]);
        }
        let sink = &mut self.sink;
        within(self.limit, |cx| sink.poll_flush(cx)).await
    }

    /// Ends our direction; the visitor may go on sending.
    ///
    /// # Errors
    /// When the visitor is gone.
    pub async fn finish(&mut self) -> Result<(), Abort> {
        let sink = &mut self.sink;
        within(self.limit, |cx| sink.poll_finish(cx)).await
    }

    /// Breaks the connection off, so that the visitor cannot take it for an end.
    pub fn abort(&mut self) {
        self.sink.abort();
    }
}

impl std::fmt::Debug for RawOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawOut").field("limit", &self.limit).finish_non_exhaustive()
    }
}

async fn within(
    limit: Duration,
    poll: impl FnMut(&mut Context<'_>) -> Poll<Result<(), Abort>>,
) -> Result<(), Abort> {
    let done = timeout(limit, poll_fn(poll)).await;
    done.map_err(|_| Abort::new("the visitor took nothing for too long"))?
}

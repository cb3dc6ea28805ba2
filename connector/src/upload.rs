//! The visitor's body on its way to an origin: read from the tunnel as the origin takes it, replayable while small.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use causeway_tunnel::semantics::keep_trailers;
use causeway_tunnel::{AbortCode, BodyKind, Frame, RecvStream};
use http::{HeaderMap, HeaderValue};
use http_body::SizeHint;
use parking_lot::Mutex;

/// The body of one request. Shared between hyper, which reads it, and the exchange, which may have to rewind it; both
/// are polled by the same task, so the lock is never waited for.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    inner: Arc<Mutex<Inner>>,
    kind: BodyKind,
}

/// What hyper reads the body from: the upload, or nothing when there is no body.
#[derive(Debug)]
pub(crate) struct RequestBody(Option<Upload>);

/// A piece of a body, in either direction.
#[derive(Debug)]
pub(crate) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// The visitor's body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the visitor's body was cut off: {0}")]
pub(crate) struct CutOff(pub(crate) AbortCode);

#[derive(Debug)]
struct Inner {
    recv: RecvStream,
    /// Read from the tunnel and not handed on yet.
    early: VecDeque<Bytes>,
    /// Set when END was read from the tunnel.
    ended: bool,
    trailers: Option<HeaderMap>,
    trailers_given: bool,
    failed: Option<AbortCode>,
    /// What was handed on so far, as long as it may have to be sent once more.
    replay: Option<Replay>,
    /// What a body of known length still owes; `None` for others.
    owed: Option<u64>,
    /// Bytes that came out of the tunnel.
    received: u64,
}

impl Upload {
    pub(crate) fn new(recv: RecvStream, kind: BodyKind) -> Self {
        let owed = match kind {
            BodyKind::None => Some(0),
            BodyKind::Known(length) => Some(length),
            BodyKind::Unknown => None,
        };
        let inner = Inner {
            recv,
            early: VecDeque::new(),
            ended: false,
            trailers: None,
            trailers_given: false,
            failed: None,
            replay: Some(Replay::default()),
            owed,
            received: 0,
        };
        Self { inner: Arc::new(Mutex::new(inner)), kind }
    }

    /// For hyper.
    pub(crate) fn body(&self) -> RequestBody {
        RequestBody((self.kind != BodyKind::None).then(|| self.clone()))
    }

    pub(crate) fn kind(&self) -> BodyKind {
        self.kind
    }

    /// Takes what has already arrived, so that a small body goes out in one write with its head.
    pub(crate) async fn prefetch(&self) {
        std::future::poll_fn(|cx| {
            let mut inner = self.inner.lock();
            while inner.early.iter().map(Bytes::len).sum::<usize>() < PREFETCH_BYTES {
                if !inner.poll_tunnel(cx).is_ready() || inner.ended || inner.failed.is_some() {
                    break;
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Waits for the whole body, and declares its length instead of leaving it open. `None` when it is longer than
    /// `limit` or was cut off.
    pub(crate) async fn collect(&mut self, limit: usize) -> Option<()> {
        let length = std::future::poll_fn(|cx| {
            let mut inner = self.inner.lock();
            loop {
                let length = inner.early.iter().map(Bytes::len).sum::<usize>();
                if inner.failed.is_some() || length > limit {
                    return Poll::Ready(None);
                }
                if inner.ended {
                    return Poll::Ready(Some(length));
                }
                ready!(inner.poll_tunnel(cx));
            }
        })
        .await?;
        let length = length as u64;
        self.inner.lock().owed = Some(length);
        self.kind = BodyKind::Known(length);
        Some(())
    }

    /// Whether all of it was handed on.
    pub(crate) fn is_spent(&self) -> bool {
        let inner = self.inner.lock();
        inner.ended && inner.early.is_empty()
    }

    /// Whether all of it was handed on, and was what its head had said: only then does the origin wait for nothing more.
    pub(crate) fn is_whole(&self) -> bool {
        let inner = self.inner.lock();
        inner.ended
            && inner.early.is_empty()
            && inner.failed.is_none()
            && inner.owed.is_none_or(|owed| owed == 0)
    }

    /// Whether the visitor's END was read.
    pub(crate) fn is_ended(&self) -> bool {
        self.inner.lock().ended
    }

    /// Whether the visitor has nothing more to say: END was read, or all of a declared length was handed on.
    pub(crate) fn is_complete(&self) -> bool {
        let inner = self.inner.lock();
        inner.ended || inner.owed == Some(0)
    }

    /// Reads END where nobody else does: hyper asks no further once a declared length is reached.
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) {
        let mut inner = self.inner.lock();
        while inner.owed == Some(0) && inner.early.is_empty() && !inner.ended && inner.failed.is_none() {
            if inner.poll_tunnel(cx).is_pending() {
                break;
            }
        }
    }

    /// Why it was cut off, if it was.
    pub(crate) fn failure(&self) -> Option<AbortCode> {
        self.inner.lock().failed
    }

    /// The names of trailers that are known already: HTTP/1.1 announces them in its head.
    pub(crate) fn trailer_names(&self) -> Option<HeaderValue> {
        let inner = self.inner.lock();
        let names: Vec<&str> = inner.trailers.as_ref()?.keys().map(http::HeaderName::as_str).collect();
        HeaderValue::try_from(names.join(", ")).ok()
    }

    pub(crate) fn received(&self) -> u64 {
        self.inner.lock().received
    }

    /// Keeps more of it to be sent again than the usual, as long as `budget` has memory for that.
    pub(crate) fn keep_more(&self, budget: &Arc<ReplayBudget>) {
        if let Some(replay) = &mut self.inner.lock().replay {
            replay.budget = Some(Arc::clone(budget));
        }
    }

    /// The origin has answered: nothing of it will be sent again.
    pub(crate) fn forget(&self) {
        self.inner.lock().replay = None;
    }

    /// Makes what was handed on so far come again. `false` when it was too much to be kept.
    pub(crate) fn rewind(&self) -> bool {
        let mut inner = self.inner.lock();
        let Some(mut replay) = inner.replay.replace(Replay::default()) else {
            inner.replay = None;
            return false;
        };
        inner.trailers_given = false;
        inner.owed = inner.owed.map(|owed| owed + replay.bytes as u64);
        for piece in std::mem::take(&mut replay.pieces).into_iter().rev() {
            inner.early.push_front(piece);
        }
        true
    }

    /// Waits for something to hand on. The length of the next data; 0 when the end, trailers or a failure comes next.
    pub(crate) fn poll_waiting(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut inner = self.inner.lock();
        loop {
            if let Some(bytes) = inner.early.front() {
                return Poll::Ready(bytes.len());
            }
            if inner.ended || inner.failed.is_some() {
                return Poll::Ready(0);
            }
            ready!(inner.poll_tunnel(cx));
        }
    }

    /// [`Upload::poll_piece`] with at most so much data. What is not taken need not be kept to be sent again.
    pub(crate) fn poll_piece_of(
        &self,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Poll<Option<Result<Piece, CutOff>>> {
        let mut inner = self.inner.lock();
        if let Some(front) = inner.early.front_mut().filter(|front| front.len() > limit) {
            let taken = front.split_to(limit);
            inner.early.push_front(taken);
        }
        inner.poll_piece(cx)
    }

    /// The next piece; `None` is the clean end.
    pub(crate) fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, CutOff>>> {
        self.inner.lock().poll_piece(cx)
    }

    /// Tells the edge that no more of it is wanted.
    pub(crate) fn stop(&self, code: AbortCode) {
        self.inner.lock().recv.stop(code);
    }

    /// The stream itself, for an upgrade.
    pub(crate) fn into_recv(self) -> Option<RecvStream> {
        Arc::into_inner(self.inner).map(|inner| inner.into_inner().recv)
    }
}

impl Inner {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, CutOff>>> {
        loop {
            if let Some(bytes) = self.early.pop_front() {
                if let Some(owed) = &mut self.owed {
                    match owed.checked_sub(bytes.len() as u64) {
                        Some(rest) => *owed = rest,
                        None => return self.fail(AbortCode::Protocol),
                    }
                }
                self.remember(&bytes);
                return Poll::Ready(Some(Ok(Piece::Data(bytes))));
            }
            if let Some(code) = self.failed {
                return Poll::Ready(Some(Err(CutOff(code))));
            }
            if self.ended {
                // A declared length that was not reached is a truncated body, whatever the END says (hazard 15).
                if self.owed.is_some_and(|owed| owed > 0) {
                    return self.fail(AbortCode::Protocol);
                }
                let trailers =
                    self.trailers.as_ref().filter(|_| !std::mem::replace(&mut self.trailers_given, true));
                return Poll::Ready(trailers.map(|trailers| Ok(Piece::Trailers(trailers.clone()))));
            }
            ready!(self.poll_tunnel(cx));
        }
    }

    fn fail(&mut self, code: AbortCode) -> Poll<Option<Result<Piece, CutOff>>> {
        self.failed = Some(code);
        Poll::Ready(Some(Err(CutOff(code))))
    }

    /// Moves one frame from the tunnel into this.
    fn poll_tunnel(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.recv.poll_frame(cx)) {
            Ok(Frame::Data(bytes)) => {
                self.received += bytes.len() as u64;
                self.early.push_back(bytes);
            }
            Ok(Frame::Trailers(mut trailers)) => {
                keep_trailers(&mut trailers);
                self.trailers = (!trailers.is_empty()).then_some(trailers);
            }
            Ok(Frame::End) => self.ended = true,
            Err(error) => self.failed = Some(error.code()),
        }
        Poll::Ready(())
    }

    fn remember(&mut self, bytes: &Bytes) {
        if self.replay.as_mut().is_some_and(|replay| !replay.push(bytes)) {
            self.replay = None;
        }
    }
}

/// A body's beginning, kept to be sent once more.
#[derive(Debug, Default)]
struct Replay {
    pieces: Vec<Bytes>,
    bytes: usize,
    /// Where what is more than [`REPLAY_BYTES`] is borrowed from, and how much is.
    budget: Option<Arc<ReplayBudget>>,
    borrowed: usize,
}

impl Replay {
    /// `false` when there is no room for it.
    fn push(&mut self, bytes: &Bytes) -> bool {
        self.bytes += bytes.len();
        if self.bytes > REPLAY_BYTES {
            let more = self.bytes - REPLAY_BYTES - self.borrowed;
            let Some(budget) = &self.budget else { return false };
            if self.bytes > MAX_REPLAY_BYTES || !budget.borrow(more) {
                return false;
            }
            self.borrowed += more;
        }
        self.pieces.push(bytes.clone());
        true
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.0.fetch_add(self.borrowed, Ordering::Relaxed);
        }
    }
}

/// Memory for the bodies of all requests to one origin that may have to be sent once more.
#[derive(Debug)]
pub(crate) struct ReplayBudget(AtomicUsize);

impl Default for ReplayBudget {
    fn default() -> Self {
        Self(AtomicUsize::new(REPLAY_BUDGET_BYTES))
    }
}

impl ReplayBudget {
    fn borrow(&self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, CutOff>>> {
        let Some(upload) = &self.0 else { return Poll::Ready(None) };
        upload.poll_piece(cx).map_ok(|piece| match piece {
            Piece::Data(bytes) => http_body::Frame::data(bytes),
            Piece::Trailers(trailers) => http_body::Frame::trailers(trailers),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.as_ref().map(Upload::kind) {
            None | Some(BodyKind::None) => SizeHint::with_exact(0),
            Some(BodyKind::Known(length)) => SizeHint::with_exact(length),
            Some(BodyKind::Unknown) => SizeHint::default(),
        }
    }
}

/// As much of a body as is read ahead, so that a small one goes out with its head.
const PREFETCH_BYTES: usize = 64 * 1024;
/// As much of a body as is always kept to be sent once more (hazard 136): the window that nginx, Node and the protocol
/// itself begin with.
const REPLAY_BYTES: usize = 64 * 1024;
/// As much as is kept where the origin may still say that it did not take the request: Go's window, the widest among the
/// usual servers.
const MAX_REPLAY_BYTES: usize = 1024 * 1024;
/// What all bodies on their way to one origin may keep together beyond [`REPLAY_BYTES`] each: an eighth of the memory of
/// the smallest machine.
const REPLAY_BUDGET_BYTES: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_bodies_has_a_bound_each_and_one_for_all() {
        let piece = Bytes::from(vec![0; 60 * 1024]);
        let mut alone = Replay::default();
        assert!(alone.push(&piece) && !alone.push(&piece));
        let budget = Arc::new(ReplayBudget::default());
        let kept = |budget: &Arc<ReplayBudget>| {
            let mut replay = Replay::default();
            replay.budget = Some(Arc::clone(budget));
            while replay.push(&piece) {}
            replay
        };
        let many: Vec<Replay> = (0..100).map(|_| kept(&budget)).collect();
        let whole = MAX_REPLAY_BYTES / piece.len();
        assert_eq!(many[0].pieces.len(), whole);
        assert_eq!(many[99].pieces.len(), 1);
        let all: usize = many.iter().map(|replay| replay.borrowed).sum();
        assert!(all <= REPLAY_BUDGET_BYTES, "{all}");
        drop(many);
        assert_eq!(budget.0.load(Ordering::Relaxed), REPLAY_BUDGET_BYTES);
        assert_eq!(kept(&budget).pieces.len(), whole);
    }
}

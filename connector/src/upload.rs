//! The visitor's body on its way to an origin: read from the tunnel as the origin takes it, replayable while small.
//!
//! ```text
//! Open ──END──► Ended ──all handed on, and it was less or more than declared──► Contradicted
//!   └──reset, a bad frame, more than declared──► Broken
//! ```

mod replay;
mod request_body;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use causeway_tunnel::semantics::keep_trailers;
use causeway_tunnel::{AbortCode, BodyKind, Frame, RecvStream};
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;

use crate::stalled::{Stall, Stalls};
use replay::Replay;
pub(crate) use replay::ReplayBudget;
pub(crate) use request_body::RequestBody;

/// The body of one request. Shared between hyper, which reads it, and the exchange, which may have to rewind it; both
/// are polled by the same task, so the lock is never waited for.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    inner: Arc<Mutex<Inner>>,
    kind: BodyKind,
}

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
    end: End,
    trailers: Trailers,
    /// What was handed on so far, as long as it may have to be sent once more.
    replay: Option<Replay>,
    /// What a body of known length still owes; `None` for others.
    owed: Option<u64>,
    /// Bytes that came out of the tunnel.
    received: u64,
    /// Once it is known not to be whole at once.
    stall: Option<Arc<Stall>>,
}

/// What is known of the body's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// More may come.
    Open,
    /// END was read.
    Ended,
    /// END was read, and what came is not of the declared length: a truncated body, whatever the END says (hazard 15).
    Contradicted,
    /// The stream broke off, or brought more than was declared.
    Broken(AbortCode),
}

/// The trailers that were read.
#[derive(Debug)]
enum Trailers {
    None,
    /// Not handed on yet, or to be handed on once more.
    Waiting(HeaderMap),
    Given(HeaderMap),
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
            end: End::Open,
            trailers: Trailers::None,
            replay: Some(Replay::default()),
            owed,
            received: 0,
            stall: None,
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

    /// Takes what has already arrived, so that a small body goes out in one write with its head. A body that goes on is watched
    /// from here on: it may stand.
    pub(crate) async fn prefetch(&self, stalls: &Stalls) {
        std::future::poll_fn(|cx| {
            let mut inner = self.inner.lock();
            while inner.early.iter().map(Bytes::len).sum::<usize>() < PREFETCH_BYTES {
                if !inner.poll_tunnel(cx).is_ready() || inner.end != End::Open {
                    break;
                }
            }
            if inner.end == End::Open && inner.owed != Some(0) {
                inner.stall = Some(stalls.body());
                inner.stand(0);
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
                match inner.end {
                    _ if length > limit => return Poll::Ready(None),
                    End::Contradicted | End::Broken(_) => return Poll::Ready(None),
                    End::Ended => return Poll::Ready(Some(length)),
                    End::Open => ready!(inner.poll_tunnel(cx)),
                }
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
        inner.has_end() && inner.early.is_empty()
    }

    /// Whether all of it was handed on, and was what its head had said: only then does the origin wait for nothing more.
    pub(crate) fn is_whole(&self) -> bool {
        let inner = self.inner.lock();
        inner.end == End::Ended && inner.early.is_empty() && inner.owed.is_none_or(|owed| owed == 0)
    }

    /// Whether the visitor's END was read.
    pub(crate) fn is_ended(&self) -> bool {
        self.inner.lock().has_end()
    }

    /// Whether the visitor has nothing more to say: END was read, or all of a declared length was handed on.
    pub(crate) fn is_complete(&self) -> bool {
        let inner = self.inner.lock();
        inner.has_end() || inner.owed == Some(0)
    }

    /// Reads END where nobody else does: hyper asks no further once a declared length is reached.
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) {
        let mut inner = self.inner.lock();
        while inner.owed == Some(0) && inner.early.is_empty() && inner.end == End::Open {
            if inner.poll_tunnel(cx).is_pending() {
                break;
            }
        }
    }

    /// Why it was cut off, if it was.
    pub(crate) fn failure(&self) -> Option<AbortCode> {
        self.inner.lock().failure()
    }

    /// The names of trailers that are known already: HTTP/1.1 announces them in its head.
    pub(crate) fn trailer_names(&self) -> Option<HeaderValue> {
        let inner = self.inner.lock();
        let (Trailers::Waiting(trailers) | Trailers::Given(trailers)) = &inner.trailers else { return None };
        let names: Vec<&str> = trailers.keys().map(http::HeaderName::as_str).collect();
        HeaderValue::try_from(names.join(", ")).ok()
    }

    pub(crate) fn received(&self) -> u64 {
        self.inner.lock().received
    }

    /// Keeps more of it to be sent again than the usual, as long as `budget` has memory for that.
    pub(crate) fn keep_more(&self, budget: &Arc<ReplayBudget>) {
        if let Some(replay) = &mut self.inner.lock().replay {
            replay.lend(budget);
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
        inner.trailers = match std::mem::replace(&mut inner.trailers, Trailers::None) {
            // Given → Waiting.
            Trailers::Given(trailers) => Trailers::Waiting(trailers),
            others => others,
        };
        let pieces = replay.take();
        let again: usize = pieces.iter().map(Bytes::len).sum();
        inner.owed = inner.owed.map(|owed| owed + again as u64);
        for piece in pieces.into_iter().rev() {
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
            if inner.end != End::Open {
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

    /// Ready when it has stood for too long while too much waited for its likes.
    pub(crate) fn poll_evicted(&self, cx: &Context<'_>) -> Poll<()> {
        let inner = self.inner.lock();
        inner.stall.as_ref().map_or(Poll::Pending, |stall| stall.poll_evicted(cx))
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
        if let Some(stall) = &self.stall {
            stall.moves();
        }
        let piece = self.poll_next(cx);
        if let Poll::Ready(Some(Ok(Piece::Data(bytes)))) = &piece {
            self.stand(bytes.len());
        }
        piece
    }

    /// Until the next poll the origin keeps us waiting: with what was handed out, what is kept and what may come.
    fn stand(&self, handed_out: usize) {
        let Some(stall) = &self.stall else { return };
        let early: usize = self.early.iter().map(Bytes::len).sum();
        let mut waiting = if self.end == End::Open { self.recv.waiting_bytes() } else { 0 };
        if let Some(owed) = self.owed {
            waiting = waiting.min(usize::try_from(owed).unwrap_or(usize::MAX).saturating_sub(early));
        }
        let kept = self.replay.as_ref().map_or(0, Replay::bytes);
        stall.stands(early + waiting + kept.max(handed_out), self.recv.held_bytes().min(waiting));
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, CutOff>>> {
        loop {
            if let Some(bytes) = self.early.pop_front() {
                if let Some(owed) = &mut self.owed {
                    match owed.checked_sub(bytes.len() as u64) {
                        Some(rest) => *owed = rest,
                        None => return self.contradict(),
                    }
                }
                self.remember(&bytes);
                return Poll::Ready(Some(Ok(Piece::Data(bytes))));
            }
            match self.end {
                End::Open => ready!(self.poll_tunnel(cx)),
                End::Ended if self.owed.is_some_and(|owed| owed > 0) => return self.contradict(),
                End::Ended => {
                    return Poll::Ready(self.give_trailers().map(|given| Ok(Piece::Trailers(given))));
                }
                End::Contradicted => return Poll::Ready(Some(Err(CutOff(AbortCode::Protocol)))),
                End::Broken(code) => return Poll::Ready(Some(Err(CutOff(code)))),
            }
        }
    }

    /// The body is not what its head declared.
    fn contradict(&mut self) -> Poll<Option<Result<Piece, CutOff>>> {
        self.end = match self.end {
            // Ended → Contradicted.
            End::Ended | End::Contradicted => End::Contradicted,
            // Open → Broken.
            End::Open | End::Broken(_) => End::Broken(AbortCode::Protocol),
        };
        Poll::Ready(Some(Err(CutOff(AbortCode::Protocol))))
    }

    fn give_trailers(&mut self) -> Option<HeaderMap> {
        match std::mem::replace(&mut self.trailers, Trailers::None) {
            // Waiting → Given.
            Trailers::Waiting(trailers) => {
                self.trailers = Trailers::Given(trailers.clone());
                Some(trailers)
            }
            others => {
                self.trailers = others;
                None
            }
        }
    }

    fn has_end(&self) -> bool {
        matches!(self.end, End::Ended | End::Contradicted)
    }

    fn failure(&self) -> Option<AbortCode> {
        match self.end {
            End::Open | End::Ended => None,
            End::Contradicted => Some(AbortCode::Protocol),
            End::Broken(code) => Some(code),
        }
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
                // None → Waiting.
                if !trailers.is_empty() {
                    self.trailers = Trailers::Waiting(trailers);
                }
            }
            // Open → Ended.
            Ok(Frame::End) => self.end = End::Ended,
            // Open → Broken.
            Err(error) => self.end = End::Broken(error.code()),
        }
        Poll::Ready(())
    }

    fn remember(&mut self, bytes: &Bytes) {
        if self.replay.as_mut().is_some_and(|replay| !replay.push(bytes)) {
            self.replay = None;
        }
    }
}

/// As much of a body as is read ahead, so that a small one goes out with its head.
const PREFETCH_BYTES: usize = 64 * 1024;

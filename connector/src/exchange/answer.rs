//! An answer on its way back: head and body from the origin into the tunnel, and the rest of an upload after it.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use causeway_tunnel::semantics::{is_long_silent, keep_trailers};
use causeway_tunnel::{AbortCode, BodyKind, First, ResponseHead};
use http::header::HeaderMap;
use http::{Method, StatusCode};

use super::Exchange;
use crate::failure::Failure;
use crate::headers;
use crate::origin::{AnswerBody, BodyError, Companion};
use crate::patience::Patience;
use crate::stalled::Stall;
use crate::upload::Piece;
use crate::wait::{beside, beside_body, wait};

impl Exchange<'_> {
    /// Hands an answer on: head and what has already come of the body in one write, then piece by piece.
    pub(super) async fn respond(
        &mut self,
        companion: &mut impl Companion,
        status: StatusCode,
        mut headers: HeaderMap,
        body: &mut AnswerBody,
        method: &Method,
        patience: &mut Patience,
    ) -> Result<(), Failure> {
        let kind = headers::from_origin(status, &mut headers, *method == Method::HEAD)?;
        let limit =
            if is_long_silent(&headers) { Duration::ZERO } else { self.origin.settings().idle_timeout };
        patience.set_limit(limit);
        let mut head = ResponseHead { status, headers, body: kind };
        let empty = matches!(kind, BodyKind::None | BodyKind::Known(0));
        let mut first = Bytes::new();
        let mut next = None;
        if !empty {
            (first, next) = arrived(companion, body).await;
        }
        let whole = empty
            || matches!(next, Some(None))
            || (next.is_none() && kind == BodyKind::Known(first.len() as u64) && !body.is_cut_short());
        if let Some(Some(Err(error))) = &next {
            // Broken already: a clear refusal is better than the beginning of an answer.
            return Err(Failure::body(error, self.upload.failure()));
        }
        self.answered(status);
        self.down += first.len() as u64;
        if whole {
            if first.is_empty() && kind == BodyKind::Unknown {
                // Said with the head: its END may come later, and the one head of a gRPC error must be seen to be all.
                head.body = BodyKind::None;
            }
            beside(companion, self.send.response(&head, First::Only(first))).await?;
            return Ok(());
        }
        beside_body(companion, body, self.send.response(&head, First::More)).await?;
        beside_body(companion, body, self.send.data(first)).await?;
        let stall = self.shard.stalls.body();
        let cut_off = self.upload.clone();
        loop {
            let piece = match next.take() {
                Some(piece) => piece,
                None => {
                    if !body.comes_unasked() {
                        // Until the tunnel takes something, the kernel keeps it.
                        beside(companion, self.send.ready()).await?;
                    }
                    self.next_piece(companion, body, patience).await?
                }
            };
            match piece {
                Some(Ok(Piece::Data(bytes))) => {
                    self.down += bytes.len() as u64;
                    // As much again was read ahead.
                    let charge = bytes.len() * 2;
                    let data = unless_evicted(&stall, charge, self.send.data(bytes));
                    beside_body(companion, body, data).await??;
                }
                Some(Ok(Piece::Trailers(mut trailers))) => {
                    keep_trailers(&mut trailers);
                    if !trailers.is_empty() {
                        beside(companion, self.send.trailers(&trailers)).await?;
                    }
                }
                Some(Err(error)) => return Err(Failure::body(&error, cut_off.failure())),
                None => {
                    self.send.end().await?;
                    return Ok(());
                }
            }
        }
    }

    /// The next piece of the body. While there is none, others have the turn.
    async fn next_piece(
        &mut self,
        companion: &mut impl Companion,
        body: &mut AnswerBody,
        patience: &mut Patience,
    ) -> Result<Option<Result<Piece, BodyError>>, Failure> {
        let here = std::future::poll_fn(|cx| {
            companion.poll_beside(cx);
            Poll::Ready(body.poll_piece(cx))
        });
        if let Poll::Ready(piece) = here.await {
            patience.progress();
            return Ok(piece);
        }
        self.send.pass();
        wait(companion, patience, self.send, |cx| body.poll_piece(cx))
            .await
            .map_err(|interrupt| Failure::interrupted(interrupt, "go on with its answer"))
    }

    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
        self.rule.metrics.answered(status, self.begun.elapsed().as_secs_f64());
    }

    /// The answer is out but the visitor still sends: goes on for a little, so that a connection with a small rest can
    /// be kept, then gives up (hazard 146).
    pub(super) async fn linger(&mut self, companion: &mut impl Companion) {
        if self.upload.is_ended() && self.upload.is_spent() {
            return;
        }
        let upload = &self.upload;
        let limit = upload.received() + LINGER_BYTES;
        let rest = std::future::poll_fn(|cx| {
            companion.poll_beside(cx);
            upload.poll_end(cx);
            let over = upload.is_spent()
                || upload.failure().is_some()
                || upload.received() > limit
                || companion.is_deaf();
            if over { Poll::Ready(()) } else { Poll::Pending }
        });
        let _ = tokio::time::timeout(LINGER, rest).await;
        if !upload.is_ended() {
            upload.stop(AbortCode::Cancelled);
        }
    }
}

/// Waits for the tunnel to take a piece, until that has to make room for others. So much is held meanwhile.
async fn unless_evicted<T>(
    stall: &Stall,
    charge: usize,
    taken: impl Future<Output = T>,
) -> Result<T, Failure> {
    let mut taken = pin!(taken);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(taken) = taken.as_mut().poll(cx) {
            stall.moves();
            return Poll::Ready(Ok(taken));
        }
        stall.stands(charge, 0);
        stall.poll_evicted(cx).map(|()| {
            Err(Failure::visitor(AbortCode::Timeout, "the visitor does not read, and too much waits for it"))
        })
    })
    .await
}

/// A piece of an answer's body, its end, or its breaking off.
type Next = Option<Result<Piece, BodyError>>;

/// What of a body has arrived together with its head: the first data, and what is known to come next.
async fn arrived(companion: &mut impl Companion, body: &mut AnswerBody) -> (Bytes, Option<Next>) {
    std::future::poll_fn(|cx| {
        let mut first = Bytes::new();
        loop {
            match body.poll_piece(cx) {
                Poll::Ready(Some(Ok(Piece::Data(bytes)))) if first.is_empty() => first = bytes,
                Poll::Ready(next) => return Poll::Ready((first, Some(next))),
                Poll::Pending => return Poll::Ready((first, None)),
            }
            // The next piece lies in the connection's buffer until it is polled.
            companion.poll_beside(cx);
        }
    })
    .await
}

/// An early final answer to an upload waits this long, or for so many bytes, for the rest (hazard 146).
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: u64 = 64 * 1024;

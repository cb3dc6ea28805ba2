//! Waiting while other things move: a connection or an upload beside, the visitor's patience behind.

use std::pin::pin;
use std::task::{Context, Poll};

use causeway_tunnel::SendStream;

use crate::origin::{AnswerBody, Companion};
use crate::patience::{Interrupt, Patience};
use crate::upload::Upload;

/// Waits for `poll` while `companion` moves and the visitor is watched.
pub(crate) async fn wait<T>(
    companion: &mut impl Companion,
    patience: &mut Patience,
    send: &SendStream,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Result<T, Interrupt> {
    let waited = std::future::poll_fn(|cx| {
        companion.poll_beside(cx);
        match poll(cx) {
            Poll::Ready(ready) => Poll::Ready(Ok(ready)),
            Poll::Pending => patience.poll(cx, send).map(Err),
        }
    })
    .await;
    patience.progress();
    waited
}

/// [`wait`] for an answer's head: an origin may take its time for as long as the visitor is still sending.
pub(crate) async fn wait_for_head<T>(
    companion: &mut impl Companion,
    patience: &mut Patience,
    send: &SendStream,
    upload: &Upload,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Result<T, Interrupt> {
    std::future::poll_fn(|cx| {
        companion.poll_beside(cx);
        if let Poll::Ready(ready) = poll(cx) {
            return Poll::Ready(Ok(ready));
        }
        if !upload.is_complete() {
            patience.progress();
        }
        patience.poll(cx, send).map(Err)
    })
    .await
}

/// Awaits `future` while `companion` moves.
pub(crate) async fn beside<T>(companion: &mut impl Companion, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        companion.poll_beside(cx);
        future.as_mut().poll(cx)
    })
    .await
}

/// [`beside`] while an answer's body comes on: what of it cannot be handed on yet takes little memory.
pub(crate) async fn beside_body<T>(
    companion: &mut impl Companion,
    body: &mut AnswerBody,
    future: impl Future<Output = T>,
) -> T {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        companion.poll_beside(cx);
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            body.absorb(cx);
        }
        polled
    })
    .await
}

/// While a connection is being made nothing else moves.
pub(crate) struct Nothing;

impl Companion for Nothing {
    fn poll_beside(&mut self, _: &mut Context<'_>) {}
}

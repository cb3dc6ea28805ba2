//! Sends a request body into the tunnel while the answer is awaited, and beyond it.
//!
//! The pump owns the stream's sending half and the body, and gives the body back when it is stopped, so that another
//! attempt can begin with it. A boxed future: cutting a write short would leave half a frame on the stream, so the one
//! who waits for the answer only polls it, and hands it on whole when the answer is there first.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use causeway_tunnel::{AbortCode, StreamError};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::upload::{Piece, Upload};
use crate::exchange::InError;
use crate::session::SendHalf;

/// What a visitor may still send after a complete early answer, so that he gets to read it (hazard 146).
const DISCARD_BYTES: usize = 64 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(5);

pub(super) struct Pump {
    future: Pin<Box<dyn Future<Output = Pumped> + Send>>,
    stop: Option<oneshot::Sender<Stop>>,
    can_restart: Arc<AtomicBool>,
}

pub(super) struct Pumped {
    pub(super) upload: Upload,
    pub(super) end: End,
}

/// How the pump ended.
#[derive(Debug)]
pub(super) enum End {
    /// The body is in the tunnel to its clean end.
    Whole,
    /// The visitor's body broke; the stream was aborted.
    Visitor(InError),
    /// The connector wants no more of it, or is gone.
    Stream(StreamError),
    /// The connector took nothing for too long; the stream was aborted.
    Stalled,
    /// As asked.
    Stopped,
}

enum Stop {
    Now,
    /// Only if nothing of the body has come yet: a visitor who waits for 100 and got his answer instead.
    IfUntouched,
}

impl Pump {
    /// `idle` of zero is for ever.
    pub(super) fn new(send: SendHalf, upload: Upload, idle: Duration) -> Self {
        let (stop, stopped) = oneshot::channel();
        let can_restart = Arc::new(AtomicBool::new(upload.can_restart()));
        let future = Box::pin(run(send, upload, stopped, idle, Arc::clone(&can_restart)));
        Self { future, stop: Some(stop), can_restart }
    }

    /// Whether the body can be sent again from its first byte, as far as the pump has taken it; to be asked at any time.
    pub(super) fn can_restart(&self) -> impl Fn() -> bool + use<> {
        let can_restart = Arc::clone(&self.can_restart);
        move || can_restart.load(Ordering::Relaxed)
    }

    /// Moves the body until it ends one way or the other. Cancel safe. Not to be called again afterwards.
    pub(super) async fn finished(&mut self) -> Pumped {
        self.future.as_mut().await
    }

    /// Stops and gives the body back.
    pub(super) async fn stop(mut self) -> Upload {
        self.send_stop(Stop::Now);
        self.future.await.upload
    }

    /// The rest of the upload, when the answer's head came first: full duplex, or an early answer.
    pub(super) async fn outlive(mut self, awaits_continue: bool) {
        if awaits_continue {
            self.send_stop(Stop::IfUntouched);
        }
        let Pumped { upload, end } = self.future.await;
        if let End::Stream(StreamError::Aborted(_)) = end {
            // Too much or too slow: dropping the body closes the visitor's connection, or resets his stream.
            let _ = timeout(DISCARD_TIME, upload.discard(DISCARD_BYTES)).await;
        }
    }

    fn send_stop(&mut self, stop: Stop) {
        if let Some(sender) = self.stop.take() {
            // The other end lives in our own future.
            let _ = sender.send(stop);
        }
    }
}

async fn run(
    mut send: SendHalf,
    mut upload: Upload,
    mut stop: oneshot::Receiver<Stop>,
    idle: Duration,
    can_restart: Arc<AtomicBool>,
) -> Pumped {
    let mut given_up = pin!(send.stopped());
    let mut may_stop = true;
    let end = loop {
        let piece = tokio::select! {
            biased;
            stop = &mut stop, if may_stop => match stop {
                Ok(Stop::Now) => break End::Stopped,
                Ok(Stop::IfUntouched) if upload.is_untouched() => break End::Stopped,
                _ => {
                    may_stop = false;
                    continue;
                }
            },
            code = &mut given_up => break End::Stream(StreamError::Aborted(code.unwrap_or(AbortCode::Cancelled))),
            piece = upload.next() => piece,
        };
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                send.abort(abort_code(error));
                break End::Visitor(error);
            }
        };
        can_restart.store(upload.can_restart(), Ordering::Relaxed);
        let is_end = matches!(piece, Piece::End(_));
        let write = within(idle, write(&mut send, piece));
        let written = tokio::select! {
            biased;
            // A part of the frame may be on its way: the stream is given up anyway.
            Ok(Stop::Now) = &mut stop, if may_stop => break End::Stopped,
            written = write => written,
            // The connector takes nothing now: this stream's small frames must not become its neighbours' trouble.
            never = upload.take_in() => match never {},
        };
        match written {
            Some(Ok(())) if is_end => break End::Whole,
            Some(Ok(())) => {}
            Some(Err(error)) => break End::Stream(error),
            None => {
                send.abort(AbortCode::Timeout);
                break End::Stalled;
            }
        }
    };
    Pumped { upload, end }
}

async fn write(send: &mut SendHalf, piece: Piece) -> Result<(), StreamError> {
    match piece {
        Piece::Data(bytes) => send.data(bytes).await,
        Piece::End(None) => send.end().await,
        Piece::End(Some(trailers)) => {
            send.trailers(&trailers).await?;
            send.end().await
        }
    }
}

/// `None` when the time is over.
async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    if limit.is_zero() {
        return Some(future.await);
    }
    timeout(limit, future).await.ok()
}

fn abort_code(error: InError) -> AbortCode {
    match error {
        InError::Gone => AbortCode::Cancelled,
        InError::Malformed(_) => AbortCode::BadBody,
        InError::Slow => AbortCode::Timeout,
    }
}

//! A response on its way to an HTTP/3 visitor: its head, its frames with back-pressure, and its end.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use http::{Response, StatusCode};
use http_body::Body;
use tokio::sync::oneshot;

use super::super::entry::Asked;
use super::super::headers;
use super::super::timing::{Alarm, Limits, Meter};
use super::responder::Responder;
use super::shared::Running;
use crate::exchange::{Abort, OutBody};
use crate::household::{EVICTED, Reader};
use crate::record::Record;

/// Why a response was not sent whole.
pub(super) enum Broken {
    /// By the visitor: it gave up, or is gone.
    Visitor(Abort),
    /// By us: the visitor gets a reset.
    Ours(Abort),
}

/// One answer on its way.
pub(super) struct Sending<'a> {
    pub(super) responder: &'a Responder,
    pub(super) record: &'a Record,
    pub(super) running: &'a Running,
    meter: Meter,
    alarm: Alarm,
    /// Counts what the visitor keeps waiting.
    reader: Option<Arc<Reader>>,
}

impl<'a> Sending<'a> {
    pub(super) fn new(
        responder: &'a Responder,
        record: &'a Record,
        running: &'a Running,
        limits: &Limits,
    ) -> Self {
        Self { responder, record, running, meter: limits.writing(), alarm: Alarm::default(), reader: None }
    }

    /// Sends a small answer of our own.
    pub(super) async fn refusal(mut self, response: Response<OutBody>) {
        self.record.set_head(response.status(), response.headers());
        let (head, body) = response.into_parts();
        self.responder.begin(head.status, &head.headers);
        if let Err(Broken::Visitor(abort) | Broken::Ours(abort)) = self.body(body, None).await {
            tracing::debug!(%abort, "refusal not delivered");
        }
    }

    /// Sends the whole answer; of a granted upgrade the head alone.
    pub(super) async fn answer(
        mut self,
        response: Response<OutBody>,
        asked: &Asked,
        granted: Option<oneshot::Sender<()>>,
    ) -> Result<(), Broken> {
        let (head, body) = response.into_parts();
        let has_no_body =
            asked.is_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let is_end = granted.is_none() && (has_no_body || body.is_end_stream());
        let length = headers::content_length(&head.headers).filter(|_| !has_no_body && granted.is_none());
        if is_end && length.is_some_and(|length| length > 0) {
            return Err(Broken::Ours(Abort::new("response ended before its declared length")));
        }
        let size = self.responder.begin(head.status, &head.headers);
        if !self.running.shared().takes_head_of(size) {
            return Err(Broken::Ours(Abort::new("the visitor takes no head of this size")));
        }
        if let Some(granted) = granted {
            self.flush().await?;
            // The other end is gone when the core dropped the upgrade after granting it: then the stream is reset.
            let _ = granted.send(());
            return Ok(());
        }
        if is_end {
            self.flush().await?;
            self.responder.finish();
            return Ok(());
        }
        self.body(body, length).await
    }

    /// Sends the body's frames with back-pressure, and its end. `length`: what the head declared.
    async fn body(&mut self, mut body: OutBody, mut length: Option<u64>) -> Result<(), Broken> {
        self.reader = body.reader().cloned();
        loop {
            let frame = poll_fn(|cx| {
                if let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(cx) {
                    return Poll::Ready(Ok(frame));
                }
                // Nothing more for now: what is in line must not wait for it.
                let mut moved = 0;
                if let Poll::Ready(Err(abort)) = self.responder.poll_flush(&mut moved, cx) {
                    return Poll::Ready(Err(Broken::Visitor(abort)));
                }
                self.responder.poll_stopped(cx).map(|abort| Err(Broken::Visitor(abort)))
            });
            let frame = frame.await?.transpose().map_err(Broken::Ours)?;
            let Some(frame) = frame else { break };
            match frame.into_data() {
                Ok(data) if data.is_empty() => continue,
                Ok(data) => {
                    self.record.add_out(&data);
                    if let Some(left) = &mut length {
                        *left = left.checked_sub(data.len() as u64).ok_or_else(too_long)?;
                    }
                    if body.is_end_stream() {
                        check_complete(length)?;
                    }
                    self.responder.data(data);
                }
                Err(frame) => {
                    let Ok(trailers) = frame.into_trailers() else { continue };
                    check_complete(length)?;
                    self.responder.trailers(&trailers);
                }
            }
            self.flush().await?;
            if body.is_end_stream() {
                break;
            }
        }
        check_complete(length)?;
        self.flush().await?;
        self.responder.finish();
        Ok(())
    }

    /// Waits until the carrier has taken what is in line.
    async fn flush(&mut self) -> Result<(), Broken> {
        let Self { responder, running, meter, alarm, reader, .. } = self;
        poll_fn(|cx| {
            let mut moved = 0;
            let flushed = responder.poll_flush(&mut moved, cx);
            if moved > 0 {
                running.shared().moved(moved);
                // Streams share their connection's rate: a slow line with many of them is not a slow reader of each.
                meter.moved(moved.saturating_mul(running.count()));
            }
            if let Poll::Ready(flushed) = flushed {
                return Poll::Ready(flushed.map_err(Broken::Visitor));
            }
            if reader.as_ref().is_some_and(|reader| reader.poll_evicted(cx).is_ready()) {
                return Poll::Ready(Err(Broken::Ours(Abort::new(EVICTED))));
            }
            ready!(alarm.poll(meter.deadline(), cx));
            Poll::Ready(Err(Broken::Ours(Abort::new("visitor took nothing for too long"))))
        })
        .await
    }
}

fn check_complete(left: Option<u64>) -> Result<(), Broken> {
    if left.is_none_or(|left| left == 0) {
        return Ok(());
    }
    Err(Broken::Ours(Abort::new("response ended before its declared length")))
}

fn too_long() -> Broken {
    Broken::Ours(Abort::new("response is longer than it declared"))
}

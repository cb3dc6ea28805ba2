//! A response on its way to an HTTP/2 visitor: its head, its frames with back-pressure, and its end.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{Response, StatusCode};
use http_body::Body;
use tokio::sync::oneshot;

use super::super::entry::Asked;
use super::super::headers;
use super::super::timing::{Alarm, Limits};
use super::responder::Responder;
use super::shared::Running;
use crate::exchange::{Abort, OutBody};
use crate::household::EVICTED;
use crate::record::Record;

/// Why a response was not sent whole.
pub(super) enum Broken {
    /// By the visitor: reset, or gone.
    Visitor(Abort),
    /// By us: the visitor gets a reset.
    Ours(Abort),
}

/// Sends a small answer of our own.
pub(super) async fn refuse(
    respond: &mut SendResponse<Bytes>,
    response: Response<OutBody>,
    record: Record,
    running: &Running,
    limits: &Limits,
) {
    record.set_head(response.status(), response.headers());
    let (head, body) = response.into_parts();
    let is_end = body.is_end_stream();
    let sent = match respond.send_response(Response::from_parts(head, ()), is_end) {
        Ok(mut send) if !is_end => send_body(&mut send, body, None, &record, running, limits).await,
        _ => Ok(()),
    };
    if let Err(Broken::Visitor(abort) | Broken::Ours(abort)) = sent {
        tracing::debug!(%abort, "refusal not delivered");
    }
}

pub(super) async fn send(
    respond: &Responder,
    response: Response<OutBody>,
    asked: &Asked,
    granted: Option<oneshot::Sender<SendStream<Bytes>>>,
    record: &Record,
    running: &Running,
    limits: &Limits,
) -> Result<(), Broken> {
    let (head, body) = response.into_parts();
    let has_no_body =
        asked.is_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let is_end = granted.is_none() && (has_no_body || body.is_end_stream());
    let length = headers::content_length(&head.headers).filter(|_| !has_no_body && granted.is_none());
    if is_end && length.is_some_and(|length| length > 0) {
        return Err(Broken::Ours(Abort::new("response ended before its declared length")));
    }
    let sent = respond.respond(Response::from_parts(head, ()), is_end);
    let mut send = sent.map_err(|error| Broken::Visitor(gone(error)))?;
    if let Some(granted) = granted {
        // The other end is gone when the core dropped the upgrade after granting it: then the stream is reset.
        let _ = granted.send(send);
        return Ok(());
    }
    if is_end {
        return Ok(());
    }
    send_body(&mut send, body, length, record, running, limits).await
}

/// Sends the body's frames with back-pressure, and its end. `length`: what the head declared.
async fn send_body(
    send: &mut SendStream<Bytes>,
    mut body: OutBody,
    mut length: Option<u64>,
    record: &Record,
    running: &Running,
    limits: &Limits,
) -> Result<(), Broken> {
    let (mut meter, mut alarm) = (limits.writing(), Alarm::default());
    let (reader, backlog) = (body.reader().cloned(), running.backlog());
    loop {
        let frame = poll_fn(|cx| {
            if let Poll::Ready(reset) = send.poll_reset(cx) {
                return Poll::Ready(Err(visitor_reset(reset)));
            }
            Pin::new(&mut body).poll_frame(cx).map(Ok)
        });
        let frame = frame.await?.transpose().map_err(Broken::Ours)?;
        let Some(frame) = frame else {
            check_complete(length)?;
            return send.send_data(Bytes::new(), true).map_err(|error| Broken::Visitor(gone(error)));
        };
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                let Ok(trailers) = frame.into_trailers() else { continue };
                check_complete(length)?;
                return send.send_trailers(trailers).map_err(|error| Broken::Visitor(gone(error)));
            }
        };
        record.add_out(&data);
        if let Some(left) = &mut length {
            *left = left.checked_sub(data.len() as u64).ok_or_else(too_long)?;
        }
        let is_last = body.is_end_stream();
        if is_last {
            check_complete(length)?;
        }
        if is_last && data.is_empty() {
            return send.send_data(data, true).map_err(|error| Broken::Visitor(gone(error)));
        }
        while !data.is_empty() {
            let granted = poll_fn(|cx| {
                if backlog.poll_room(cx).is_ready()
                    && let Poll::Ready(granted) = poll_capacity(send, data.len(), cx)
                {
                    return Poll::Ready(granted.map_err(Broken::Visitor));
                }
                if let Poll::Ready(reset) = send.poll_reset(cx) {
                    return Poll::Ready(Err(visitor_reset(reset)));
                }
                if reader.as_ref().is_some_and(|reader| reader.poll_evicted(cx).is_ready()) {
                    return Poll::Ready(Err(Broken::Ours(Abort::new(EVICTED))));
                }
                ready!(alarm.poll(meter.deadline(), cx));
                Poll::Ready(Err(stalled()))
            });
            let granted = granted.await?;
            // Streams share their connection's rate: a slow line with many of them is not a slow reader of each.
            meter.moved(granted.saturating_mul(running.count()));
            let part = backlog.hold(data.split_to(granted));
            let is_end = is_last && data.is_empty();
            send.send_data(part, is_end).map_err(|error| Broken::Visitor(gone(error)))?;
        }
        if is_last {
            return Ok(());
        }
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

fn stalled() -> Broken {
    Broken::Ours(Abort::new("visitor took nothing for too long"))
}

fn visitor_reset(reset: Result<Reason, h2::Error>) -> Broken {
    match reset {
        Ok(reason) => Broken::Visitor(Abort::new(format!("visitor reset the stream: {reason}"))),
        Err(error) => Broken::Visitor(gone(error)),
    }
}

/// How many of `wanted` bytes the visitor's windows let us send; at least one.
pub(super) fn poll_capacity(
    send: &mut SendStream<Bytes>,
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

pub(super) fn gone(error: h2::Error) -> Abort {
    Abort::new(format!("the visitor reset the stream: {error}"))
}

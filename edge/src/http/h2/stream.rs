//! One HTTP/2 request, from its head to the last frame of its response.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, ready};

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::entry::{Leaving, Peer, Service};
use super::super::guard::{Alarm, Limits, Refusal};
use super::super::headers;
use super::Shared;
use super::body::{Clock, H2Body, Pace};
use crate::access::Record;
use crate::exchange::{
    Abort, BodyKind, Exchange, Gate, Handler, InBody, Interim, OutBody, RawLimits, Target, Upgrade,
    UpgradeOrigin, gone, poll_capacity,
};
use crate::household::EVICTED;

pub(super) type Responder = Arc<Mutex<SendResponse<Bytes>>>;

/// Counts a running stream, however it ends.
pub(super) struct Guard {
    shared: Arc<Shared>,
    began: Instant,
}

impl Guard {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, began: Instant::now() }
    }

    /// How many streams its connection has at work, this one included.
    fn running(&self) -> usize {
        self.shared.running.lock().count
    }

    /// The visitor reset the stream. Too many of them end the connection.
    fn reset(&self) {
        let flood = self.shared.resets.lock().reset(self.began.elapsed(), std::time::Instant::now());
        if flood.is_err() {
            self.shared.flooded.notify_one();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut running = self.shared.running.lock();
        running.count -= 1;
        running.since = Instant::now();
    }
}

/// Why a response was not sent whole.
enum Broken {
    /// By the visitor: reset, or gone.
    Visitor(Abort),
    /// By us: the visitor gets a reset.
    Ours(Abort),
}

pub(super) async fn serve<H: Handler>(
    service: Arc<Service<H>>,
    peer: Arc<Peer>,
    guard: Guard,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (mut parts, recv) = request.into_parts();
    let protocol = parts.extensions.remove::<Protocol>();
    parts.extensions.clear();
    let is_websocket = match websocket(&mut parts.method, &parts.headers, protocol) {
        Ok(is_websocket) => is_websocket,
        Err(refusal) => {
            let turned = service.refuse(&peer, Version::HTTP_2, refusal);
            return answer(&mut respond, turned.response, turned.record, &guard, &service.limits).await;
        }
    };
    let entered = match service.enter(&peer, parts) {
        Ok(entered) => entered,
        Err(turned) => {
            return answer(&mut respond, turned.response, turned.record, &guard, &service.limits).await;
        }
    };
    let leaving = Leaving::new(&entered, is_websocket);
    let record = entered.record.clone();
    let respond: Responder = Arc::new(Mutex::new(respond));
    let expects = entered.parts.headers.contains_key(EXPECT) && !recv.is_end_stream();
    let gate = expects.then(Arc::<Gate>::default);
    let limits = service.limits;
    let is_answered = Arc::<AtomicBool>::default();
    let mut body = InBody::empty();
    let mut body_kind = BodyKind::None;
    let (mut upgrade, mut upgraded) = (None, None);
    if is_websocket {
        let (sender, receiver) = oneshot::channel();
        let origin = UpgradeOrigin::H2(recv, receiver);
        upgrade = Some(Upgrade::new("websocket", origin, RawLimits::of(&limits), record.clone()));
        upgraded = Some(sender);
    } else if !recv.is_end_stream() {
        body_kind = kind(&entered.parts.headers);
        let clock = Clock::new(Pace::of(&entered.parts.headers), limits, Arc::clone(&is_answered));
        let source = H2Body::new(recv, Arc::clone(&respond), expects, clock);
        body = InBody::arriving(Box::new(source), gate.clone(), record.clone());
    }
    let exchange = Exchange {
        id: entered.id,
        visitor: entered.visitor,
        host: entered.host,
        head: entered.parts,
        body,
        body_kind,
        upgrade,
        expect_continue: expects,
        interim: Interim::new(Some(Arc::new(ToResponder(Arc::clone(&respond)))), gate),
        record: entered.record,
    };
    let response = {
        let mut handled = pin!(service.handler.handle(exchange));
        let either = poll_fn(|cx| {
            if let Poll::Ready(reset) = respond.lock().poll_reset(cx) {
                return Poll::Ready(Err(reset));
            }
            handled.as_mut().poll(cx).map(Ok)
        });
        either.await
    };
    let Ok(response) = response else {
        record.set_failure("visitor_gone");
        guard.reset();
        return;
    };
    is_answered.store(true, Ordering::Relaxed);
    let mut response = leaving.check(response, &record);
    let is_switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if is_switching {
        *response.status_mut() = StatusCode::OK;
    }
    let result =
        send(&respond, response, &leaving, upgraded.filter(|_| is_switching), &record, &guard, &limits).await;
    match result {
        Ok(()) => {}
        Err(Broken::Visitor(abort)) => {
            record.set_failure(abort.to_string());
            guard.reset();
        }
        Err(Broken::Ours(abort)) => {
            record.set_failure(abort.to_string());
            respond.lock().send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

/// Whether a request is an extended CONNECT for a WebSocket (RFC 8441): for the core that is a GET (hazards 60, 62).
/// One that declares a body is refused, as over HTTP/1.1: its frames come instead of a body, and who believed the length
/// would wait for it, or take it from somebody else.
fn websocket(method: &mut Method, headers: &HeaderMap, protocol: Option<Protocol>) -> Result<bool, Refusal> {
    let has_length = headers.get_all(CONTENT_LENGTH).iter().any(|length| length != "0");
    match protocol {
        None => Ok(false),
        Some(_) if has_length || headers.contains_key(TRANSFER_ENCODING) => {
            Err(Refusal::bad("WebSocket handshake with a body"))
        }
        Some(protocol) if protocol.as_str().eq_ignore_ascii_case("websocket") => {
            *method = Method::GET;
            Ok(true)
        }
        Some(_) => Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "unknown :protocol")),
    }
}

fn kind(headers: &HeaderMap) -> BodyKind {
    headers::content_length(headers).map_or(BodyKind::Unknown, BodyKind::Known)
}

/// Sends a small answer of our own.
async fn answer(
    respond: &mut SendResponse<Bytes>,
    response: Response<OutBody>,
    record: Record,
    guard: &Guard,
    limits: &Limits,
) {
    record.set_status(response.status());
    let (head, body) = response.into_parts();
    let is_end = body.is_end_stream();
    let sent = match respond.send_response(Response::from_parts(head, ()), is_end) {
        Ok(mut send) if !is_end => send_body(&mut send, body, None, &record, guard, limits).await,
        _ => Ok(()),
    };
    if let Err(Broken::Visitor(abort) | Broken::Ours(abort)) = sent {
        tracing::debug!(%abort, "refusal not delivered");
    }
}

async fn send(
    respond: &Responder,
    response: Response<OutBody>,
    leaving: &Leaving,
    upgraded: Option<oneshot::Sender<SendStream<Bytes>>>,
    record: &Record,
    guard: &Guard,
    limits: &Limits,
) -> Result<(), Broken> {
    let (head, body) = response.into_parts();
    let has_no_body =
        leaving.is_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let is_end = upgraded.is_none() && (has_no_body || body.is_end_stream());
    let length = headers::content_length(&head.headers).filter(|_| !has_no_body && upgraded.is_none());
    if is_end && length.is_some_and(|length| length > 0) {
        return Err(Broken::Ours(Abort::new("response ended before its declared length")));
    }
    let sent = respond.lock().send_response(Response::from_parts(head, ()), is_end);
    let mut send = sent.map_err(|error| Broken::Visitor(gone(error)))?;
    if let Some(upgraded) = upgraded {
        // The other end is gone when the core dropped the upgrade after granting it: then the stream is reset.
        let _ = upgraded.send(send);
        return Ok(());
    }
    if is_end {
        return Ok(());
    }
    send_body(&mut send, body, length, record, guard, limits).await
}

/// Sends the body's frames with back-pressure, and its end. `length`: what the head declared.
async fn send_body(
    send: &mut SendStream<Bytes>,
    mut body: OutBody,
    mut length: Option<u64>,
    record: &Record,
    guard: &Guard,
    limits: &Limits,
) -> Result<(), Broken> {
    let (mut meter, mut alarm) = (limits.writing(), Alarm::default());
    let (reader, backlog) = (body.reader().cloned(), &guard.shared.backlog);
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
        record.add_out(data.len());
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
            meter.moved(granted.saturating_mul(guard.running()));
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

/// Sends informational responses.
struct ToResponder(Responder);

impl Target for ToResponder {
    fn interim(&self, status: StatusCode, headers: HeaderMap) {
        inform(&self.0, status, headers);
    }
}

pub(super) fn inform(respond: &Responder, status: StatusCode, headers: HeaderMap) {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    // Refused after the final head, and on a stream that is gone: then there is nobody to inform.
    let _ = respond.lock().send_informational(response);
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_websocket_handshake_that_declares_a_body_is_refused() {
        let asked = |name: http::HeaderName, value: &'static str| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            let mut method = Method::CONNECT;
            let asked = websocket(&mut method, &headers, Some(Protocol::from_static("websocket")));
            asked.map_err(|refusal| refusal.status.as_u16())
        };
        assert_eq!(asked(CONTENT_LENGTH, "60"), Err(400));
        assert_eq!(asked(TRANSFER_ENCODING, "chunked"), Err(400));
        assert_eq!(asked(CONTENT_LENGTH, "0"), Ok(true));
        assert_eq!(asked(EXPECT, "100-continue"), Ok(true));
    }
}

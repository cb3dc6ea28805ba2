//! One HTTP/2 request, from its head to the answer that is ready to be sent.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::Bytes;
use causeway_tunnel::BodyKind;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use tokio::sync::oneshot;

use super::super::entry::{Asked, Peer, Service};
use super::super::headers;
use super::super::refusal::Refusal;
use super::body::{Clock, H2Body, Pace};
use super::intake::Intake;
use super::responder::Responder;
use super::sending::{Broken, refuse, send};
use super::shared::Running;
use super::upgraded;
use crate::exchange::{
    ContinueGate, Exchange, Handler, InBody, Interim, InterimSink, RawLimits, Upgrade, Wish,
};

pub(super) async fn serve<H: Handler>(
    service: Arc<Service<H>>,
    peer: Arc<Peer>,
    running: Running,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (mut parts, recv) = request.into_parts();
    let protocol = parts.extensions.remove::<Protocol>();
    parts.extensions.clear();
    let protocol = protocol.as_ref().map(Protocol::as_str);
    let is_websocket = match websocket(&mut parts.method, &parts.headers, protocol) {
        Ok(is_websocket) => is_websocket,
        Err(refusal) => {
            let turned = service.refuse(&peer, Version::HTTP_2, refusal);
            return refuse(&mut respond, turned.response, turned.record, &running, &service.limits).await;
        }
    };
    let entered = match service.enter(&peer, parts) {
        Ok(entered) => entered,
        Err(turned) => {
            return refuse(&mut respond, turned.response, turned.record, &running, &service.limits).await;
        }
    };
    let asked = Asked::new(&entered, is_websocket);
    let record = entered.record.clone();
    let respond = Arc::new(Responder::new(respond));
    let expects = entered.parts.headers.contains_key(EXPECT) && !recv.is_end_stream();
    let gate = expects.then(Arc::<ContinueGate>::default);
    let limits = service.limits;
    let is_answered = Arc::<AtomicBool>::default();
    let mut body = InBody::empty();
    let mut body_kind = BodyKind::None;
    let (mut upgrade, mut granted) = (None, None);
    if is_websocket {
        let (sender, receiver) = oneshot::channel();
        let (halves, raw) =
            (upgraded::halves(Intake::new(recv, running.uploads()), receiver), RawLimits::of(&limits));
        upgrade = Some(Upgrade::new("websocket", Wish::Connect, halves, raw, record.clone()));
        granted = Some(sender);
    } else if !recv.is_end_stream() {
        body_kind = kind(&entered.parts.headers);
        let clock = Clock::new(Pace::of(&entered.parts.headers), limits, Arc::clone(&is_answered));
        let intake = Intake::new(recv, running.uploads());
        let source = H2Body::new(intake, Arc::clone(&respond), expects, clock);
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
        interim: Interim::new(Some(Arc::clone(&respond) as Arc<dyn InterimSink>), gate),
        record: entered.record,
    };
    let response = {
        let mut handled = pin!(service.handler.handle(exchange));
        let either = poll_fn(|cx| {
            if let Poll::Ready(reset) = respond.poll_reset(cx) {
                return Poll::Ready(Err(reset));
            }
            handled.as_mut().poll(cx).map(Ok)
        });
        either.await
    };
    let Ok(response) = response else {
        record.set_failure("visitor_gone");
        running.reset();
        return;
    };
    is_answered.store(true, Ordering::Relaxed);
    let mut response = asked.check(response, &record);
    let is_switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if is_switching {
        *response.status_mut() = StatusCode::OK;
    }
    let result =
        send(&respond, response, &asked, granted.filter(|_| is_switching), &record, &running, &limits).await;
    match result {
        Ok(()) => {}
        Err(Broken::Visitor(abort)) => {
            record.set_failure(abort.to_string());
            running.reset();
        }
        Err(Broken::Ours(abort)) => {
            record.set_failure(abort.to_string());
            respond.reset(Reason::INTERNAL_ERROR);
        }
    }
}

/// Whether a request is an extended CONNECT for a WebSocket (RFC 8441, 9220): for the core that is a GET (hazards 60, 62).
/// One that declares a body is refused, as over HTTP/1.1: its frames come instead of a body, and who believed the length
/// would wait for it, or take it from somebody else.
pub(in crate::http) fn websocket(
    method: &mut Method,
    headers: &HeaderMap,
    protocol: Option<&str>,
) -> Result<bool, Refusal> {
    let has_length = headers.get_all(CONTENT_LENGTH).iter().any(|length| length != "0");
    match protocol {
        None => Ok(false),
        Some(_) if has_length || headers.contains_key(TRANSFER_ENCODING) => {
            Err(Refusal::bad("WebSocket handshake with a body"))
        }
        Some(protocol) if protocol.eq_ignore_ascii_case("websocket") => {
            *method = Method::GET;
            Ok(true)
        }
        Some(_) => Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "unknown :protocol")),
    }
}

fn kind(headers: &HeaderMap) -> BodyKind {
    headers::content_length(headers).map_or(BodyKind::Unknown, BodyKind::Known)
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
            let asked = websocket(&mut method, &headers, Some("websocket"));
            asked.map_err(|refusal| refusal.status.as_u16())
        };
        assert_eq!(asked(CONTENT_LENGTH, "60"), Err(400));
        assert_eq!(asked(TRANSFER_ENCODING, "chunked"), Err(400));
        assert_eq!(asked(CONTENT_LENGTH, "0"), Ok(true));
        assert_eq!(asked(EXPECT, "100-continue"), Ok(true));
    }
}

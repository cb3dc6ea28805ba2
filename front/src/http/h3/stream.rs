//! One HTTP/3 request, from its stream's first byte to the end of its answer.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use causeway_tunnel::BodyKind;
use causeway_tunnel::guest::{Guest, Receiver, Sender};
use http::header::{EXPECT, HeaderName};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Version};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::entry::{Asked, Peer, Service};
use super::super::h2::body::{Clock, Pace};
use super::super::h2::stream::websocket;
use super::super::headers;
use super::super::refusal::Refusal;
use super::body::H3Body;
use super::code;
use super::head::{self, HeadError};
use super::intake::{Cut, Event, Intake, UNDECODABLE};
use super::limits::{END_PATIENCE, SETTLING};
use super::qpack::SectionError;
use super::responder::Responder;
use super::sending::{Broken, Sending};
use super::shared::Running;
use super::upgraded;
use crate::exchange::{
    ContinueGate, Exchange, Handler, InBody, Interim, InterimSink, RawLimits, Upgrade, Wish,
};

/// RFC 8470 §5.1.
const EARLY_DATA: HeaderName = HeaderName::from_static("early-data");

/// Serves the request of one stream. `unproved`: its visitor sent it with the hello.
pub(super) async fn serve<H: Handler>(
    service: Arc<Service<H>>,
    peer: Arc<Peer>,
    running: Running,
    unproved: Option<Guest>,
    (sender, receiver): (Sender, Receiver),
) {
    let id = sender.id();
    let responder = Arc::new(Responder::new(sender));
    let intake = Intake::new(id, receiver, Arc::clone(&responder), Arc::clone(running.shared()));
    // A future of its own, so that the wait for the visitor's acknowledgement does not keep its room.
    Box::pin(request(&service, &peer, &running, unproved, &responder, intake)).await;
    // The connection may end only when the visitor has all of its answers.
    let _ = timeout(SETTLING, responder.settled()).await;
}

async fn request<H: Handler>(
    service: &Arc<Service<H>>,
    peer: &Peer,
    running: &Running,
    unproved: Option<Guest>,
    responder: &Arc<Responder>,
    mut intake: Intake,
) {
    let head = match timeout(service.limits.header, poll_fn(|cx| intake.poll_event(cx))).await {
        Ok(Ok(Event::Head(section))) => read(section.as_deref()),
        Ok(Ok(_) | Err(Cut::Malformed(_))) => return running.reset(),
        Ok(Err(Cut::Gone)) => {
            responder.reset(code::REQUEST_CANCELLED);
            return running.reset();
        }
        Err(_) => {
            tracing::debug!("an HTTP/3 request's head came too slowly");
            responder.reset(code::REQUEST_INCOMPLETE);
            return intake.stop(code::REQUEST_INCOMPLETE);
        }
    };
    let asked = match head {
        Ok(asked) => asked,
        Err(Refused::Answered(refusal)) => {
            let turned = service.refuse(peer, Version::HTTP_3, refusal);
            let sending = Sending::new(responder, &turned.record, running, &service.limits);
            return sending.refusal(turned.response).await;
        }
        Err(Refused::Malformed(reason)) => {
            tracing::debug!(reason, "malformed HTTP/3 request");
            responder.reset(code::MESSAGE_ERROR);
            intake.stop(code::MESSAGE_ERROR);
            return running.reset();
        }
        Err(Refused::Undecodable) => return running.shared().fail(UNDECODABLE),
    };
    let head::Asked { mut parts, protocol } = asked;
    if let Some(guest) = unproved
        && !early(&guest, &mut parts).await
    {
        responder.reset(code::REQUEST_REJECTED);
        return running.reset();
    }
    let entered = websocket(&mut parts.method, &parts.headers, protocol.as_deref())
        .map_err(|refusal| Box::new(service.refuse(peer, Version::HTTP_3, refusal)))
        .and_then(|is_websocket| service.enter(peer, parts).map(|entered| (is_websocket, entered)));
    let (is_websocket, entered) = match entered {
        Ok(entered) => entered,
        Err(turned) => {
            let sending = Sending::new(responder, &turned.record, running, &service.limits);
            return sending.refusal(turned.response).await;
        }
    };
    let asked = Asked::new(&entered, is_websocket);
    let record = entered.record.clone();
    let limits = service.limits;
    let length = headers::content_length(&entered.parts.headers);
    intake.declare(length);
    let (mut upgrade, mut granted) = (None, None);
    let (mut body, mut body_kind, mut gate) = (InBody::empty(), BodyKind::None, None);
    let is_answered = Arc::<AtomicBool>::default();
    let mut expects = entered.parts.headers.contains_key(EXPECT);
    if is_websocket {
        let (sender, receiver) = oneshot::channel();
        let halves = upgraded::halves(intake, Arc::clone(responder), receiver);
        upgrade =
            Some(Upgrade::new("websocket", Wish::Connect, halves, RawLimits::of(&limits), record.clone()));
        granted = Some(sender);
        expects = false;
    } else if has_body(&mut intake, &entered.parts.method, length).await {
        body_kind = length.map_or(BodyKind::Unknown, BodyKind::Known);
        gate = expects.then(Arc::<ContinueGate>::default);
        let clock = Clock::new(Pace::of(&entered.parts.headers), limits, Arc::clone(&is_answered));
        let source = H3Body::new(intake, Arc::clone(responder), expects, clock);
        body = InBody::arriving(Box::new(source), gate.clone(), record.clone());
    } else {
        expects = false;
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
        interim: Interim::new(Some(Arc::clone(responder) as Arc<dyn InterimSink>), gate),
        record: entered.record,
    };
    let response = {
        let mut handled = pin!(service.handler.handle(exchange));
        let either = poll_fn(|cx| {
            if let Poll::Ready(abort) = responder.poll_gone(cx) {
                return Poll::Ready(Err(abort));
            }
            handled.as_mut().poll(cx).map(Ok)
        });
        either.await
    };
    let Ok(response) = response else {
        record.set_failure("visitor_gone");
        responder.reset(code::REQUEST_CANCELLED);
        return running.reset();
    };
    is_answered.store(true, Ordering::Relaxed);
    let mut response = asked.check(response, &record);
    let is_switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if is_switching {
        *response.status_mut() = StatusCode::OK;
    }
    let sending = Sending::new(responder, &record, running, &limits);
    match sending.answer(response, &asked, granted.filter(|_| is_switching)).await {
        Ok(()) => {}
        Err(Broken::Visitor(abort)) => {
            record.set_failure(abort.to_string());
            responder.reset(code::REQUEST_CANCELLED);
            running.reset();
        }
        Err(Broken::Ours(abort)) => {
            record.set_failure(abort.to_string());
            responder.reset(code::INTERNAL_ERROR);
        }
    }
}

/// A request that came with the hello may be one that somebody else overheard and sent again: what changes nothing is marked, so
/// that the origin may ask for it anew (425), and what may change something waits for the rest of the handshake (RFC 8470 §5, hazard
/// 91). False: it never came.
async fn early(guest: &Guest, parts: &mut Parts) -> bool {
    if parts.method.is_safe() {
        parts.headers.insert(EARLY_DATA, HeaderValue::from_static("1"));
        return true;
    }
    guest.proved().await
}

/// Why a head is no request.
enum Refused {
    Answered(Refusal),
    Malformed(&'static str),
    Undecodable,
}

fn read(section: Option<&[u8]>) -> Result<head::Asked, Refused> {
    const TOO_LONG: Refusal = Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head is too long");
    let section = section.ok_or(Refused::Answered(TOO_LONG))?;
    head::request(section).map_err(|error| match error {
        HeadError::Section(SectionError::Malformed) => Refused::Undecodable,
        HeadError::Section(SectionError::TooLong) => Refused::Answered(TOO_LONG),
        HeadError::Malformed(reason) => Refused::Malformed(reason),
    })
}

/// Whether there is a body. The end of a request that has none often comes behind its head: who asks in a way that has
/// seldom one is given a moment to say so, since an origin may not take such a request with a body.
async fn has_body(intake: &mut Intake, method: &Method, length: Option<u64>) -> bool {
    let is_likely = match length {
        Some(length) => length > 0,
        None => !(method.is_safe() || *method == Method::DELETE),
    };
    let started = poll_fn(|cx| match intake.has_started(cx) {
        true => Poll::Ready(()),
        false if is_likely => Poll::Ready(()),
        false => Poll::Pending,
    });
    let _ = timeout(END_PATIENCE, started).await;
    !intake.is_end()
}

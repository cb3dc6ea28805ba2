//! HTTP/1.1: hyper's server behind the [`guard`](super::guard), one request at a time.

mod body;
mod delivery;
mod upgraded;

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use causeway_tunnel::BodyKind;
use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::entry::{Asked, Peer, Service};
use super::guard::{Admitted, Framing, Guard, Head, SideChannel, Transport, Turn};
use super::headers::content_length;
use super::refusal::Refusal;
use super::sizes::{MAX_FIELDS, MAX_REQUESTS};
use crate::exchange::{
    ContinueGate, Exchange, Handler, InBody, Interim, InterimSink, OutBody, RawLimits, Upgrade, Wish,
};
use crate::record::Record;
use body::H1Body;
use delivery::Delivery;

/// hyper's read buffer: the largest head that the guard lets through, and a little.
const BUFFER_BYTES: usize = 72 * 1024;

/// Serves one connection until it ends. Returns the transport's fate only to the debug log: what went wrong with a
/// request is in its record.
pub(crate) async fn serve<H: Handler>(io: impl Transport, peer: Peer, service: Arc<Service<H>>) {
    let side = Arc::new(SideChannel::new());
    let guard = Guard::new(io, Arc::clone(&side), service.limits, Arc::clone(&service.pressure));
    let drain = service.drain.clone();
    let closes_at = Instant::now() + service.limits.lifetime();
    let connection = Arc::new(Connection {
        peer,
        service,
        side: Arc::clone(&side),
        closes_at,
        requests: AtomicU64::new(0),
    });
    let serving = http1::Builder::new()
        .max_headers(MAX_FIELDS)
        .max_buf_size(BUFFER_BYTES)
        .header_read_timeout(None)
        .serve_connection(
            TokioIo::new(guard),
            service_fn(move |request| {
                let connection = Arc::clone(&connection);
                async move { Ok::<_, Infallible>(connection.answer(request).await) }
            }),
        )
        .with_upgrades();
    let mut serving = pin!(serving);
    let mut draining = pin!(drain.draining());
    let mut is_draining = false;
    let result = poll_fn(|cx| {
        side.register(cx);
        if !is_draining && draining.as_mut().poll(cx).is_ready() {
            is_draining = true;
            // One that is idle may be sent a request this very moment. Where there is time it is served, and told to be the last.
            if !drain.is_at_leisure() {
                side.drain();
                serving.as_mut().graceful_shutdown();
            }
        }
        let poll = serving.as_mut().poll(cx);
        // hyper does not ask for a body while its visitor takes nothing: only breaking off frees what waits.
        if poll.is_pending() && side.poll_evicted(cx).is_ready() {
            side.reset();
            return Poll::Ready(Ok(()));
        }
        poll
    })
    .await;
    if let Err(error) = result {
        tracing::debug!(%error, "connection broken off");
    }
}

struct Connection<H> {
    peer: Peer,
    service: Arc<Service<H>>,
    side: Arc<SideChannel>,
    /// Responses from then on close the connection.
    closes_at: Instant,
    /// How many were answered.
    requests: AtomicU64,
}

impl<H: Handler> Connection<H> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Delivery> {
        match self.side.take() {
            Some((Admitted::Request { head, has_more }, turn)) => {
                self.forward(request, head, has_more, turn).await
            }
            Some((Admitted::Refused(refusal), _)) => self.refuse(refusal),
            // hyper saw a request that the guard did not let through: it must not be served.
            None => self.refuse(Refusal::bad("not HTTP")),
        }
    }

    /// Whether this answer is the connection's last.
    fn is_over(&self) -> bool {
        let count = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let is_old = count >= MAX_REQUESTS || self.closes_at <= Instant::now();
        is_old || self.service.pressure.is_tight() || self.service.drain.is_draining()
    }

    fn refuse(&self, refusal: Refusal) -> Response<Delivery> {
        let turned = self.service.refuse(&self.peer, Version::HTTP_11, refusal);
        self.turn_away(turned.response, turned.record)
    }

    fn turn_away(&self, mut response: Response<OutBody>, record: Record) -> Response<Delivery> {
        record.set_head(response.status(), response.headers());
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response.map(|body| Delivery::new(body, None, record, &self.side))
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
        head: Head,
        has_more: bool,
        turn: Turn,
    ) -> Response<Delivery> {
        let on_upgrade = head.websocket.then(|| hyper::upgrade::on(&mut request));
        let (mut parts, incoming) = request.into_parts();
        parts.extensions.clear();
        let entered = match self.service.enter(&self.peer, parts) {
            Ok(entered) => entered,
            Err(turned) => return self.turn_away(turned.response, turned.record),
        };
        let asked = Asked::new(&entered, on_upgrade.is_some());
        let record = entered.record.clone();
        let gate = head.expects.then(Arc::<ContinueGate>::default);
        if let Some(gate) = gate.as_ref().filter(|_| has_more) {
            gate.open();
        }
        let (body_kind, body) = match head.framing {
            Framing::None | Framing::Length(0) => (BodyKind::None, InBody::empty()),
            framing => {
                let kind = if let Framing::Length(length) = framing {
                    BodyKind::Known(length)
                } else {
                    BodyKind::Unknown
                };
                let source = Box::new(H1Body::new(incoming, turn.clone()));
                (kind, InBody::arriving(source, gate.clone(), record.clone()))
            }
        };
        let limits = RawLimits::of(&self.service.limits);
        let upgrade = on_upgrade.map(|on_upgrade| {
            let halves = upgraded::halves(on_upgrade, Arc::clone(&self.side));
            Upgrade::new("websocket", Wish::Upgrade, halves, limits, record.clone())
        });
        let sink: Option<Arc<dyn InterimSink>> = if head.is_http_10 { None } else { Some(Arc::new(turn)) };
        let exchange = Exchange {
            id: entered.id,
            visitor: entered.visitor,
            host: entered.host,
            head: entered.parts,
            body,
            body_kind,
            upgrade,
            expect_continue: head.expects,
            interim: Interim::new(sink, gate),
            record: entered.record,
        };
        let response = self.service.handler.handle(exchange).await;
        self.leave(response, &asked, record, head).await
    }

    async fn leave(
        &self,
        response: Response<OutBody>,
        asked: &Asked,
        record: Record,
        head: Head,
    ) -> Response<Delivery> {
        let mut response = asked.check(response, &record);
        if response.status().canonical_reason().is_none() {
            // hyper would write `<none>` behind a number that it does not know; the phrase may be empty (RFC 9112
            // section 4).
            response.extensions_mut().insert(ReasonPhrase::from_static(b""));
        }
        poll_fn(|cx| self.side.poll_answer(cx)).await;
        let declared = if asked.is_head { Some(0) } else { content_length(response.headers()) };
        // Without a length an HTTP/1.0 body ends with the connection: only a reset can say that it is not complete.
        if head.is_http_10 && !response.headers().contains_key(CONTENT_LENGTH) {
            self.side.reset();
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.side.upgrade();
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        } else if asked.upgrade || head.closes || self.side.is_body_left() || self.is_over() {
            // What follows a request whose body nobody reads is not a request (hazards 31, 33 and 55).
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|body| Delivery::new(body, declared, record, &self.side))
    }
}

#[cfg(test)]
mod tests;

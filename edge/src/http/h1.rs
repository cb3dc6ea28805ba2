//! HTTP/1.1: hyper's server behind the [`guard`](super::guard), one request at a time.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::entry::{Leaving, Peer, Service};
use super::guard::{Admitted, Framing, Guard, Head, Refusal, Side, Taken, Transport};
use crate::access::Record;
use crate::exchange::{
    Abort, Arriving, BodyKind, Exchange, Gate, Handler, InBody, InError, Interim, OutBody, RawLimits, Target,
    Upgrade, UpgradeOrigin,
};
use crate::household::EVICTED;

/// hyper's read buffer: the largest head that the guard lets through, and a little.
const BUFFER_BYTES: usize = 72 * 1024;

/// Serves one connection until it ends. Returns the transport's fate only to the debug log: what went wrong with a
/// request is in its record.
pub(crate) async fn serve<H: Handler>(io: impl Transport, peer: Peer, service: Arc<Service<H>>) {
    let side = Arc::new(Side::new());
    let guard = Guard::new(io, Arc::clone(&side), service.limits, Arc::clone(&service.pressure));
    let drain = service.drain.clone();
    let max_age = super::limits::spread(service.limits.max_age);
    let connection =
        Arc::new(Connection { peer, service, side: Arc::clone(&side), closes_at: Instant::now() + max_age });
    let serving = http1::Builder::new()
        .max_headers(super::guard::MAX_FIELDS)
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
            side.drain();
            serving.as_mut().graceful_shutdown();
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
    side: Arc<Side>,
    /// Responses from then on close the connection.
    closes_at: Instant,
}

impl<H: Handler> Connection<H> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        match self.side.take() {
            Some(Taken { admitted: Admitted::Request(head), has_more, turn }) => {
                self.forward(request, head, has_more, turn).await
            }
            Some(Taken { admitted: Admitted::Refused(refusal), .. }) => self.refuse(refusal),
            // hyper saw a request that the guard did not let through: it must not be served.
            None => self.refuse(Refusal::bad("not HTTP")),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response<Answer> {
        let turned = self.service.refuse(&self.peer, Version::HTTP_11, refusal);
        self.turn_away(turned.response, turned.record)
    }

    fn turn_away(&self, mut response: Response<OutBody>, record: Record) -> Response<Answer> {
        record.set_status(response.status());
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response.map(|body| Answer::new(body, record, &self.side))
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
        head: Head,
        has_more: bool,
        turn: impl Target + 'static,
    ) -> Response<Answer> {
        let on_upgrade = head.websocket.then(|| hyper::upgrade::on(&mut request));
        let (mut parts, incoming) = request.into_parts();
        parts.extensions.clear();
        let entered = match self.service.enter(&self.peer, parts) {
            Ok(entered) => entered,
            Err(turned) => return self.turn_away(turned.response, turned.record),
        };
        let leaving = Leaving::new(&entered, on_upgrade.is_some());
        let record = entered.record.clone();
        let gate = head.expects.then(Arc::<Gate>::default);
        if let Some(gate) = gate.as_ref().filter(|_| has_more) {
            gate.open();
        }
        let target: Option<Arc<dyn Target>> = if head.is_http_10 { None } else { Some(Arc::new(turn)) };
        let (body_kind, body) = match head.framing {
            Framing::None | Framing::Length(0) => (BodyKind::None, InBody::empty()),
            framing => {
                let kind = if let Framing::Length(length) = framing {
                    BodyKind::Known(length)
                } else {
                    BodyKind::Unknown
                };
                let source = Box::new(H1Body { incoming, side: Arc::clone(&self.side), ended: false });
                (kind, InBody::arriving(source, gate.clone(), record.clone()))
            }
        };
        let limits = RawLimits::of(&self.service.limits);
        let upgrade = on_upgrade.map(|on_upgrade| {
            let origin = UpgradeOrigin::H1(on_upgrade, Arc::clone(&self.side));
            Upgrade::new("websocket", origin, limits, record.clone())
        });
        let exchange = Exchange {
            id: entered.id,
            visitor: entered.visitor,
            host: entered.host,
            head: entered.parts,
            body,
            body_kind,
            upgrade,
            expect_continue: head.expects,
            interim: Interim::new(target, gate),
            record: entered.record,
        };
        let response = self.service.handler.handle(exchange).await;
        self.leave(response, &leaving, record, head).await
    }

    async fn leave(
        &self,
        response: Response<OutBody>,
        leaving: &Leaving,
        record: Record,
        head: Head,
    ) -> Response<Answer> {
        let mut response = leaving.check(response, &record);
        if response.status().canonical_reason().is_none() {
            // hyper would write `<none>` behind a number that it does not know; the phrase may be empty (RFC 9112
            // section 4).
            response.extensions_mut().insert(ReasonPhrase::from_static(b""));
        }
        poll_fn(|cx| self.side.poll_answer(cx)).await;
        let headers = response.headers();
        // Without a length an HTTP/1.0 body ends with the connection: only a reset can say that it is not complete.
        if head.is_http_10 && !headers.contains_key(CONTENT_LENGTH) {
            self.side.reset();
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.side.upgrade();
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        } else if leaving.upgrade
            || head.closes
            || self.side.is_body_left()
            || self.closes_at <= Instant::now()
        {
            // What follows a request whose body nobody reads is not a request (hazards 31, 33 and 55).
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let length =
            if leaving.is_head { Some(0) } else { super::headers::content_length(response.headers()) };
        response.map(|body| {
            let mut answer = Answer::new(body, record, &self.side);
            answer.left = length.or(answer.left);
            answer
        })
    }
}

/// The request body as hyper reads it.
struct H1Body {
    incoming: Incoming,
    side: Arc<Side>,
    ended: bool,
}

impl Arriving for H1Body {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, InError>>> {
        let poll = Pin::new(&mut self.incoming).poll_frame(cx).map_err(|_| self.side.body_error());
        self.ended |= matches!(poll, Poll::Ready(None)) || self.incoming.is_end_stream();
        poll
    }

    fn is_end(&self) -> bool {
        self.incoming.is_end_stream()
    }
}

impl Drop for H1Body {
    fn drop(&mut self) {
        if !self.ended {
            self.side.abandon_body();
        }
    }
}

/// The response body as hyper writes it; its end is the end of the request.
struct Answer {
    body: OutBody,
    record: Record,
    side: Arc<Side>,
    /// What is to be written yet, if that is known.
    left: Option<u64>,
    done: bool,
}

impl Answer {
    fn new(body: OutBody, record: Record, side: &Arc<Side>) -> Self {
        let (left, done) = (body.size_hint().exact(), body.is_end_stream());
        if done {
            side.complete();
        }
        side.set_reader(body.reader().cloned());
        Self { body, record, side: Arc::clone(side), left, done }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        match &poll {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.record.add_out(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                }
                self.done = frame.is_trailers() || self.body.is_end_stream();
            }
            Poll::Ready(None) => self.done = true,
            Poll::Ready(Some(Err(abort))) => {
                self.record.set_failure(abort.to_string());
                // It may be asked for its next piece before the connection hears of it: the end is the same.
                if self.body.reader().is_some_and(|reader| reader.is_evicted()) {
                    self.side.reset();
                }
            }
            Poll::Pending => {}
        }
        if self.done {
            self.side.complete();
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // hyper lets go of a body whose declared length is written without asking for its end.
        if !self.done && self.left != Some(0) {
            let is_evicted = self.body.reader().is_some_and(|reader| reader.is_evicted());
            self.record.set_failure(if is_evicted { EVICTED } else { "visitor_gone" });
        }
        self.side.answered();
    }
}

#[cfg(test)]
mod tests;

//! The life of one request on the connector: head from the tunnel, rule, origin, answer, and the account of it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use causeway_tunnel::{
    AbortCode, Authority, BodyKind, First, Kind, Opening, RecvStream, RequestHead, ResponseHead, SendStream,
};
use http::StatusCode;
use tokio::time::{Instant, timeout};

use crate::builtin;
use crate::exchange::{Done, Exchange};
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::origin::{Io, Origin};
use crate::passing;
use crate::report::report;
use crate::rules::{ActiveRule, Handler, NoRule};
use crate::shard::Shard;
use crate::upgrade;
use crate::upload::Upload;
use crate::visits::Outcome;

/// Who opened a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Edge,
    /// We ourselves, for a visitor whose TLS ended here.
    Home,
}

/// Serves one stream, from its head to its end.
pub(crate) async fn serve(shard: Arc<Shard>, from: From, mut send: SendStream, mut recv: RecvStream) {
    let _in_flight = InFlight::new(&shard.metrics);
    let begun = Instant::now();
    let opening = match timeout(OPENING_TIMEOUT, recv.opening()).await {
        Ok(Ok(opening)) => opening,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a stream without an opening");
            return send.abort(error.code());
        }
        Err(_) => return send.abort(AbortCode::Timeout),
    };
    let kind = opening.kind();
    let head = match opening {
        Opening::Request(head) => head,
        Opening::Connect(passage) => return Box::pin(passing::serve(&shard, passage, send, recv)).await,
        Opening::Datagrams(_) => {
            return refuse(&shard, send, recv, &kind, AbortCode::NotImplemented);
        }
        Opening::Unknown(_) => return refuse(&shard, send, recv, &kind, AbortCode::UnknownKind),
    };
    shard.metrics.requests_total.inc();
    if let Some(answer) = challenge(&shard, &head) {
        // An error means that nobody waits for it any more.
        let _ = send.response(&answer.0, answer.1).await;
        return;
    }
    let rules = shard.rules.load();
    let rule = match from {
        From::Edge => rules.choose(head.route, head.scheme, &head.authority, &head.path),
        From::Home => rules.choose_at_home(&head.authority, &head.path),
    };
    let rule = rule.cloned();
    drop(rules);
    match rule {
        Ok(rule) => answer(&shard, &rule, head, send, recv, begun).await,
        Err(NoRule::UnknownRoute) => {
            tracing::warn!(request = %head.request_id, route = head.route, host = head.authority,
                "the edge asked for a hostname that was not announced: refused");
            shard.metrics.aborted("none", AbortCode::UnknownRoute);
            send.abort(AbortCode::UnknownRoute);
        }
        Err(NoRule::AmbiguousPath) => {
            let text = "this path can be read in two ways that lead to different places";
            let (answer, first) = builtin::text(StatusCode::BAD_REQUEST, text, &head.method);
            // An error means that nobody waits for it any more.
            let _ = send.response(&answer, first).await;
        }
    }
}

/// HTTP-01: what to answer an authority that looks, by plain HTTP, whether a name whose TLS ends here is ours.
fn challenge(shard: &Shard, head: &RequestHead) -> Option<(ResponseHead, First)> {
    let Authority { host, .. } = Authority::parse(head.authority.as_bytes()).ok()?;
    let text = shard.challenges.http(&host, &head.path)?;
    Some(builtin::page(StatusCode::OK, "text/plain; charset=utf-8", text, &head.method))
}

/// Turns away a stream of a kind that no rule of ours takes.
fn refuse(shard: &Shard, mut send: SendStream, mut recv: RecvStream, kind: &Kind, code: AbortCode) {
    tracing::debug!(%kind, "the edge opened a stream of a kind that is not served here: refused");
    shard.metrics.aborted("none", code);
    recv.stop(code);
    send.abort(code);
}

async fn answer(
    shard: &Shard,
    rule: &ActiveRule,
    head: RequestHead,
    mut send: SendStream,
    recv: RecvStream,
    begun: Instant,
) {
    let visit = shard.visits.begin(&head);
    let (built_in, first) = match &rule.handler {
        Handler::Origin(origin) => {
            let outcome = proxy(shard, rule, origin, head, send, recv, begun).await;
            return visit.end(outcome);
        }
        Handler::Status(status) => builtin::status(*status, &head.method),
        Handler::HelloWorld(why) => builtin::hello_world(&head, *why),
        Handler::Unserved(service) => {
            tracing::warn!(
                rule = rule.label,
                service,
                "this kind of service is not served yet: answered 501"
            );
            rule.metrics.aborted(AbortCode::NotImplemented);
            send.abort(AbortCode::NotImplemented);
            return visit.end(Outcome::Failed("this kind of service is not served yet".to_owned()));
        }
    };
    visit.end(Outcome::Answered(built_in.status));
    if send.response(&built_in, first).await.is_ok() {
        rule.metrics.answered(built_in.status, begun.elapsed().as_secs_f64());
    }
}

async fn proxy(
    shard: &Shard,
    rule: &ActiveRule,
    origin: &Origin,
    head: RequestHead,
    mut send: SendStream,
    recv: RecvStream,
    begun: Instant,
) -> Outcome {
    let id = head.request_id;
    if let Some(protocol) = head.upgrade.as_deref()
        && (protocol != "websocket" || head.body != BodyKind::None)
    {
        let text = "only WebSocket can be upgraded to, by a request without a body";
        let (answer, first) = builtin::text(StatusCode::NOT_IMPLEMENTED, text, &head.method);
        let _ = send.response(&answer, first).await;
        return Outcome::Answered(answer.status);
    }
    let upload = Upload::new(recv, head.body);
    let mut exchange = Exchange {
        shard,
        rule,
        origin,
        send: &mut send,
        upload: upload.clone(),
        begun,
        down: 0,
        status: None,
    };
    let outcome = unless_evicted(&upload, exchange.run(head)).await;
    let (down, status) = (exchange.down, exchange.status);
    rule.metrics.carried(upload.received(), down);
    match outcome {
        Ok(Done::Answered) => {
            tracing::debug!(request = %id, rule = rule.label, status = status.map(|s| s.as_u16()), "answered");
            status.map_or_else(|| Outcome::Failed("no answer".to_owned()), Outcome::Answered)
        }
        Ok(Done::Upgraded { io, read_ahead }) => {
            drop(exchange);
            upgraded(shard, rule, origin, *io, read_ahead, send, upload).await;
            Outcome::Answered(StatusCode::SWITCHING_PROTOCOLS)
        }
        Err(failure) => {
            report(shard, rule, origin, &failure, &id.to_string());
            upload.stop(failure.code);
            send.abort(failure.code);
            Outcome::Failed(failure.cause)
        }
    }
}

/// Runs an exchange, until its upload has to make room for others.
async fn unless_evicted(
    upload: &Upload,
    exchange: impl Future<Output = Result<Done, Failure>>,
) -> Result<Done, Failure> {
    let mut exchange = pin!(exchange);
    poll_fn(|cx| match exchange.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(outcome),
        Poll::Pending => upload.poll_evicted(cx).map(|()| {
            let cause = "the origin does not take the upload, and too much waits for it";
            Err(Failure::origin(AbortCode::OriginTimeout, cause))
        }),
    })
    .await
}

async fn upgraded(
    shard: &Shard,
    rule: &ActiveRule,
    origin: &Origin,
    io: Io,
    read_ahead: bytes::Bytes,
    send: SendStream,
    upload: Upload,
) {
    let recv = upload.into_recv().expect("an upgrade has no body, so hyper never had a share of it");
    shard.metrics.websockets.inc();
    let idle = origin.settings().upgrade_idle_timeout;
    let (up, down) = Box::pin(upgrade::copy(io, read_ahead, send.into_raw(), recv.into_raw(), idle)).await;
    shard.metrics.websockets.dec();
    rule.metrics.carried(up, down);
}

/// Counts a stream while it is served, however it ends.
struct InFlight<'a>(&'a Metrics);

impl<'a> InFlight<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// It comes with a stream's first packets; this only bounds an edge that never sends it. Longer than a line may be silent in
/// the middle of it.
const OPENING_TIMEOUT: Duration = Duration::from_secs(60);

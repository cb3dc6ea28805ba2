//! One request at an origin: sent, answered, both bodies streamed; once more where that is safe.

mod answer;

use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use causeway_tunnel::limits::MAX_INTERIM;
use causeway_tunnel::semantics::is_idempotent;
use causeway_tunnel::{AbortCode, BodyKind, First, RequestHead, ResponseHead, SendStream};
use http::header::{HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode, Uri, Version};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use crate::failure::{Blame, Failure};
use crate::headers::{self, Framing};
use crate::origin::{
    AnswerBody, Assurance, Companion, Connection, Download, H1, H2, Io, Origin, Uploading, Want,
};
use crate::patience::Patience;
use crate::rules::ActiveRule;
use crate::shard::Shard;
use crate::upgrade::Handshake;
use crate::upload::Upload;
use crate::wait::{Nothing, beside, wait, wait_for_head};

/// A request on its way, with all that it needs.
pub(crate) struct Exchange<'a> {
    pub(crate) shard: &'a Shard,
    pub(crate) rule: &'a ActiveRule,
    pub(crate) origin: &'a Origin,
    pub(crate) send: &'a mut SendStream,
    pub(crate) upload: Upload,
    pub(crate) begun: Instant,
    /// Body bytes handed to the tunnel.
    pub(crate) down: u64,
    /// The final answer's status, once its head was handed to the tunnel.
    pub(crate) status: Option<StatusCode>,
}

/// How an exchange ended well.
#[derive(Debug)]
pub(crate) enum Done {
    /// The answer was handed on whole.
    Answered,
    /// The origin switched protocols; the head of its 101 was handed on.
    Upgraded { io: Box<Io>, read_ahead: Bytes },
}

/// A failed attempt.
struct Missed {
    failure: Failure,
    again: Again,
}

/// Whether a failed attempt may be made once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// The origin certainly did not take the request: it never reached the wire, or the origin itself said so.
    Unsent,
    /// Not a byte of an answer came: only a request that may be repeated can be.
    Unanswered,
    Never,
}

/// What stays the same over the attempts of one request: each is made from it anew, so that what is sent again is the
/// whole request.
struct Message {
    method: Method,
    uri: Uri,
    host: HeaderValue,
    expect: bool,
    /// The visitor asks for a WebSocket.
    upgrade: bool,
    /// The visitor's fields without their framing.
    fields: HeaderMap,
}

/// Counts the attempts of one request.
struct Attempts {
    begun: Instant,
    is_repeatable: bool,
    /// Those that the origin may have seen.
    seen: u32,
    /// Those that it certainly did not take.
    refused: u32,
}

impl Attempts {
    /// Whether another attempt may follow one that failed in this way.
    fn may_follow(&mut self, again: Again) -> bool {
        match again {
            Again::Unsent => {
                self.refused += 1;
                self.refused <= MAX_REFUSED && self.begun.elapsed() < REFUSED_FOR
            }
            Again::Unanswered => {
                self.seen += 1;
                self.is_repeatable && self.seen < MAX_SEEN
            }
            Again::Never => false,
        }
    }

    /// An origin that refuses even a new connection's first request is not to be hammered.
    fn pause(&self) -> Duration {
        REFUSED_PAUSE * self.refused.saturating_sub(1)
    }
}

impl Exchange<'_> {
    pub(crate) async fn run(&mut self, mut head: RequestHead) -> Result<Done, Failure> {
        self.upload.prefetch(&self.shard.stalls).await;
        let settings = self.origin.settings();
        if settings.disable_chunked_encoding
            && self.upload.kind() == BodyKind::Unknown
            && self.upload.collect(MAX_COLLECTED_BYTES).await.is_none()
        {
            return match self.upload.failure() {
                Some(code) => Err(Failure::visitor(code, "the visitor's body was cut off")),
                None => self.refuse_length(&head.method).await,
            };
        }
        let upgrade = head.upgrade.is_some();
        let host = headers::for_origin(&mut head, self.rule.host_header.as_ref());
        if let Some(name) = &self.rule.visitor_ip_header {
            headers::tell_visitor(&mut head, name);
        }
        let uri = target(&mut head, upgrade)?;
        let message = Message {
            method: if upgrade { Method::GET } else { head.method },
            uri,
            host,
            expect: head.expect_continue,
            upgrade,
            fields: head.headers,
        };
        let is_repeatable = is_idempotent(&message.method) && !upgrade;
        let mut patience = Patience::new(Duration::ZERO);
        let mut want = match (upgrade, is_repeatable) {
            (true, _) => Want::ForUpgrade,
            // With the whole body at hand it can be sent again should the kept connection turn out to be dead.
            (false, true) if self.upload.is_ended() => Want::Kept(Assurance::Usual),
            (false, _) => Want::Kept(Assurance::Sure),
        };
        let mut attempts = Attempts { begun: Instant::now(), is_repeatable, seen: 0, refused: 0 };
        loop {
            let outcome = match self.connect(&message, want, &mut patience).await? {
                Connection::H1 { connection, .. } => self.over_h1(connection, &message, &mut patience).await,
                Connection::H2 { connection, _in_use } => {
                    self.over_h2(connection, &message, &mut patience).await
                }
            };
            let missed = match outcome {
                Ok(done) => return Ok(done),
                Err(missed) => missed,
            };
            if self.upload.failure().is_some() || !attempts.may_follow(missed.again) || !self.upload.rewind()
            {
                return Err(missed.failure);
            }
            self.shard.metrics.origin_retries.inc();
            if !attempts.pause().is_zero() {
                tokio::time::sleep(attempts.pause()).await;
            }
            if !upgrade {
                want = Want::Fresh;
            }
        }
    }

    async fn connect(
        &mut self,
        message: &Message,
        want: Want,
        patience: &mut Patience,
    ) -> Result<Connection, Failure> {
        let host = message.host.to_str().unwrap_or_default();
        let mut connecting = pin!(self.origin.connection(self.shard.index, &self.shard.drain, host, want));
        let connected = wait(&mut Nothing, patience, self.send, |cx| connecting.as_mut().poll(cx))
            .await
            .map_err(|interrupt| Failure::interrupted(interrupt, "accept the connection"))??;
        match &connected {
            Connection::H1 { reused: false, .. } => self.shard.metrics.origin_dials.inc(),
            _ => self.shard.metrics.origin_reuses.inc(),
        };
        Ok(connected)
    }

    async fn over_h1(
        &mut self,
        mut connection: Box<H1>,
        message: &Message,
        patience: &mut Patience,
    ) -> Result<Done, Missed> {
        let mut own = message.fields.clone();
        self.framing(message).h1(&mut own, message.host.clone());
        let handshake = message.upgrade.then(|| Handshake::new(&mut own));
        let mut request = Request::new(self.upload.body());
        *request.method_mut() = message.method.clone();
        *request.uri_mut() = message.uri.clone();
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = own;
        // The callback is called while the connection is polled, by this very task: nothing is ever waited for.
        let (interim, mut interims) = mpsc::channel(MAX_INTERIM + 1);
        hyper::ext::on_informational(&mut request, move |answer| {
            // Full: the series is over its limit, which the receiver has seen.
            let _ = interim.try_send((answer.status(), answer.headers().clone()));
        });
        let mut answer = connection.send(request);
        patience.set_limit(self.origin.settings().response_header_timeout);
        let (answered, _) = self
            .final_answer(&mut *connection, patience, |cx| {
                if let Poll::Ready(Some(interim)) = interims.poll_recv(cx) {
                    return Poll::Ready(Step::Interim(interim));
                }
                answer.as_mut().poll(cx).map(Step::Final)
            })
            .await?;
        let answer = match answered {
            Ok(answer) => answer,
            Err(mut error) => {
                let failure = Failure::h1(error.error(), self.upload.failure());
                if error.take_message().is_some() {
                    return Err(failure.unsent());
                }
                let again = if connection.is_unanswered() { Again::Unanswered } else { Again::Never };
                return Err(Missed { failure, again });
            }
        };
        self.upload.forget();
        let (mut parts, body) = answer.into_parts();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let Some(handshake) = handshake else {
                let failure =
                    Failure::origin(AbortCode::OriginProtocol, "the origin switched protocols unasked");
                return Err(failure.never());
            };
            handshake.check(&mut parts.headers).map_err(|error| Failure::from(error).never())?;
            return self.upgraded(connection, parts.headers).await.map_err(Failure::never);
        }
        if let Some(handshake) = &handshake {
            handshake.clean_refusal(&mut parts.headers);
        }
        let mut body = AnswerBody::H1(body);
        self.respond(&mut *connection, parts.status, parts.headers, &mut body, &message.method, patience)
            .await
            .map_err(Failure::never)?;
        self.linger(&mut *connection).await;
        // After an upgrade attempt nobody knows what the origin takes the next bytes for.
        if self.upload.is_whole() && !message.upgrade {
            self.origin.give_back(self.shard.index, message.host.to_str().unwrap_or_default(), connection);
        }
        Ok(Done::Answered)
    }

    async fn upgraded(&mut self, mut connection: Box<H1>, headers: HeaderMap) -> Result<Done, Failure> {
        let head = ResponseHead { status: StatusCode::SWITCHING_PROTOCOLS, headers, body: BodyKind::None };
        self.answered(head.status);
        self.send.response(&head, First::More).await?;
        // hyper lets go of the stream when it is polled once more after the 101.
        std::future::poll_fn(|cx| {
            connection.poll_connection(cx);
            Poll::Ready(())
        })
        .await;
        let (io, read_ahead) = connection.into_io();
        Ok(Done::Upgraded { io: Box::new(io), read_ahead })
    }

    async fn over_h2(
        &mut self,
        mut connection: H2,
        message: &Message,
        patience: &mut Patience,
    ) -> Result<Done, Missed> {
        let body = self.upload.kind();
        if let Err(error) = connection.ready().await {
            connection.retire();
            return Err(Failure::h2(&error, None).unsent());
        }
        let mut own = message.fields.clone();
        self.framing(message).h2(&mut own);
        let mut request = Request::new(());
        *request.method_mut() = message.method.clone();
        *request.uri_mut() = h2_uri(message, self.origin.service().is_tls()).map_err(Failure::never)?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = own;
        self.upload.keep_more(self.origin.replay_budget());
        let (mut answer, stream) =
            connection.requests().send_request(request, body == BodyKind::None).map_err(|error| {
                let failure = Failure::h2(&error, None);
                // A request that HTTP/2 cannot carry is not better elsewhere.
                if error.is_io() || error.is_go_away() { failure.unsent() } else { failure.never() }
            })?;
        let mut companion = Uploading::new(stream, self.upload.clone(), body == BodyKind::None);
        patience.set_limit(self.origin.settings().response_header_timeout);
        let (answered, interims) = self
            .final_answer(&mut companion, patience, |cx| {
                if let Poll::Ready(Some(Ok(interim))) = answer.poll_informational(cx) {
                    let (parts, ()) = interim.into_parts();
                    return Poll::Ready(Step::Interim((parts.status, parts.headers)));
                }
                Pin::new(&mut answer).poll(cx).map(Step::Final)
            })
            .await?;
        let answer = answered.map_err(|error| {
            if !error.is_reset() {
                connection.retire();
            }
            let failure = Failure::h2(&error, self.upload.failure());
            match (is_untaken(&error), error.is_reset()) {
                // Whoever gave interim answers has taken it, whatever it says afterwards.
                _ if interims > 0 => failure.never(),
                (true, _) => failure.unsent(),
                // The connection died without an answer.
                (false, false) => Missed { failure, again: Again::Unanswered },
                (false, true) => failure.never(),
            }
        })?;
        self.upload.forget();
        let (parts, recv) = answer.into_parts();
        let mut body = AnswerBody::H2(Download::new(recv));
        self.respond(&mut companion, parts.status, parts.headers, &mut body, &message.method, patience)
            .await
            .map_err(Failure::never)?;
        self.linger(&mut companion).await;
        if !companion.is_done() {
            companion.reset(h2::Reason::NO_ERROR);
        }
        Ok(Done::Answered)
    }

    /// Waits for the final answer and hands on the interim ones before it; says how many those were as well.
    async fn final_answer<T>(
        &mut self,
        companion: &mut impl Companion,
        patience: &mut Patience,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<Step<T>>,
    ) -> Result<(T, usize), Missed> {
        let upload = self.upload.clone();
        let mut interims = 0;
        loop {
            match wait_for_head(companion, patience, self.send, &upload, &mut poll).await {
                Ok(Step::Interim((status, mut fields))) => {
                    interims += 1;
                    if interims > MAX_INTERIM {
                        let failure = Failure::origin(AbortCode::OriginProtocol, "too many interim answers");
                        return Err(failure.never());
                    }
                    headers::from_origin_interim(&mut fields);
                    let sent = beside(companion, self.send.interim(status, &fields)).await;
                    sent.map_err(|error| Failure::from(error).never())?;
                }
                Ok(Step::Final(answered)) => return Ok((answered, interims)),
                Err(interrupt) => return Err(Failure::interrupted(interrupt, "answer").never()),
            }
        }
    }

    fn framing<'m>(&self, message: &'m Message) -> Framing<'m> {
        Framing {
            method: &message.method,
            body: self.upload.kind(),
            expect: message.expect,
            trailers: self.upload.trailer_names(),
        }
    }

    /// `disableChunkedEncoding` and a body too long to be held back.
    async fn refuse_length(&mut self, method: &Method) -> Result<Done, Failure> {
        let text = "this site needs a Content-Length for a body of this size";
        let (head, first) = crate::builtin::text(StatusCode::LENGTH_REQUIRED, text, method);
        self.answered(head.status);
        self.send.response(&head, first).await?;
        self.upload.stop(AbortCode::TooLarge);
        Ok(Done::Answered)
    }
}

impl Failure {
    fn never(self) -> Missed {
        Missed { failure: self, again: Again::Never }
    }

    /// The origin did nothing with it: the edge may try another connector.
    fn unsent(self) -> Missed {
        let code = if self.blame == Blame::Origin { AbortCode::Refused } else { self.code };
        Missed { failure: Self { code, ..self }, again: Again::Unsent }
    }
}

/// Whether the origin said that it did not take the request: by a GOAWAY in good order that leaves its stream out, or by
/// REFUSED_STREAM (RFC 9113 section 8.7). What h2 finds wrong itself says nothing of what the origin has done, and h2
/// gives the origin's GOAWAY as an error to no other streams than those left out.
fn is_untaken(error: &h2::Error) -> bool {
    let said = if error.is_go_away() { h2::Reason::NO_ERROR } else { h2::Reason::REFUSED_STREAM };
    error.is_remote() && error.reason() == Some(said)
}

enum Step<T> {
    Interim((StatusCode, HeaderMap)),
    Final(T),
}

/// The request's target in origin form only: a service that is a proxy must not be made to go elsewhere by a hostile edge,
/// neither by CONNECT nor by a whole URL.
fn target(head: &mut RequestHead, upgrade: bool) -> Result<Uri, Failure> {
    let is_star = head.path == "*" && head.method == Method::OPTIONS;
    if (head.method == Method::CONNECT && !upgrade) || !(head.path.starts_with('/') || is_star) {
        return Err(Failure::visitor(AbortCode::Protocol, "the request's target is not a path"));
    }
    Uri::try_from(std::mem::take(&mut head.path))
        .map_err(|_| Failure::visitor(AbortCode::Protocol, "the path cannot be written in HTTP"))
}

/// `:scheme`, `:authority` and `:path` in one.
fn h2_uri(message: &Message, tls: bool) -> Result<Uri, Failure> {
    let mut parts = message.uri.clone().into_parts();
    parts.scheme = Some(if tls { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP });
    parts.authority = message.host.to_str().ok().and_then(|host| host.parse().ok());
    Uri::from_parts(parts).map_err(|_| {
        Failure::visitor(AbortCode::Protocol, "the request's target cannot be written in HTTP/2")
    })
}

/// A request that the origin may have seen is sent at most twice.
const MAX_SEEN: u32 = 2;
/// Attempts that the origin certainly did not take: after the first each has a connection of its own, whose first request
/// no sound origin refuses, so that more than a few mean that it is overloaded.
const MAX_REFUSED: u32 = 8;
const REFUSED_FOR: Duration = Duration::from_secs(30);
const REFUSED_PAUSE: Duration = Duration::from_millis(20);
/// What `disableChunkedEncoding` holds back to count it.
const MAX_COLLECTED_BYTES: usize = 1024 * 1024;

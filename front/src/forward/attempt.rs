//! One try of a request on one session: stream, head, body, and the wait for the answer's head.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use causeway_daemon::drain::Drain;
use causeway_tunnel::limits::PROBE_INTERVAL;
use causeway_tunnel::semantics::{asks_for_event_stream, is_long_silent};
use causeway_tunnel::{AbortCode, BodyKind, First, RequestHead, ResponseEvent, ResponseHead, StreamError};
use http::{Response, StatusCode};
use tokio::time::{Instant, sleep, timeout};

use super::body::out_body;
use super::pump::{End, Pump, Pumped};
use super::raw;
use super::{Failure, Patience, Upload};
use crate::exchange::{Interim, OutBody, Upgrade};
use crate::household::Stalled;
use crate::record::Record;
use crate::session::{RecvHalf, SendHalf, Session};

/// A connector that allows no more streams for so long is overloaded.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// When the connector stopped taking the body, its reason follows at once: as an answer, or as an abort.
const REASON_TIMEOUT: Duration = Duration::from_secs(5);

/// The session that a try is made on, and who of its readers stands still.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub session: &'a Session,
    pub stalled: &'a Arc<Stalled>,
}

/// A request and what its attempts share.
#[derive(Debug)]
pub struct Attempt<'a> {
    drain: &'a Drain,
    patience: Patience,
    head: RequestHead,
    /// Away only while an attempt runs, or once the answer is there.
    upload: Option<Upload>,
    upgrade: Option<Upgrade>,
    interim: Interim,
    record: Record,
}

/// What became of the sending half.
enum Sending {
    /// The whole request is in the tunnel.
    Done,
    Body(Pump),
    /// Open until the answer says whether bytes will follow.
    Upgrade(SendHalf),
}

impl<'a> Attempt<'a> {
    pub fn new(
        drain: &'a Drain,
        patience: Patience,
        head: RequestHead,
        upload: Upload,
        upgrade: Option<Upgrade>,
        interim: Interim,
        record: Record,
    ) -> Self {
        Self { drain, patience, head, upload: Some(upload), upgrade, interim, record }
    }

    /// Whether the body can be sent again from its first byte.
    pub fn can_restart(&self) -> bool {
        self.upload.as_ref().is_some_and(Upload::can_restart)
    }

    /// `elsewhere` says whether the request had better go to another session, now that this one is silent: asked only then.
    pub async fn run(
        &mut self,
        line: Line<'_>,
        route: u32,
        elsewhere: impl Fn() -> bool,
    ) -> Result<Response<OutBody>, Failure> {
        self.head.route = route;
        // Of a body nobody knows yet whether it can be sent again.
        let is_bodiless = self.head.body == BodyKind::None;
        let (mut recv, mut sending) = tokio::select! {
            biased;
            begun = self.begin(line) => begun?,
            () = overtaken(line.session, || is_bodiless && elsewhere()) => return Err(Failure::Silent),
        };
        let pumped = match &sending {
            Sending::Body(pump) => Some(pump.can_restart()),
            _ => None,
        };
        let is_kept = self.can_restart();
        let can_restart = || pumped.as_ref().map_or(is_kept, |can_restart| can_restart());
        let answered = tokio::select! {
            biased;
            answered = self.answer(line, &mut recv, &mut sending) => answered,
            () = overtaken(line.session, || can_restart() && elsewhere()) => Err(Failure::Silent),
        };
        match answered {
            Ok(head) => self.respond(line, head, recv, sending).await,
            Err(failure) => {
                if let Sending::Body(pump) = sending {
                    self.upload = Some(pump.stop().await);
                }
                Err(failure)
            }
        }
    }

    async fn begin(&mut self, line: Line<'_>) -> Result<(RecvHalf, Sending), Failure> {
        let is_narrow = self.upgrade.is_some()
            || is_long_silent(&self.head.headers)
            || asks_for_event_stream(&self.head.headers);
        let mut opening = pin!(async {
            if is_narrow { line.session.open_narrow().await } else { line.session.open().await }
        });
        let opened = loop {
            match timeout(OPEN_TIMEOUT, &mut opening).await {
                Ok(opened) => break opened.map_err(|_| Failure::NotOpened)?,
                // A silent connector cannot allow more.
                Err(_) if line.session.is_suspected() => {}
                Err(_) => return Err(Failure::Crowded),
            }
        };
        let (send, recv) = opened;
        Ok((recv, self.send(send).await?))
    }

    /// Head, and with it as much of the body as is here: a small request is one write.
    async fn send(&mut self, mut send: SendHalf) -> Result<Sending, Failure> {
        let failed = |error: StreamError| match error {
            // Our own encoder refused it: nothing was sent.
            StreamError::Malformed(_) => Failure::HeadTooLong,
            error => Failure::from_stream(&error),
        };
        if self.upgrade.is_some() {
            send.request(&self.head, First::More).await.map_err(failed)?;
            return Ok(Sending::Upgrade(send));
        }
        let upload = self.upload.as_mut().expect("back after each failed attempt");
        upload.restart();
        let whole = if self.head.expect_continue { None } else { upload.whole() };
        if let Some(body) = whole {
            send.request(&self.head, First::Only(body)).await.map_err(failed)?;
            return Ok(Sending::Done);
        }
        send.request(&self.head, First::More).await.map_err(failed)?;
        let upload = self.upload.take().expect("looked at above");
        Ok(Sending::Body(Pump::new(send, upload, self.patience.body_idle)))
    }

    async fn answer(
        &mut self,
        line: Line<'_>,
        recv: &mut RecvHalf,
        sending: &mut Sending,
    ) -> Result<ResponseHead, Failure> {
        let header_limit = self.patience.response_header;
        let mut limit = header_limit;
        // Runs only while nothing of the request is left to send: an upload of an hour is no slow answer.
        let mut deadline = pin!(sleep(limit));
        let mut at_deadline = Failure::HeaderTimeout;
        loop {
            let pump = match sending {
                Sending::Body(pump) => Some(pump),
                _ => None,
            };
            let is_pumping = pump.is_some();
            let pumped = async {
                match pump {
                    Some(pump) => pump.finished().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = recv.response() => match answer {
                    Ok(ResponseEvent::Interim(status, headers)) => self.interim.send(status, &headers),
                    Ok(ResponseEvent::Final(head)) => return Ok(head),
                    Err(error) => return Err(Failure::from_stream(&error)),
                },
                Pumped { upload, end } = pumped => {
                    self.upload = Some(upload);
                    *sending = Sending::Done;
                    deadline.as_mut().reset(Instant::now() + header_limit);
                    match end {
                        End::Whole => {}
                        End::Visitor(error) => return Err(Failure::Visitor(error)),
                        End::Stalled => return Err(Failure::Stalled),
                        End::Stopped => unreachable!("nobody asked the pump to stop"),
                        End::Stream(error) => {
                            at_deadline = Failure::from_stream(&error);
                            limit = REASON_TIMEOUT;
                            deadline.as_mut().reset(Instant::now() + limit);
                        }
                    }
                }
                () = &mut deadline, if !is_pumping => {
                    if !line.session.is_suspected() {
                        return Err(at_deadline);
                    }
                    // The line's silence is not the origin's.
                    deadline.as_mut().reset(Instant::now() + limit);
                }
            }
        }
    }

    async fn respond(
        &mut self,
        line: Line<'_>,
        head: ResponseHead,
        recv: RecvHalf,
        sending: Sending,
    ) -> Result<Response<OutBody>, Failure> {
        let is_switch = head.status == StatusCode::SWITCHING_PROTOCOLS;
        let body = match (sending, is_switch) {
            (Sending::Upgrade(send), true) => {
                let upgrade = self.upgrade.take().expect("an upgrade's stream belongs to an upgrade");
                let reader = self.record.with_ticket(|ticket| ticket.reader(line.stalled));
                let copy = raw::copy(upgrade, send.into_raw(), recv.into_raw(), self.record.clone(), reader);
                drop(self.drain.spawn("upgrade", copy));
                OutBody::empty()
            }
            // 101 to somebody who did not ask for it (hazard 57).
            (_, true) => return Err(Failure::Protocol),
            // A 2xx without a switch would tell an extended CONNECT that the stream is a WebSocket now (hazard 55).
            (Sending::Upgrade(_), false)
                if head.status.is_success() && self.upgrade.as_ref().is_some_and(Upgrade::is_connect) =>
            {
                return Err(Failure::Aborted(AbortCode::OriginProtocol));
            }
            (Sending::Upgrade(mut send), false) => {
                // An error means that the connector does not care for the end.
                let _ = send.end().await;
                self.body(line, recv, &head)
            }
            (Sending::Body(pump), false) => {
                drop(self.drain.spawn("upload", pump.outlive(self.head.expect_continue)));
                self.body(line, recv, &head)
            }
            (Sending::Done, false) => self.body(line, recv, &head),
        };
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        Ok(response)
    }

    fn body(&self, line: Line<'_>, recv: RecvHalf, head: &ResponseHead) -> OutBody {
        out_body(recv, head, self.patience.body_idle, self.record.clone(), line.stalled)
    }
}

/// Resolves when the session is silent and `elsewhere` says that there is a better one.
pub async fn overtaken(session: &Session, elsewhere: impl Fn() -> bool) {
    loop {
        session.suspected().await;
        if elsewhere() {
            return;
        }
        sleep(PROBE_INTERVAL).await;
    }
}

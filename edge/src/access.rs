//! The record of one request: filled in by whoever learns something, written as one access log line and one
//! observation when the last holder lets go of it.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode, Uri, Version};
use parking_lot::Mutex;

use crate::exchange::{RequestId, Scheme};
use crate::household::Ticket;

/// What the access log shows.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    pub enabled: bool,
    /// Whether the query is shown with the path. Queries hold secrets: off by default.
    pub query: bool,
}

/// Gets every request when it is over: metrics, or a test.
pub trait Observer: Send + Sync {
    fn finished(&self, request: &Finished<'_>);
}

/// Where records end. One per shard.
pub struct Sink {
    pub log: Log,
    pub observer: Option<Arc<dyn Observer>>,
}

impl Sink {
    pub fn new(log: Log, observer: Option<Arc<dyn Observer>>) -> Arc<Self> {
        Arc::new(Self { log, observer })
    }

    /// Writes nothing and tells nobody.
    pub fn silent() -> Arc<Self> {
        Self::new(Log { enabled: false, query: false }, None)
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("log", &self.log).finish_non_exhaustive()
    }
}

/// One finished request.
#[derive(Debug)]
pub struct Finished<'a> {
    pub start: &'a Start,
    /// None: the visitor went away before there was a response.
    pub status: Option<StatusCode>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub duration: Duration,
    pub first_byte: Option<Duration>,
    pub tunnel: Option<&'a str>,
    pub session: Option<&'a str>,
    pub route: Option<&'a str>,
    pub failure: Option<&'a str>,
}

/// What is known when a request begins.
#[derive(Debug)]
pub struct Start {
    pub id: RequestId,
    pub visitor: SocketAddr,
    pub scheme: Scheme,
    pub version: Version,
    pub method: Method,
    /// Normalised; empty when the request was refused before it had one.
    pub host: Arc<str>,
    pub uri: Uri,
}

/// The record of one request. Clones are the same record; it is written when the last one is dropped.
#[derive(Clone)]
pub struct Record(Arc<Inner>);

struct Inner {
    start: Start,
    began: Instant,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    facts: Mutex<Facts>,
    sink: Arc<Sink>,
}

#[derive(Default)]
struct Facts {
    status: Option<StatusCode>,
    first_byte: Option<Duration>,
    tunnel: Option<Arc<str>>,
    session: Option<Arc<str>>,
    route: Option<Arc<str>>,
    observer: Option<Arc<dyn Observer>>,
    failure: Option<Cow<'static, str>>,
    /// The request's place in its visitor's household: given back when all of it is over.
    ticket: Option<Ticket>,
}

impl Record {
    pub fn new(start: Start, sink: Arc<Sink>) -> Self {
        Self(Arc::new(Inner {
            start,
            began: Instant::now(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            facts: Mutex::default(),
            sink,
        }))
    }

    pub fn began(&self) -> Instant {
        self.0.began
    }

    /// The name of the tunnel that serves the request.
    pub fn set_tunnel(&self, name: &Arc<str>) {
        self.0.facts.lock().tunnel = Some(Arc::clone(name));
    }

    /// The session that carries it (the last one, if it was tried on several).
    pub fn set_session(&self, id: &Arc<str>) {
        self.0.facts.lock().session = Some(Arc::clone(id));
    }

    /// The hostname pattern of the route: bounded, so fit for a metric's label.
    pub fn set_route(&self, pattern: &Arc<str>) {
        self.0.facts.lock().route = Some(Arc::clone(pattern));
    }

    /// Who hears of this request when it is over, in place of the sink's observer: the route, whose handles are ready.
    pub fn set_observer(&self, observer: Arc<dyn Observer>) {
        self.0.facts.lock().observer = Some(observer);
    }

    pub(crate) fn set_ticket(&self, ticket: Ticket) {
        self.0.facts.lock().ticket = Some(ticket);
    }

    /// What the request's visitor holds. None: it was never counted, as in tests.
    pub(crate) fn with_ticket<T>(&self, use_it: impl FnOnce(&mut Ticket) -> T) -> Option<T> {
        self.0.facts.lock().ticket.as_mut().map(use_it)
    }

    /// What went wrong. The first reason stays: what follows from it is of no interest.
    pub fn set_failure(&self, reason: impl Into<Cow<'static, str>>) {
        let mut facts = self.0.facts.lock();
        if facts.failure.is_none() {
            facts.failure = Some(reason.into());
        }
    }

    /// Our own response's status; the front end sets it when the head is written.
    pub(crate) fn set_status(&self, status: StatusCode) {
        let elapsed = self.0.began.elapsed();
        let mut facts = self.0.facts.lock();
        facts.status = Some(status);
        facts.first_byte = Some(elapsed);
    }

    pub(crate) fn add_in(&self, bytes: usize) {
        self.0.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_out(&self, bytes: usize) {
        self.0.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Record").field(&self.0.start.id).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let facts = self.facts.get_mut();
        if let Some(ticket) =
            facts.ticket.as_ref().filter(|_| facts.failure.is_none() && facts.status.is_some())
        {
            ticket.succeeded();
        }
        let observer = facts.observer.take().or_else(|| self.sink.observer.clone());
        if !self.sink.log.enabled && observer.is_none() {
            return;
        }
        let finished = Finished {
            start: &self.start,
            status: facts.status,
            bytes_in: *self.bytes_in.get_mut(),
            bytes_out: *self.bytes_out.get_mut(),
            duration: self.began.elapsed(),
            first_byte: facts.first_byte,
            tunnel: facts.tunnel.as_deref(),
            session: facts.session.as_deref(),
            route: facts.route.as_deref(),
            failure: facts.failure.as_deref().or_else(|| facts.status.is_none().then_some("visitor_gone")),
        };
        if let Some(observer) = observer {
            observer.finished(&finished);
        }
        if self.sink.log.enabled {
            finished.write(self.sink.log.query);
        }
    }
}

impl Finished<'_> {
    /// One event of target `access`; the time is added by the subscriber.
    fn write(&self, query: bool) {
        let start = self.start;
        let path = match start.uri.path_and_query() {
            Some(whole) if query => whole.as_str(),
            _ => start.uri.path(),
        };
        tracing::info!(
            target: "access",
            request = %start.id,
            visitor = %start.visitor.ip(),
            scheme = start.scheme.as_str(),
            version = ?start.version,
            host = %Escaped(&start.host),
            method = %Escaped(start.method.as_str()),
            path = %Escaped(path),
            status = self.status.map_or(0, |status| status.as_u16()),
            bytes_in = self.bytes_in,
            bytes_out = self.bytes_out,
            duration_ms = millis(self.duration),
            first_byte_ms = self.first_byte.map(millis),
            tunnel = self.tunnel,
            session = self.session,
            failure = self.failure.map(|failure| tracing::field::display(Escaped(failure))),
        );
    }
}

fn millis(duration: Duration) -> f64 {
    // Whole microseconds: enough, and short in the log.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Shows text with everything but printable ASCII escaped, so that a visitor cannot forge lines or send terminal
/// codes (hazard 114).
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |byte: u8| matches!(byte, 0x20..=0x7e) && byte != b'\\' && byte != b'"';
        if self.0.bytes().all(is_plain) {
            return f.write_str(self.0);
        }
        for char in self.0.chars() {
            if u8::try_from(char).is_ok_and(is_plain) {
                f.write_char(char)?;
            } else {
                write!(f, "{}", char.escape_default())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen(Mutex<Vec<Line>>);

    type Line = (Option<u16>, u64, u64, Option<String>);

    impl Observer for Seen {
        fn finished(&self, request: &Finished<'_>) {
            self.0.lock().push((
                request.status.map(|status| status.as_u16()),
                request.bytes_in,
                request.bytes_out,
                request.failure.map(str::to_owned),
            ));
        }
    }

    fn record(seen: &Arc<Seen>) -> Record {
        let start = Start {
            id: RequestId([7; 16]),
            visitor: "192.0.2.1:1".parse().unwrap(),
            scheme: Scheme::Https,
            version: Version::HTTP_11,
            method: Method::GET,
            host: "a.example".into(),
            uri: "/x?secret=1".parse().unwrap(),
        };
        let observer: Arc<dyn Observer> = Arc::clone(seen) as _;
        Record::new(start, Sink::new(Log { enabled: true, query: false }, Some(observer)))
    }

    #[test]
    fn is_written_once_when_the_last_holder_lets_go() {
        let seen = Arc::new(Seen::default());
        let first = record(&seen);
        let second = first.clone();
        first.add_in(3);
        second.add_out(5);
        second.set_status(StatusCode::OK);
        drop(first);
        assert!(seen.0.lock().is_empty());
        drop(second);
        assert_eq!(*seen.0.lock(), [(Some(200), 3, 5, None)]);
    }

    #[test]
    fn the_first_failure_stays() {
        let seen = Arc::new(Seen::default());
        let record = record(&seen);
        record.set_failure("origin refused");
        record.set_failure("visitor_gone");
        drop(record);
        assert_eq!(seen.0.lock()[0].3.as_deref(), Some("origin refused"));
    }

    #[test]
    fn hazard_114_nothing_unprintable_reaches_the_log() {
        let forged = "/a\r\n2026 GET /forged \u{1b}[31m\u{9b}\"\\\u{202e}";
        let shown = Escaped(forged).to_string();
        assert!(shown.bytes().all(|byte| (0x20..=0x7e).contains(&byte)), "{shown}");
        assert_eq!(Escaped("/plain?x=1").to_string(), "/plain?x=1");
    }
}

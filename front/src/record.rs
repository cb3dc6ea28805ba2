//! The record of one request: filled in by whoever learns something; what happens is told to the observers, the end of it
//! when the last holder lets go.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use crate::household::Ticket;
use crate::observe::{Finished, Observers, Start, Way};

/// The record of one request. Clones are the same record; it is written when the last one is dropped.
#[derive(Clone)]
pub struct Record(Arc<Inner>);

struct Inner {
    start: Start,
    began: Instant,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    facts: Mutex<Facts>,
    /// Those of the shard.
    observers: Observers,
    /// Those of the route, from when there is one.
    of_route: OnceLock<Observers>,
}

#[derive(Default)]
struct Facts {
    status: Option<StatusCode>,
    first_byte: Option<Duration>,
    tunnel: Option<Arc<str>>,
    session: Option<Arc<str>>,
    failure: Option<Cow<'static, str>>,
    /// The request's place in its visitor's household: given back when all of it is over.
    ticket: Option<Ticket>,
}

impl Record {
    /// Tells the observers. `fields` are the request's, where it has any.
    pub fn new(start: Start, fields: &HeaderMap, observers: Observers) -> Self {
        observers.begin(&start, fields);
        Self(Arc::new(Inner {
            start,
            began: Instant::now(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            facts: Mutex::default(),
            observers,
            of_route: OnceLock::new(),
        }))
    }

    /// The request came in by a route of this tunnel, whose observers hear of it from now on.
    pub fn set_route(&self, tunnel: &Arc<str>, observers: &Observers, fields: &HeaderMap) {
        self.0.facts.lock().tunnel = Some(Arc::clone(tunnel));
        if self.0.of_route.set(observers.clone()).is_ok() {
            observers.begin(&self.0.start, fields);
        }
    }

    /// The session that carries it (the last one, if it was tried on several).
    pub fn set_session(&self, id: &Arc<str>) {
        self.0.facts.lock().session = Some(Arc::clone(id));
    }

    pub fn set_ticket(&self, ticket: Ticket) {
        self.0.facts.lock().ticket = Some(ticket);
    }

    /// What the request's visitor holds. None: it was never counted, as in tests.
    pub fn with_ticket<T>(&self, use_it: impl FnOnce(&mut Ticket) -> T) -> Option<T> {
        self.0.facts.lock().ticket.as_mut().map(use_it)
    }

    /// What went wrong. The first reason stays: what follows from it is of no interest.
    pub fn set_failure(&self, reason: impl Into<Cow<'static, str>>) {
        let mut facts = self.0.facts.lock();
        if facts.failure.is_none() {
            facts.failure = Some(reason.into());
        }
    }

    /// The head of our own response; the front end says it when it is written.
    pub fn set_head(&self, status: StatusCode, fields: &HeaderMap) {
        let elapsed = self.0.began.elapsed();
        let mut facts = self.0.facts.lock();
        facts.status = Some(status);
        facts.first_byte = Some(elapsed);
        drop(facts);
        self.0.tell(|observers| observers.head(&self.0.start, status, fields));
    }

    pub fn add_in(&self, piece: &[u8]) {
        self.0.bytes_in.fetch_add(piece.len() as u64, Ordering::Relaxed);
        self.0.tell(|observers| observers.body(&self.0.start, Way::In, piece));
    }

    pub fn add_out(&self, piece: &[u8]) {
        self.0.bytes_out.fetch_add(piece.len() as u64, Ordering::Relaxed);
        self.0.tell(|observers| observers.body(&self.0.start, Way::Out, piece));
    }
}

impl Inner {
    fn tell(&self, tell: impl Fn(&Observers)) {
        tell(&self.observers);
        if let Some(observers) = self.of_route.get() {
            tell(observers);
        }
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
        if self.observers.is_empty() && self.of_route.get().is_none_or(Observers::is_empty) {
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
            failure: facts.failure.as_deref().or_else(|| facts.status.is_none().then_some("visitor_gone")),
        };
        self.observers.end(&finished);
        if let Some(observers) = self.of_route.get() {
            observers.end(&finished);
        }
    }
}

#[cfg(test)]
mod tests {
    use causeway_tunnel::{RequestId, Scheme, TlsEnd};
    use http::{Method, Version};

    use super::*;
    use crate::observe::Observer;

    #[derive(Default)]
    struct Seen {
        name: &'static str,
        events: Arc<Mutex<Vec<String>>>,
    }

    impl Seen {
        fn say(&self, event: &str) {
            self.events.lock().push(format!("{}: {event}", self.name));
        }
    }

    impl Observer for Seen {
        fn begin(&self, request: &Start, fields: &HeaderMap) {
            self.say(&format!("begin {} {}", request.uri.path(), fields.len()));
        }

        fn head(&self, _: &Start, status: StatusCode, _: &HeaderMap) {
            self.say(&format!("head {}", status.as_u16()));
        }

        fn body(&self, _: &Start, way: Way, piece: &[u8]) {
            self.say(&format!("body {way:?} {}", String::from_utf8_lossy(piece)));
        }

        fn end(&self, request: &Finished<'_>) {
            let (status, failure) = (request.status.map_or(0, |status| status.as_u16()), request.failure);
            self.say(&format!("end {status} {}/{} {failure:?}", request.bytes_in, request.bytes_out));
        }

        fn wants_bodies(&self) -> bool {
            self.name == "inspector"
        }
    }

    type Events = Arc<Mutex<Vec<String>>>;

    fn observers(events: &Events, names: &[&'static str]) -> Observers {
        let seen = |name: &&'static str| Arc::new(Seen { name, events: Arc::clone(events) }) as _;
        Observers::new(names.iter().map(seen))
    }

    fn record(events: &Events) -> Record {
        let start = Start {
            id: RequestId([7; 16]),
            visitor: "192.0.2.1:1".parse().unwrap(),
            scheme: Scheme::Https,
            version: Version::HTTP_11,
            method: Method::GET,
            host: "a.example".into(),
            uri: "/x?secret=1".parse().unwrap(),
            tls: TlsEnd::Edge,
        };
        Record::new(start, &HeaderMap::new(), observers(events, &["log"]))
    }

    #[test]
    fn the_end_comes_once_when_the_last_holder_lets_go() {
        let events = Events::default();
        let first = record(&events);
        let second = first.clone();
        first.add_in(b"abc");
        second.add_out(b"hello");
        second.set_head(StatusCode::OK, &HeaderMap::new());
        drop(first);
        assert_eq!(*events.lock(), ["log: begin /x 0", "log: head 200"]);
        drop(second);
        assert_eq!(events.lock()[2..], ["log: end 200 3/5 None"]);
    }

    #[test]
    fn the_first_failure_stays() {
        let events = Events::default();
        let record = record(&events);
        record.set_failure("origin refused");
        record.set_failure("visitor_gone");
        drop(record);
        assert_eq!(events.lock()[1], "log: end 0 0/0 Some(\"origin refused\")");
    }

    #[test]
    fn a_routes_observers_hear_all_from_the_route_on_and_bodies_if_they_want() {
        let events = Events::default();
        let of_route = observers(&events, &["metrics", "inspector"]);
        let record = record(&events);
        for _ in 0..2 {
            record.set_route(&"home".into(), &of_route, &HeaderMap::new());
        }
        record.add_in(b"abc");
        record.set_head(StatusCode::NOT_FOUND, &HeaderMap::new());
        record.add_out(b"no");
        drop(record);
        let heard = [
            "log: begin /x 0",
            "metrics: begin /x 0",
            "inspector: begin /x 0",
            "inspector: body In abc",
            "log: head 404",
            "metrics: head 404",
            "inspector: head 404",
            "inspector: body Out no",
            "log: end 404 3/2 None",
            "metrics: end 404 3/2 None",
            "inspector: end 404 3/2 None",
        ];
        assert_eq!(*events.lock(), heard);
    }
}

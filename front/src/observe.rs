//! Who hears of requests: each is told when one begins, when its answer's head leaves, of the bodies as they go by, and
//! when all of it is over.
//!
//! An observer is one file: it implements [`Observer`], and takes its place in a list that is made once, for a shard (all
//! requests) or for a route (those that came in by it), and shared by all its requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use causeway_tunnel::{RequestId, Scheme, TlsEnd};
use http::{HeaderMap, Method, StatusCode, Uri, Version};

/// All of it is called on the request's own thread, in the middle of its work: it must not wait.
pub trait Observer: Send + Sync {
    /// A request came: to the edge, or, for a route's observer, to the route. The fields are those that go on to the
    /// origin.
    fn begin(&self, _request: &Start, _fields: &HeaderMap) {}
    /// The head of the answer leaves.
    fn head(&self, _request: &Start, _status: StatusCode, _fields: &HeaderMap) {}
    /// A piece of a body goes by, or of what follows an upgrade. Told only to who [`Observer::wants_bodies`].
    fn body(&self, _request: &Start, _way: Way, _piece: &[u8]) {}
    /// All of the request is over. Called once for each `begin`.
    fn end(&self, _request: &Finished<'_>) {}

    fn wants_bodies(&self) -> bool {
        false
    }
}

/// Which way a piece of a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the visitor.
    In,
    /// To the visitor.
    Out,
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
    /// Elsewhere: it is no request but a whole connection, of which nothing is known but host and visitor.
    pub tls: TlsEnd,
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
    pub failure: Option<&'a str>,
}

/// A fixed list of observers. Clones are the same list.
#[derive(Clone)]
pub struct Observers(Arc<[Arc<dyn Observer>]>, HearsBodies);

/// Whether one of a list does: most lists need not be gone through for every piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HearsBodies {
    Nobody,
    Somebody,
}

impl Observers {
    pub fn new(observers: impl IntoIterator<Item = Arc<dyn Observer>>) -> Self {
        let observers: Arc<[_]> = observers.into_iter().collect();
        let is_heard = observers.iter().any(|observer| observer.wants_bodies());
        Self(observers, if is_heard { HearsBodies::Somebody } else { HearsBodies::Nobody })
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn begin(&self, request: &Start, fields: &HeaderMap) {
        self.0.iter().for_each(|observer| observer.begin(request, fields));
    }

    pub fn head(&self, request: &Start, status: StatusCode, fields: &HeaderMap) {
        self.0.iter().for_each(|observer| observer.head(request, status, fields));
    }

    pub fn body(&self, request: &Start, way: Way, piece: &[u8]) {
        if self.1 == HearsBodies::Nobody {
            return;
        }
        let hearing = self.0.iter().filter(|observer| observer.wants_bodies());
        hearing.for_each(|observer| observer.body(request, way, piece));
    }

    pub fn end(&self, request: &Finished<'_>) {
        self.0.iter().for_each(|observer| observer.end(request));
    }
}

impl std::fmt::Debug for Observers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observers").field("count", &self.0.len()).finish_non_exhaustive()
    }
}

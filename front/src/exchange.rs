//! One request on its way from an HTTP front end to the core: what is known of the visitor, the request itself,
//! its bodies, and the handles that answer before, beside or instead of a response.

mod body;
mod interim;
mod passing;
mod upgrade;

use std::net::SocketAddr;

use causeway_tunnel::{BodyKind, Host, RequestId, Scheme};
use http::request;

use crate::record::Record;
pub use body::Arriving;
pub use body::{Abort, InBody, InError, OutBody};
pub use interim::Interim;
pub use interim::{ContinueGate, InterimSink};
pub use passing::{Passing, Refused};
pub use upgrade::{RawHalves, RawLimits, RawSink, RawSource, Wish};
pub use upgrade::{RawIn, RawOut, Upgrade, raw};

/// Who sends requests on one connection, and how. Shared by all requests of that connection.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// The visitor, as far as we trust it: the peer, or what a trusted proxy says of it.
    pub addr: SocketAddr,
    pub scheme: Scheme,
}

/// A validated request. Its head has been cleaned of hop-by-hop fields and carries the forwarding headers,
/// so the core forwards `head.headers` as it is.
#[derive(Debug)]
pub struct Exchange {
    pub id: RequestId,
    pub visitor: Visitor,
    /// Normalised for routing: lower case, no port, no trailing dot.
    pub host: Host,
    /// `uri` is in origin form (path and query, byte for byte as sent) or `*`; `Host` is present exactly once.
    pub head: request::Parts,
    pub body: InBody,
    pub body_kind: BodyKind,
    /// Present when the visitor asks for a WebSocket, by HTTP/1.1 Upgrade or by extended CONNECT (RFC 8441).
    /// For the core both are the same GET request; answered with 101 both become raw bytes.
    pub upgrade: Option<Upgrade>,
    /// The visitor waits for 100 before it sends the body. `interim.send(100)` lets it go on; polling the body does
    /// so too, after [`ContinueGate::PATIENCE`].
    pub expect_continue: bool,
    pub interim: Interim,
    pub record: Record,
}

impl Exchange {
    /// The public name as the visitor wrote it, with its port if it had one.
    pub fn authority(&self) -> &str {
        self.head.headers.get(http::header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Path and query, byte for byte as sent.
    pub fn path(&self) -> &str {
        self.head.uri.path_and_query().map_or("/", |path| path.as_str())
    }
}

/// What the front ends call for each request: the core, or a fake in tests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Never fails: failures are pages. When the visitor goes away the future is dropped, which
    /// must cancel the request downstream.
    fn handle(&self, exchange: Exchange) -> impl Future<Output = http::Response<OutBody>> + Send;

    /// Carries a connection that passes through, to its end.
    ///
    /// # Errors
    /// When nothing went back to the visitor: he may be told so in TLS.
    fn pass(&self, passing: Passing) -> impl Future<Output = Result<(), Refused>> + Send;
}

impl<H: Handler> Handler for std::sync::Arc<H> {
    fn handle(&self, exchange: Exchange) -> impl Future<Output = http::Response<OutBody>> + Send {
        (**self).handle(exchange)
    }

    fn pass(&self, passing: Passing) -> impl Future<Output = Result<(), Refused>> + Send {
        (**self).pass(passing)
    }
}

//! The way between HTTP and the core, common to all versions: a parsed request becomes a validated exchange, and an
//! answer is made fit to leave.

use std::net::SocketAddr;
use std::sync::Arc;

use causeway_daemon::drain::Drain;
use causeway_tunnel::flow::Budget;
use causeway_tunnel::semantics::join_cookies;
use causeway_tunnel::{Host, RequestId, Scheme, TlsEnd};
use http::header::{ALT_SVC, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, Version};
use parking_lot::Mutex;

use super::forwarding::{Forwarder, Forwarding};
use super::headers;
use super::offer::Offer;
use super::page::{Hop, Page, Pages, Style};
use super::refusal::Refusal;
use super::timing::Limits;
use super::validate;
use crate::exchange::{Handler, OutBody, Visitor};
use crate::household::{Age, Crowded, Household, Households};
use crate::observe::{Observers, Start};
use crate::record::Record;
use crate::room::{Pressure, Room};
use crate::tls::Names;

/// What all connections of a shard's listeners share.
pub struct Service<H> {
    pub handler: H,
    observers: Observers,
    pub forwarding: Forwarding,
    pub limits: Limits,
    pub drain: Drain,
    pub(super) pressure: Arc<Pressure>,
    pub households: Arc<Households>,
    /// What the process may hold unread: windows are granted of it.
    pub(super) budget: Budget,
    offer: Offer,
}

impl<H> std::fmt::Debug for Service<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// One visitor's connection.
pub(crate) struct Peer {
    scheme: Scheme,
    tls: Option<(Arc<str>, Arc<Names>)>,
    /// The peer's own.
    household: Arc<Household>,
    age: Arc<Age>,
    state: Mutex<State>,
}

struct State {
    forwarder: Forwarder,
    hosts: validate::HostCache,
}

/// A request that may go to the core.
pub(crate) struct Entered {
    pub id: RequestId,
    pub visitor: Visitor,
    pub host: Host,
    pub parts: Parts,
    pub record: Record,
    /// What its answer says of HTTP/3.
    offer: Option<HeaderValue>,
}

/// A request that may not: its answer, and its record.
pub(crate) struct Turned {
    pub response: Response<OutBody>,
    pub record: Record,
}

impl Peer {
    pub(crate) fn new(
        addr: SocketAddr,
        tls: Option<(Arc<str>, Arc<Names>)>,
        forwarding: &Forwarding,
        household: Arc<Household>,
    ) -> Self {
        let scheme = if tls.is_some() { Scheme::Https } else { Scheme::Http };
        let forwarder = Forwarder::new(forwarding, addr, scheme);
        Self {
            scheme,
            tls,
            household,
            age: Arc::default(),
            state: Mutex::new(State { forwarder, hosts: validate::HostCache::default() }),
        }
    }

    /// Whether requests for `host` may come on this connection: its certificate must cover the name (hazards 41 and
    /// 42). Without TLS there is nothing to agree with.
    fn may_ask_for(&self, host: &Host) -> bool {
        match &self.tls {
            None => true,
            Some((sni, names)) => **sni == **host || names.covers(host),
        }
    }
}

impl<H: Handler> Service<H> {
    pub fn new(
        handler: H,
        observers: Observers,
        forwarding: Forwarding,
        limits: Limits,
        drain: Drain,
        room: &Room,
        offer: Offer,
    ) -> Arc<Self> {
        let (pressure, households) = (Arc::clone(&room.pressure), Arc::clone(&room.households));
        let budget = room.households.budget().clone();
        Arc::new(Self { handler, observers, forwarding, limits, drain, pressure, households, budget, offer })
    }

    /// Validates a request, cleans its fields and opens its record. Of an HTTP/2 request `parts` still has the
    /// pseudo-fields in its `uri`.
    pub(crate) fn enter(&self, peer: &Peer, mut parts: Parts) -> Result<Entered, Box<Turned>> {
        let id = RequestId::random(&mut rand::rng());
        let mut state = peer.state.lock();
        let checked = validate::request(&mut parts, peer.scheme, &mut state.hosts).and_then(|host| {
            if !peer.may_ask_for(&host) {
                return Err(MISDIRECTED);
            }
            if self.forwarding.is_loop(&parts.headers) {
                return Err(LOOP);
            }
            Ok(host)
        });
        let host = match checked {
            Ok(host) => host,
            Err(refusal) => {
                let visitor = state.forwarder.peer();
                drop(state);
                let start = self.start(peer, id, visitor, parts.version, parts.method, "".into(), parts.uri);
                return Err(Box::new(self.turn_away(start, &parts.headers, refusal)));
            }
        };
        headers::clean_request(&mut parts.headers, state.forwarder.trust());
        join_cookies(&mut parts.headers);
        let addr = state.forwarder.apply(&mut parts.headers, id);
        let is_peer = addr == state.forwarder.peer();
        drop(state);
        let household = if is_peer { Arc::clone(&peer.household) } else { self.households.of(addr.ip()) };
        let admitted = if self.pressure.refuses() {
            Err(OVERLOADED)
        } else {
            household.admit(&peer.age).map_err(Crowded::reason)
        };
        let visitor = Visitor { addr, scheme: peer.scheme };
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let start = self.start(peer, id, addr, parts.version, method, Arc::clone(host.shared()), uri);
        let ticket = match admitted {
            Ok(ticket) => ticket,
            Err(reason) => {
                let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason);
                return Err(Box::new(self.turn_away(start, &parts.headers, refusal)));
            }
        };
        let record = Record::new(start, &parts.headers, self.observers.clone());
        record.set_ticket(ticket);
        // Of a proxy's visitors nobody here knows what they reach.
        let offer = if is_peer { self.offer.to(parts.version, peer.scheme, &parts.headers) } else { None };
        Ok(Entered { id, visitor, host, parts, record, offer })
    }

    /// A place for a connection that passes through, and its record.
    pub fn pass(
        &self,
        visitor: SocketAddr,
        host: &Host,
        tls: TlsEnd,
        household: &Arc<Household>,
    ) -> Result<(RequestId, Record), Crowded> {
        let ticket = household.admit(&Arc::default())?;
        let id = RequestId::random(&mut rand::rng());
        let start = Start {
            id,
            visitor,
            scheme: Scheme::Https,
            version: Version::default(),
            method: Method::CONNECT,
            host: Arc::clone(host.shared()),
            uri: Uri::default(),
            tls,
        };
        let record = Record::new(start, &HeaderMap::new(), self.observers.clone());
        record.set_ticket(ticket);
        Ok((id, record))
    }

    /// Answers what never became a request.
    pub(crate) fn refuse(&self, peer: &Peer, version: Version, refusal: Refusal) -> Turned {
        let id = RequestId::random(&mut rand::rng());
        let visitor = peer.state.lock().forwarder.peer();
        let start = self.start(peer, id, visitor, version, Method::GET, "".into(), Uri::default());
        self.turn_away(start, &HeaderMap::new(), refusal)
    }

    fn turn_away(&self, start: Start, fields: &HeaderMap, refusal: Refusal) -> Turned {
        tracing::debug!(visitor = %start.visitor, reason = refusal.reason, "request refused");
        let pages = Pages::new(start.id, Style::of(fields), start.method.clone());
        let record = Record::new(start, fields, self.observers.clone());
        record.set_failure(refusal.reason);
        Turned { response: pages.answer(&refusal.page()), record }
    }

    #[expect(clippy::too_many_arguments, reason = "one line of the access log, named field by field")]
    fn start(
        &self,
        peer: &Peer,
        id: RequestId,
        visitor: SocketAddr,
        version: Version,
        method: Method,
        host: Arc<str>,
        uri: Uri,
    ) -> Start {
        Start { id, visitor, scheme: peer.scheme, version, method, host, uri, tls: TlsEnd::Edge }
    }
}

/// What has to be known of a request when its answer leaves.
#[derive(Clone, Debug)]
pub struct Asked {
    pages: Pages,
    /// The visitor asked for a WebSocket.
    pub upgrade: bool,
    pub is_head: bool,
    offer: Option<HeaderValue>,
}

impl Asked {
    pub(crate) fn new(entered: &Entered, upgrade: bool) -> Self {
        let is_head = entered.parts.method == Method::HEAD;
        let offer = entered.offer.clone();
        Self { pages: Pages::of(entered.id, &entered.parts), upgrade, is_head, offer }
    }

    /// Makes an answer fit to leave: hop-by-hop fields end here, and only an upgrade that was asked for is granted
    /// (hazard 57).
    pub fn check(&self, mut response: Response<OutBody>, record: &Record) -> Response<OutBody> {
        let status = response.status();
        if status.is_informational() {
            let is_granted = self.upgrade
                && status == StatusCode::SWITCHING_PROTOCOLS
                && names_websocket(response.headers());
            if !is_granted {
                record.set_failure("origin switched protocols unasked");
                response = self.pages.answer(&BAD_SWITCH);
            }
        }
        headers::clean_response(response.headers_mut());
        if let Some(offer) = &self.offer {
            // An origin's own would name ports of a machine that nobody reaches.
            response.headers_mut().insert(ALT_SVC, offer.clone());
        }
        record.set_head(response.status(), response.headers());
        response
    }
}

/// The core may leave the field out, but if the origin named another protocol it is not what was asked for.
fn names_websocket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

impl Refusal {
    /// What the visitor reads. One constant sentence per status.
    pub fn page(self) -> Page {
        let (hop, text) = match self.status {
            StatusCode::REQUEST_TIMEOUT => (Hop::Visitor, "The request came too slowly."),
            StatusCode::MISDIRECTED_REQUEST => {
                (Hop::Visitor, "This connection is not for that name. Open a new one to it.")
            }
            StatusCode::METHOD_NOT_ALLOWED => (Hop::Visitor, "This method is not allowed."),
            StatusCode::URI_TOO_LONG => (Hop::Visitor, "The address is longer than 8 KiB."),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
                Hop::Visitor,
                "The request has more than 100 fields, or fields longer than 16 KiB or 64 KiB together.",
            ),
            StatusCode::EXPECTATION_FAILED => (Hop::Visitor, "The only expectation known is 100-continue."),
            StatusCode::NOT_IMPLEMENTED => (Hop::Edge, "This kind of request is not supported."),
            StatusCode::HTTP_VERSION_NOT_SUPPORTED => (Hop::Edge, "This version of HTTP is not supported."),
            StatusCode::LOOP_DETECTED => {
                (Hop::Edge, "The request has been here before: it goes in a circle.")
            }
            StatusCode::SERVICE_UNAVAILABLE if self.reason == OVERLOADED => {
                (Hop::Edge, "There is more to do than can be done at once. Try again soon.")
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                (Hop::Visitor, "There are too many requests from your address at once. Try again soon.")
            }
            _ => (Hop::Visitor, "The request is malformed or ambiguous, so it was not passed on."),
        };
        let page = Page::new(self.status, hop, text);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            page.retry_after(RETRY_AFTER_SECONDS)
        } else {
            page
        }
    }
}

const OVERLOADED: &str = "overloaded";
/// Most requests are over by then.
const RETRY_AFTER_SECONDS: u32 = 5;
const MISDIRECTED: Refusal =
    Refusal::new(StatusCode::MISDIRECTED_REQUEST, "host does not belong to this connection");
const LOOP: Refusal = Refusal::new(StatusCode::LOOP_DETECTED, "request loop");
const BAD_SWITCH: Page = Page::new(
    StatusCode::BAD_GATEWAY,
    Hop::Origin,
    "The site answered with a protocol that nobody asked for.",
);

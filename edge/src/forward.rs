//! The life of a request inside the edge: route, gate, balance, tunnel stream, response.
//!
//! ```text
//!   Exchange ─ route::Table ─ Gate ─ balance::choose ─ Session::open ─┬─ REQUEST ──────────────→ connector
//!                  │404         │          │503             │         ├─ upload pump (own task once the answer is there)
//!                  ▼            ▼          ▼                ▼         └─ RESPONSE ─ TunnelBody ─→ visitor
//!                 page        answer      page     another session, if nothing was executed
//! ```
//! A request is sent again only when the origin cannot have acted on it, or may act on it twice without harm
//! (hazards 135-137, 152): the connector said so, or the method is idempotent, no answer came, and the body so far is at
//! hand ([`Upload`]). Where no session is left and one ended a moment ago, the next is waited for. When the visitor goes
//! away the future is dropped, which resets both directions of the stream.

mod pass;

use std::sync::Arc;

use causeway_front::forward::{Attempt, Failure, Upload, request_head};
use causeway_front::http::hsts;
use causeway_tunnel::semantics::is_idempotent;
use causeway_tunnel::{ConnectorId, Scheme, SessionId};
use http::Response;

use crate::balance;
use crate::gate::{self, Verdict};
use crate::registry::{Connector, Live, Route, Tunnel};
use crate::shard::Shard;
use causeway_front::challenge;
use causeway_front::exchange::{Exchange, Handler, OutBody, Passing, Refused};
use causeway_front::http::page::Pages;

/// The first attempt and what may follow it: with two replicas that both die, a third try finds nobody anyway.
const MAX_ATTEMPTS: usize = 3;

impl Handler for Shard {
    fn handle(&self, exchange: Exchange) -> impl Future<Output = Response<OutBody>> + Send {
        forward(self, exchange)
    }

    fn pass(&self, passing: Passing) -> impl Future<Output = Result<(), Refused>> + Send {
        pass::pass(self, passing)
    }
}

/// What a session is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Request,
    Pass,
}

impl Way {
    /// The connector's route id for this name, if it announced it for this.
    fn id(self, live: &Live, host: &str) -> Option<u32> {
        match self {
            Self::Request => live.offer(host).map(|offer| offer.id),
            Self::Pass => live.passing_id(host),
        }
    }

    /// How specific that announcement is.
    fn rank(self, live: &Live, host: &str) -> Option<usize> {
        let announced = live.announced.load();
        match self {
            Self::Request => announced.table.rank(host),
            Self::Pass => announced.passing.rank(host),
        }
    }

    /// Whose announcement counts where connectors of one tunnel differ: a name goes to those who announce it most specifically,
    /// never to one that has only a wildcard above it, unless nothing is heard of them. None: to all that have it.
    fn least_rank(self, connectors: &[Connector], host: &str) -> Option<usize> {
        if connectors.len() < 2 {
            return None;
        }
        let sessions = connectors.iter().flat_map(|connector| &connector.sessions);
        sessions.filter(|live| live.is_well()).filter_map(|live| self.rank(live, host)).max()
    }

    fn is_fit(self, live: &Live, host: &str, least: Option<usize>) -> bool {
        match least {
            Some(least) => self.rank(live, host) >= Some(least),
            None => self.id(live, host).is_some(),
        }
    }
}

/// Carries one request. Never fails: failures become pages.
pub(crate) async fn forward(shard: &Shard, exchange: Exchange) -> Response<OutBody> {
    let pages = Pages::of(exchange.id, &exchange.head);
    let record = exchange.record.clone();
    let route = match route(shard, &exchange) {
        Ok(route) => route,
        Err(failure) => return failure.respond(&record, &pages),
    };
    if let Some(response) = challenge::answer(&shard.answers, &exchange) {
        return response;
    }
    let tunnel = &route.tunnel;
    // Before the gate, which asks what the connectors say of the name.
    returned(shard, tunnel).await;
    if let Verdict::Answer(response) =
        shard.gate.ask(&exchange, tunnel.end_of(&exchange.host), || tunnel.plain_http(&exchange.host))
    {
        return response;
    }
    match carry(shard, tunnel, exchange).await {
        Ok(response) => response,
        Err(failure) => {
            shard.registry.metrics().failure(&tunnel.name, failure.word());
            failure.respond(&record, &pages)
        }
    }
}

/// Finds the route that the name belongs to; its observers hear of the request.
fn route(shard: &Shard, exchange: &Exchange) -> Result<Arc<Route>, Failure> {
    let table = shard.registry.table();
    let Some(route) = table.find(&exchange.host) else {
        shard.registry.metrics().unrouted("unknown_host");
        return Err(Failure::UnknownHost);
    };
    exchange.record.set_route(&route.tunnel.name, route.observers(), &exchange.head.headers);
    // A connection that was made to another name, or before TLS of this one moved: what it asks for is not to be read here.
    if exchange.visitor.scheme == Scheme::Https && !route.tunnel.end_of(&exchange.host).is_edge() {
        return Err(Failure::Elsewhere);
    }
    Ok(Arc::clone(route))
}

async fn carry(shard: &Shard, tunnel: &Tunnel, mut exchange: Exchange) -> Result<Response<OutBody>, Failure> {
    let host = exchange.host.clone();
    let is_encrypted = !gate::came_in_clear(&exchange);
    let is_idempotent = is_idempotent(&exchange.head.method);
    let head = request_head(&mut exchange);
    let upload = Upload::new(exchange.body, exchange.body_kind);
    let free = tunnel.free_streams();
    // Without a session there is nothing to share; what that means is said below.
    if free.is_some_and(|free| {
        exchange.record.with_ticket(|ticket| ticket.take_share(tunnel.id, free)) == Some(false)
    }) {
        return Err(Failure::Share);
    }
    let mut attempt = Attempt::new(
        &shard.drain,
        shard.patience,
        head,
        upload,
        exchange.upgrade,
        exchange.interim,
        exchange.record.clone(),
    );
    let mut tried = Tried::default();
    let mut last = None;
    while tried.sessions.len() < MAX_ATTEMPTS {
        let live = match find(shard, tunnel, Way::Request, &host, &tried).await {
            Ok(live) => live,
            // Nobody left to try: what went wrong before says more than that.
            Err(nobody) => return Err(last.unwrap_or(nobody)),
        };
        if last.is_some() {
            shard.registry.metrics().retry(&tunnel.name);
        }
        exchange.record.set_session(&live.label);
        let Some(offer) = live.offer(&host) else { continue };
        let elsewhere = || {
            is_idempotent
                && tried.may_leave(&live)
                && has_better(shard, tunnel, Way::Request, &host, &tried, &live)
        };
        match attempt.run(live.line(), offer.id, elsewhere).await {
            Ok(mut response) => {
                if let Some(seconds) = offer.hsts.filter(|_| is_encrypted) {
                    hsts::promise_encryption(response.headers_mut(), seconds);
                }
                return Ok(response);
            }
            Err(failure) if failure.may_retry(is_idempotent) && attempt.can_restart() => {
                tracing::debug!(session = %live.label, failure = failure.word(), "trying another session");
                tried.note(&live, &failure);
                last = Some(failure);
            }
            Err(failure) => return Err(failure),
        }
    }
    Err(last.unwrap_or(Failure::NoConnector))
}

/// Where a tunnel's connectors are between two sessions, waits for the next.
async fn returned(shard: &Shard, tunnel: &Tunnel) {
    if tunnel.is_between() {
        shard.registry.metrics().waited(&tunnel.name);
        tunnel.wait().await;
    }
}

/// [`choose`], also of who comes in time.
async fn find(
    shard: &Shard,
    tunnel: &Tunnel,
    way: Way,
    host: &str,
    tried: &Tried,
) -> Result<Arc<Live>, Failure> {
    if let Ok(live) = choose(shard, tunnel, way, host, tried) {
        return Ok(live);
    }
    returned(shard, tunnel).await;
    choose(shard, tunnel, way, host, tried)
}

fn choose(shard: &Shard, tunnel: &Tunnel, way: Way, host: &str, tried: &Tried) -> Result<Arc<Live>, Failure> {
    let connectors = tunnel.connectors.load();
    let fresh = |live: &Arc<Live>| !tried.holds(live);
    let least = way.least_rank(&connectors, host);
    let willing = |live: &Arc<Live>| fresh(live) && way.is_fit(live, host, least);
    let choose = |eligible: &dyn Fn(&Arc<Live>) -> bool| {
        balance::choose(&connectors, shard.index, &mut rand::rng(), eligible)
    };
    // A connector that lost one session has probably lost them all (hazard 152): the others first.
    if let Some(live) = choose(&|live| willing(live) && !tried.has_lost(live)).or_else(|| choose(&willing)) {
        return Ok(Arc::clone(live));
    }
    // Connected, but no rule of theirs has this name: that is no outage.
    let somebody = choose(&|live| fresh(live) && live.announced.load().generation > 0);
    Err(if somebody.is_some() { Failure::NotAnnounced } else { Failure::NoConnector })
}

/// Whether somebody who is heard of can carry what is waiting on a session that is not.
fn has_better(shard: &Shard, tunnel: &Tunnel, way: Way, host: &str, tried: &Tried, silent: &Live) -> bool {
    let connectors = tunnel.connectors.load();
    let least = way.least_rank(&connectors, host);
    let is_better = |live: &Arc<Live>| {
        live.is_well()
            && !std::ptr::eq(&**live, silent)
            && !tried.holds(live)
            && way.is_fit(live, host, least)
    };
    balance::choose(&connectors, shard.index, &mut rand::rng(), is_better).is_some()
}

/// Who had this request already.
#[derive(Debug, Default)]
struct Tried {
    sessions: Vec<SessionId>,
    /// Connectors whose origin is at fault: another session of theirs would meet the same.
    connectors: Vec<ConnectorId>,
    /// Connectors whose session died under the request, or fell silent.
    lost: Vec<ConnectorId>,
}

impl Tried {
    fn note(&mut self, live: &Live, failure: &Failure) {
        let info = live.session.info();
        self.sessions.push(info.id);
        if failure.is_of_connector() {
            self.connectors.push(info.connector);
        }
        if matches!(failure, Failure::Lost | Failure::Silent) {
            self.lost.push(info.connector);
        }
        // Its end may be known here before its own task has heard of it.
        if !live.session.is_alive() {
            live.retire();
        }
    }

    /// Whether there may be another attempt.
    fn may_leave(&self, live: &Live) -> bool {
        let is_new = !self.sessions.contains(&live.session.info().id);
        self.sessions.len() + usize::from(is_new) < MAX_ATTEMPTS
    }

    fn has_lost(&self, live: &Live) -> bool {
        self.lost.contains(&live.session.info().connector)
    }

    fn holds(&self, live: &Live) -> bool {
        let info = live.session.info();
        self.sessions.contains(&info.id) || self.connectors.contains(&info.connector)
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! Answers what visitors ask whose TLS ended here: each request is a stream of a session within this process, which
//! [`crate::proxy`] serves as those of edges.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use causeway_daemon::drain::Drain;
use causeway_front::exchange::{Exchange, Handler, OutBody, Passing, Refused};
use causeway_front::forward::{Attempt, Failure, Line, Patience, Upload, request_head};
use causeway_front::household::Stalled;
use causeway_front::http::hsts;
use causeway_front::http::page::Pages;
use causeway_front::http::timing::Limits;
use causeway_front::session::Session;
use http::Response;

use crate::rules::RuleSet;

pub(super) struct Answers {
    session: Session,
    stalled: Arc<Stalled>,
    rules: Arc<ArcSwap<RuleSet>>,
    drain: Drain,
    patience: Patience,
}

/// As long as the edge waits for the head of an answer.
const RESPONSE_HEADER_TIMEOUT: Duration = Duration::from_secs(100);

impl Answers {
    pub(super) fn new(opens: causeway_tunnel::Session, rules: Arc<ArcSwap<RuleSet>>, drain: Drain) -> Self {
        let patience =
            Patience { response_header: RESPONSE_HEADER_TIMEOUT, body_idle: Limits::default().body_idle };
        Self { session: Session::Causeway(opens), stalled: Arc::default(), rules, drain, patience }
    }
}

impl Handler for Answers {
    async fn handle(&self, mut exchange: Exchange) -> Response<OutBody> {
        let pages = Pages::of(exchange.id, &exchange.head);
        let record = exchange.record.clone();
        // The connection may be older than the rules.
        let Some(visitors) = self.rules.load().at_home(&exchange.host) else {
            return Failure::Elsewhere.respond(&record, &pages);
        };
        let head = request_head(&mut exchange);
        let upload = Upload::new(exchange.body, exchange.body_kind);
        let (upgrade, interim) = (exchange.upgrade, exchange.interim);
        let mut attempt =
            Attempt::new(&self.drain, self.patience, head, upload, upgrade, interim, record.clone());
        let line = Line { session: &self.session, stalled: &self.stalled };
        // There is no other session, and this one is never silent.
        match attempt.run(line, 0, || false).await {
            Ok(mut response) => {
                if let Some(seconds) = visitors.hsts {
                    hsts::promise_encryption(response.headers_mut(), seconds);
                }
                response
            }
            Err(failure) => failure.respond(&record, &pages),
        }
    }

    async fn pass(&self, passing: Passing) -> Result<(), Refused> {
        Err(Refused { to_visitor: passing.to_visitor })
    }
}

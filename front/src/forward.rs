//! One request in a session: sent, answered, both bodies streamed; and the pages of what can go wrong.
//!
//! Who chooses the session, and whether another one is tried, is the program's own.

pub mod attempt;
pub mod failure;
pub mod raw;

mod body;
mod pump;
mod upload;

use std::time::Duration;

use causeway_tunnel::RequestHead;

use crate::exchange::Exchange;
pub use attempt::{Attempt, Line};
pub use failure::Failure;
pub use upload::{Piece, Upload};

/// What waits of a request's life may take; from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub response_header: Duration,
    /// Zero is for ever.
    pub body_idle: Duration,
}

/// What the tunnel is told of a request. Its fields are taken out of the exchange; the route is for the attempt to say.
pub fn request_head(exchange: &mut Exchange) -> RequestHead {
    let authority = exchange.authority().to_owned();
    RequestHead {
        method: exchange.head.method.clone(),
        scheme: exchange.visitor.scheme,
        authority,
        path: exchange.path().to_owned(),
        headers: std::mem::take(&mut exchange.head.headers),
        visitor: exchange.visitor.addr,
        route: 0,
        request_id: exchange.id,
        upgrade: exchange.upgrade.as_ref().map(|upgrade| upgrade.protocol().to_owned()),
        body: exchange.body_kind,
        expect_continue: exchange.expect_continue,
    }
}

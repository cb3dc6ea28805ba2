//! A whole site: an edge, one tunnel, one connector with rules, and the ways in for a visitor.

use crate::client::{Http1, Http2, Http3};
use crate::connector::Connector;
use crate::edge::{Created, Edge, EdgeOptions};
use crate::files::Folder;
pub use crate::names::NAMES;
use crate::names::START;
use crate::outside::{self, Outside};
use crate::relay::Relay;
use crate::tls_end;

/// The name that most tests visit.
pub const APP: &str = "app.example.test";

/// A running site.
#[derive(Debug)]
pub struct Site {
    pub edge: Edge,
    pub connector: Connector,
    pub tunnel: Created,
    /// What its visitors come in by, when TLS is to pass through (`CAUSEWAY_TLS`).
    pub outside: Option<Outside>,
}

impl Site {
    /// A site with these rules.
    pub async fn start(rules: &str) -> Self {
        Self::with(EdgeOptions::default(), Folder::default(), rules).await
    }

    /// A site whose every name leads to one service.
    pub async fn of(service: impl std::fmt::Display) -> Self {
        Self::start(&to(service)).await
    }

    /// A site on an edge with options, and a connector in a folder that may hold further files.
    pub async fn with(options: EdgeOptions, folder: Folder, rules: &str) -> Self {
        let mut edge = Edge::with(options).await;
        let tunnel = edge.create("site", &NAMES).await;
        let rules = if tls_end::is_at_home() {
            let (rules, shown) = outside::at_home(&folder, rules);
            edge.trust(shown);
            rules
        } else {
            rules.to_owned()
        };
        let mut connector = Connector::start_in(folder, &tunnel.token, &rules, &[]);
        connector.ready(START).await;
        edge.wait_state("site", "HEALTHY", START).await;
        let outside = if tls_end::is_passed_through() { Some(Outside::of(&mut edge).await) } else { None };
        Self { edge, connector, tunnel, outside }
    }

    /// A site whose connector reaches the edge over a link that can be cut.
    pub async fn linked(rules: &str) -> (Self, Relay) {
        let relay = Relay::start().await;
        let edge = Edge::with(EdgeOptions { address: Some(relay.addr()), ..Default::default() }).await;
        relay.lead_to(edge.tunnel);
        let tunnel = edge.create("site", &NAMES).await;
        let mut connector = Connector::start(&tunnel.token, rules);
        connector.ready(START).await;
        edge.wait_state("site", "HEALTHY", START).await;
        (Self { edge, connector, tunnel, outside: None }, relay)
    }

    /// One more connector of the same tunnel.
    pub async fn replica(&self, rules: &str) -> Connector {
        let mut replica = Connector::start(&self.tunnel.token, rules);
        replica.ready(START).await;
        replica
    }

    /// An HTTP/1.1 connection over TLS to the usual name.
    pub async fn http1(&self) -> Http1 {
        Http1::tls(&self.edge, APP).await
    }

    /// An HTTP/3 connection to the usual name.
    pub async fn http3(&self) -> Http3 {
        Http3::connect(&self.edge, APP).await
    }

    /// An HTTP/2 connection to the usual name.
    pub async fn http2(&self) -> Http2 {
        Http2::connect(&self.edge, APP).await
    }
}

/// The rules that lead every name to one service. Plain HTTP is served, not redirected: byte by byte it is the same HTTP.
pub fn to(service: impl std::fmt::Display) -> String {
    format!("ingress:\n  - service: {service}\n    http: serve\n")
}

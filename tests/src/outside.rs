//! Sites whose TLS ends at home: with `CAUSEWAY_TLS=passthrough` an edge and a connector of their own stand in front of each
//! site's, and pass its visitors' connections on unread. So the whole suite of requests runs through them.

use crate::connector::Connector;
use crate::edge::Edge;
use crate::names::{NAMES, START};

/// What stands in front of a site.
#[derive(Debug)]
pub struct Outside {
    pub edge: Edge,
    pub connector: Connector,
}

/// Whether this run is to be one of such sites.
pub fn is_wanted() -> bool {
    std::env::var("CAUSEWAY_TLS").is_ok_and(|end| end == "passthrough")
}

impl Outside {
    /// Has the visitors of an edge come in by another one.
    pub async fn of(inner: &mut Edge) -> Self {
        let edge = Edge::start().await;
        let tunnel = edge.create("outside", &NAMES).await;
        let rules = format!(
            "ingress:\n  - {{ service: 'https://{}', tls: passthrough }}\n  - service: http_status:404\n",
            inner.https
        );
        let mut connector = Connector::start(&tunnel.token, &rules);
        connector.ready(START).await;
        edge.wait_state("outside", "HEALTHY", START).await;
        inner.https = edge.https;
        Self { edge, connector }
    }
}

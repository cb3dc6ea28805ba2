//! Which proxy an edge is dialled through.

use std::sync::Arc;

use super::{Environment, Proxy};

/// The way out of the network for the TCP carrier.
#[derive(Clone, Debug)]
pub(crate) enum Outward {
    /// What the environment's variables say of each edge.
    Environment(Arc<Environment>),
    Direct,
    Through(Arc<Proxy>),
}

impl Outward {
    /// The proxy on the way to an edge `host:port`.
    pub(crate) fn proxy(&self, edge: &str) -> Option<Arc<Proxy>> {
        match self {
            Self::Direct => None,
            Self::Through(proxy) => Some(Arc::clone(proxy)),
            Self::Environment(environment) => environment.proxy(edge),
        }
    }

    /// Why it is not what somebody meant.
    pub(crate) fn trouble(&self) -> Option<&str> {
        match self {
            Self::Environment(environment) => environment.trouble.as_deref(),
            Self::Direct | Self::Through(_) => None,
        }
    }
}

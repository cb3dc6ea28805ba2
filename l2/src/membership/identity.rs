//! A member's identity: which life of which node it is.

use std::net::SocketAddr;

use crate::node_name::NodeName;

/// One life of one node. A later life of the same name replaces an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) name: NodeName,
    pub(crate) addr: SocketAddr,
    /// Milliseconds of the wall clock at the start of the process: what an earlier process owned is void.
    pub(crate) boot: u64,
    /// Raised when the process, still running, had been declared down: what it owns is its own still.
    pub(crate) bump: u16,
}

impl foca::Identity for Identity {
    type Addr = NodeName;

    fn renew(&self) -> Option<Self> {
        Some(Self { bump: self.bump.wrapping_add(1), ..self.clone() })
    }

    fn addr(&self) -> NodeName {
        self.name.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.boot, self.bump) > (adversary.boot, adversary.bump)
    }
}

//! Whether the others can find this node at all, and at which address.
//!
//! A node without an address or a carrier hears no datagram, whatever frames still pass: the others take it for dead and
//! answer in its place. So it answers nothing from the moment it knows, and afterwards asks them before it does again.

use std::{net::SocketAddr, time::Instant};

use super::Ownership;

/// Whether the others can reach this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    /// Its address or carrier is gone.
    Cut,
}

impl Ownership {
    /// The others cannot reach this node (`true`), or can again.
    pub(crate) fn handle_cut(&mut self, cut: bool, now: Instant) {
        self.wake(now);
        let link = if cut { Link::Cut } else { Link::Up };
        if (std::mem::replace(&mut self.link, link), link) == (Link::Cut, Link::Up) {
            // What was decided meanwhile was not heard here.
            self.renew_fence(now);
        }
        self.finish(now);
    }

    /// This node has another address now. Its claims stand: it is the same life.
    pub(crate) fn handle_readdress(&mut self, addr: SocketAddr, now: Instant) {
        self.wake(now);
        if self.membership.identity().addr != addr {
            self.membership.handle_readdress(addr, now);
            self.collect(now);
            // Everybody who may know us hears it now, not when they miss us at the old one.
            self.call_all();
        }
        self.finish(now);
    }

    /// A node that is alone in the world is cut off from nobody: it goes on.
    pub(super) fn is_cut(&self) -> bool {
        self.link == Link::Cut && self.knows_others()
    }

    /// Whether there is an address of somebody else to ask.
    pub(super) fn knows_others(&self) -> bool {
        !(self.peers.is_empty() && self.seeds.is_empty())
    }

    pub(super) fn fence_if_cut(&mut self, now: Instant) {
        if self.is_active() && self.is_cut() {
            self.raise_fence(now);
        }
    }
}

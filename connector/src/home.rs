//! TLS that ends at home (`tls: connector`): a visitor's connection that the edge passed on unread is served here as the edge
//! serves those of its own names, by the same code.
//!
//! ```text
//! passing ─ Wire: the connect stream as a socket ─→ front::door ─ tls ─ http ─→ Answers ─┐
//!                                                                                        │ a session within this process
//! rules ← proxy ←────────────────────────────────────────────────────────────────────────┘
//! ```
//! So a request is in the same hands from its head on, wherever its TLS ended. Keys and certificates are here alone
//! ([`certificates`]).

pub(crate) mod certificates;

mod answers;
mod state;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use causeway_acme::Answers as Challenges;
use causeway_daemon::drain::Drain;
use causeway_front::access::AccessLog;
use causeway_front::door::{Door, Protocol, Secure};
use causeway_front::household::{Bounds, Households};
use causeway_front::http::entry::Service;
use causeway_front::http::forwarding::Forwarding;
use causeway_front::http::offer::Offer;
use causeway_front::http::timing::Limits;
use causeway_front::metrics::Visitors;
use causeway_front::observe::{Observer, Observers};
use causeway_front::room::Room;
use causeway_front::tls::Tls;
use causeway_tunnel::flow::Budget;
use causeway_tunnel::{ConnectorId, RawRecv, RawSend, Session, TlsEnd, TunnelId};

use crate::rules::RuleSet;
use answers::Answers;
use wire::Wire;

/// What all shards' homes share.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) tls: Arc<Tls>,
    /// What authorities look for now.
    pub(crate) challenges: Challenges,
    room: Arc<Room>,
    visitors: Visitors,
    forwarding: Forwarding,
    observers: Observers,
    budget: Budget,
    whose: (TunnelId, ConnectorId),
}

/// One shard's.
pub(crate) struct HomeShard {
    door: Arc<Door<Answers>>,
    room: Arc<Room>,
    /// What the answers' requests come by.
    pub(crate) requests: Session,
}

/// From a connection's first byte to the end of its handshake: as at the edge.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// As long as at the edge.
const UPGRADE_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// What visitors' connections there may be: more than one session carries.
const MAX_CONNECTIONS: usize = 1 << 16;

impl Home {
    pub(crate) fn new(
        tls: Arc<Tls>,
        visitors: Visitors,
        budget: Budget,
        whose: (TunnelId, ConnectorId),
    ) -> Self {
        let households = Households::new(Bounds::default(), Arc::new([]), visitors.clone(), budget.clone());
        let log: Arc<dyn Observer> = Arc::new(AccessLog { query: false });
        Self {
            tls,
            challenges: Challenges::default(),
            room: Room::new(MAX_CONNECTIONS, households),
            visitors,
            // A visitor's address is the edge's to tell, which has no proxies before it that it does not know.
            forwarding: Forwarding::new(Vec::new(), &format!("{}-home", whose.0)),
            observers: Observers::new([log]),
            budget,
            whose,
        }
    }

    /// Must be called within the shard's runtime.
    pub(crate) fn of_shard(&self, rules: &Arc<ArcSwap<RuleSet>>, drain: &Drain) -> HomeShard {
        let (opens, requests) = Session::within(self.whose.0, self.whose.1, &self.budget);
        let service = Service::new(
            Answers::new(opens, Arc::clone(rules), drain.clone()),
            self.observers.clone(),
            self.forwarding.clone(),
            Limits { upgraded_idle: UPGRADE_IDLE_TIMEOUT, ..Limits::default() },
            drain.clone(),
            &self.room,
            Offer::default(),
        );
        let secure = Secure {
            tls: Arc::clone(&self.tls),
            handshake_timeout: HANDSHAKE_TIMEOUT,
            answers: self.challenges.clone(),
            end_of: Arc::new(|_| TlsEnd::Edge),
        };
        let door = Door::new(Protocol::Https, secure, service, self.visitors.clone(), None);
        HomeShard { door, room: Arc::clone(&self.room), requests }
    }
}

impl HomeShard {
    /// Serves one visitor's connection to its end.
    pub(crate) async fn serve(&self, send: RawSend, recv: RawRecv, visitor: SocketAddr) {
        let wire = Wire::new(send, recv);
        self.door.accepted.inc();
        let Some(stay) = self.room.enter(visitor.ip(), &self.door.open) else {
            return self.door.refused("too many connections");
        };
        // A future of its own: what is only passed on need not hold room for it.
        Box::pin(self.door.enter_last(wire, visitor, Arc::clone(&stay.household))).await;
    }
}

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Home").field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for HomeShard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HomeShard").field("requests", &self.requests).finish_non_exhaustive()
    }
}

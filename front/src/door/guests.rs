//! The door of visitors that come by UDP: HTTP/3, on the port of the tunnels.

use std::fmt;
use std::sync::Arc;

use causeway_tunnel::Host;
use causeway_tunnel::certificates::Certificates;
use causeway_tunnel::guest::Guest;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::door::EndOf;
use crate::exchange::Handler;
use crate::http::entry::{Peer, Service};
use crate::http::h3;
use crate::http::offer::Offer;
use crate::metrics::{ListenerLabels, ReasonLabels, Visitors};
use crate::room::Room;
use crate::tls::Tls;

/// What one shard needs for them.
pub struct Guests<H> {
    tls: Arc<Tls>,
    end_of: EndOf,
    room: Arc<Room>,
    service: Arc<Service<H>>,
    offer: Offer,
    early_data: bool,
    metrics: Visitors,
    accepted: Counter,
    open: Gauge,
}

impl<H: Handler> Guests<H> {
    pub fn new(
        tls: Arc<Tls>,
        end_of: EndOf,
        room: Arc<Room>,
        service: Arc<Service<H>>,
        offer: Offer,
        metrics: Visitors,
    ) -> Self {
        let labels = ListenerLabels { listener: "http3" };
        let accepted = metrics.accepted.get_or_create_owned(&labels);
        let open = metrics.open.get_or_create_owned(&labels);
        Self { tls, end_of, room, service, offer, early_data: false, metrics, accepted, open }
    }

    /// Takes requests from the first flight of who comes back (0-RTT).
    #[must_use]
    pub fn with_early_data(self) -> Self {
        Self { early_data: true, ..self }
    }

    /// What the port shows: the tunnel's identity, and to who speaks HTTP/3 the certificates of sites.
    pub fn beside(&self, tunnels: Certificates) -> Certificates {
        let (certificates, end_of) = (self.tls.certificates(), Arc::clone(&self.end_of));
        let both = tunnels.and(h3::ALPN, Arc::new(OfTheEdge { certificates, end_of }));
        if self.early_data { both.with_early_data() } else { both }
    }

    /// The socket does not answer any more.
    pub fn are_gone(&self) {
        self.offer.withdraw();
    }

    /// Lets one in that has shaken hands: its connection is a task of its own.
    pub fn enter(&self, guest: Guest) {
        self.accepted.inc();
        let name = guest.server_name().and_then(|name| Host::name(name).ok());
        let shown = name.and_then(|name| Some((Arc::clone(name.shared()), self.tls.names(&name)?)));
        let Some(shown) = shown else {
            // The certificate was taken away since it was shown.
            self.refused("unknown server name");
            return guest.close(h3::code::EXCESSIVE_LOAD, "");
        };
        let addr = guest.remote();
        let Some(stay) = self.room.enter(addr.ip(), &self.open) else {
            self.refused("too many connections");
            return guest.close(h3::code::EXCESSIVE_LOAD, "too many connections");
        };
        let peer = Peer::new(addr, Some(shown), &self.service.forwarding, Arc::clone(&stay.household));
        let service = Arc::clone(&self.service);
        let connection = async move {
            let _stay = stay;
            h3::serve(guest, peer, service).await;
        };
        drop(self.service.drain.spawn("visitor's connection", connection));
    }

    fn refused(&self, reason: &'static str) {
        self.metrics.refused.get_or_create(&ReasonLabels { reason }).inc();
    }
}

/// The certificates of names whose TLS ends here: by UDP none passes through, and a browser that cannot shake hands comes by TCP.
struct OfTheEdge {
    certificates: Arc<dyn ResolvesServerCert>,
    end_of: EndOf,
}

impl ResolvesServerCert for OfTheEdge {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = Host::name(hello.server_name()?).ok()?;
        if !(self.end_of)(&name).is_edge() {
            return None;
        }
        self.certificates.resolve(hello)
    }
}

impl fmt::Debug for OfTheEdge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfTheEdge").field("certificates", &self.certificates).finish_non_exhaustive()
    }
}

impl<H> fmt::Debug for Guests<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guests").field("offer", &self.offer).finish_non_exhaustive()
    }
}

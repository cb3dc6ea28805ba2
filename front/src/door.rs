//! The door: sees a connection before anything that it says is lost, and gives it to whom it is for.
//!
//! ```text
//!   TCP, HTTP port ───────────────────────┬→ Plain ───────→ http::h1
//!   TCP, HTTPS port ─ first words, kept ──┼→ Visitor ─────→ tls ─ http::h1 | http::h2
//!                                         ├→ Challenge      an authority, shown what it looks for
//!                                         ├→ Tunnel ──────→ the tunnel's listener, its TLS unbroken
//!                                         ├→ PassThrough ─→ door::passing ─ core, unread
//!                                         └→ Cleartext ───→ is told the right address
//!   TCP, tunnel's port ─ first words, kept ─→ Tunnel, and nobody else
//!   UDP ─ ALPN (door::tunnels) ────────────┬→ Tunnel ──────→ reception
//!                                         └→ Guest ───────→ door::guests ─ http::h3
//! ```

mod arrival;
mod cleartext;
pub mod guests;
mod passing;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use causeway_acme::Answers;
use causeway_tunnel::listen::Doorway;
use causeway_tunnel::{Host, TlsEnd};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;

use crate::exchange::Handler;
use crate::household::Household;
use crate::http::entry::{Peer, Service};
use crate::http::guard::Transport;
use crate::http::{h1, h2};
use crate::metrics::{ListenerLabels, ReasonLabels, Visitors};
use crate::tls::{Accepted, Alert, HandshakeError, Spoken, Tls, TlsHello};
use arrival::Arrival;

/// What visitors are to speak on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Https,
    /// Connectors, and no visitors.
    Tunnel,
}

/// What all doors of the process share.
#[derive(Clone)]
pub struct Secure {
    pub tls: Arc<Tls>,
    /// From a connection's first byte to the end of its handshake.
    pub handshake_timeout: Duration,
    /// What authorities look for now.
    pub answers: Answers,
    pub end_of: EndOf,
}

/// Where TLS of a name ends.
pub type EndOf = Arc<dyn Fn(&Host) -> TlsEnd + Send + Sync>;

/// The door of one public port.
pub struct Door<H> {
    protocol: Protocol,
    secure: Secure,
    pub service: Arc<Service<H>>,
    pub accepted: Counter,
    pub open: Gauge,
    metrics: Visitors,
    /// Where connectors go. None: they are turned away.
    tunnels: Option<Doorway>,
}

/// Between probes of a silent connection, and how long data may stay unacknowledged (hazard 171).
const KEEPALIVE: Duration = Duration::from_secs(30);
const USER_TIMEOUT: Duration = Duration::from_secs(60);
/// What the kernel may hold of an answer beyond what is on its way: unread megabytes there would be memory that no budget sees.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 128 * 1024;

impl std::fmt::Debug for Secure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secure").field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl<H> std::fmt::Debug for Door<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

impl<H: Handler> Door<H> {
    pub fn new(
        protocol: Protocol,
        secure: Secure,
        service: Arc<Service<H>>,
        metrics: Visitors,
        tunnels: Option<Doorway>,
    ) -> Arc<Self> {
        let listener = match protocol {
            Protocol::Http => "http",
            Protocol::Https => "https",
            Protocol::Tunnel => "tunnel",
        };
        let labels = ListenerLabels { listener };
        let accepted = metrics.accepted.get_or_create_owned(&labels);
        let open = metrics.open.get_or_create_owned(&labels);
        Arc::new(Self { protocol, secure, service, accepted, open, metrics, tunnels })
    }

    /// Serves one connection to its end.
    pub async fn enter(&self, mut stream: TcpStream, addr: SocketAddr, household: Arc<Household>) {
        if let Err(error) = set_options(&stream) {
            tracing::debug!(%error, "cannot set socket options");
        }
        let until = Instant::now() + self.secure.handshake_timeout;
        match self.see(&mut stream, addr, until).await {
            None => {}
            Some(Arrival::PassThrough(name, end, hello)) => {
                let service = Arc::clone(&self.service);
                // A future of its own: those whose TLS ends here need not hold room for it.
                Box::pin(passing::serve(stream, hello, (name, end), addr, &household, &service)).await;
            }
            Some(Arrival::Tunnel(hello)) if self.tunnels.is_some() => self.hand_over(hello, stream, addr),
            Some(arrival) => self.lead(arrival, stream, addr, until, household).await,
        }
    }

    /// A connector is no visitor from here on, and holds nobody's place.
    fn hand_over(&self, hello: TlsHello, stream: TcpStream, addr: SocketAddr) {
        let is_taken =
            self.tunnels.as_ref().is_some_and(|tunnels| tunnels.enter(stream, hello.into_bytes(), addr));
        if !is_taken {
            self.refused("too many connectors");
        }
    }

    /// Serves one connection to its end that somebody else has let pass up to here: its TLS ends here and nowhere else.
    pub async fn enter_last<S: Transport>(&self, mut stream: S, addr: SocketAddr, household: Arc<Household>) {
        let until = Instant::now() + self.secure.handshake_timeout;
        if let Some(arrival) = self.see(&mut stream, addr, until).await {
            self.lead(arrival, stream, addr, until, household).await;
        }
    }

    async fn lead<S: Transport>(
        &self,
        arrival: Arrival,
        mut stream: S,
        addr: SocketAddr,
        until: Instant,
        household: Arc<Household>,
    ) {
        let service = Arc::clone(&self.service);
        match arrival {
            Arrival::Plain => {
                let peer = Peer::new(addr, None, &service.forwarding, household);
                h1::serve(stream, peer, service).await;
            }
            Arrival::Visitor(hello) => {
                let Some(accepted) = self.shake_hands(hello, stream, addr, until).await else { return };
                let shown = Some((accepted.sni, accepted.names));
                let peer = Peer::new(addr, shown, &service.forwarding, household);
                if accepted.is_h2 {
                    h2::serve(accepted.stream, peer, service).await;
                } else {
                    h1::serve(accepted.stream, peer, service).await;
                }
            }
            Arrival::Challenge(hello, answer) => {
                tracing::debug!(authority = %addr, "an authority looks whether a name is ours");
                let _ = self.in_time(until, hello.show(answer, stream)).await;
            }
            Arrival::Cleartext(head) => {
                self.refused("HTTP on the HTTPS port");
                let _ = self.in_time(until, cleartext::explain(stream, head)).await;
            }
            Arrival::Tunnel(hello) => {
                self.refused("connector over TCP");
                let asked_for = hello.name();
                tracing::debug!(remote = %addr, ?asked_for, "refusing a connector: no tunnel ends here");
                let _ = self.in_time(until, Alert::NoApplicationProtocol.send(&mut stream)).await;
            }
            Arrival::PassThrough(..) => {
                self.refused("TLS ends elsewhere");
                let _ = self.in_time(until, Alert::UnrecognizedName.send(&mut stream)).await;
            }
        }
    }

    /// What stands at the door. None: it said nothing that could be understood, or nothing in time.
    async fn see<S: Transport>(&self, stream: &mut S, addr: SocketAddr, until: Instant) -> Option<Arrival> {
        if self.protocol == Protocol::Http {
            return Some(Arrival::Plain);
        }
        match self.in_time(until, Spoken::read(stream)).await? {
            Ok(spoken) if self.protocol == Protocol::Tunnel => {
                let tunnel = Arrival::of_tunnel(spoken);
                if tunnel.is_none() {
                    self.refused("not a connector");
                    let _ = self.in_time(until, Alert::NoApplicationProtocol.send(stream)).await;
                }
                tunnel
            }
            Ok(spoken) => {
                let answer = |name: &Host| self.secure.answers.tls(name);
                Some(Arrival::of(spoken, answer, |name| (self.secure.end_of)(name)))
            }
            Err(error) => {
                self.failed(&HandshakeError::Failed(error), addr);
                None
            }
        }
    }

    async fn shake_hands<S: Transport>(
        &self,
        hello: TlsHello,
        stream: S,
        addr: SocketAddr,
        until: Instant,
    ) -> Option<Accepted<S>> {
        match self.in_time(until, self.secure.tls.accept(hello, stream)).await? {
            Ok(accepted) => Some(accepted),
            Err(error) => {
                self.failed(&error, addr);
                None
            }
        }
    }

    async fn in_time<T>(&self, until: Instant, work: impl Future<Output = T>) -> Option<T> {
        match timeout_at(until, work).await {
            Ok(done) => Some(done),
            Err(_) => {
                self.refused("TLS handshake too slow");
                None
            }
        }
    }

    fn failed(&self, error: &HandshakeError, addr: SocketAddr) {
        self.refused(match error {
            HandshakeError::NoName => "no server name",
            HandshakeError::UnknownName => "unknown server name",
            HandshakeError::Failed(_) => "TLS handshake failed",
        });
        tracing::debug!(error = error as &dyn std::error::Error, visitor = %addr, "no TLS connection");
    }

    /// Constant words: they are a metric's label.
    pub fn refused(&self, reason: &'static str) {
        self.metrics.refused.get_or_create(&ReasonLabels { reason }).inc();
    }
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3))?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    }
    Ok(())
}

impl Transport for TcpStream {
    fn reset_on_close(&self) {
        // Without it the visitor may take a cut-off answer for a complete one: nothing more can be done.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl<S: Transport> Transport for TlsStream<S> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

#[cfg(test)]
mod tests;

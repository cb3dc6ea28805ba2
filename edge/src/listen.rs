//! The public listeners: accepts visitors within their bounds, shakes hands, and gives each connection to its HTTP
//! version.

mod cleartext;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::exchange::Handler;
use crate::household::{Household, Households};
use crate::http::entry::{Peer, Service};
use crate::http::guard::Transport;
use crate::http::timing::Pressure;
use crate::http::{h1, h2};
use crate::metrics::{ListenerLabels, ReasonLabels, Visitors};
use crate::tls::{HandshakeError, Tls};

/// How many connections there may be. Shared by all listeners of the process.
#[derive(Debug)]
pub struct Room {
    total: Arc<Semaphore>,
    pub(crate) pressure: Arc<Pressure>,
    pub(crate) households: Arc<Households>,
}

/// One connection's place. Dropped, it is free again.
#[derive(Debug)]
struct Place {
    room: Arc<Room>,
    household: Arc<Household>,
    open: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Room {
    pub fn new(max: usize, households: Arc<Households>) -> Arc<Self> {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            total: Arc::new(Semaphore::new(max)),
            pressure: Arc::new(Pressure::new(max)),
            households,
        })
    }

    fn take(
        self: &Arc<Self>,
        ip: std::net::IpAddr,
        permit: OwnedSemaphorePermit,
        open: &Gauge,
    ) -> Option<Place> {
        let household = self.households.of(ip);
        if !household.connected() {
            return None;
        }
        self.pressure.opened();
        open.inc();
        Some(Place { room: Arc::clone(self), household, open: open.clone(), _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.pressure.closed();
        self.open.dec();
        self.household.disconnected();
    }
}

/// What a listener speaks.
#[derive(Clone, Debug)]
pub enum Protocol {
    Http,
    Https { tls: Arc<Tls>, handshake_timeout: Duration },
}

impl Protocol {
    fn name(&self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https { .. } => "https",
        }
    }
}

/// Between probes of a silent connection, and how long data may stay unacknowledged (hazard 171).
const KEEPALIVE: Duration = Duration::from_secs(30);
const USER_TIMEOUT: Duration = Duration::from_secs(60);
/// When file descriptors ran out.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Accepts visitors until the drain starts.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    protocol: Protocol,
    service: Arc<Service<H>>,
    room: Arc<Room>,
    metrics: Visitors,
) {
    let labels = ListenerLabels { listener: protocol.name() };
    let counts = Counts {
        accepted: metrics.accepted.get_or_create_owned(&labels),
        open: metrics.open.get_or_create_owned(&labels),
        metrics,
    };
    let mut is_short_of_files = false;
    loop {
        // The place comes first: a full house does not accept what it cannot serve.
        let accepted = tokio::select! {
            biased;
            () = service.drain.draining() => return,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, addr, permit)) => {
                is_short_of_files = false;
                counts.accepted.inc();
                let Some(place) = room.take(addr.ip(), permit, &counts.open) else {
                    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                    continue;
                };
                let (protocol, service, counts) = (protocol.clone(), Arc::clone(&service), counts.clone());
                let drain = service.drain.clone();
                let connection = async move {
                    let household = Arc::clone(&place.household);
                    let _place = place;
                    connect(stream, addr, household, protocol, service, counts).await;
                };
                drop(drain.spawn("visitor's connection", connection));
            }
            Err(error) if is_transient(&error) => {
                tracing::debug!(%error, "visitor left before it was accepted")
            }
            Err(error) => {
                if !std::mem::replace(&mut is_short_of_files, true) {
                    tracing::error!(%error, "cannot accept visitors: raise the limit of open files (LimitNOFILE=, ulimit -n)");
                }
                counts.refused("out of file descriptors");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

#[derive(Clone)]
struct Counts {
    accepted: Counter,
    open: Gauge,
    metrics: Visitors,
}

impl Counts {
    fn refused(&self, reason: &'static str) {
        self.metrics.refused.get_or_create(&ReasonLabels { reason }).inc();
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Room,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(&room.total).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, addr) = listener.accept().await?;
    Ok((stream, addr, permit))
}

/// Faults of one connection, not of ours.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, PermissionDenied,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | PermissionDenied
    )
}

async fn connect<H: Handler>(
    stream: TcpStream,
    addr: SocketAddr,
    household: Arc<Household>,
    protocol: Protocol,
    service: Arc<Service<H>>,
    counts: Counts,
) {
    let Ok(local) = stream.local_addr() else { return };
    if let Err(error) = set_options(&stream) {
        tracing::debug!(%error, "cannot set socket options");
    }
    let forwarding = service.forwarding.clone();
    let (tls, handshake_timeout) = match protocol {
        Protocol::Http => {
            return h1::serve(stream, Peer::new(addr, local, None, &forwarding, household), service).await;
        }
        Protocol::Https { tls, handshake_timeout } => (tls, handshake_timeout),
    };
    let begin = async {
        if matches!(cleartext::is_spoken(&stream).await, Ok(true)) {
            counts.refused("HTTP on the HTTPS port");
            let _ = cleartext::explain(stream).await;
            return None;
        }
        Some(tls.accept(stream).await)
    };
    let accepted = match timeout(handshake_timeout, begin).await {
        Ok(Some(Ok(accepted))) => accepted,
        Ok(None) => return,
        Ok(Some(Err(error))) => {
            counts.refused(match error {
                HandshakeError::NoName => "no server name",
                HandshakeError::UnknownName => "unknown server name",
                HandshakeError::Failed(_) => "TLS handshake failed",
            });
            tracing::debug!(error = &error as &dyn std::error::Error, visitor = %addr, "no TLS connection");
            return;
        }
        Err(_) => return counts.refused("TLS handshake too slow"),
    };
    drop(tls);
    let peer = Peer::new(addr, local, Some((accepted.sni, accepted.names)), &forwarding, household);
    if accepted.is_h2 {
        h2::serve(accepted.stream, peer, service).await;
    } else {
        h1::serve(accepted.stream, peer, service).await;
    }
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

impl Transport for TcpStream {
    fn reset_on_close(&self) {
        // Without it the visitor may take a cut-off answer for a complete one: nothing more can be done.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Transport for TlsStream<TcpStream> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::household::Bounds;

    #[test]
    fn hazard_110_one_household_cannot_take_the_whole_house() {
        let bounds = Bounds { connections: 2, requests: 2 };
        let room = Room::new(10, Households::new(bounds, Arc::new([]), Visitors::default()));
        let open = Gauge::default();
        let take = |ip: &str| {
            let permit = Arc::clone(&room.total).try_acquire_owned().unwrap();
            room.take(ip.parse().unwrap(), permit, &open)
        };
        let first = take("2001:db8:0:1::1");
        let second = take("2001:db8:0:1:ffff::2");
        assert!(first.is_some() && second.is_some());
        assert!(take("2001:db8:0:1::3").is_none());
        assert!(take("2001:db8:0:2::3").is_some());
        assert!(take("192.0.2.1").is_some() && take("::ffff:192.0.2.1").is_some());
        drop(first);
        assert!(take("2001:db8:0:1::3").is_some());
        drop(second);
        assert!(room.households.is_empty() && open.get() == 0);
        assert_eq!(room.total.available_permits(), 10);
    }
}

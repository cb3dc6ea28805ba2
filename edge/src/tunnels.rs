//! The door of the UDP ports, whose QUIC connections are told apart by their ALPN, of connectors that the public door found over
//! TCP, and of those in this process.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use causeway_daemon::tls::provider;
use causeway_tunnel::carrier::ALPN as TUNNEL;
use causeway_tunnel::carrier::memory::Network;
use causeway_tunnel::listen::{self, Doorway, Inherited, Knock, Listener};
use causeway_tunnel::{Certificates, CloseCode, EdgeIdentity};
use tokio::time::timeout;

use crate::doorman::Pass;
use crate::reception;
use crate::shard::Shard;
use causeway_front::door::guests::Guests;
use causeway_front::http::h3;

/// Where one shard takes sessions.
#[derive(Debug)]
pub(crate) struct Tunnels(Vec<Arc<Listener>>);

/// A connector hears of the end in one round trip; one that does not answer notices by itself.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

impl Tunnels {
    /// Takes connections from now on, also those that are brought through the doorway. Must be called within the shard's runtime.
    ///
    /// # Errors
    /// When a socket cannot be watched, or the identity's key not be used.
    pub(crate) fn open(
        shard: &Arc<Shard>,
        sockets: Vec<Inherited>,
        within: Option<Network>,
        identity: &EdgeIdentity,
        of: listen::Shard,
        guests: Option<Guests<Arc<Shard>>>,
    ) -> io::Result<(Self, Doorway)> {
        let guests = guests.map(Arc::new);
        let mut listeners = Vec::new();
        for socket in sockets {
            let tunnels = Certificates::of(identity);
            listeners.push(match &guests {
                Some(guests) => Listener::new(socket, guests.beside(tunnels), provider(), of)?
                    .with_guests(h3::limits::TERMS),
                None => Listener::new(socket, tunnels, provider(), of)?,
            });
        }
        let (over_tcp, doorway) =
            Listener::over_tcp(Certificates::of(identity), provider(), of).map_err(io::Error::other)?;
        listeners.push(over_tcp);
        listeners.extend(within.map(|network| Listener::within(&network, of)));
        let configured = |listener: Listener| {
            Arc::new(listener.with_budget(shard.budget.clone()).with_congestion(shard.congestion))
        };
        let listeners: Vec<_> = listeners.into_iter().map(configured).collect();
        for listener in &listeners {
            let connections = take(Arc::clone(shard), Arc::clone(listener), guests.clone());
            drop(shard.drain.spawn_service("tunnel listener", connections));
        }
        Ok((Self(listeners), doorway))
    }

    /// Those that take them.
    pub(crate) fn listeners(&self) -> Vec<Arc<Listener>> {
        self.0.clone()
    }

    /// Ends all connections.
    pub(crate) async fn close(self) {
        for listener in self.0 {
            let _ = timeout(CLOSE_TIMEOUT, listener.close(CloseCode::Done, "the edge stopped")).await;
        }
    }
}

/// Until the listener is closed.
pub(crate) async fn take(
    shard: Arc<Shard>,
    listener: Arc<Listener>,
    guests: Option<Arc<Guests<Arc<Shard>>>>,
) {
    while let Some(knock) = listener.accept().await {
        let from = knock.remote().ip();
        let Some(pass) = shard.doorman.admit(from, Instant::now()) else {
            shard.registry.metrics().handshake_refused("address_backoff");
            tracing::debug!(remote = %knock.remote(), "refusing a connection: too many failed handshakes from its address");
            knock.refuse();
            continue;
        };
        let (served, guests) = (Arc::clone(&shard), guests.clone());
        let entering = async move { enter(&served, knock, pass, guests.as_deref()).await };
        drop(shard.drain.spawn_service("session", entering));
    }
    if let Some(guests) = guests {
        guests.are_gone();
    }
}

/// Serves one connection to its end, by what it speaks.
async fn enter(shard: &Shard, knock: Knock, pass: Pass, guests: Option<&Guests<Arc<Shard>>>) {
    let remote = knock.remote();
    // A future of its own, so that the session's task does not keep the room that the handshake took.
    match Box::pin(knock.connect()).await {
        Ok(stranger) => match (stranger.protocol(), guests) {
            (TUNNEL, _) => reception::receive(shard, stranger, pass).await,
            (h3::ALPN, Some(guests)) if !shard.drain.is_draining() => {
                if let Some(guest) = stranger.into_guest() {
                    guests.enter(guest);
                }
            }
            _ => stranger.refuse(),
        },
        Err(error) => reception::failed(shard, remote, &error),
    }
}

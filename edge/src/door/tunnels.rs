//! The door of the UDP ports, whose QUIC connections are told apart by their ALPN, and of connectors in this process.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use causeway_daemon::tls::provider;
use causeway_tunnel::carrier::memory::Network;
use causeway_tunnel::listen::{self, Listener};
use causeway_tunnel::{Certificates, CloseCode, EdgeIdentity};
use tokio::time::timeout;

use crate::reception;
use crate::shard::Shard;

/// Where one shard takes sessions.
#[derive(Debug)]
pub(crate) struct Tunnels(Vec<Arc<Listener>>);

/// A connector hears of the end in one round trip; one that does not answer notices by itself.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

impl Tunnels {
    /// Takes connections from now on. Must be called within the shard's runtime.
    ///
    /// # Errors
    /// When a socket cannot be watched.
    pub(crate) fn open(
        shard: &Arc<Shard>,
        sockets: Vec<UdpSocket>,
        within: Option<Network>,
        identity: &EdgeIdentity,
        of: listen::Shard,
    ) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for socket in sockets {
            listeners.push(Listener::new(socket, Certificates::of(identity), provider(), of)?);
        }
        listeners.extend(within.map(|network| Listener::within(&network, of)));
        let listeners: Vec<_> = listeners.into_iter().map(Arc::new).collect();
        for listener in &listeners {
            let connections = take(Arc::clone(shard), Arc::clone(listener));
            drop(shard.drain.spawn_service("tunnel listener", connections));
        }
        Ok(Self(listeners))
    }

    /// Ends all connections.
    pub(crate) async fn close(self) {
        for listener in self.0 {
            let _ = timeout(CLOSE_TIMEOUT, listener.close(CloseCode::Done, "the edge stopped")).await;
        }
    }
}

/// Until the listener is closed. It knows one ALPN, so whoever gets as far as this is a connector; visitors by HTTP/3
/// will be told from them here.
pub(crate) async fn take(shard: Arc<Shard>, listener: Arc<Listener>) {
    while let Some(knock) = listener.accept().await {
        reception::receive(&shard, knock);
    }
}

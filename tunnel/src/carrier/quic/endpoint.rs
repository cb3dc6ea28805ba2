//! The listening end over UDP.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig, TokioRuntime, VarInt};

use super::apart::{self, Watched};
use super::inherited::{Given, ID_BYTES, Inherited, Mark, Shared};
use super::{Connection, RecvHalf, SendHalf, closed, transport};
use crate::carrier::{ALPN, Closed, Congestion};
use crate::code::CloseCode;
use crate::flow::Budget;
use crate::limits::Terms;

pub(crate) struct Endpoint {
    endpoint: quinn::Endpoint,
    socket: Arc<Shared>,
    crypto: Arc<QuicServerConfig>,
    token_key: [u8; 32],
    budget: Watched,
}

/// What outlives the process: whoever comes back with something of the process before is understood.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Of stateless resets, and of this socket alone: who held two could be had to betray, by a packet that the kernel hands to the
    /// wrong one, what ends a session of the other.
    pub(crate) reset: [u8; 32],
    /// Of the tokens by which addresses are proved.
    pub(crate) token: [u8; 32],
}

#[derive(Debug)]
pub(crate) struct Attempt(quinn::Incoming);

/// Of a connection whose peer sent a stream with its hello.
pub(crate) struct Early {
    pub(crate) first: (SendHalf, RecvHalf),
    /// The handshake. Until then anybody may have sent it again.
    pub(crate) done: Pin<Box<dyn Future<Output = bool> + Send>>,
}

impl Endpoint {
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be watched, or `tls` cannot do TLS 1.3.
    pub(crate) fn new(socket: Inherited, tls: rustls::ServerConfig, keys: &Keys) -> io::Result<Self> {
        let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
        let crypto = Arc::new(crypto);
        let config = configured(&crypto, keys.token, Congestion::default());
        let (budget, socket) = (Watched::default(), Shared::new(socket)?);
        let of_endpoint = endpoint_config(&keys.reset, socket.mark());
        let (apart, runtime) =
            (apart::socket(Arc::clone(&socket) as Arc<_>, Arc::clone(&budget)), Arc::new(TokioRuntime));
        let endpoint = quinn::Endpoint::new_with_abstract_socket(of_endpoint, Some(config), apart, runtime)?;
        Ok(Self { endpoint, socket, crypto, token_key: keys.token, budget })
    }

    /// What another process needs to take the socket over; it must not read before [`Endpoint::give`].
    ///
    /// # Errors
    /// When descriptors ran out.
    pub(crate) fn to_hand_over(&self) -> io::Result<(Inherited, Given)> {
        self.socket.to_hand_over()
    }

    /// Another process has the socket: what is left here goes on, with what that process passes on.
    pub(crate) fn give(&self, given: Given) {
        self.socket.give(given);
    }

    pub(crate) fn take_back(&self) {
        self.socket.take_back();
    }

    /// What its connections' streams take their windows from; the first one said counts.
    pub(crate) fn set_budget(&self, budget: Budget) {
        let _ = self.budget.set(budget);
    }

    /// Of connections from now on.
    pub(crate) fn set_congestion(&self, congestion: Congestion) {
        self.endpoint.set_server_config(Some(configured(&self.crypto, self.token_key, congestion)));
    }

    pub(crate) async fn accept(&self) -> Option<Attempt> {
        self.endpoint.accept().await.map(Attempt)
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    pub(crate) async fn close(&self, code: CloseCode, reason: &str) {
        self.endpoint.close(VarInt::from_u32(code.to_u32()), reason.as_bytes());
        self.endpoint.wait_idle().await;
    }
}

fn configured(
    crypto: &Arc<QuicServerConfig>,
    token_key: [u8; 32],
    congestion: Congestion,
) -> quinn::ServerConfig {
    let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&token_key);
    let mut config = quinn::ServerConfig::new(Arc::<QuicServerConfig>::clone(crypto), Arc::new(token_key));
    config.transport_config(transport::edge(congestion));
    config
}

/// With a key that outlives the process: whoever sends to a session of the process before is told at once that it is no
/// more (RFC 9000 §10.3).
fn endpoint_config(reset_key: &[u8; 32], mark: Mark) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset_key)));
    config.cid_generator(move || Box::new(Ids(mark))).min_reset_interval(RESET_INTERVAL);
    config
}

/// An edge that comes back tells a thousand connectors within a second.
const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// Connection ids with our mark. quinn's own carry a mark too, but what carries another process's it leaves without an answer.
struct Ids(Mark);

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        self.0.id()
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

impl Attempt {
    pub(crate) fn remote(&self) -> SocketAddr {
        self.0.remote_address()
    }

    pub(crate) fn refuse(self) {
        self.0.refuse();
    }

    pub(crate) fn prove_address(self) -> Option<Self> {
        if !self.0.may_retry() {
            return Some(self);
        }
        // An error only says that the address is proved already, and then it may not be asked.
        let _ = self.0.retry();
        None
    }

    /// The handshake. One who speaks another protocol than the tunnel's is granted these streams at once, and let in before the
    /// handshake is done if a stream comes before it is (0-RTT).
    pub(crate) async fn connect(self, guests: Option<Terms>) -> Result<(Connection, Option<Early>), Closed> {
        let mut connecting = self.0.accept().map_err(|error| closed(&error))?;
        connecting.handshake_data().await.map_err(|error| closed(&error))?;
        // Always there for a listener.
        let Ok((connection, done)) = connecting.into_0rtt() else {
            return Err(Closed::Broken("the connection was not asked for by its peer".to_owned()));
        };
        let connection = Connection::new(connection, None);
        if let Some(terms) = guests
            && connection.protocol() != ALPN
        {
            connection.allow_guest(terms);
            let mut done = Box::pin(done);
            let first = tokio::select! {
                biased;
                _ = &mut done => None,
                first = connection.accept() => Some(first?),
            };
            if let Some(first) = first {
                return Ok((connection, Some(Early { first, done })));
            }
        } else {
            // Nothing that a connector says is acted on before its handshake is done.
            done.await;
        }
        match connection.lost() {
            Some(closed) => Err(closed),
            None => Ok((connection, None)),
        }
    }
}

impl std::fmt::Debug for Early {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Early").field(&self.first).finish()
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Endpoint").field(&self.endpoint).finish()
    }
}

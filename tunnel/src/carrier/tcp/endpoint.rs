//! The listening end over TCP: takes connections that somebody else has accepted, with what was read of them.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::socket::{Meter, Socket, set_options};
use super::{Connection, Handle, closed_by};
use crate::carrier::{Closed, Congestion};
use crate::code::CloseCode;
use crate::limits::MAX_HANDSHAKES;

/// Where connections are brought to a [`crate::listen::Listener`]; clones share it.
#[derive(Clone, Debug)]
pub struct Doorway(mpsc::Sender<Arrived>);

#[derive(Debug)]
struct Arrived {
    stream: TcpStream,
    first: Bytes,
    remote: SocketAddr,
}

pub(crate) struct Endpoint {
    arrived: tokio::sync::Mutex<mpsc::Receiver<Arrived>>,
    tls: TlsAcceptor,
    congestion: Mutex<Congestion>,
    /// To be told of the end.
    connections: Arc<Mutex<Vec<Weak<Handle>>>>,
    is_closed: watch::Sender<bool>,
}

pub(crate) struct Attempt {
    arrived: Arrived,
    tls: TlsAcceptor,
    congestion: Congestion,
    connections: Arc<Mutex<Vec<Weak<Handle>>>>,
}

impl Doorway {
    /// Gives a connection whose ClientHello offers the tunnel's protocol to its listener. `first` is all that was read of it.
    /// False: the listener is gone, or has more of them than it takes.
    pub fn enter(&self, stream: TcpStream, first: Vec<u8>, remote: SocketAddr) -> bool {
        self.0.try_send(Arrived { stream, first: first.into(), remote }).is_ok()
    }
}

impl Endpoint {
    pub(crate) fn new(tls: rustls::ServerConfig) -> (Self, Doorway) {
        let (sender, receiver) = mpsc::channel(MAX_HANDSHAKES);
        let endpoint = Self {
            arrived: tokio::sync::Mutex::new(receiver),
            tls: TlsAcceptor::from(Arc::new(tls)),
            congestion: Mutex::default(),
            connections: Arc::default(),
            is_closed: watch::Sender::new(false),
        };
        (endpoint, Doorway(sender))
    }

    /// Of connections from now on.
    pub(crate) fn set_congestion(&self, congestion: Congestion) {
        *self.congestion.lock() = congestion;
    }

    pub(crate) async fn accept(&self) -> Option<Attempt> {
        let mut is_closed = self.is_closed.subscribe();
        let arrived = async { self.arrived.lock().await.recv().await };
        let arrived = tokio::select! {
            biased;
            _ = is_closed.wait_for(|is_closed| *is_closed) => return None,
            arrived = arrived => arrived?,
        };
        let congestion = *self.congestion.lock();
        Some(Attempt {
            arrived,
            tls: self.tls.clone(),
            congestion,
            connections: Arc::clone(&self.connections),
        })
    }

    pub(crate) async fn close(&self, code: CloseCode, reason: &str) {
        self.is_closed.send_replace(true);
        let all = std::mem::take(&mut *self.connections.lock());
        let all: Vec<_> = all.iter().filter_map(Weak::upgrade).map(Connection).collect();
        all.iter().for_each(|connection| connection.close(code, reason));
        for connection in all {
            connection.settled().await;
        }
    }
}

impl Attempt {
    pub(crate) fn remote(&self) -> SocketAddr {
        self.arrived.remote
    }

    /// The handshake.
    pub(crate) async fn connect(self) -> Result<Connection, Closed> {
        let Self { arrived: Arrived { stream, first, remote }, tls, congestion, connections } = self;
        set_options(&stream, congestion).map_err(|error| closed_by(&error))?;
        let meter = Meter::new();
        let socket = Socket::new(first, stream, Arc::clone(&meter));
        // The hello is here: what follows is one way and back.
        let since = Instant::now();
        let tls = tls.accept(socket).await.map_err(|error| closed_by(&error))?;
        let connection = Connection::of_edge(tls.into(), meter, remote, since.elapsed()).await?;
        let mut connections = connections.lock();
        connections.retain(|connection| connection.strong_count() > 0);
        connections.push(Arc::downgrade(&connection.0));
        Ok(connection)
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("connections", &self.connections).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Attempt").field(&self.arrived).finish()
    }
}

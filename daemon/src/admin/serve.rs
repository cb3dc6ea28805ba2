//! The admin server's accept loop and its connections, each bounded in number, time and size.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::drain::Drain;
use crate::unix_listener::SocketFile;

/// An admin server that has its address and waits to run; connections queue meanwhile.
#[derive(Debug)]
pub struct BoundAdmin {
    routers: Routers,
    listener: Listener,
}

/// The same pages, as callers on this machine and as others get them.
#[derive(Debug)]
pub(super) struct Routers {
    pub(super) local: Router,
    pub(super) remote: Router,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
}

impl BoundAdmin {
    pub(super) fn tcp(routers: Routers, listener: TcpListener) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        Ok(Self { routers, listener: Listener::Tcp(listener, addr) })
    }

    pub(super) fn unix(routers: Routers, listener: UnixListener, file: SocketFile) -> Self {
        Self { routers, listener: Listener::Unix(listener, file) }
    }

    /// The address with its real port; `None` on a unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.listener {
            Listener::Tcp(_, addr) => Some(*addr),
            Listener::Unix(..) => None,
        }
    }

    /// The same socket for another process to hold; `None` on a unix socket.
    ///
    /// # Errors
    /// When descriptors ran out.
    pub fn tcp_listener(&self) -> io::Result<Option<std::net::TcpListener>> {
        match &self.listener {
            Listener::Tcp(listener, _) => Ok(Some(listener.as_fd().try_clone_to_owned()?.into())),
            Listener::Unix(..) => Ok(None),
        }
    }

    /// The socket's path; `None` on TCP.
    pub fn path(&self) -> Option<&Path> {
        match &self.listener {
            Listener::Tcp(..) => None,
            Listener::Unix(_, file) => Some(file.path()),
        }
    }

    /// Serves as a service of `drain`: readiness and metrics are answered while the process drains, until its end.
    pub fn run(self, drain: &Drain) -> JoinHandle<Option<()>> {
        drain.spawn_service("admin", self.accept())
    }

    async fn accept(self) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        // Dropped with this task, and all connections with it.
        let mut connections = JoinSet::new();
        // One line for a run of failures, not one for each (a process without descriptors fails ten times a second).
        let mut failing = false;
        loop {
            while connections.try_join_next().is_some() {}
            let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
            let accepted = match &self.listener {
                Listener::Tcp(listener, _) => listener.accept().await.map(|(stream, peer)| {
                    let is_local = peer.ip().to_canonical().is_loopback();
                    let pages = if is_local { &self.routers.local } else { &self.routers.remote };
                    connections.spawn(connection(pages.clone(), stream, permit));
                }),
                Listener::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                    connections.spawn(connection(self.routers.local.clone(), stream, permit));
                }),
            };
            match accepted {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "the admin server cannot accept connections: if files ran out, raise ulimit -n");
                    }
                    failing = true;
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn connection<S>(pages: Router, stream: S, _permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_header_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(pages));
    let mut served = std::pin::pin!(served);
    let outcome = tokio::select! {
        outcome = &mut served => outcome,
        () = sleep(CONNECTION_LIFE) => {
            served.as_mut().graceful_shutdown();
            timeout(HEADER_TIMEOUT, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "an admin connection failed");
    }
}

/// A scraper, a probe and a few people; more is a mistake or an attack, and waits.
const MAX_CONNECTIONS: usize = 32;

/// The peer is on the same machine: seconds are ample. It also ends idle connections.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// After this a connection is closed at its next pause, so that slow ones cannot hold all places for ever.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);

/// EMFILE lasts: trying again at once would burn the processor.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const MAX_HEADER_BYTES: usize = 16 << 10;

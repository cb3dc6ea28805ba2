//! The origin as a server: HTTP/1.1 or HTTP/2 in clear text, over TLS, or on a Unix socket, until it is dropped.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::handler;
pub use crate::handler::Counters;

/// Which protocol a clear-text listener speaks. Over TLS, ALPN decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speak {
    Http1,
    H2c,
}

/// A running origin. Dropping it closes the listener and every connection.
#[derive(Debug)]
pub struct Origin {
    addr: Option<SocketAddr>,
    counters: Arc<Counters>,
    tasks: JoinSet<()>,
}

impl Origin {
    /// # Errors
    /// When the address cannot be bound.
    pub async fn tcp(addr: SocketAddr, speak: Speak) -> std::io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let mut origin = Self::empty(Some(listener.local_addr()?));
        let counters = origin.counters.clone();
        origin.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    Some(_) = connections.join_next() => continue,
                };
                let Ok((stream, _)) = accepted else { continue };
                let _ = stream.set_nodelay(true);
                connections.spawn(serve(stream, speak, counters.clone()));
            }
        });
        Ok(origin)
    }

    /// # Errors
    /// When the address cannot be bound.
    pub async fn tls(addr: SocketAddr, config: Arc<rustls::ServerConfig>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let mut origin = Self::empty(Some(listener.local_addr()?));
        let counters = origin.counters.clone();
        let acceptor = TlsAcceptor::from(config);
        origin.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    Some(_) = connections.join_next() => continue,
                };
                let Ok((stream, _)) = accepted else { continue };
                let (acceptor, counters) = (acceptor.clone(), counters.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let session = stream.get_ref().1;
                    counters.server_names.lock().extend(session.server_name().map(str::to_owned));
                    let speak =
                        if session.alpn_protocol() == Some(b"h2") { Speak::H2c } else { Speak::Http1 };
                    serve(stream, speak, counters).await;
                });
            }
        });
        Ok(origin)
    }

    /// # Errors
    /// When the socket cannot be made at this path.
    pub fn unix(path: &Path, tls: Option<Arc<rustls::ServerConfig>>) -> std::io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let mut origin = Self::empty(None);
        let counters = origin.counters.clone();
        let acceptor = tls.map(TlsAcceptor::from);
        origin.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, counters) = (acceptor.clone(), counters.clone());
                connections.spawn(async move {
                    let Some(acceptor) = acceptor else { return serve(stream, Speak::Http1, counters).await };
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    serve(stream, Speak::Http1, counters).await;
                });
            }
        });
        Ok(origin)
    }

    /// The bound address.
    ///
    /// # Panics
    /// On a Unix socket, which has none.
    pub fn addr(&self) -> SocketAddr {
        self.addr.expect("a TCP origin has an address")
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Serves for ever.
    pub async fn run(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    fn empty(addr: Option<SocketAddr>) -> Self {
        Self { addr, counters: Arc::default(), tasks: JoinSet::new() }
    }
}

async fn serve<I>(io: I, speak: Speak, counters: Arc<Counters>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    counters.connection();
    let service = service_fn(|request| handler::answer(request, counters.clone()));
    let io = TokioIo::new(io);
    // A connection that ends badly is the visitor's doing in every test that makes one: nothing to report here.
    let _ = match speak {
        Speak::Http1 => {
            let server = hyper::server::conn::http1::Builder::new();
            server.serve_connection(io, service).with_upgrades().await
        }
        Speak::H2c => {
            let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server
                .enable_connect_protocol()
                .max_concurrent_streams(10_000)
                .serve_connection(io, service)
                .await
        }
    };
}

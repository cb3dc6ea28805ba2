//! The admin server's accept loop and its connections, each bounded in number, time and size.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::socket::SocketFile;
use super::{Admin, Reply, TEXT};
use crate::drain::Drain;

/// An admin server that has its address and waits to run; connections queue meanwhile.
#[derive(Debug)]
pub struct BoundAdmin {
    admin: Arc<Admin>,
    listener: Listener,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
}

/// Whether the peer may change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Local,
    Remote,
}

impl BoundAdmin {
    pub(super) fn tcp(admin: Admin, listener: TcpListener) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        Ok(Self { admin: Arc::new(admin), listener: Listener::Tcp(listener, addr) })
    }

    pub(super) fn unix(admin: Admin, listener: UnixListener, file: SocketFile) -> Self {
        Self { admin: Arc::new(admin), listener: Listener::Unix(listener, file) }
    }

    /// The address with its real port; `None` on a unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.listener {
            Listener::Tcp(_, addr) => Some(*addr),
            Listener::Unix(..) => None,
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
                    let peer =
                        if peer.ip().to_canonical().is_loopback() { Peer::Local } else { Peer::Remote };
                    connections.spawn(connection(Arc::clone(&self.admin), stream, peer, permit));
                }),
                Listener::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                    connections.spawn(connection(Arc::clone(&self.admin), stream, Peer::Local, permit));
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

async fn connection<S>(admin: Arc<Admin>, stream: S, peer: Peer, _permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(respond(answer(&admin, request, peer).await)) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_header_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
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

struct Answer {
    reply: Reply,
    /// For 405: what the path does allow.
    allow: Option<String>,
}

async fn answer(admin: &Admin, request: Request<Incoming>, peer: Peer) -> Answer {
    let plain = |status, text: String| Answer { reply: (status, TEXT, text.into()), allow: None };
    let method = if request.method() == Method::HEAD { Method::GET } else { request.method().clone() };
    let Some(methods) = admin.routes.get(request.uri().path()) else {
        let known: Vec<&str> = admin.routes.keys().copied().collect();
        return plain(StatusCode::NOT_FOUND, format!("there is {}\n", known.join(", ")));
    };
    let Some((_, action)) = methods.iter().find(|(known, _)| *known == method) else {
        let allowed: Vec<&str> = methods.iter().map(|(method, _)| method.as_str()).collect();
        let allow = Some(allowed.join(", "));
        return Answer {
            allow,
            ..plain(StatusCode::METHOD_NOT_ALLOWED, "this method does nothing here\n".to_owned())
        };
    };
    let mut body = Bytes::new();
    if method != Method::GET {
        if peer == Peer::Remote {
            return plain(
                StatusCode::FORBIDDEN,
                "only this machine itself may change something\n".to_owned(),
            );
        }
        // Every browser sends it: a page on the Internet must not reach into its visitor's machine.
        if request.headers().contains_key(header::ORIGIN) {
            return plain(StatusCode::FORBIDDEN, "this is not for browsers\n".to_owned());
        }
        if request.body().size_hint().lower() > MAX_BODY_BYTES as u64 {
            return plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a body has at most {MAX_BODY_BYTES} bytes\n"),
            );
        }
        body = match timeout(BODY_TIMEOUT, Limited::new(request.into_body(), MAX_BODY_BYTES).collect()).await
        {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => {
                return plain(StatusCode::BAD_REQUEST, format!("cannot read the body: {error}\n"));
            }
            Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the body came too slowly\n".to_owned()),
        };
    }
    match timeout(ACTION_TIMEOUT, action(body)).await {
        Ok(reply) => Answer { reply, allow: None },
        Err(_) => plain(StatusCode::GATEWAY_TIMEOUT, "the answer takes too long: see the log\n".to_owned()),
    }
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let (status, content_type, body) = answer.reply;
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(allow) = answer.allow.and_then(|allow| HeaderValue::try_from(allow).ok()) {
        headers.insert(header::ALLOW, allow);
    }
    response
}

/// A scraper, a probe and a few people; more is a mistake or an attack, and waits.
const MAX_CONNECTIONS: usize = 32;

/// The peer is on the same machine: seconds are ample. It also ends idle connections.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than any answer needs, short enough that a stuck one is seen.
const ACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// After this a connection is closed at its next pause, so that slow ones cannot hold all places for ever.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);

/// EMFILE lasts: trying again at once would burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const MAX_HEADER_BYTES: usize = 16 << 10;

/// Log levels and small JSON documents.
const MAX_BODY_BYTES: usize = 64 << 10;

//! One connection to the API server at a time, over the HTTP and TLS that are here already: lists and watches are plain requests,
//! and a client for all of Kubernetes would double this program.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Fuse};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::access::{Access, AccessError, Server};

/// Why the API server gave nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("cannot connect to {server}: {cause}")]
    Connect { server: String, cause: io::Error },
    #[error("{server} shows a certificate that is not trusted, or speaks no TLS: {cause}")]
    Tls { server: String, cause: io::Error },
    #[error("{server} does not answer within {limit:?}")]
    Silent { server: String, limit: Duration },
    #[error("the connection to {server} broke: {cause}")]
    Broken { server: String, cause: String },
    #[error(
        "{server} does not know this account (401): its token has expired, was revoked, or is of another cluster; make a new one \
         with `kubectl create token`"
    )]
    Unknown { server: String },
    #[error(
        "{server} lets this account not see Services{} (403): apply deploy/kubernetes/discovery, or limit the connector to a \
         namespace that it may see with --kubernetes-namespace (the API server says: {cause})",
        .namespace.as_ref().map_or_else(String::new, |namespace| format!(" in namespace {namespace}"))
    )]
    Forbidden { server: String, namespace: Option<String>, cause: String },
    /// 410: what we know is too old to go on from.
    #[error("the API server has forgotten where we were")]
    Expired,
    #[error("{server} answers {status}: {cause}")]
    Refused { server: String, status: StatusCode, cause: String },
    #[error("{server} says what cannot be read: {cause}")]
    Odd { server: String, cause: String },
}

/// A connection, driven by whoever waits for something of it.
pub(super) struct Line {
    requests: SendRequest<Empty<Bytes>>,
    connection: Fuse<BoxFuture<'static, ()>>,
    server: Server,
    authorization: Option<HeaderValue>,
    /// For messages.
    namespace: Option<String>,
}

/// What the API server says when it does not give what was asked for, as far as we read it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) message: String,
}

impl ApiError {
    /// Whether it says nothing of what was asked for.
    pub(super) fn is_of_the_line(&self) -> bool {
        matches!(self, Self::Access(_) | Self::Connect { .. } | Self::Silent { .. } | Self::Broken { .. })
    }

    /// Whether it lasts until somebody does something.
    pub(super) fn wants_somebody(&self) -> bool {
        matches!(self, Self::Access(_) | Self::Tls { .. } | Self::Unknown { .. } | Self::Forbidden { .. })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The head of an answer, or a page of a list.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// As l2's client: a peer that is gone is noticed within half a minute, on a watch that says nothing for long as well.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const UNANSWERED: Duration = Duration::from_secs(15);
/// A page of a list: an object has at most 1.5 MiB, most have a few KiB.
const MAX_PAGE_BYTES: usize = 32 << 20;
const MAX_REFUSAL_BYTES: usize = 64 << 10;

impl Line {
    pub(super) async fn open(access: Access, namespace: Option<String>) -> Result<Self, ApiError> {
        let Access { server, tls, authorization } = access;
        let named = server.shown();
        let connected = async {
            let tcp = TcpStream::connect((server.host.as_str(), server.port))
                .await
                .map_err(|cause| ApiError::Connect { server: named.clone(), cause })?;
            let socket = SockRef::from(&tcp);
            let keep_alive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL);
            let _ = socket.set_tcp_keepalive(&keep_alive);
            let _ = socket.set_tcp_user_timeout(Some(UNANSWERED));
            let stream: Box<dyn Stream> = match tls {
                None => Box::new(tcp),
                Some((config, name)) => Box::new(
                    TlsConnector::from(config)
                        .connect(name, tcp)
                        .await
                        .map_err(|cause| tls_failed(&named, cause))?,
                ),
            };
            http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| ApiError::Broken { server: named.clone(), cause: error.to_string() })
        };
        let silent = || ApiError::Silent { server: named.clone(), limit: CONNECT_TIMEOUT };
        let (requests, connection) =
            timeout(CONNECT_TIMEOUT, connected).await.unwrap_or_else(|_| Err(silent()))?;
        let connection = async move { drop(connection.await) }.boxed().fuse();
        Ok(Self { requests, connection, server, authorization, namespace })
    }

    /// The head of an answer that is what was asked for.
    pub(super) async fn get(&mut self, path: &str) -> Result<Response<Incoming>, ApiError> {
        let server = self.server.shown();
        let host = server.split("://").nth(1).unwrap_or_default();
        let mut request = Request::get(format!("{}{path}", self.server.prefix()))
            .header(header::HOST, host)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request
            .body(Empty::new())
            .map_err(|error| ApiError::Odd { server: server.clone(), cause: error.to_string() })?;
        let broken = |cause: String| ApiError::Broken { server: server.clone(), cause };
        let Self { requests, connection, .. } = self;
        let answer = async {
            let mut asked = pin!(async {
                requests.ready().await?;
                requests.send_request(request).await
            });
            let answer = tokio::select! {
                biased;
                answer = &mut asked => answer,
                // Ended in the very moment in which it brought the answer, or without one.
                () = connection => asked.await,
            };
            answer.map_err(|error| broken(error.to_string()))
        };
        let silent = |_| Err(ApiError::Silent { server: server.clone(), limit: ANSWER_TIMEOUT });
        let answer = timeout(ANSWER_TIMEOUT, answer).await.unwrap_or_else(silent)?;
        if answer.status() == StatusCode::OK {
            return Ok(answer);
        }
        let status = answer.status();
        let said = self.whole(answer.into_body(), MAX_REFUSAL_BYTES).await.unwrap_or_default();
        let refusal: Refusal = serde_json::from_slice(&said).unwrap_or_default();
        Err(self.refused(status, refusal.message))
    }

    /// A whole answer.
    pub(super) async fn page(&mut self, path: &str) -> Result<Bytes, ApiError> {
        let answer = self.get(path).await?;
        let server = self.server.shown();
        let silent = |_| Err(ApiError::Silent { server, limit: ANSWER_TIMEOUT });
        timeout(ANSWER_TIMEOUT, self.whole(answer.into_body(), MAX_PAGE_BYTES)).await.unwrap_or_else(silent)
    }

    async fn whole(&mut self, body: Incoming, most: usize) -> Result<Bytes, ApiError> {
        let mut body = std::pin::pin!(Limited::new(body, most).collect());
        let body = tokio::select! {
            biased;
            body = &mut body => body,
            // What has arrived by then is still to be read.
            () = &mut self.connection => body.await,
        };
        body.map(http_body_util::Collected::to_bytes).map_err(|error| self.broken(error))
    }

    /// The next piece of a body, none at its end. Cancel safe.
    pub(super) async fn piece(&mut self, body: &mut Incoming) -> Result<Option<Bytes>, ApiError> {
        loop {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = &mut self.connection => continue,
            };
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        return Ok(Some(piece));
                    }
                }
                Some(Err(error)) => return Err(self.broken(error)),
            }
        }
    }

    /// What a refusal means, by its status or by that of an event within a watch.
    pub(super) fn refused(&self, status: StatusCode, cause: String) -> ApiError {
        let server = self.server.shown();
        // It is the API server's text, and ends in a log.
        let cause: String = cause.chars().filter(|c| !c.is_control()).take(MAX_CAUSE_CHARS).collect();
        match status {
            StatusCode::UNAUTHORIZED => ApiError::Unknown { server },
            StatusCode::FORBIDDEN => ApiError::Forbidden { server, namespace: self.namespace.clone(), cause },
            StatusCode::GONE => ApiError::Expired,
            status => ApiError::Refused { server, status, cause },
        }
    }

    pub(super) fn odd(&self, cause: impl ToString) -> ApiError {
        ApiError::Odd { server: self.server.shown(), cause: cause.to_string() }
    }

    pub(super) fn broken(&self, cause: impl ToString) -> ApiError {
        ApiError::Broken { server: self.server.shown(), cause: cause.to_string() }
    }
}

/// A server that has just gone breaks off in the middle; what our TLS does not like it calls invalid.
fn tls_failed(server: &str, cause: io::Error) -> ApiError {
    let server = server.to_owned();
    match cause.kind() {
        io::ErrorKind::InvalidData => ApiError::Tls { server, cause },
        _ => ApiError::Broken { server, cause: cause.to_string() },
    }
}

const USER_AGENT: &str = concat!("causeway-connector/", env!("CARGO_PKG_VERSION"));
const MAX_CAUSE_CHARS: usize = 300;

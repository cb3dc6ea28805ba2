//! A small HTTP client for the admin server, over its unix socket or its TCP port; used by the command lines.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("nothing runs at {}: there is no such socket; is the program started, with the same data folder?", .0.display())]
    NoSocket(PathBuf),
    #[error("nothing answers at {place}: {source}; is the program running?")]
    Connect { place: String, source: io::Error },
    #[error("{place} did not answer within {} s; its log says why", TIMEOUT.as_secs())]
    Timeout { place: String },
    #[error("{place} broke off: {source}")]
    Http { place: String, source: hyper::Error },
    #[error("cannot read the answer of {place}: {reason}")]
    Body { place: String, reason: String },
    #[error("{path:?} is not a path")]
    Path { path: String },
}

/// `GET` over a unix socket.
///
/// # Errors
/// When nothing answers in time; any status is an answer.
pub async fn get(socket: &Path, path: &str) -> Result<(StatusCode, Bytes), RequestError> {
    request(socket, Method::GET, path, Bytes::new()).await
}

/// Any request over a unix socket.
///
/// # Errors
/// As [`get`].
pub async fn request(
    socket: &Path,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), RequestError> {
    let place = socket.display().to_string();
    let exchanged = async {
        let stream = UnixStream::connect(socket).await.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => RequestError::NoSocket(socket.to_owned()),
            _ => RequestError::Connect { place: place.clone(), source },
        })?;
        exchange(stream, &place, method, path, body).await
    };
    timeout(TIMEOUT, exchanged).await.unwrap_or_else(|_| Err(RequestError::Timeout { place: place.clone() }))
}

/// `GET` over TCP, as `healthcheck` does it. An unspecified address (`0.0.0.0`, `::`) means loopback.
///
/// # Errors
/// As [`get`].
pub async fn http_get(addr: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), RequestError> {
    let mut addr = addr;
    if addr.ip().is_unspecified() {
        addr.set_ip(if addr.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    let place = format!("http://{addr}");
    let exchanged = async {
        let stream = TcpStream::connect(addr).await;
        let stream = stream.map_err(|source| RequestError::Connect { place: place.clone(), source })?;
        exchange(stream, &place, Method::GET, path, Bytes::new()).await
    };
    timeout(TIMEOUT, exchanged).await.unwrap_or_else(|_| Err(RequestError::Timeout { place: place.clone() }))
}

async fn exchange<S>(
    stream: S,
    place: &str,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), RequestError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, HeaderValue::from_static("localhost"))
        .header(header::CONNECTION, HeaderValue::from_static("close"))
        .body(Full::new(body))
        .map_err(|_| RequestError::Path { path: path.to_owned() })?;
    let failed = |source| RequestError::Http { place: place.to_owned(), source };
    let (mut sender, mut connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body =
            body.map_err(|error| RequestError::Body { place: place.to_owned(), reason: error.to_string() })?;
        Ok((status, body.to_bytes()))
    };
    let mut answered = std::pin::pin!(answered);
    // The connection is driven here rather than by a task of its own: it has no life beyond this exchange.
    tokio::select! {
        outcome = &mut answered => return outcome,
        _ = &mut connection => {}
    }
    // The connection is over, so all that there is to read has arrived; its failure shows up in the answer.
    answered.await
}

/// A local process answers in milliseconds; longer, and something is wrong that waiting does not mend.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The status of tens of thousands of tunnels has a few megabytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;

//! A SOCKS5 proxy (RFC 1928, RFC 1929). hyper-util speaks it; the proxy is given the edge's name, and resolves it.

use std::future::{Ready, ready};
use std::io;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::proxy::SocksV5;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::address::Credentials;
use super::error::Cause;

/// What stands for a connector: the connection is there.
struct There(Option<TcpStream>);

/// Asks for a connection to `host:port`.
pub(super) async fn connect(
    stream: TcpStream,
    edge: &str,
    credentials: Option<&Credentials>,
) -> Result<TcpStream, Cause> {
    let to = Uri::builder().scheme("https").authority(edge).path_and_query("/").build();
    let to = to.map_err(|_| Cause::Refused("the edge's name is none".to_owned()))?;
    // Where it is, is known: the stream leads to it.
    let mut proxy = SocksV5::new(Uri::default(), There(Some(stream)));
    if let Some(Credentials { user, password }) = credentials {
        proxy = proxy.with_auth(user.clone(), password.expose().to_owned());
    }
    let opened = proxy.call(to).await.map_err(|error| refusal(&error.to_string(), credentials.is_some()))?;
    Ok(opened.into_inner())
}

/// The library's errors have no names outside of it: their words are its tests', and ours.
fn refusal(error: &str, is_introduced: bool) -> Cause {
    let said = error.strip_prefix("SOCKS error: ").unwrap_or(error).to_owned();
    match said.as_str() {
        "credentials not accepted" => Cause::NotTaken(said),
        "server does not support user/pass authentication" if is_introduced => Cause::NotTaken(said),
        "server does not support user/pass authentication" => {
            Cause::NotIntroduced("no method is acceptable".to_owned())
        }
        "connection not allowed" => Cause::Forbidden(said),
        "general server failure"
        | "network unreachable"
        | "host unreachable"
        | "connection refused"
        | "ttl expired" => Cause::EdgeAway(said),
        "failed parsing server response"
        | "io error during SOCKS handshake"
        | "server implements authentication incorrectly" => Cause::Foreign(said),
        _ => Cause::Refused(said),
    }
}

impl Service<Uri> for There {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().map(TokioIo::new).ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

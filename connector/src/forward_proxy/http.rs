//! An HTTP proxy: CONNECT (RFC 9110, section 9.3.6), with Basic credentials where there are any. hyper speaks it, with its bounds.

use std::pin::pin;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::address::Credentials;
use super::error::Cause;
use crate::failure::chain;

/// Asks for a connection to `host:port`; gives with it what was read of it beyond the answer.
pub(super) async fn connect(
    stream: TcpStream,
    edge: &str,
    credentials: Option<&Credentials>,
) -> Result<(TcpStream, Bytes), Cause> {
    let foreign = |error: hyper::Error| Cause::Foreign(chain(&error));
    let request =
        request(edge, credentials).ok_or_else(|| Cause::Refused("the edge's name is none".to_owned()))?;
    let opened = http1::Builder::new().max_buf_size(MAX_HEAD_BYTES).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = opened.map_err(foreign)?;
    let (mut answered, mut ended) = (pin!(sender.send_request(request)), pin!(connection.without_shutdown()));
    let (answer, ended_first) = tokio::select! {
        answer = &mut answered => (answer, None),
        // With an answer, or with the reason why there is none.
        done = &mut ended => (answered.await, Some(done)),
    };
    let status = answer.map_err(foreign)?.status();
    if !status.is_success() {
        return Err(refusal(status, credentials.is_some()));
    }
    let parts = match ended_first {
        Some(done) => done,
        None => ended.await,
    };
    let parts = parts.map_err(foreign)?;
    Ok((parts.io.into_inner(), parts.read_buf))
}

/// None: what is asked for is no authority.
fn request(edge: &str, credentials: Option<&Credentials>) -> Option<Request<Empty<Bytes>>> {
    let uri = Uri::builder().authority(edge).build().ok()?;
    let mut request = Request::builder().method(Method::CONNECT).uri(uri).header(HOST, edge);
    if let Some(Credentials { user, password }) = credentials {
        let mut value = HeaderValue::try_from(format!(
            "Basic {}",
            STANDARD.encode(format!("{user}:{}", password.expose()))
        ))
        .ok()?;
        value.set_sensitive(true);
        request = request.header(PROXY_AUTHORIZATION, value);
    }
    request.body(Empty::new()).ok()
}

fn refusal(status: StatusCode, is_introduced: bool) -> Cause {
    let said = status.to_string();
    match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED if is_introduced => Cause::NotTaken(said),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => Cause::NotIntroduced(said),
        // tinyproxy's word for wrong credentials is 401.
        StatusCode::UNAUTHORIZED if is_introduced => Cause::NotTaken(said),
        StatusCode::UNAUTHORIZED => Cause::NotIntroduced(said),
        StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED => Cause::Forbidden(said),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Cause::EdgeAway(said)
        }
        _ => Cause::Refused(said),
    }
}

/// Of the answer. hyper takes no less; a proxy's pages come behind the head, and are not read.
const MAX_HEAD_BYTES: usize = 8 * 1024;

//! WebSocket: the HTTP/1.1 handshake with the origin, and the raw bytes both ways after it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use causeway_tunnel::{AbortCode, RawRecv, RawSend};
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use tokio::io::AsyncWriteExt;

use crate::origin::{Io, poll_read_bytes};

/// What the origin must answer, and whether the visitor may see it.
#[derive(Debug)]
pub(crate) struct Handshake {
    accept: String,
    /// The key is ours, made for a visitor over HTTP/2 who has none: the origin's answer to it stays here.
    own_key: bool,
}

/// The origin's 101 is not one for this handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the origin switched to another protocol than websocket")]
    OtherProtocol,
    #[error("the origin's Sec-WebSocket-Accept does not fit the key")]
    WrongAccept,
}

impl Handshake {
    /// Completes the visitor's fields to an HTTP/1.1 upgrade request (RFC 8441 visitors send no key).
    pub(crate) fn new(headers: &mut HeaderMap) -> Self {
        let own_key = !headers.contains_key(SEC_WEBSOCKET_KEY);
        if own_key {
            let key = BASE64.encode(rand::random::<[u8; 16]>());
            headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::try_from(key).expect("base64 is a header value"));
        }
        if !headers.contains_key(SEC_WEBSOCKET_VERSION) {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        Self { accept: accept(headers[SEC_WEBSOCKET_KEY].as_bytes()), own_key }
    }

    /// Checks the origin's 101 and cleans its fields.
    pub(crate) fn check(&self, headers: &mut HeaderMap) -> Result<(), HandshakeError> {
        if !headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket")) {
            return Err(HandshakeError::OtherProtocol);
        }
        if headers.get(SEC_WEBSOCKET_ACCEPT).is_none_or(|given| given.as_bytes() != self.accept.as_bytes()) {
            return Err(HandshakeError::WrongAccept);
        }
        headers.remove(UPGRADE);
        headers.remove(CONNECTION);
        if self.own_key {
            headers.remove(SEC_WEBSOCKET_ACCEPT);
        }
        Ok(())
    }

    /// Cleans the fields of an answer that is no 101: some origins answer the key nevertheless.
    pub(crate) fn clean_refusal(&self, headers: &mut HeaderMap) {
        if self.own_key {
            headers.remove(SEC_WEBSOCKET_ACCEPT);
        }
    }
}

/// RFC 6455 §4.2.2.
fn accept(key: &[u8]) -> String {
    let text = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text))
}

/// Copies raw bytes both ways until both are at their end, one is broken, or nothing moved for `idle`. Each direction
/// ends for itself (hazard 63); however else it comes to an end, the origin gets a reset as the visitor does. Returns the
/// bytes to the origin and to the visitor.
pub(crate) async fn copy(
    io: Io,
    read_ahead: Bytes,
    mut send: RawSend,
    mut recv: RawRecv,
    idle: Duration,
) -> (u64, u64) {
    io.set_reset_on_close(true);
    let (mut from_origin, mut to_origin) = tokio::io::split(io);
    let (up, down) = (AtomicU64::new(0), AtomicU64::new(read_ahead.len() as u64));
    let upward = async {
        while let Some(bytes) = recv.chunk().await.map_err(|error| error.code())? {
            up.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            to_origin.write_all(&bytes).await.map_err(|_| AbortCode::OriginReset)?;
            to_origin.flush().await.map_err(|_| AbortCode::OriginReset)?;
        }
        to_origin.shutdown().await.map_err(|_| AbortCode::OriginReset)
    };
    let downward = async {
        if !read_ahead.is_empty() {
            send.write(read_ahead).await.map_err(|error| error.code())?;
        }
        loop {
            let read = std::future::poll_fn(|cx| poll_read_bytes(&mut from_origin, cx)).await;
            let Some(bytes) = read.map_err(|_| AbortCode::OriginReset)? else { break };
            down.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            send.write(bytes).await.map_err(|error| error.code())?;
        }
        send.finish();
        Ok(())
    };
    let ended = tokio::select! {
        both = async { tokio::try_join!(upward, downward) } => both.map(|_| ()),
        () = silence(&up, &down, idle) => Err(AbortCode::Timeout),
    };
    match ended {
        Ok(()) => from_origin.unsplit(to_origin).set_reset_on_close(false),
        Err(code) => {
            send.abort(code);
            recv.stop(code);
        }
    }
    (up.into_inner(), down.into_inner())
}

/// Ends when neither counter has moved for `limit`; zero is no limit.
async fn silence(up: &AtomicU64, down: &AtomicU64, limit: Duration) {
    if limit.is_zero() {
        return std::future::pending().await;
    }
    let sum = || up.load(Ordering::Relaxed) + down.load(Ordering::Relaxed);
    let (mut last, mut quiet) = (sum(), 0);
    while quiet < TICKS {
        tokio::time::sleep(limit / TICKS).await;
        let now = sum();
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
    }
}

/// Silence is noticed within a quarter more than the limit.
const TICKS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_060_a_visitor_without_a_key_gets_one_and_never_sees_the_answer_to_it() {
        let mut request = HeaderMap::new();
        let handshake = Handshake::new(&mut request);
        assert_eq!(request[SEC_WEBSOCKET_VERSION], "13");
        assert_eq!(BASE64.decode(request[SEC_WEBSOCKET_KEY].as_bytes()).unwrap().len(), 16);
        let mut answer = HeaderMap::new();
        answer.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        answer.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(&handshake.accept).unwrap());
        assert_eq!(handshake.check(&mut answer), Ok(()));
        assert!(answer.is_empty());
    }

    #[test]
    fn hazard_057_a_101_to_another_protocol_or_with_a_wrong_accept_is_refused() {
        let mut request = HeaderMap::new();
        request.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        let handshake = Handshake::new(&mut request);
        // The example of RFC 6455 §1.3.
        assert_eq!(handshake.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut answer = HeaderMap::new();
        answer.insert(UPGRADE, HeaderValue::from_static("h2c"));
        assert_eq!(handshake.check(&mut answer), Err(HandshakeError::OtherProtocol));
        answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
        assert_eq!(handshake.check(&mut answer), Err(HandshakeError::WrongAccept));
        answer.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(handshake.check(&mut answer), Ok(()));
        assert!(answer.contains_key(SEC_WEBSOCKET_ACCEPT));
    }
}

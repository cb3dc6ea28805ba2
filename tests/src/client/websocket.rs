//! WebSocket visitors over HTTP/1.1 and over HTTP/2 (RFC 8441); the frames are tungstenite's.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::duplex::Duplex;
use super::{Http1, Http2};

/// Upgrades an HTTP/1.1 connection.
///
/// # Errors
/// With the status, when the answer is not 101.
pub async fn over_http1(
    mut client: Http1,
    host: &str,
    path: &str,
) -> Result<WebSocketStream<Box<dyn Duplex>>, u16> {
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    client.send(head.as_bytes()).await;
    let head = client.head().await.expect("an answer to the upgrade");
    if head.status != 101 {
        return Err(head.status);
    }
    let accept = head.headers.iter().find(|(name, _)| name == "sec-websocket-accept");
    assert_eq!(
        accept.map(|(_, value)| value.as_str()),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "RFC 6455's example key"
    );
    let (io, ahead) = client.into_parts();
    Ok(WebSocketStream::from_partially_read(io, ahead.to_vec(), Role::Client, None).await)
}

/// Opens a WebSocket as one stream of an HTTP/2 connection.
///
/// # Errors
/// With the status, when the answer is not 200.
pub async fn over_http2(
    client: &mut Http2,
    host: &str,
    path: &str,
) -> Result<WebSocketStream<Box<dyn Duplex>>, u16> {
    assert!(client.extended_connect(), "the edge offers extended CONNECT");
    let mut request = Request::builder().method("CONNECT").uri(format!("https://{host}{path}"));
    request = request.header("sec-websocket-version", "13");
    let mut request = request.body(()).expect("a valid request");
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    let mut stream = client.open(request, false).await.expect("a stream");
    let response = stream.head().await.expect("an answer to the extended CONNECT");
    if response.status() != 200 {
        return Err(response.status().as_u16());
    }
    let io = H2Io { send: stream.send, recv: response.into_body(), ahead: Bytes::new(), ended: false };
    Ok(WebSocketStream::from_raw_socket(Box::new(io) as Box<dyn Duplex>, Role::Client, None).await)
}

/// A stream of an HTTP/2 connection as raw bytes.
struct H2Io {
    send: SendStream<Bytes>,
    recv: RecvStream,
    ahead: Bytes,
    ended: bool,
}

impl AsyncRead for H2Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        while self.ahead.is_empty() && !self.ended {
            match ready!(self.recv.poll_data(cx)) {
                Some(data) => {
                    self.ahead = data.map_err(std::io::Error::other)?;
                    let length = self.ahead.len();
                    self.recv.flow_control().release_capacity(length).map_err(std::io::Error::other)?;
                }
                None => self.ended = true,
            }
        }
        let take = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..take]);
        self.ahead.advance(take);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for H2Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.send.reserve_capacity(buf.len());
        while self.send.capacity() == 0 {
            let Some(granted) = ready!(self.send.poll_capacity(cx)) else {
                return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()));
            };
            granted.map_err(std::io::Error::other)?;
        }
        let take = self.send.capacity().min(buf.len());
        let sent = self.send.send_data(Bytes::copy_from_slice(&buf[..take]), false);
        Poll::Ready(sent.map(|()| take).map_err(std::io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(std::io::Error::other))
    }
}

//! A raw HTTP/1.1 visitor: sends exactly the bytes it is given and says how the answer ended.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::duplex::Duplex;
use super::parse::{self, Framing, Head};
use super::tls::{self, Entrance};
use super::{Answer, End};

/// Longest wait for the next byte of an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection.
pub struct Http1 {
    io: Box<dyn Duplex>,
    buffer: BytesMut,
    eof: bool,
}

impl std::fmt::Debug for Http1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http1").field("eof", &self.eof).finish_non_exhaustive()
    }
}

impl Http1 {
    /// # Panics
    /// When it cannot connect.
    pub async fn plain(addr: SocketAddr) -> Self {
        let tcp = TcpStream::connect(addr)
            .await
            .unwrap_or_else(|error| panic!("cannot connect to {addr}: {error}"));
        tcp.set_nodelay(true).expect("a TCP option can be set");
        Self::over(tcp)
    }

    /// # Panics
    /// When TLS fails.
    pub async fn tls(edge: &impl Entrance, name: &str) -> Self {
        let stream = tls::connect(edge.https(), &edge.ca(), name, &["http/1.1"]).await;
        Self::over(stream.unwrap_or_else(|error| panic!("TLS to the edge as {name}: {error}")))
    }

    /// Over any stream.
    pub fn over(io: impl Duplex + 'static) -> Self {
        Self { io: Box::new(io), buffer: BytesMut::new(), eof: false }
    }

    /// Sends bytes; a peer that closed meanwhile shows in the answer.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.io.write_all(bytes).await;
        let _ = self.io.flush().await;
    }

    /// Sends bytes and says whether the peer took them.
    ///
    /// # Errors
    /// When the peer closed.
    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// Ends the sending side.
    pub async fn finish(&mut self) {
        let _ = self.io.shutdown().await;
    }

    /// A request made from its parts: Host from the URL, Content-Length from the body unless a framing header is given.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn fetch(&mut self, request: Request<Bytes>) -> Result<Answer, String> {
        let uri = request.uri();
        let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut head =
            format!("{} {target} HTTP/1.1\r\nhost: {}\r\n", request.method(), uri.host().unwrap_or_default());
        for (name, value) in request.headers() {
            head += &format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
        }
        let framed = request.headers().contains_key("content-length")
            || request.headers().contains_key("transfer-encoding");
        if !framed && !request.body().is_empty() {
            head += &format!("content-length: {}\r\n", request.body().len());
        }
        head += "\r\n";
        let method = request.method().to_string();
        self.send(&[head.as_bytes(), request.body()].concat()).await;
        self.answer(&method).await
    }

    /// The next final answer, with the informational ones before it.
    ///
    /// # Errors
    /// When the connection ended before a whole head, or the head is malformed.
    pub async fn answer(&mut self, method: &str) -> Result<Answer, String> {
        let mut interim = Vec::new();
        let head = loop {
            let head = self.head().await?;
            if head.status >= 200 || head.status == 101 {
                break head;
            }
            interim.push((head.status, head.headers));
        };
        let framing = parse::framing(&head, method)?;
        let (body, trailers, end) = self.body(framing).await?;
        Ok(Answer { status: head.status, headers: head.headers, body, trailers, interim, end })
    }

    /// The next head, informational or final, without its body.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub async fn head(&mut self) -> Result<Head, String> {
        loop {
            if let Some(head) = parse::head(&mut self.buffer)? {
                return Ok(head);
            }
            if !self.more().await {
                return Err(format!("closed before a head; got {:?}", String::from_utf8_lossy(&self.buffer)));
            }
        }
    }

    /// The next bytes of whatever comes, at most `limit`; empty at the end.
    pub async fn bytes(&mut self, limit: usize) -> Bytes {
        if self.buffer.is_empty() {
            self.more().await;
        }
        let take = self.buffer.len().min(limit);
        self.buffer.split_to(take).freeze()
    }

    /// Whether the peer closes within the time, having sent nothing more.
    pub async fn closes(&mut self, within: Duration) -> bool {
        if !self.buffer.is_empty() {
            return false;
        }
        let more = tokio::time::timeout(within, self.more()).await;
        more.is_ok_and(|more| !more)
    }

    /// The stream below and what was read ahead of it.
    pub fn into_parts(self) -> (Box<dyn Duplex>, Bytes) {
        (self.io, self.buffer.freeze())
    }

    async fn body(&mut self, framing: Framing) -> Result<(Vec<u8>, Vec<(String, String)>, End), String> {
        let mut body = Vec::new();
        match framing {
            Framing::None => Ok((body, Vec::new(), End::Clean)),
            Framing::Length(length) => {
                while body.len() < length {
                    if self.buffer.is_empty() && !self.more().await {
                        return Ok((body, Vec::new(), End::Cut));
                    }
                    let take = self.buffer.len().min(length - body.len());
                    body.extend_from_slice(&self.buffer.split_to(take));
                }
                Ok((body, Vec::new(), End::Clean))
            }
            Framing::UntilClose => {
                while self.more().await {}
                body.extend_from_slice(&self.buffer.split());
                Ok((body, Vec::new(), End::Clean))
            }
            Framing::Chunked => loop {
                match parse::chunk(&mut self.buffer)? {
                    parse::Chunk::Data(data) => body.extend_from_slice(&data),
                    parse::Chunk::End(trailers) => return Ok((body, trailers, End::Clean)),
                    parse::Chunk::More => {
                        if !self.more().await {
                            return Ok((body, Vec::new(), End::Cut));
                        }
                    }
                }
            },
        }
    }

    /// Reads once. A reset counts as an end: the caller sees from the framing that bytes are missing.
    async fn more(&mut self) -> bool {
        if self.eof {
            return false;
        }
        self.buffer.reserve(64 * 1024);
        let read = tokio::time::timeout(PATIENCE, self.io.read_buf(&mut self.buffer)).await;
        let read = read.unwrap_or_else(|_| panic!("nothing more came within {PATIENCE:?}"));
        self.eof = !matches!(read, Ok(bytes) if bytes > 0);
        !self.eof
    }
}

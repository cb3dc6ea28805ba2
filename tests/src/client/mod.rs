//! Visitors: raw HTTP/1.1, HTTP/2 by the h2 crate, HTTP/3 by h3 and quinn, and the answers they get.

mod duplex;
pub mod hello;
mod http1;
mod http2;
mod http3;
mod parse;
mod tls;
mod websocket;

use std::net::SocketAddr;

pub use duplex::Duplex;
pub use http1::Http1;
pub use http2::{Http2, Http2Stream};
pub use http3::{Http3, Http3Stream, answer as http3_answer, dial as quic_dial};
pub use parse::Head;
pub use tls::{Entrance, client_config, connect as tls_connect, connect_from as tls_connect_from};
pub use websocket::{over_http1, over_http2};

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As its framing says; nothing is missing.
    Clean,
    /// The connection closed before the framing was satisfied, or the stream was reset.
    Cut,
}

/// An answer as a visitor saw it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// Informational answers that came before.
    pub interim: Vec<(u16, Vec<(String, String)>)>,
    pub end: End,
}

impl Answer {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// # Panics
    /// When the body is no JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// This answer, which must be a whole 200.
    ///
    /// # Panics
    /// When it is not.
    pub fn ok(self) -> Self {
        assert!(self.status == 200 && self.end == End::Clean, "not a whole 200: {self:?}");
        self
    }
}

/// The protocols at the public side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
    Http3,
}

/// All, for tests that run over each.
pub const PROTOCOLS: [Protocol; 3] = [Protocol::Http1, Protocol::Http2, Protocol::Http3];

/// Those by which this run's sites are reached: no TLS that ends behind the edge comes by UDP.
pub fn protocols() -> impl Iterator<Item = Protocol> {
    PROTOCOLS.into_iter().filter(|protocol| *protocol != Protocol::Http3 || !crate::tls_end::is_at_home())
}

/// One request on a connection of its own, to a name at an edge.
pub async fn fetch(
    edge: &impl Entrance,
    protocol: Protocol,
    request: http::Request<bytes::Bytes>,
) -> Result<Answer, String> {
    let host = request.uri().host().expect("the request names its host").to_owned();
    match protocol {
        Protocol::Http1 => Http1::tls(edge, &host).await.fetch(request).await,
        Protocol::Http2 => Http2::connect(edge, &host).await.fetch(request, None).await,
        Protocol::Http3 => Http3::connect(edge, &host).await.fetch(request, None).await,
    }
}

/// A GET with no further headers, by [`fetch`].
///
/// # Panics
/// When no answer came.
pub async fn visit(edge: &impl Entrance, protocol: Protocol, url: &str) -> Answer {
    let request = http::Request::get(url).body(bytes::Bytes::new()).expect("the test's URL is valid");
    fetch(edge, protocol, request).await.unwrap_or_else(|error| panic!("{protocol:?} {url}: {error}"))
}

/// The body of a GET in clear text, for admin servers.
///
/// # Panics
/// When it is not answered 200.
pub async fn get(addr: SocketAddr, path: &str) -> String {
    let mut client = Http1::plain(addr).await;
    client.send(format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n").as_bytes()).await;
    client.answer("GET").await.expect("the admin server answers").ok().text()
}

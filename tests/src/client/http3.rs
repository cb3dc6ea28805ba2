//! An HTTP/3 visitor on the h3 crate and quinn, neither of which the edge's HTTP/3 is made of: whole requests, or a stream
//! whose every step the test decides.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use h3_quinn::BidiStream;
use http::{HeaderMap, Request, Response};
use quinn::crypto::rustls::QuicClientConfig;
use tokio::task::JoinSet;

use super::tls::{Entrance, client_config};
use super::{Answer, End};

const PATIENCE: Duration = Duration::from_secs(60);
/// RFC 9114 §8.1.
const H3_NO_ERROR: u64 = 0x100;

/// One connection.
pub struct Http3 {
    pub quic: quinn::Connection,
    endpoint: quinn::Endpoint,
    send: SendRequest<h3_quinn::OpenStreams, Bytes>,
    tasks: JoinSet<String>,
}

/// One request in progress.
pub type Http3Stream = RequestStream<BidiStream<Bytes>, Bytes>;

impl Http3 {
    /// # Panics
    /// When the handshake fails.
    pub async fn connect(edge: &impl Entrance, name: &str) -> Self {
        let connected = Self::at(edge.http3(), &edge.ca(), name).await;
        connected.unwrap_or_else(|error| panic!("HTTP/3 to the edge as {name}: {error}"))
    }

    /// Connects to an address.
    ///
    /// # Errors
    /// When a handshake fails.
    pub async fn at(addr: SocketAddr, ca: &Path, name: &str) -> Result<Self, String> {
        let (endpoint, quic) = dial(addr, ca, name, "h3").await?;
        let (mut connection, send) = h3::client::new(h3_quinn::Connection::new(quic.clone()))
            .await
            .map_err(|error| error.to_string())?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { poll_fn(|cx| connection.poll_close(cx)).await.to_string() });
        Ok(Self { quic, endpoint, send, tasks })
    }

    /// Starts a request; the caller drives both directions.
    ///
    /// # Errors
    /// When the connection takes no more requests.
    pub async fn open(&mut self, request: Request<()>) -> Result<Http3Stream, String> {
        self.send.send_request(request).await.map_err(|error| error.to_string())
    }

    /// One whole request.
    ///
    /// # Errors
    /// When the stream or the connection failed before a response head.
    pub async fn fetch(
        &mut self,
        request: Request<Bytes>,
        trailers: Option<HeaderMap>,
    ) -> Result<Answer, String> {
        let (head, body) = request.into_parts();
        let mut stream = self.open(Request::from_parts(head, ())).await?;
        // An early answer stops the upload: the answer says more than the stop.
        let sent = async {
            if !body.is_empty() {
                stream.send_data(body).await?;
            }
            if let Some(trailers) = trailers {
                stream.send_trailers(trailers).await?;
            }
            stream.finish().await
        };
        let _: Result<(), h3::error::StreamError> = sent.await;
        answer(stream).await
    }

    /// Ends a request without a body, and reads its answer.
    ///
    /// # Errors
    /// When the stream or the connection failed before a response head.
    pub async fn finish(&mut self, mut stream: Http3Stream) -> Result<Answer, String> {
        let _: Result<(), h3::error::StreamError> = stream.finish().await;
        answer(stream).await
    }

    /// Whether the connection took no more requests because the server said so (GOAWAY), and not because it was lost.
    pub fn was_asked_to_leave(&self) -> bool {
        match self.quic.close_reason() {
            None => true,
            Some(quinn::ConnectionError::ApplicationClosed(closed)) => {
                closed.error_code.into_inner() == H3_NO_ERROR
            }
            Some(_) => false,
        }
    }

    /// Goes on from another port, as a phone does that changes its network.
    ///
    /// # Panics
    /// When there is no port.
    pub fn move_on(&self) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        self.endpoint.rebind(socket).expect("the endpoint takes another socket");
    }

    /// Waits for the connection's end and says why it ended.
    pub async fn ended(&mut self, within: Duration) -> Option<String> {
        tokio::time::timeout(within, self.tasks.join_next()).await.ok()??.ok()
    }
}

impl std::fmt::Debug for Http3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http3").field("quic", &self.quic).finish_non_exhaustive()
    }
}

/// A QUIC connection that speaks this protocol.
///
/// # Errors
/// When the handshake fails.
pub async fn dial(
    addr: SocketAddr,
    ca: &Path,
    name: &str,
    alpn: &str,
) -> Result<(quinn::Endpoint, quinn::Connection), String> {
    let tls = QuicClientConfig::try_from(client_config(ca, &[alpn])).map_err(|error| error.to_string())?;
    let source = if addr.ip().is_loopback() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    let mut endpoint = quinn::Endpoint::client((source, 0).into()).map_err(|error| error.to_string())?;
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
    let connecting = endpoint.connect(addr, name).map_err(|error| error.to_string())?;
    let quic = tokio::time::timeout(PATIENCE, connecting).await.map_err(|_| "no handshake".to_owned())?;
    Ok((endpoint, quic.map_err(|error| error.to_string())?))
}

/// The answer to its end.
///
/// # Errors
/// When the stream was reset before a response head.
pub async fn answer(mut stream: Http3Stream) -> Result<Answer, String> {
    let mut interim = Vec::new();
    let head = loop {
        let head = tokio::time::timeout(PATIENCE, stream.recv_response()).await;
        let head: Response<()> =
            head.map_err(|_| "no response head".to_owned())?.map_err(|error| error.to_string())?;
        if !head.status().is_informational() {
            break head;
        }
        interim.push((head.status().as_u16(), list(head.headers())));
    };
    let (status, headers) = (head.status().as_u16(), list(head.headers()));
    let mut body = Vec::new();
    let end = loop {
        let data = tokio::time::timeout(PATIENCE, stream.recv_data()).await;
        match data.expect("data within the patience") {
            Ok(Some(mut data)) => {
                while data.has_remaining() {
                    let piece = data.chunk().len();
                    body.extend_from_slice(data.chunk());
                    data.advance(piece);
                }
            }
            Ok(None) => break End::Clean,
            Err(_) => break End::Cut,
        }
    };
    let mut trailers = Vec::new();
    if end == End::Clean {
        match stream.recv_trailers().await {
            Ok(map) => trailers = map.as_ref().map(list).unwrap_or_default(),
            Err(_) => return Ok(Answer { status, headers, body, trailers, interim, end: End::Cut }),
        }
    }
    Ok(Answer { status, headers, body, trailers, interim, end })
}

fn list(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

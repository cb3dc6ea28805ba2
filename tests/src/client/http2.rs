//! An HTTP/2 visitor on the h2 crate: whole requests, or a stream whose every step the test decides.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::Path;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use super::tls::{self, Entrance};
use super::{Answer, End};

const PATIENCE: Duration = Duration::from_secs(60);

/// One connection.
#[derive(Debug)]
pub struct Http2 {
    send: SendRequest<Bytes>,
    tasks: JoinSet<Result<(), h2::Error>>,
}

/// One request in progress.
#[derive(Debug)]
pub struct Http2Stream {
    pub send: SendStream<Bytes>,
    pub response: ResponseFuture,
}

impl Http2 {
    /// # Panics
    /// When TLS or the preface fails.
    pub async fn connect(edge: &impl Entrance, name: &str) -> Self {
        let connected = Self::at(edge.https(), &edge.ca(), name).await;
        connected.unwrap_or_else(|error| panic!("HTTP/2 to the edge as {name}: {error}"))
    }

    /// Connects to an address.
    ///
    /// # Errors
    /// When TLS or the preface fails.
    pub async fn at(addr: SocketAddr, ca: &Path, name: &str) -> std::io::Result<Self> {
        Self::over(tls::connect(addr, ca, name, &["h2"]).await?, 1 << 20, 1 << 22).await
    }

    /// Over a connection that is made, with windows for each stream and for all of them.
    ///
    /// # Errors
    /// When the edge chose another protocol, or the preface fails.
    pub async fn over(
        stream: TlsStream<TcpStream>,
        stream_window: u32,
        connection_window: u32,
    ) -> std::io::Result<Self> {
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(std::io::Error::other("the edge did not choose h2"));
        }
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(stream_window).initial_connection_window_size(connection_window);
        let (send, connection) =
            builder.handshake::<_, Bytes>(stream).await.map_err(std::io::Error::other)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        let mut client = Self { send: send.ready().await.map_err(std::io::Error::other)?, tasks };
        client.settled().await;
        Ok(client)
    }

    /// Waits for the edge's settings: before them, extended CONNECT is not known to be allowed.
    async fn settled(&mut self) {
        for _ in 0..200 {
            if self.extended_connect() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts a request; the caller drives both directions.
    ///
    /// # Errors
    /// When the connection takes no more requests.
    pub async fn open(&mut self, request: Request<()>, end: bool) -> Result<Http2Stream, String> {
        poll_fn(|cx| self.send.poll_ready(cx)).await.map_err(|error| error.to_string())?;
        let (response, send) = self.send.send_request(request, end).map_err(|error| error.to_string())?;
        Ok(Http2Stream { send, response })
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
        let end = body.is_empty() && trailers.is_none();
        let mut stream = self.open(Request::from_parts(head, ()), end).await?;
        if !body.is_empty() {
            // An early answer stops the upload: the answer says more than the stop.
            let _ = send_all(&mut stream.send, body, trailers.is_none()).await;
        }
        if let Some(trailers) = trailers {
            let _ = stream.send.send_trailers(trailers);
        }
        stream.answer().await
    }

    /// Whether another request may be sent: false once the edge said GOAWAY (RFC 9113 6.8).
    pub async fn takes_more(&mut self) -> bool {
        poll_fn(|cx| self.send.poll_ready(cx)).await.is_ok()
    }

    /// Whether extended CONNECT (RFC 8441) is offered.
    pub fn extended_connect(&self) -> bool {
        self.send.is_extended_connect_protocol_enabled()
    }

    /// Waits for the connection's end and says why it ended.
    pub async fn ended(&mut self, within: Duration) -> Option<String> {
        let ended = tokio::time::timeout(within, self.tasks.join_next()).await.ok()??;
        Some(match ended {
            Ok(Ok(())) => "clean".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        })
    }
}

impl Http2Stream {
    /// The answer to its end.
    ///
    /// # Errors
    /// When the stream was reset before a response head.
    pub async fn answer(self) -> Result<Answer, String> {
        let Self { send: _send, mut response } = self;
        let mut interim = Vec::new();
        let head = tokio::time::timeout(PATIENCE, head(&mut response, &mut interim)).await;
        let head = head.map_err(|_| "no response head".to_owned())?.map_err(|error| error.to_string())?;
        let status = head.status().as_u16();
        let headers = list(head.headers());
        let (body, trailers, end) = collect(head.into_body()).await;
        Ok(Answer { status, headers, body, trailers, interim, end })
    }

    /// The response head alone, with the body to be read by the caller.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub async fn head(&mut self) -> Result<Response<RecvStream>, h2::Error> {
        head(&mut self.response, &mut Vec::new()).await
    }

    /// Resets the stream: the visitor goes away.
    pub fn reset(&mut self) {
        self.send.send_reset(Reason::CANCEL);
    }
}

/// Sends a whole body as windows allow.
///
/// # Errors
/// When the stream was reset meanwhile.
async fn send_all(send: &mut SendStream<Bytes>, mut body: Bytes, end: bool) -> Result<(), String> {
    while !body.is_empty() {
        send.reserve_capacity(body.len());
        // What was granted earlier is told by `capacity`; `poll_capacity` tells of new grants only.
        if send.capacity() == 0 {
            let granted = poll_fn(|cx| send.poll_capacity(cx)).await;
            granted.ok_or_else(|| "the stream is closed".to_owned())?.map_err(|error| error.to_string())?;
        }
        let capacity = send.capacity();
        let part = body.split_to(capacity.min(body.len()));
        send.send_data(part, end && body.is_empty()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

async fn head(
    response: &mut ResponseFuture,
    interim: &mut Vec<(u16, Vec<(String, String)>)>,
) -> Result<Response<RecvStream>, h2::Error> {
    poll_fn(|cx| {
        while let Poll::Ready(Some(informational)) = response.poll_informational(cx) {
            let informational = informational?;
            interim.push((informational.status().as_u16(), list(informational.headers())));
        }
        std::pin::Pin::new(&mut *response).poll(cx)
    })
    .await
}

async fn collect(mut body: RecvStream) -> (Vec<u8>, Vec<(String, String)>, End) {
    let mut bytes = Vec::new();
    loop {
        let data = tokio::time::timeout(PATIENCE, body.data()).await.expect("data within the patience");
        match data {
            Some(Ok(data)) => {
                let _ = body.flow_control().release_capacity(data.len());
                bytes.extend_from_slice(&data);
            }
            Some(Err(_)) => return (bytes, Vec::new(), End::Cut),
            None => break,
        }
    }
    match body.trailers().await {
        Ok(trailers) => (bytes, trailers.as_ref().map(list).unwrap_or_default(), End::Clean),
        Err(_) => (bytes, Vec::new(), End::Cut),
    }
}

fn list(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

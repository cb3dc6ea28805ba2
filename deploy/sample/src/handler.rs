//! What the origin answers: the path says which kind of answer, so that a test or a person can ask for any of them.
//!
//! | path | answer |
//! |---|---|
//! | `/inspect` | the request as seen here, as JSON (after reading its body) |
//! | `/echo` | the body comes back as it arrives, trailers too |
//! | `/sink` | length and SHA-256 of the body |
//! | `/bytes/N`, `/chunked/N` | N pattern bytes with and without Content-Length |
//! | `/status/NNN`, `/slow/MS`, `/trailers`, `/sse/N/MS`, `/headers/N` | what the name says |
//! | `/ws` | a WebSocket that echoes every message |
//! | `/login` | a redirect to its own Host: shows which Host reached the origin |

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::content::{Pattern, Sum};

type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// What happened at the origin so far.
#[derive(Debug, Default)]
pub struct Counters {
    connections: AtomicU64,
    requests: AtomicU64,
    /// Requests whose handler or answer was dropped before its end: the other side went away.
    cancelled: AtomicU64,
    running: AtomicU64,
    /// Bytes of the bodies that `/sink` read.
    sunk: AtomicU64,
    /// Server names of all TLS handshakes.
    pub(crate) server_names: Mutex<Vec<String>>,
    /// `x-mark` of each request, in order of arrival: shows what was executed twice.
    pub marks: Mutex<Vec<String>>,
}

impl Counters {
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    pub fn cancelled(&self) -> u64 {
        self.cancelled.load(Relaxed)
    }

    pub fn running(&self) -> u64 {
        self.running.load(Relaxed)
    }

    /// Bytes of bodies that `/sink` has read so far.
    pub fn sunk(&self) -> u64 {
        self.sunk.load(Relaxed)
    }

    /// Whether a TLS handshake named this server.
    pub fn knows_sni(&self, name: &str) -> bool {
        self.server_names.lock().iter().any(|known| known == name)
    }

    pub(crate) fn connection(&self) {
        self.connections.fetch_add(1, Relaxed);
    }
}

/// Counts a request as cancelled unless it reached its end.
struct Running {
    counters: Arc<Counters>,
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.counters.running.fetch_sub(1, Relaxed);
        if !self.ended {
            self.counters.cancelled.fetch_add(1, Relaxed);
        }
    }
}

/// A body that tells its [`Running`] when it was sent whole.
struct Tracked {
    body: UnsyncBoxBody<Bytes, std::io::Error>,
    running: Running,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None))
            || (matches!(polled, Poll::Ready(Some(Ok(_)))) && self.body.is_end_stream())
        {
            self.running.ended = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pub(crate) async fn answer(
    request: Request<Incoming>,
    counters: Arc<Counters>,
) -> Result<Answer, Infallible> {
    counters.requests.fetch_add(1, Relaxed);
    counters.running.fetch_add(1, Relaxed);
    let mut running = Running { counters: counters.clone(), ended: false };
    if let Some(mark) = request.headers().get("x-mark").and_then(|value| value.to_str().ok()) {
        counters.marks.lock().push(mark.to_owned());
    }
    let answer = route(request, &counters).await;
    running.ended = answer.body().is_end_stream();
    Ok(answer.map(|body| Tracked { body, running }.boxed_unsync()))
}

async fn route(request: Request<Incoming>, counters: &Counters) -> Answer {
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').split('/');
    let kind = parts.next().unwrap_or_default();
    let number = |part: Option<&str>| part.and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    match kind {
        "inspect" => inspect(request).await,
        "echo" => echo(request),
        "sink" => sink(request, counters).await,
        "bytes" => Response::new(Pattern::sized(number(parts.next())).boxed_unsync()),
        "chunked" => Response::new(Pattern::unsized_(number(parts.next())).boxed_unsync()),
        "status" => {
            let status = parts.next().and_then(|text| text.parse().ok()).unwrap_or(StatusCode::BAD_REQUEST);
            with_status(status, text(format!("{status}\n")))
        }
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number(parts.next()))).await;
            text("slow\n")
        }
        "trailers" => trailers(),
        "sse" => events(number(parts.next()), number(parts.next())),
        "headers" => headers(number(parts.next())),
        "ws" => websocket(request),
        "login" => login(&request),
        "" => text("Hello from the origin behind the tunnel.\n"),
        _ => with_status(StatusCode::NOT_FOUND, text("no such path at this origin\n")),
    }
}

async fn inspect(request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return with_status(StatusCode::BAD_REQUEST, text("body was cut\n"));
    };
    let list = |map: &HeaderMap| -> Vec<(String, String)> {
        map.iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect()
    };
    let trailers = body.trailers().map(list).unwrap_or_default();
    let bytes = body.to_bytes();
    let seen = serde_json::json!({
        "method": head.method.as_str(),
        "target": head.uri.path_and_query().map(ToString::to_string),
        "authority": head.uri.authority().map(ToString::to_string),
        "version": format!("{:?}", head.version),
        "headers": list(&head.headers),
        "trailers": trailers,
        "body": String::from_utf8_lossy(&bytes),
        "bytes": bytes.len(),
    });
    let mut answer = text(seen.to_string());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn echo(request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let mut answer = Response::new(body.map_err(std::io::Error::other).boxed_unsync());
    for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::TRAILER] {
        if let Some(value) = head.headers.get(&name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    answer
}

async fn sink(request: Request<Incoming>, counters: &Counters) -> Answer {
    let mut body = request.into_body();
    let mut sum = Sum::default();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return with_status(StatusCode::BAD_REQUEST, text("body was cut\n")) };
        if let Ok(data) = frame.into_data() {
            sum.update(&data);
            counters.sunk.fetch_add(data.len() as u64, Relaxed);
        }
    }
    let bytes = sum.bytes();
    text(serde_json::json!({ "bytes": bytes, "sha256": sum.finish() }).to_string())
}

fn trailers() -> Answer {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("b1946ac9"));
    // As a stream, without a length: HTTP/1.1 has trailers after chunks only.
    let frames = [Ok(Frame::data(Bytes::from_static(b"hello\n"))), Ok(Frame::trailers(trailers))];
    let mut answer = Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync());
    // hyper sends trailers on HTTP/1.1 only when they were announced.
    answer.headers_mut().insert(header::TRAILER, HeaderValue::from_static("x-checksum"));
    answer
}

fn events(count: u64, pause_ms: u64) -> Answer {
    let events = stream::iter(0..count).then(move |n| async move {
        if n > 0 {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
        Ok(Frame::data(Bytes::from(format!("data: {n}\n\n"))))
    });
    let mut answer = Response::new(StreamBody::new(events).boxed_unsync());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    answer
}

fn headers(count: u64) -> Answer {
    let mut answer = text("many headers\n");
    for n in 0..count {
        let name = http::HeaderName::try_from(format!("x-filler-{n}"))
            .expect("digits and dashes make a header name");
        answer.headers_mut().insert(name, HeaderValue::from_static("filler"));
    }
    answer
}

fn websocket(mut request: Request<Incoming>) -> Answer {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned() else {
        return with_status(StatusCode::UPGRADE_REQUIRED, text("this path speaks WebSocket only\n"));
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let handle = tokio::runtime::Handle::current();
    // The task ends with its connection, which the server owns.
    handle.spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            // A close frame is answered by reading on: that sends the reply, then the stream ends.
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                break;
            }
        }
    });
    let mut answer = with_status(StatusCode::SWITCHING_PROTOCOLS, Response::new(empty()));
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept(key.as_bytes()));
    if let Some(protocol) = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
    }
    answer
}

/// RFC 6455 4.2.2: the SHA-1 of the key and a fixed GUID.
fn accept(key: &[u8]) -> HeaderValue {
    let joined = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &joined);
    let text = base64::engine::general_purpose::STANDARD.encode(sum.as_ref());
    HeaderValue::try_from(text).expect("base64 makes a header value")
}

fn login(request: &Request<Incoming>) -> Answer {
    let of_header = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let host = request.uri().authority().map(http::uri::Authority::as_str).or(of_header).unwrap_or("unknown");
    let mut answer = with_status(StatusCode::FOUND, text(format!("welcome at {host}\n")));
    if let Ok(value) = HeaderValue::try_from(format!("http://{host}/home")) {
        answer.headers_mut().insert(header::LOCATION, value);
    }
    answer
}

fn text(body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).map_err(never).boxed_unsync());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn with_status(status: StatusCode, mut answer: Answer) -> Answer {
    *answer.status_mut() = status;
    answer
}

fn empty() -> UnsyncBoxBody<Bytes, std::io::Error> {
    Empty::new().map_err(never).boxed_unsync()
}

fn never(never: Infallible) -> std::io::Error {
    match never {}
}

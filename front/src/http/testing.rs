//! For tests: a front end on a real socket with a fake core behind it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use causeway_daemon::drain::Drain;
use causeway_tunnel::flow::Budget;
use causeway_tunnel::{BodyKind, Host, TlsEnd};
use http::header::SEC_WEBSOCKET_ACCEPT;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::entry::{Peer, Service};
use super::forwarding::Forwarding;
use super::h2;
use super::offer::Offer;
use super::page::Pages;
use super::timing::Limits;
use crate::door::{Door, Protocol, Secure};
use crate::exchange::{Abort, Exchange, Handler, InBody, InError, OutBody, Passing, Refused};
use crate::household::{Bounds, Households};
use crate::listen;
use crate::metrics::{ReasonLabels, Visitors};
use crate::observe::{Finished, Observer, Observers};
use crate::room::{Pressure, Room};
use crate::tls::{DevAuthority, PemSources, Tls};

type Answering = Pin<Box<dyn Future<Output = Response<OutBody>> + Send>>;

/// A core that does what the test says.
pub(crate) struct Fake {
    answer: Box<dyn Fn(Exchange) -> Answering + Send + Sync>,
}

/// What the core was shown.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) kind: BodyKind,
    pub(crate) headers: HeaderMap,
}

/// What the access log was told.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) status: Option<u16>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) failure: Option<String>,
}

pub(crate) struct Front {
    pub(crate) addr: SocketAddr,
    pub(crate) drain: Drain,
    /// With TLS: where the root certificate is.
    folder: Option<TempDir>,
    visitors: Visitors,
    seen: Mutex<mpsc::Receiver<Seen>>,
    logged: Mutex<mpsc::Receiver<Logged>>,
    errors: Mutex<mpsc::Receiver<InError>>,
    service: Arc<Service<Told<Fake>>>,
}

struct Told<H> {
    inner: H,
    seen: mpsc::Sender<Seen>,
    errors: mpsc::Sender<InError>,
}

impl Handler for Told<Fake> {
    async fn handle(&self, mut exchange: Exchange) -> Response<OutBody> {
        let seen = Seen {
            host: exchange.host.to_string(),
            path: exchange.path().to_owned(),
            kind: exchange.body_kind,
            headers: exchange.head.headers.clone(),
        };
        self.seen.try_send(seen).expect("the test reads what it asks for");
        exchange.head.extensions.insert(self.errors.clone());
        (self.inner.answer)(exchange).await
    }

    async fn pass(&self, passing: Passing) -> Result<(), Refused> {
        Err(Refused { to_visitor: passing.to_visitor })
    }
}

impl Observer for mpsc::Sender<Logged> {
    fn end(&self, request: &Finished<'_>) {
        let logged = Logged {
            status: request.status.map(|status| status.as_u16()),
            bytes_in: request.bytes_in,
            bytes_out: request.bytes_out,
            failure: request.failure.map(str::to_owned),
        };
        let _ = self.try_send(logged);
    }
}

impl Fake {
    pub(crate) fn new<F>(answer: impl Fn(Exchange) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<OutBody>> + Send + 'static,
    {
        Self { answer: Box::new(move |exchange| Box::pin(answer(exchange))) }
    }

    pub(crate) fn status(status: StatusCode) -> Self {
        Self::new(move |_| async move {
            let mut response = Response::new(OutBody::full("no"));
            if status.is_informational() {
                response = Response::new(OutBody::empty());
            }
            *response.status_mut() = status;
            response
        })
    }

    /// Answers with the path.
    pub(crate) fn path() -> Self {
        Self::new(|exchange| async move { Response::new(OutBody::full(exchange.path().to_owned())) })
    }

    /// Sends the request's body back as it comes, trailers too.
    pub(crate) fn echo() -> Self {
        Self::new(|exchange| async move {
            let length = exchange.head.headers.get("content-length").cloned();
            let mut response = Response::new(OutBody::stream(Echo(exchange.body)));
            if let Some(length) = length {
                response.headers_mut().insert("content-length", length);
            } else {
                response.headers_mut().insert("trailer", "x-sum".parse().unwrap());
            }
            response
        })
    }

    /// Reads the whole body first, and tells why it could not.
    pub(crate) fn echo_whole() -> Self {
        Self::new(|mut exchange| async move {
            let errors = exchange.head.extensions.remove::<mpsc::Sender<InError>>().unwrap();
            let pages = Pages::of(exchange.id, &exchange.head);
            match exchange.body.collect().await {
                Ok(body) => Response::new(OutBody::full(body.to_bytes())),
                Err(error) => {
                    errors.try_send(error).unwrap();
                    pages.answer(&error.page())
                }
            }
        })
    }

    /// Reads the body in a task of its own, as an upload is, and tells why it broke; never answers.
    pub(crate) fn reads_beside() -> Self {
        Self::new(|mut exchange| async move {
            let errors = exchange.head.extensions.remove::<mpsc::Sender<InError>>().unwrap();
            let reading = async move {
                if let Err(error) = exchange.body.collect().await {
                    errors.try_send(error).unwrap();
                }
            };
            drop(Drain::new().spawn("upload", reading));
            std::future::pending().await
        })
    }

    /// Takes bodies as they come and answers behind them; those to `/stands` it never looks at.
    pub(crate) fn takes_or_stands() -> Self {
        Self::new(|mut exchange| async move {
            if exchange.path() == "/stands" {
                exchange.body.take_in().await;
            }
            while let Some(frame) = exchange.body.frame().await {
                frame.unwrap();
            }
            Response::new(OutBody::empty())
        })
    }

    /// Grants every WebSocket, and sends back what comes, with a last word after the visitor's half-close.
    pub(crate) fn websocket() -> Self {
        Self::new(|mut exchange| async move {
            let upgrade = exchange.upgrade.take().expect("a WebSocket was asked for");
            assert_eq!(upgrade.protocol(), "websocket");
            let drain = Drain::new();
            drop(drain.spawn("raw", async move {
                let (mut raw_in, mut raw_out) = upgrade.accept().await.unwrap();
                while let Some(bytes) = raw_in.chunk().await.unwrap() {
                    raw_out.write(bytes).await.unwrap();
                }
                raw_out.write(Bytes::from_static(b", then the end")).await.unwrap();
                raw_out.finish().await.unwrap();
            }));
            Response::builder()
                .status(StatusCode::SWITCHING_PROTOCOLS)
                .header(SEC_WEBSOCKET_ACCEPT, "y")
                .body(OutBody::empty())
                .unwrap()
        })
    }

    /// Does not look at the body of a POST before it is released, then sends it back; answers a GET at once.
    pub(crate) fn busy_then_echo() -> (Self, oneshot::Sender<()>) {
        let (release, gate) = oneshot::channel::<()>();
        let gate = Arc::new(Mutex::new(Some(gate)));
        let fake = Self::new(move |exchange| {
            let gate = Arc::clone(&gate);
            async move {
                if exchange.head.method == http::Method::POST
                    && let Some(gate) = gate.lock().await.take()
                {
                    let _ = gate.await;
                }
                Response::new(OutBody::stream(Echo(exchange.body)))
            }
        });
        (fake, release)
    }

    /// Answers when it is released.
    pub(crate) fn gated() -> (Self, oneshot::Sender<()>) {
        let (release, gate) = oneshot::channel::<()>();
        let gate = Arc::new(Mutex::new(Some(gate)));
        let fake = Self::new(move |_| {
            let gate = Arc::clone(&gate);
            async move {
                let gate = gate.lock().await.take();
                if let Some(gate) = gate {
                    let _ = gate.await;
                }
                Response::new(OutBody::full("at last"))
            }
        });
        (fake, release)
    }
}

impl Front {
    /// A plain listener.
    pub(crate) async fn start(fake: Fake) -> Self {
        Self::listen(fake, Protocol::Http, Arc::new(Tls::new(PemSources::default(), None).unwrap())).await
    }

    /// A TLS listener with a development certificate for `a.example`.
    pub(crate) async fn tls(fake: Fake) -> Self {
        let folder = TempDir::new().unwrap();
        let dev = DevAuthority::open(folder.path(), Arc::new(|name| name == "a.example")).unwrap();
        let tls = Arc::new(Tls::new(PemSources::default(), Some(dev)).unwrap());
        Self { folder: Some(folder), ..Self::listen(fake, Protocol::Https, tls).await }
    }

    /// A client's side of TLS that trusts the listener.
    pub(crate) fn client(&self) -> rustls::ClientConfig {
        let root = self.folder.as_ref().unwrap().path().join("dev-ca.pem");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls::pki_types::CertificateDer::from_pem_file(root).unwrap()).unwrap();
        rustls::ClientConfig::builder_with_provider(causeway_daemon::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// A core that never answers; the receiver fails when its future is dropped.
    pub(crate) async fn hanging() -> (Self, oneshot::Receiver<()>) {
        let (fake, dropped) = Self::never();
        (Self::start(fake).await, dropped)
    }

    pub(crate) async fn hanging_tls() -> (Self, oneshot::Receiver<()>) {
        let (fake, dropped) = Self::never();
        (Self::tls(fake).await, dropped)
    }

    fn never() -> (Fake, oneshot::Receiver<()>) {
        let (alive, dropped) = oneshot::channel::<()>();
        let alive = Arc::new(Mutex::new(Some(alive)));
        let fake = Fake::new(move |_| {
            let alive = Arc::clone(&alive);
            async move {
                let _alive = alive.lock().await.take();
                std::future::pending().await
            }
        });
        (fake, dropped)
    }

    async fn listen(fake: Fake, protocol: Protocol, tls: Arc<Tls>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (seen_sender, seen) = mpsc::channel(10_000);
        let (log_sender, logged) = mpsc::channel(1000);
        let (error_sender, errors) = mpsc::channel(1000);
        let handler = Told { inner: fake, seen: seen_sender, errors: error_sender };
        let observers = Observers::new([Arc::new(log_sender) as _]);
        let drain = Drain::new();
        let bounds = Bounds { connections: 1000, requests: 1000, rate: 0 };
        let room =
            Room::new(1000, Households::new(bounds, Arc::new([]), Visitors::default(), Budget::default()));
        let forwarding = Forwarding::new(vec![], "test");
        let service = Service::new(
            handler,
            observers,
            forwarding,
            Limits::default(),
            drain.clone(),
            &room,
            Offer::default(),
        );
        let handshake_timeout = Duration::from_secs(10);
        let end_of = Arc::new(|name: &Host| match name.as_str() {
            "home.example" => TlsEnd::Passthrough,
            _ => TlsEnd::Edge,
        });
        let answers = causeway_acme::Answers::default();
        let secure = Secure { tls, handshake_timeout, answers, end_of };
        let visitors = Visitors::default();
        let door = Door::new(protocol, secure, Arc::clone(&service), visitors.clone(), None);
        drop(drain.spawn("listener", listen::serve(listener, door, room)));
        Self {
            addr,
            drain,
            folder: None,
            visitors,
            seen: Mutex::new(seen),
            logged: Mutex::new(logged),
            errors: Mutex::new(errors),
            service,
        }
    }

    pub(crate) fn pressure(&self) -> &Pressure {
        &self.service.pressure
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Serves HTTP/2 on a connection that came another way.
    pub(crate) fn serve(&self, io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let service = Arc::clone(&self.service);
        let household = service.households.of(self.addr.ip());
        let peer = Peer::new(self.addr, None, &service.forwarding, household);
        drop(self.drain.spawn("connection", h2::serve(io, peer, service)));
    }

    /// What the process may hold unread.
    pub(crate) fn budget(&self) -> &Budget {
        &self.service.budget
    }

    /// How many connections were refused for this reason.
    pub(crate) fn refused(&self, reason: &'static str) -> u64 {
        self.visitors.refused.get_or_create(&ReasonLabels { reason }).get()
    }

    pub(crate) async fn seen(&self) -> Seen {
        self.seen.lock().await.recv().await.unwrap()
    }

    pub(crate) fn nothing_seen(&self) -> bool {
        self.seen.try_lock().unwrap().try_recv().is_err()
    }

    pub(crate) async fn logged(&self) -> Logged {
        self.logged.lock().await.recv().await.unwrap()
    }

    pub(crate) async fn body_error(&self) -> InError {
        self.errors.lock().await.recv().await.unwrap()
    }
}

/// A request body as a response body.
struct Echo(InBody);

impl http_body::Body for Echo {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Abort>>> {
        Pin::new(&mut self.0).poll_frame(cx).map_err(|error| Abort::new(error.to_string()))
    }
}

/// A response body of these parts, one frame each.
pub(crate) fn parts(parts: &[&'static str]) -> OutBody {
    let frames: Vec<_> =
        parts.iter().map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))).collect();
    OutBody::stream(StreamBody::new(futures_util::stream::iter(frames)))
}

/// Header fields.
pub(crate) fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    fields.iter().map(pair).collect()
}

//! A shard with a listener, connectors that answer by path, and exchanges to send.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use causeway_daemon::drain::Drain;
use causeway_daemon::pulse::Pulse;
use causeway_daemon::tls::provider;
use causeway_tunnel::carrier::{Reuse, bind};
use causeway_tunnel::dial::Dialer;
use causeway_tunnel::listen::{Listener, Shard as Place};
use causeway_tunnel::{
    AbortCode, BodyKind, Certificates, CloseCode, ConnectorId, ControlSend, EdgeIdentity, First, Frame, Host,
    KeyId, Message, Opening, RecvStream, RequestHead, RequestId, ResponseHead, Role, Route, Scheme,
    SendStream, Session, TlsEnd, Token, TunnelId, TunnelKey,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::certified::Certified;
use crate::doorman::Doorman;
use crate::forward::forward;
use crate::gate::Gate;
use crate::keeper::KeeperHandle;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::route::Pattern;
use crate::shard::Shard;
use crate::status::{TunnelStatus, tunnels};
use crate::store::{KeyRecord, TunnelRecord};
use crate::tunnels;
use causeway_front::exchange::{Arriving, Exchange, InBody, InError, Interim, OutBody, Visitor};
use causeway_front::forward::Patience;
use causeway_front::observe::{Observers, Start};
use causeway_front::record::Record;

pub(super) const HOST: &str = "a.example";
const DEADLINE: Duration = Duration::from_secs(10);

pub(super) struct Bench {
    shard: Arc<Shard>,
    token: Token,
    address: SocketAddr,
    /// Connectors that met a `/first-…` path: the first of them misbehaves.
    first: Arc<Mutex<HashMap<String, ()>>>,
    next: Mutex<u32>,
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self::with(Patience { response_header: DEADLINE, body_idle: DEADLINE }).await
    }

    pub(super) async fn with(patience: Patience) -> Self {
        Self::gated(patience, Gate::default()).await
    }

    #[expect(clippy::unused_async, reason = "the listener needs a runtime")]
    pub(super) async fn gated(patience: Patience, gate: Gate) -> Self {
        let identity = EdgeIdentity::ephemeral();
        let (socket, _) = bind((Ipv4Addr::LOCALHOST, 0).into(), Reuse::Alone).unwrap();
        let listener =
            Listener::new(socket, Certificates::of(&identity), provider(), Place { index: 0, count: 1 })
                .unwrap();
        let address = listener.local_addr().unwrap();
        let (tunnel, key_id, key) = (TunnelId::random(), KeyId::random(), TunnelKey::generate());
        let token = Token { tunnel, key_id, key, edges: vec![address.to_string()], pin: identity.pin() };
        let registry = Arc::new(Registry::new(Metrics::default()));
        registry.apply(vec![record(&token, None)], crate::unix_now());
        let (notes, _) = mpsc::channel(16);
        let (refreshes, _) = mpsc::channel(1);
        let shard = Arc::new(Shard {
            successor: crate::handover::Successor::none(),
            fellows: Arc::new([]),
            index: 0,
            registry,
            gate,
            drain: Drain::new(),
            patience,
            sessions_per_tunnel: 16,
            budget: causeway_tunnel::flow::Budget::default(),
            congestion: causeway_tunnel::Congestion::default(),
            doorman: Doorman::default(),
            keeper: KeeperHandle { notes, refreshes, trouble: watch::channel(None).1 },
            pulse: Pulse::new(),
            answers: causeway_acme::Answers::default(),
        });
        drop(
            shard
                .drain
                .spawn_service("listener", tunnels::take(Arc::clone(&shard), Arc::new(listener), None)),
        );
        Self { shard, token, address, first: Arc::default(), next: Mutex::new(0) }
    }

    pub(super) async fn connector(&self) -> Connector {
        let dialer =
            Dialer::new(self.token.clone(), ConnectorId::random(), "here".to_owned(), provider()).unwrap();
        let (session, mut control) = dialer.dial(self.address, Role::Primary).await.unwrap();
        let routes = vec![Route::of_requests(7, "*")];
        control.send(&Message::Announce { generation: 1, routes }).await.unwrap();
        let answer = control.recv().await.unwrap().unwrap();
        assert!(matches!(answer, Message::Announced { accepted, .. } if accepted == [7]));
        let number = {
            let mut next = self.next.lock();
            *next += 1;
            *next
        };
        let (send, mut recv) = control.split();
        let connector = Connector {
            name: format!("connector-{number}"),
            session: session.clone(),
            control: send,
            seen: Arc::default(),
            first: Arc::clone(&self.first),
        };
        let (name, seen, first) =
            (connector.name.clone(), Arc::clone(&connector.seen), Arc::clone(&self.first));
        let drain = self.shard.drain.clone();
        drop(self.shard.drain.spawn_service("fake connector", async move {
            while let Some((send, recv)) = session.accept().await {
                let origin = Origin {
                    name: name.clone(),
                    session: session.clone(),
                    seen: Arc::clone(&seen),
                    first: Arc::clone(&first),
                };
                drop(drain.spawn_service("fake origin", origin.answer(send, recv)));
            }
        }));
        drop(
            self.shard
                .drain
                .spawn_service("fake control", async move { while let Ok(Some(_)) = recv.recv().await {} }),
        );
        connector
    }

    /// Begins when it is polled; dropped, it is a visitor who went away.
    pub(super) fn send(&self, exchange: Exchange) -> impl Future<Output = Response<OutBody>> + use<> {
        let shard = Arc::clone(&self.shard);
        async move { forward(&shard, exchange).await }
    }

    pub(super) fn revoke(&self) {
        let now = crate::unix_now();
        self.shard.registry.apply(vec![record(&self.token, Some(now))], now);
    }

    pub(super) async fn until(&self, is_so: impl Fn(&TunnelStatus) -> bool) {
        tokio::time::timeout(DEADLINE, async {
            while !tunnels(&self.shard.registry, &Certified::default(), 1).iter().any(&is_so) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
    }
}

fn record(token: &Token, revoked_at: Option<i64>) -> TunnelRecord {
    let key = KeyRecord { id: token.key_id, public_key: token.key.public(), created_at: 1, not_after: None };
    let hostnames = if revoked_at.is_some() { Vec::new() } else { vec![Pattern::parse(HOST).unwrap()] };
    TunnelRecord {
        id: token.tunnel,
        name: "home".to_owned(),
        created_at: 1,
        revoked_at,
        last_seen_at: None,
        hostnames,
        keys: vec![key],
        declared: None,
    }
}

pub(super) struct Connector {
    pub(super) name: String,
    pub(super) session: Session,
    control: ControlSend,
    seen: Seen,
    first: Arc<Mutex<HashMap<String, ()>>>,
}

/// What became of the last request to each path.
type Seen = Arc<Mutex<HashMap<String, bool>>>;

impl Connector {
    pub(super) async fn saw(&self, path: &str) {
        self.wait(|seen| seen.contains_key(path)).await;
    }

    pub(super) async fn cancelled(&self, path: &str) {
        self.wait(|seen| seen.get(path) == Some(&true)).await;
    }

    /// The next `/first-…` is a first again.
    pub(super) fn forget(&self) {
        self.first.lock().clear();
    }

    pub(super) async fn drain(&mut self) {
        self.control.send(&Message::Drain { reason: "test".to_owned(), succeeded: false }).await.unwrap();
    }

    async fn wait(&self, is_so: impl Fn(&HashMap<String, bool>) -> bool) {
        tokio::time::timeout(DEADLINE, async {
            while !is_so(&self.seen.lock()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
        .unwrap();
    }
}

struct Origin {
    name: String,
    session: Session,
    seen: Seen,
    first: Arc<Mutex<HashMap<String, ()>>>,
}

impl Origin {
    async fn answer(self, mut send: SendStream, mut recv: RecvStream) {
        let Ok(Opening::Request(request)) = recv.opening().await else { return };
        assert_eq!((request.route, request.authority.as_str()), (7, HOST));
        self.seen.lock().insert(request.path.clone(), false);
        let is_first = request.path.starts_with("/first")
            && self.first.lock().insert(request.path.clone(), ()).is_none();
        let path = request.path.clone();
        let done = if is_first {
            self.misbehave(&request, &mut send)
        } else {
            self.behave(&request, &mut send, &mut recv).await
        };
        if done.is_none() {
            self.seen.lock().insert(path, true);
        }
    }

    fn misbehave(&self, request: &RequestHead, send: &mut SendStream) -> Option<()> {
        match request.path.as_str() {
            "/first-refuses" => send.abort(AbortCode::Refused),
            "/first-unreachable" => send.abort(AbortCode::OriginUnreachable),
            "/first-resets" => send.abort(AbortCode::OriginReset),
            "/first-dies" => self.session.close(CloseCode::Done, "killed"),
            other => panic!("{other}"),
        }
        Some(())
    }

    /// `None` when the edge gave the request up.
    async fn behave(
        &self,
        request: &RequestHead,
        send: &mut SendStream,
        recv: &mut RecvStream,
    ) -> Option<()> {
        let ok = |body| head(StatusCode::OK, body);
        match request.path.as_str() {
            "/who" => send.response(&ok(BodyKind::Unknown), First::Only(self.name.clone().into())).await.ok(),
            "/duplex" => {
                send.response(&ok(BodyKind::Unknown), First::More).await.ok()?;
                loop {
                    match recv.frame().await.ok()? {
                        Frame::Data(bytes) => send.data(bytes).await.ok()?,
                        Frame::Trailers(_) => {}
                        Frame::End => return send.end().await.ok(),
                    }
                }
            }
            "/early" => {
                send.response(
                    &head(StatusCode::PAYLOAD_TOO_LARGE, BodyKind::Known(8)),
                    First::Only("too much".into()),
                )
                .await
                .ok()?;
                recv.stop(AbortCode::TooLarge);
                Some(())
            }
            "/hang" => {
                recv.frame().await.ok()?;
                send.stopped().await;
                None
            }
            "/short" | "/cut" | "/long" => {
                send.response(&ok(BodyKind::Known(10)), First::More).await.ok()?;
                send.data(Bytes::from_static(b"123")).await.ok()?;
                match request.path.as_str() {
                    "/cut" => {
                        // A reset overtakes what was sent: let the head arrive.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        send.abort(AbortCode::OriginReset);
                    }
                    "/long" => {
                        send.data(Bytes::from_static(b"4567890")).await.ok()?;
                        send.data(Bytes::from_static(b"X")).await.ok()?;
                        send.end().await.ok()?;
                    }
                    _ => send.end().await.ok()?,
                }
                Some(())
            }
            "/stall" | "/events" => {
                let mut head = ok(BodyKind::Unknown);
                let kind = if request.path == "/events" { "text/event-stream" } else { "text/plain" };
                head.headers.insert("content-type", kind.parse().unwrap());
                send.response(&head, First::More).await.ok()?;
                send.data(Bytes::from_static(b"data")).await.ok()?;
                send.stopped().await;
                None
            }
            "/no-body" => {
                // END does not come.
                send.response(&head(StatusCode::NOT_MODIFIED, BodyKind::None), First::More).await.ok()?;
                send.stopped().await;
                None
            }
            "/switch" => {
                send.response(&head(StatusCode::SWITCHING_PROTOCOLS, BodyKind::None), First::More)
                    .await
                    .ok()?;
                send.stopped().await;
                None
            }
            _ => self.echo(send, recv).await,
        }
    }

    async fn echo(&self, send: &mut SendStream, recv: &mut RecvStream) -> Option<()> {
        let mut body = Vec::new();
        loop {
            match recv.frame().await.ok()? {
                Frame::Data(bytes) => body.extend_from_slice(&bytes),
                Frame::Trailers(_) => {}
                Frame::End => break,
            }
        }
        let head = head(StatusCode::OK, BodyKind::Known(body.len() as u64));
        send.response(&head, First::Only(body.into())).await.ok()
    }
}

fn head(status: StatusCode, body: BodyKind) -> ResponseHead {
    ResponseHead { status, headers: HeaderMap::new(), body }
}

pub(crate) fn get(path: &str) -> Exchange {
    exchange(Method::GET, path, InBody::empty(), BodyKind::None)
}

pub(super) fn post(path: &str, body: InBody, kind: BodyKind) -> Exchange {
    exchange(Method::POST, path, body, kind)
}

pub(super) fn full(text: impl Into<Bytes>) -> InBody {
    InBody::full(text.into())
}

fn exchange(method: Method, path: &str, body: InBody, body_kind: BodyKind) -> Exchange {
    let request = Request::builder().method(method).uri(path).header("host", HOST).body(()).unwrap();
    let head = request.into_parts().0;
    let visitor = Visitor { addr: "192.0.2.1:1".parse().unwrap(), scheme: Scheme::Https };
    let start = Start {
        id: RequestId([1; 16]),
        visitor: visitor.addr,
        scheme: visitor.scheme,
        version: Version::HTTP_11,
        method: head.method.clone(),
        host: HOST.into(),
        uri: head.uri.clone(),
        tls: TlsEnd::Edge,
    };
    Exchange {
        id: RequestId([1; 16]),
        visitor,
        host: Host::name(HOST).unwrap(),
        head,
        body,
        body_kind,
        upgrade: None,
        expect_continue: false,
        interim: Interim::none(),
        record: Record::new(start, &HeaderMap::new(), Observers::new([])),
    }
}

/// A body that comes as it is sent; dropping the sender is its clean end.
pub(super) fn trickle() -> (InBody, mpsc::Sender<Result<Bytes, InError>>) {
    let (sender, receiver) = mpsc::channel(4);
    let start = Start {
        id: RequestId([1; 16]),
        visitor: "192.0.2.1:1".parse().unwrap(),
        scheme: Scheme::Https,
        version: Version::HTTP_11,
        method: Method::POST,
        host: HOST.into(),
        uri: "/".parse().unwrap(),
        tls: TlsEnd::Edge,
    };
    let record = Record::new(start, &HeaderMap::new(), Observers::new([]));
    (InBody::arriving(Box::new(Trickle(receiver)), None, record), sender)
}

struct Trickle(mpsc::Receiver<Result<Bytes, InError>>);

impl Arriving for Trickle {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, InError>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(http_body::Frame::data)))
    }

    fn is_end(&self) -> bool {
        false
    }
}

//! A connector as it is run, between an edge and origins that these tests play themselves.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]
#![allow(clippy::disallowed_methods, reason = "the runtime of a test owns its tasks")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use causeway_connector::app::{App, Settings};
use causeway_connector::config;
use causeway_connector::reload::Source;
use causeway_tunnel::carrier::{Reuse, bind};
use causeway_tunnel::handshake::{Authority, KnownKey, Standing};
use causeway_tunnel::listen::{Listener, Shard};
use causeway_tunnel::{
    AbortCode, BodyKind, Certificates, EdgeIdentity, First, Frame, KeyId, Message, RecvStream, RequestHead,
    RequestId, ResponseEvent, ResponseHead, Role, Route, Scheme, SendStream, Session, StreamError, Token,
    TunnelId, TunnelKey,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longer than anything here takes, shorter than a person's patience.
pub const SOON: Duration = Duration::from_secs(10);

/// An edge that knows one tunnel and does what the test says.
pub struct Edge {
    pub token: Token,
    pub address: SocketAddr,
    /// Sessions as they come up, primaries only, after their first announcement.
    pub sessions: mpsc::Receiver<Up>,
    /// Announcements after the first, and drains.
    pub said: mpsc::Receiver<Message>,
}

/// A session with what was announced on it.
pub struct Up {
    pub session: Session,
    pub routes: Vec<Route>,
}

struct OneKey(Token);

impl Authority for OneKey {
    fn look_up(&self, tunnel: TunnelId, key: KeyId) -> Option<KnownKey> {
        (tunnel == self.0.tunnel && key == self.0.key_id).then(|| KnownKey {
            public_key: self.0.key.public(),
            standing: Standing::Active,
            tunnel_name: "home".to_owned(),
        })
    }
}

impl Edge {
    pub fn start() -> Self {
        let identity = EdgeIdentity::ephemeral();
        let (socket, _) = bind((Ipv4Addr::LOCALHOST, 0).into(), Reuse::Alone).unwrap();
        let address = socket.local_addr().unwrap();
        let provider = causeway_daemon::tls::provider();
        let listener =
            Listener::new(socket, Certificates::of(&identity), provider, Shard { index: 0, count: 1 })
                .unwrap();
        let token = Token {
            tunnel: TunnelId::random(),
            key_id: KeyId::random(),
            key: TunnelKey::generate(),
            edges: vec![address.to_string()],
            pin: identity.pin(),
        };
        let (up, sessions) = mpsc::channel(16);
        let (say, said) = mpsc::channel(64);
        let authority = Arc::new(OneKey(token.clone()));
        tokio::spawn(async move {
            while let Some(knock) = listener.accept().await {
                let (authority, up, say) = (Arc::clone(&authority), up.clone(), say.clone());
                tokio::spawn(async move {
                    let Ok(stranger) = knock.connect().await else { return };
                    let Ok((session, mut control)) = stranger.handshake(&*authority, |_| Ok(())).await else {
                        return;
                    };
                    let mut first = true;
                    while let Ok(Some(message)) = control.recv().await {
                        if let Message::Announce { generation, routes } = &message {
                            let accepted = routes.iter().map(|route| route.id).collect();
                            let answer =
                                Message::Announced { generation: *generation, accepted, refused: Vec::new() };
                            control.send(&answer).await.unwrap();
                            if std::mem::take(&mut first) {
                                if session.info().role == Role::Primary {
                                    let _ = up
                                        .send(Up { session: session.clone(), routes: routes.clone() })
                                        .await;
                                }
                                continue;
                            }
                        }
                        if session.info().role == Role::Primary && !matches!(message, Message::Stats(_)) {
                            let _ = say.try_send(message);
                        }
                    }
                });
            }
        });
        Self { token, address, sessions, said }
    }

    pub async fn up(&mut self) -> Up {
        timeout(SOON, self.sessions.recv()).await.expect("a session soon").unwrap()
    }

    /// The next message, but for questions whether the edge lives: those come when traffic stops.
    pub async fn hears(&mut self) -> Message {
        loop {
            let said = timeout(SOON, self.said.recv()).await.expect("a message soon").unwrap();
            if !matches!(said, Message::Probe { .. }) {
                return said;
            }
        }
    }
}

/// Starts a connector with these rules.
pub async fn connector(edge: &Edge, rules: &str) -> App {
    let config = config::parse("rules.yml", rules).unwrap();
    start(edge, config, None).await
}

pub async fn start(edge: &Edge, config: config::Config, file: Option<Source>) -> App {
    App::start(Settings {
        config,
        file,
        token: edge.token.clone(),
        edges: Vec::new(),
        metrics: Some((Ipv4Addr::LOCALHOST, 0).into()),
        shards: None,
        control: None,
        levels: None,
        visits: Default::default(),
        within: None,
    })
    .await
    .unwrap()
}

/// A running connector and a session with it.
pub struct Road {
    pub edge: Edge,
    pub app: App,
    pub up: Up,
}

/// Everything goes to this service.
pub async fn road(service: &str, settings: &str) -> Road {
    road_with(&format!("ingress:\n  - service: {service}\n    originRequest: {{{settings}}}\n")).await
}

pub async fn road_with(rules: &str) -> Road {
    let mut edge = Edge::start();
    let app = connector(&edge, rules).await;
    let up = edge.up().await;
    Road { edge, app, up }
}

impl Road {
    pub async fn open(&self) -> (SendStream, RecvStream) {
        self.up.session.open().await.unwrap()
    }

    /// A request without a body, to its end.
    pub async fn get(&self, path: &str) -> Result<Got, Ended> {
        let mut head = self.head(Method::GET, path);
        head.body = BodyKind::None;
        self.exchange(head, First::Only(Bytes::new())).await
    }

    pub async fn post(&self, body: &'static [u8]) -> Result<Got, Ended> {
        let mut head = self.head(Method::POST, "/");
        head.body = BodyKind::Known(body.len() as u64);
        self.exchange(head, First::Only(Bytes::from_static(body))).await
    }

    pub async fn exchange(&self, head: RequestHead, first: First) -> Result<Got, Ended> {
        let (mut send, mut recv) = self.open().await;
        send.request(&head, first).await.map_err(|error| Ended::BeforeHead(error.code()))?;
        timeout(SOON, collect(&mut recv)).await.expect("an answer soon")
    }

    pub fn head(&self, method: Method, path: &str) -> RequestHead {
        RequestHead {
            method,
            scheme: Scheme::Https,
            authority: "blog.example.dev".to_owned(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            visitor: (Ipv4Addr::LOCALHOST, 4242).into(),
            route: self.up.routes[0].id,
            request_id: RequestId([1; 16]),
            upgrade: None,
            body: BodyKind::None,
            expect_continue: false,
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Got {
    pub interim: Vec<(u16, HeaderMap)>,
    pub head: ResponseHead,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

/// An answer that did not come to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    BeforeHead(AbortCode),
    InBody(AbortCode, usize),
}

impl Got {
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

pub async fn collect(recv: &mut RecvStream) -> Result<Got, Ended> {
    let mut interim = Vec::new();
    let head = loop {
        match recv.response().await {
            Ok(ResponseEvent::Interim(status, headers)) => interim.push((status.as_u16(), headers)),
            Ok(ResponseEvent::Final(head)) => break head,
            Err(error) => return Err(Ended::BeforeHead(error.code())),
        }
    };
    let (body, trailers) = rest(recv).await.map_err(|(error, seen)| Ended::InBody(error.code(), seen))?;
    Ok(Got { interim, head, body, trailers })
}

pub async fn rest(recv: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), (StreamError, usize)> {
    let (mut body, mut trailers) = (Vec::new(), None);
    loop {
        match recv.frame().await {
            Ok(Frame::Data(bytes)) => body.extend_from_slice(&bytes),
            Ok(Frame::Trailers(fields)) => trailers = Some(fields),
            Ok(Frame::End) => return Ok((body, trailers)),
            Err(error) => return Err((error, body.len())),
        }
    }
}

pub fn field(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
    (HeaderName::from_static(name), HeaderValue::from_static(value))
}

/// An origin that reads a request's head on each connection and then does what the test says. The second argument
/// counts connections from 0.
pub async fn origin<F, R>(play: F) -> SocketAddr
where
    F: Fn(Wire, usize) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for count in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(play(Wire { stream, read: Vec::new() }, count));
        }
    });
    address
}

/// A raw connection at an origin.
pub struct Wire {
    pub stream: TcpStream,
    pub read: Vec<u8>,
}

impl Wire {
    /// The next request's head, or `None` when the connection was closed.
    pub async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.read.drain(..end + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Exactly so much of a body.
    pub async fn body(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert!(self.more().await, "closed inside the body");
        }
        self.read.drain(..length).collect()
    }

    /// The next byte, or `None` when the connection was closed.
    pub async fn byte(&mut self) -> Option<u8> {
        while self.read.is_empty() {
            if !self.more().await {
                return None;
            }
        }
        Some(self.read.remove(0))
    }

    /// Whatever comes until the connection ends; `Err` is a reset.
    pub async fn until_closed(&mut self) -> std::io::Result<Vec<u8>> {
        self.stream.read_to_end(&mut self.read).await?;
        Ok(std::mem::take(&mut self.read))
    }

    pub async fn say(&mut self, text: &str) {
        // The other end may be gone already: the test looks at that end.
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// Ends with a reset instead of a clean close.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    async fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                true
            }
        }
    }
}

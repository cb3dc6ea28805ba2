//! Real sessions over loopback, over each carrier: what the two halves of a stream promise each other.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use rustls::crypto::aws_lc_rs::default_provider;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::carrier::{Connection, Reuse, bind};
use crate::dial::{DialError, Dialer};
use crate::flow::{Budget, Flow, Sizes};
use crate::handshake::{Authority, KnownKey, Standing};
use crate::listen::{HandshakeError, Listener, Shard};
use crate::message::{Message, RefusalCode, Refused, Retry, Route};
use crate::{
    AbortCode, BodyKind, Certificates, CloseCode, Closed, ConnectorId, Control, EdgeIdentity, First, Frame,
    KeyId, RecvStream, RequestHead, RequestId, ResponseEvent, ResponseHead, Role, Scheme, Session, SessionId,
    SessionInfo, Sign, StreamError, Token, Transport, TunnelId, TunnelKey,
};

mod handed;
mod silence;

struct OneKey(Token, Standing);

impl Authority for OneKey {
    fn look_up(&self, tunnel: TunnelId, key: KeyId) -> Option<KnownKey> {
        (tunnel == self.0.tunnel && key == self.0.key_id).then(|| KnownKey {
            public_key: self.0.key.public(),
            standing: self.1,
            tunnel_name: "home".to_owned(),
        })
    }
}

struct Edge {
    listener: Listener,
    token: Token,
    address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Edge {
    async fn start(over: Transport) -> Self {
        let identity = EdgeIdentity::ephemeral();
        let (certificates, provider) = (Certificates::of(&identity), Arc::new(default_provider()));
        let shard = Shard { index: 0, count: 1 };
        let mut accepting = JoinSet::new();
        let (listener, address) = match over {
            Transport::Quic => {
                let (socket, _) = bind((Ipv4Addr::LOCALHOST, 0).into(), Reuse::Alone).unwrap();
                let address = socket.local_addr().unwrap();
                (Listener::new(socket, certificates, provider, shard).unwrap(), address)
            }
            Transport::Tcp => {
                let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                let address = socket.local_addr().unwrap();
                let (listener, doorway) = Listener::over_tcp(certificates, provider, shard).unwrap();
                accepting.spawn(async move {
                    loop {
                        let (stream, remote) = socket.accept().await.unwrap();
                        assert!(doorway.enter(stream, Vec::new(), remote));
                    }
                });
                (listener, address)
            }
        };
        let token = Token {
            tunnel: TunnelId::random(),
            key_id: KeyId::random(),
            key: TunnelKey::generate(),
            edges: vec![address.to_string()],
            pin: identity.pin(),
        };
        Self { listener, token, address, _accepting: accepting }
    }

    async fn accept(&self, standing: Standing) -> Result<(Session, Control), HandshakeError> {
        let knock = self.listener.accept().await.unwrap();
        knock.connect().await?.handshake(&OneKey(self.token.clone(), standing), |_| Ok(())).await
    }
}

fn dialer(token: &Token) -> Dialer {
    Dialer::new(token.clone(), ConnectorId::random(), "test".to_owned(), Arc::new(default_provider()))
        .unwrap()
}

/// A session with both ends in this process: (edge, connector).
async fn pair(over: Transport) -> (Edge, (Session, Control), (Session, Control)) {
    let edge = Edge::start(over).await;
    let dialer = dialer(&edge.token);
    let (served, dialled) =
        tokio::join!(edge.accept(Standing::Active), dialer.dial_over(over, edge.address, Role::Primary));
    (edge, served.unwrap(), dialled.unwrap())
}

fn request() -> RequestHead {
    RequestHead {
        method: Method::POST,
        scheme: Scheme::Https,
        authority: "blog.example.dev".to_owned(),
        path: "/a?b".to_owned(),
        headers: HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static("*/*"))]),
        visitor: (Ipv4Addr::LOCALHOST, 4242).into(),
        route: 7,
        request_id: RequestId([1; 16]),
        upgrade: None,
        body: BodyKind::Unknown,
        expect_continue: false,
    }
}

async fn opened(recv: &mut RecvStream) -> RequestHead {
    recv.opening().await.unwrap().into_request().expect("a request")
}

fn response(status: StatusCode) -> ResponseHead {
    ResponseHead { status, headers: HeaderMap::new(), body: BodyKind::Unknown }
}

async fn a_request_with_body_and_trailers_is_answered_with_interim_body_and_trailers(over: Transport) {
    let (_edge, (edge, _), (connector, _)) = pair(over).await;
    assert_eq!((edge.info().id, edge.info().tunnel_name.as_str()), (connector.info().id, "home"));
    let trailers = HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("x"))]);

    let visitor = async {
        let (mut send, mut recv) = edge.open().await.unwrap();
        send.request(&request(), First::More).await.unwrap();
        let body = Bytes::from(vec![3; 1 << 20]);
        send.data(body).await.unwrap();
        send.trailers(&trailers).await.unwrap();
        send.end().await.unwrap();
        let ResponseEvent::Interim(status, _) = recv.response().await.unwrap() else { panic!("103 first") };
        assert_eq!(status, StatusCode::EARLY_HINTS);
        assert_eq!(recv.response().await.unwrap(), ResponseEvent::Final(response(StatusCode::OK)));
        assert_eq!(recv.frame().await.unwrap(), Frame::Data(Bytes::from_static(b"hello")));
        assert_eq!(recv.frame().await.unwrap(), Frame::Trailers(trailers.clone()));
        assert_eq!(recv.frame().await.unwrap(), Frame::End);
    };
    let origin = async {
        let (mut send, mut recv) = connector.accept().await.unwrap();
        assert_eq!(opened(&mut recv).await, request());
        let mut length = 0;
        loop {
            match recv.frame().await.unwrap() {
                Frame::Data(bytes) => length += bytes.len(),
                Frame::Trailers(got) => assert_eq!(got, trailers),
                Frame::End => break,
            }
        }
        assert_eq!(length, 1 << 20);
        send.interim(StatusCode::EARLY_HINTS, &HeaderMap::new()).await.unwrap();
        send.response(&response(StatusCode::OK), First::More).await.unwrap();
        send.data(Bytes::from_static(b"hello")).await.unwrap();
        send.trailers(&trailers).await.unwrap();
        send.end().await.unwrap();
    };
    tokio::join!(visitor, origin);
    assert_eq!((edge.in_flight(), connector.in_flight()), (0, 0));
}

async fn a_dropped_half_is_an_abort_and_never_a_short_body(over: Transport) {
    let (_edge, (edge, _), (connector, _)) = pair(over).await;
    let (mut send, mut recv) = edge.open().await.unwrap();
    send.request(&request(), First::More).await.unwrap();
    let (mut answer, mut upload) = connector.accept().await.unwrap();
    opened(&mut upload).await;
    answer.response(&response(StatusCode::OK), First::More).await.unwrap();
    answer.data(Bytes::from_static(b"half")).await.unwrap();
    recv.response().await.unwrap();
    assert_eq!(recv.frame().await.unwrap(), Frame::Data(Bytes::from_static(b"half")));

    drop(answer);
    assert_eq!(recv.frame().await.unwrap_err(), StreamError::Aborted(AbortCode::Cancelled));
    drop(upload);
    assert_eq!(send.stopped().await, Some(AbortCode::Cancelled));
}

async fn abort_codes_travel_in_both_directions(over: Transport) {
    let (_edge, (edge, _), (connector, _)) = pair(over).await;
    let (mut send, mut recv) = edge.open().await.unwrap();
    send.request(&request(), First::More).await.unwrap();
    let (mut answer, mut upload) = connector.accept().await.unwrap();
    opened(&mut upload).await;

    answer.abort(AbortCode::OriginTimeout);
    assert_eq!(recv.response().await.unwrap_err().code(), AbortCode::OriginTimeout);
    upload.stop(AbortCode::TooLarge);
    assert_eq!(send.stopped().await, Some(AbortCode::TooLarge));
    assert_eq!(send.data(Bytes::from_static(b"x")).await.unwrap_err().code(), AbortCode::TooLarge);
}

async fn hazard_125_a_malformed_stream_leaves_its_neighbours_alone(over: Transport) {
    let (_edge, (edge, _), (connector, _)) = pair(over).await;
    let (mut bad, _bad_recv) = edge.open().await.unwrap();
    // An answer where a request belongs.
    bad.response(&response(StatusCode::OK), First::Only(Bytes::new())).await.unwrap();
    let (mut good, _good_recv) = edge.open().await.unwrap();
    good.request(&request(), First::Only(Bytes::new())).await.unwrap();

    let (_, mut recv) = connector.accept().await.unwrap();
    assert_eq!(recv.opening().await.unwrap_err().code(), AbortCode::Protocol);
    let (_, mut recv) = connector.accept().await.unwrap();
    opened(&mut recv).await;
    assert_eq!(recv.frame().await.unwrap(), Frame::End);
}

async fn an_upgrade_becomes_raw_bytes_with_half_close(over: Transport) {
    let (_edge, (edge, _), (connector, _)) = pair(over).await;
    let (mut send, mut recv) = edge.open().await.unwrap();
    let mut head = request();
    (head.upgrade, head.body) = (Some("websocket".to_owned()), BodyKind::None);
    send.request(&head, First::More).await.unwrap();
    let (mut answer, mut upload) = connector.accept().await.unwrap();
    assert_eq!(opened(&mut upload).await, head);
    answer.response(&response(StatusCode::SWITCHING_PROTOCOLS), First::More).await.unwrap();
    let mut to_visitor = answer.into_raw();
    // Raw bytes right behind the head, as an eager origin sends them.
    to_visitor.write(Bytes::from_static(b"early")).await.unwrap();
    recv.response().await.unwrap();
    let (mut to_origin, mut from_origin) = (send.into_raw(), recv.into_raw());
    assert_eq!(from_origin.chunk().await.unwrap(), Some(Bytes::from_static(b"early")));

    to_origin.write(Bytes::from_static(b"bye")).await.unwrap();
    to_origin.finish();
    let mut from_visitor = upload.into_raw();
    assert_eq!(from_visitor.chunk().await.unwrap(), Some(Bytes::from_static(b"bye")));
    assert_eq!(from_visitor.chunk().await.unwrap(), None);
    to_visitor.write(Bytes::from_static(b"still open")).await.unwrap();
    to_visitor.finish();
    assert_eq!(from_origin.chunk().await.unwrap(), Some(Bytes::from_static(b"still open")));
    assert_eq!(from_origin.chunk().await.unwrap(), None);
}

async fn a_reader_who_stalls_stops_the_writer_and_not_the_neighbours(over: Transport) {
    let (_edge, (edge, _), (connector, _)) = pair(over).await;
    let (mut send, _recv) = edge.open().await.unwrap();
    send.request(&request(), First::More).await.unwrap();
    let (_answer, mut stalled) = connector.accept().await.unwrap();
    opened(&mut stalled).await;
    let mut written = 0;
    while timeout(Duration::from_millis(300), send.data(Bytes::from(vec![0; 16 * 1024]))).await.is_ok() {
        written += 16 * 1024;
        assert!(written < 1 << 20, "nobody reads, yet {written} bytes were taken");
    }
    let (mut other, _recv) = edge.open().await.unwrap();
    other.request(&request(), First::Only(Bytes::from(vec![1; 50_000]))).await.unwrap();
    let (_answer, mut recv) = connector.accept().await.unwrap();
    opened(&mut recv).await;
    while recv.frame().await.unwrap() != Frame::End {}
}

async fn many_streams_raise_the_limit_at_run_time(over: Transport) {
    let (_edge, (edge, _), (connector, _)) = pair(over).await;
    let mut held = Vec::new();
    for _ in 0..700 {
        let (mut send, recv) = timeout(Duration::from_secs(5), edge.open()).await.unwrap().unwrap();
        send.request(&request(), First::More).await.unwrap();
        held.push((send, recv, connector.accept().await.unwrap()));
    }
    assert_eq!((edge.in_flight(), connector.in_flight()), (700, 700));
}

async fn control_messages_flow_both_ways(over: Transport) {
    let (_edge, (_s1, mut edge), (_s2, mut connector)) = pair(over).await;
    let routes = vec![Route::of_requests(1, "*")];
    let announce = Message::Announce { generation: 1, routes };
    connector.send(&announce).await.unwrap();
    assert_eq!(edge.recv().await.unwrap(), Some(announce));
    let answer = Message::Announced { generation: 1, accepted: vec![1], refused: vec![] };
    edge.send(&answer).await.unwrap();
    assert_eq!(connector.recv().await.unwrap(), Some(answer));
}

async fn hazard_127_an_edge_with_another_key_is_never_spoken_to(over: Transport) {
    let edge = Edge::start(over).await;
    let mut token = edge.token.clone();
    token.pin = EdgeIdentity::ephemeral().pin();
    let dialer = dialer(&token);
    let (served, dialled) =
        tokio::join!(edge.accept(Standing::Active), dialer.dial_over(over, edge.address, Role::Primary));
    assert!(matches!(served, Err(HandshakeError::Connection(_))), "{served:?}");
    let error = dialled.unwrap_err();
    assert!(matches!(error, DialError::WrongEdge { .. }), "{error}");
    assert_eq!(error.retry(), Retry::Permanent);
}

async fn refusals_reach_the_connector_with_their_reason(over: Transport) {
    for (standing, code) in
        [(Standing::Revoked, RefusalCode::Revoked), (Standing::Expired, RefusalCode::Expired)]
    {
        let edge = Edge::start(over).await;
        let dialer = dialer(&edge.token);
        let (_, dialled) =
            tokio::join!(edge.accept(standing), dialer.dial_over(over, edge.address, Role::Primary));
        let Err(DialError::Refused { refused, .. }) = dialled else { panic!("refused") };
        assert_eq!((refused.code, refused.retry), (code, Retry::Permanent));
        assert!(refused.reason.contains("home"));
    }
    let edge = Edge::start(over).await;
    let dialer = dialer(&edge.token);
    let busy =
        Refused { code: RefusalCode::Draining, reason: "stopping".to_owned(), retry: Retry::Temporary };
    let accept = async {
        let knock = edge.listener.accept().await.unwrap();
        knock
            .connect()
            .await?
            .handshake(&OneKey(edge.token.clone(), Standing::Active), |_| Err(busy.clone()))
            .await
    };
    let (_, dialled) = tokio::join!(accept, dialer.dial_over(over, edge.address, Role::Primary));
    assert_eq!(dialled.unwrap_err().retry(), Retry::Temporary);
}

async fn hazard_152_silence_is_noticed_within_three_seconds(over: Transport) {
    let edge = Edge::start(over).await;
    let dialer = dialer(&edge.token);
    // The connector lives on a runtime of its own, which stops without a word, as a killed process does.
    let address = edge.address;
    let (frozen, is_frozen) = tokio::sync::oneshot::channel();
    let connector = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let session = runtime.block_on(dialer.dial_over(over, address, Role::Primary)).unwrap();
        std::mem::forget((session, runtime));
        frozen.send(()).unwrap();
    });
    let (session, _control) = edge.accept(Standing::Active).await.unwrap();
    is_frozen.await.unwrap();
    connector.join().unwrap();
    let mut watch = session.watch();
    let sign = timeout(Duration::from_secs(3), watch.next()).await.expect("noticed in time");
    assert_eq!(sign, Sign::Suspected);
    assert!(session.is_suspected() && session.is_alive());
}

async fn an_address_where_nobody_listens_is_given_up(over: Transport) {
    let (socket, _) = bind((Ipv4Addr::LOCALHOST, 0).into(), Reuse::Alone).unwrap();
    let edge = Edge::start(over).await;
    let dialer = dialer(&edge.token);
    let dialled =
        timeout(Duration::from_secs(5), dialer.dial_over(over, socket.local_addr().unwrap(), Role::Primary))
            .await;
    let error = dialled.expect("long before a session would be given up").unwrap_err();
    assert!(matches!(error, DialError::Unreachable { .. }), "{error}");
}

async fn closing_a_session_tells_the_peer_why(over: Transport) {
    let (_edge, (edge, _), (connector, _)) = pair(over).await;
    edge.close(CloseCode::Revoked, "revoked");
    assert_eq!(connector.closed().await, Closed::ByPeer(CloseCode::Revoked, "revoked".to_owned()));
    assert!(connector.accept().await.is_none() && !connector.is_alive());
    assert!(connector.open().await.is_err());
}

async fn a_writer_that_waits_for_every_window_hears_that_nobody_reads(over: Transport) {
    use crate::limits::{FIRST_STREAMS, FIRST_WINDOW_BYTES};
    let (_edge, (edge, _), (connector, _)) = pair(over).await;
    let window = Bytes::from(vec![7; usize::try_from(FIRST_WINDOW_BYTES).unwrap()]);
    // Nobody reads: each stream's window fills, and the session's with them.
    let (mut told, mut others) = (JoinSet::new(), JoinSet::new());
    for number in 0..FIRST_STREAMS {
        let (mut send, recv) = edge.open().await.unwrap();
        let window = window.clone();
        let write = async move {
            let _recv = recv;
            send.request(&request(), First::More).await?;
            send.data(window).await
        };
        if number < FED {
            told.spawn(write)
        } else {
            others.spawn(write)
        };
    }
    let mut sent = 0;
    while edge.traffic().datagrams_sent > sent + 10 {
        sent = edge.traffic().datagrams_sent;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut recvs = Vec::new();
    for _ in 0..FED {
        recvs.push(connector.accept().await.unwrap().1);
    }
    assert!(told.try_join_next().is_none() && others.try_join_next().is_none(), "all wait");
    recvs.iter_mut().for_each(|recv| recv.stop(AbortCode::TooLarge));
    while let Some(told) =
        timeout(Duration::from_secs(5), told.join_next()).await.expect("told that nobody reads")
    {
        assert_eq!(told.unwrap(), Err(StreamError::Aborted(AbortCode::TooLarge)));
    }
}

macro_rules! over_each_carrier {
    ($($test:ident,)*) => {
        mod over_quic {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Transport::Quic).await;
            })*
        }

        mod over_tcp {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Transport::Tcp).await;
            })*
        }
    };
}

over_each_carrier! {
    a_request_with_body_and_trailers_is_answered_with_interim_body_and_trailers,
    a_dropped_half_is_an_abort_and_never_a_short_body,
    abort_codes_travel_in_both_directions,
    hazard_125_a_malformed_stream_leaves_its_neighbours_alone,
    an_upgrade_becomes_raw_bytes_with_half_close,
    a_reader_who_stalls_stops_the_writer_and_not_the_neighbours,
    many_streams_raise_the_limit_at_run_time,
    control_messages_flow_both_ways,
    hazard_127_an_edge_with_another_key_is_never_spoken_to,
    refusals_reach_the_connector_with_their_reason,
    hazard_152_silence_is_noticed_within_three_seconds,
    an_address_where_nobody_listens_is_given_up,
    closing_a_session_tells_the_peer_why,
    a_writer_that_waits_for_every_window_hears_that_nobody_reads,
}

/// Below three quarters of the streams that are allowed at first: more are not allowed then.
const FED: u32 = 64;

/// One end of a session that never shook hands.
pub(crate) fn session(connection: Connection) -> Session {
    let flow = Flow::new(connection.clone(), Budget::default(), Sizes::default());
    session_over(connection, flow)
}

pub(crate) fn session_over(connection: Connection, flow: Arc<Flow>) -> Session {
    let info = SessionInfo {
        id: SessionId(1),
        tunnel: TunnelId(uuid::Uuid::nil()),
        tunnel_name: "home".to_owned(),
        connector: ConnectorId(uuid::Uuid::nil()),
        role: Role::Primary,
        shard: 0,
        shards: 1,
        version: crate::handshake::VERSION,
        peer_software: String::new(),
        peer_host: String::new(),
        remote: (Ipv4Addr::LOCALHOST, 1).into(),
        granted: crate::Granted::default(),
        since: std::time::Instant::now(),
    };
    Session::new(info, connection, flow)
}

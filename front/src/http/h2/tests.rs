mod cancelled;
mod leaving;
mod line;
mod raw;
mod small;
mod windows;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use causeway_tunnel::BodyKind;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::testing::{Fake, Front, parts};
use crate::exchange::{Abort, InError, OutBody};
use crate::overload::Step;

struct Visitor {
    send: SendRequest<Bytes>,
    drain: causeway_daemon::drain::Drain,
    ended: Option<tokio::task::JoinHandle<Option<Result<(), h2::Error>>>>,
}

async fn connect(front: &Front) -> Visitor {
    let (send, connection) = h2::client::handshake(tls(front).await).await.unwrap();
    let drain = causeway_daemon::drain::Drain::new();
    let ended = Some(drain.spawn("visitor", connection));
    Visitor { send, drain, ended }
}

async fn tls(front: &Front) -> TlsStream<TcpStream> {
    let mut config = front.client();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = "a.example".try_into().unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, front.connect().await).await.unwrap()
}

fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("https://a.example{path}")).body(()).unwrap()
}

async fn body(mut recv: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = recv.data().await {
        let data = data?;
        let _ = recv.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    Ok((all, recv.trailers().await?))
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(5), future).await.expect("it takes too long")
}

#[tokio::test(start_paused = true)]
async fn hazard_109_who_idles_already_goes_too_when_it_gets_crowded() {
    let front = Front::tls(Fake::path()).await;
    let mut visitor = connect(&front).await;
    let (answer, _) = visitor.send.send_request(request("GET", "/idle"), true).unwrap();
    body(answer.await.unwrap().into_body()).await.unwrap();
    front.pressure().overload.set(Step::Tight);
    let began = tokio::time::Instant::now();
    visitor.ended.take().unwrap().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_request_with_trailers_goes_there_and_back() {
    let front = Front::tls(Fake::echo()).await;
    let mut visitor = connect(&front).await;
    let mut head = request("POST", "/x?y");
    head.headers_mut().insert("te", "trailers".parse().unwrap());
    head.headers_mut().append("cookie", "a=1".parse().unwrap());
    head.headers_mut().append("cookie", "b=2".parse().unwrap());
    let (answer, mut send) = visitor.send.send_request(head, false).unwrap();
    send.send_data(Bytes::from_static(b"hello"), false).unwrap();
    send.send_trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())])).unwrap();
    let answer = soon(answer).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let (bytes, trailers) = soon(body(answer.into_body())).await.unwrap();
    assert_eq!((bytes.as_slice(), &trailers.unwrap()["x-sum"]), (&b"hello"[..], &"7".parse().unwrap()));
    let seen = front.seen().await;
    assert_eq!((seen.host.as_str(), seen.path.as_str(), seen.kind), ("a.example", "/x?y", BodyKind::Unknown));
    assert_eq!(
        (&seen.headers["cookie"], &seen.headers["te"]),
        (&"a=1; b=2".parse().unwrap(), &"trailers".parse().unwrap())
    );
    assert_eq!(seen.headers["x-forwarded-proto"], "https");
    assert_eq!(front.logged().await.bytes_in, 5);
    visitor.drain.force();
}

#[tokio::test]
async fn many_requests_share_a_connection_and_large_bodies_flow() {
    let front = Front::tls(Fake::echo()).await;
    let visitor = connect(&front).await;
    let whole = Bytes::from(vec![7u8; 3_000_000]);
    let one = |mut send: SendRequest<Bytes>| {
        let mut whole = whole.clone();
        async move {
            send = send.ready().await.unwrap();
            let (answer, mut send) = send.send_request(request("POST", "/"), false).unwrap();
            let sending = async {
                while !whole.is_empty() {
                    send.reserve_capacity(whole.len());
                    let granted = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
                    send.send_data(whole.split_to(granted.min(whole.len())), whole.is_empty()).unwrap();
                }
            };
            let receiving = async { body(answer.await.unwrap().into_body()).await.unwrap().0.len() };
            tokio::join!(sending, receiving).1
        }
    };
    let all = futures_util::future::join_all((0..5).map(|_| one(visitor.send.clone())));
    assert_eq!(timeout(Duration::from_secs(30), all).await.unwrap(), vec![3_000_000; 5]);
    visitor.drain.force();
}

#[tokio::test]
async fn hazard_042_a_host_that_the_certificate_does_not_cover_is_421() {
    let front = Front::tls(Fake::path()).await;
    let mut visitor = connect(&front).await;
    for (uri, status) in
        [("https://a.example/", 200), ("https://b.example/", 421), ("https://127.0.0.1/", 421)]
    {
        let head = Request::builder().uri(uri).body(()).unwrap();
        let (answer, _) = visitor.send.send_request(head, true).unwrap();
        assert_eq!(soon(answer).await.unwrap().status(), status, "{uri}");
    }
    visitor.drain.force();
}

#[tokio::test]
async fn hazard_060_an_extended_connect_is_a_websocket() {
    let front = Front::tls(Fake::websocket()).await;
    let mut visitor = connect(&front).await;
    // The server's settings must have come first.
    let (answer, _) = visitor.send.send_request(request("TRACE", "/"), true).unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), 405);
    assert!(visitor.send.is_extended_connect_protocol_enabled());
    let mut head = request("CONNECT", "/ws");
    head.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (answer, mut send) = visitor.send.send_request(head, false).unwrap();
    let answer = soon(answer).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!answer.headers().contains_key("upgrade") && !answer.headers().contains_key("connection"));
    let mut recv = answer.into_body();
    send.send_data(Bytes::from_static(b"there"), false).unwrap();
    assert_eq!(soon(recv.data()).await.unwrap().unwrap(), "there");
    send.send_data(Bytes::new(), true).unwrap();
    assert_eq!(soon(body(recv)).await.unwrap().0, b", then the end");
    let mut head = request("CONNECT", "/ws");
    head.extensions_mut().insert(h2::ext::Protocol::from_static("connect-udp"));
    let (answer, _) = visitor.send.send_request(head, true).unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), 501);
    visitor.drain.force();
}

#[tokio::test]
async fn hazard_062_a_plain_connect_is_refused() {
    let front = Front::tls(Fake::path()).await;
    let mut visitor = connect(&front).await;
    let head = Request::builder().method(Method::CONNECT).uri("a.example:443").body(()).unwrap();
    let (answer, _) = visitor.send.send_request(head, true).unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), 405);
    visitor.drain.force();
}

#[tokio::test]
async fn hazard_068_a_body_of_another_length_than_declared_is_an_error() {
    let front = Front::tls(Fake::echo_whole()).await;
    let mut visitor = connect(&front).await;
    for sent in ["abc", "abcdefgh"] {
        let mut head = request("POST", "/");
        head.headers_mut().insert("content-length", "5".parse().unwrap());
        let (answer, mut send) = visitor.send.send_request(head, false).unwrap();
        send.send_data(Bytes::from_static(sent.as_bytes()), true).unwrap();
        assert_eq!(soon(answer).await.unwrap_err().reason(), Some(Reason::PROTOCOL_ERROR));
    }
    visitor.drain.force();
}

#[tokio::test]
async fn hazard_138_a_response_that_breaks_is_reset() {
    let fake = Fake::new(|exchange| async move {
        let short = Response::builder().header("content-length", "10").body(parts(&["abc"])).unwrap();
        let frames =
            [Ok(http_body::Frame::data(Bytes::from_static(b"half"))), Err(Abort::new("origin reset"))];
        let broken = OutBody::stream(http_body_util::StreamBody::new(futures_util::stream::iter(frames)));
        if exchange.path() == "/short" { short } else { Response::new(broken) }
    });
    let front = Front::tls(fake).await;
    let mut visitor = connect(&front).await;
    for path in ["/short", "/broken"] {
        let (answer, _) = visitor.send.send_request(request("GET", path), true).unwrap();
        let error = match soon(answer).await {
            Ok(answer) => soon(body(answer.into_body())).await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{path}");
        assert!(front.logged().await.failure.is_some());
    }
    visitor.drain.force();
}

#[tokio::test]
async fn hazard_146_an_early_answer_ends_the_upload_without_an_error() {
    let front = Front::tls(Fake::status(StatusCode::UNAUTHORIZED)).await;
    let mut visitor = connect(&front).await;
    let (answer, mut send) = visitor.send.send_request(request("POST", "/"), false).unwrap();
    let answer = soon(answer).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(soon(body(answer.into_body())).await.unwrap().0, b"no");
    let reason = soon(std::future::poll_fn(|cx| send.poll_reset(cx))).await.unwrap();
    assert_eq!(reason, Reason::NO_ERROR);
    let (answer, _) = visitor.send.send_request(request("GET", "/"), true).unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    visitor.drain.force();
}

#[tokio::test]
async fn hazard_033_100_is_said_once_the_core_wants_the_body() {
    let front = Front::tls(Fake::echo_whole()).await;
    let mut visitor = connect(&front).await;
    let mut head = request("POST", "/");
    head.headers_mut().insert("expect", "100-continue".parse().unwrap());
    let (mut answer, mut send) = visitor.send.send_request(head, false).unwrap();
    let interim = soon(std::future::poll_fn(|cx| answer.poll_informational(cx))).await.unwrap().unwrap();
    assert_eq!(interim.status(), StatusCode::CONTINUE);
    send.send_data(Bytes::from_static(b"abc"), true).unwrap();
    assert_eq!(soon(body(soon(answer).await.unwrap().into_body())).await.unwrap().0, b"abc");
    visitor.drain.force();
}

#[tokio::test]
async fn early_hints_come_before_the_response() {
    let arrived = Arc::<Notify>::default();
    let hinted = Arc::clone(&arrived);
    let front = Front::tls(Fake::new(move |exchange| {
        let hinted = Arc::clone(&hinted);
        async move {
            let hints = HeaderMap::from_iter([(http::header::LINK, "</a.css>".parse().unwrap())]);
            exchange.interim.send(StatusCode::EARLY_HINTS, &hints);
            hinted.notified().await;
            Response::new(OutBody::full("x"))
        }
    }))
    .await;
    let mut visitor = connect(&front).await;
    let (mut answer, _) = visitor.send.send_request(request("GET", "/"), true).unwrap();
    let interim = soon(std::future::poll_fn(|cx| answer.poll_informational(cx))).await.unwrap().unwrap();
    assert_eq!(
        (interim.status(), &interim.headers()["link"]),
        (StatusCode::EARLY_HINTS, &"</a.css>".parse().unwrap())
    );
    arrived.notify_one();
    assert_eq!(soon(answer).await.unwrap().status(), StatusCode::OK);
    visitor.drain.force();
}

#[tokio::test]
async fn hazard_147_a_reset_cancels_the_request() {
    let (front, cancelled) = Front::hanging_tls().await;
    let mut visitor = connect(&front).await;
    let (_answer, mut send) = visitor.send.send_request(request("POST", "/"), false).unwrap();
    front.seen().await;
    send.send_reset(Reason::CANCEL);
    timeout(Duration::from_secs(1), cancelled).await.expect("not cancelled in a second").unwrap_err();
    visitor.drain.force();
}

#[tokio::test]
async fn hazard_015_a_reset_in_the_body_is_no_end() {
    let front = Front::tls(Fake::reads_beside()).await;
    let mut visitor = connect(&front).await;
    let (_answer, mut send) = visitor.send.send_request(request("POST", "/"), false).unwrap();
    send.send_data(Bytes::from_static(b"abc"), false).unwrap();
    front.seen().await;
    send.send_reset(Reason::CANCEL);
    assert_eq!(soon(front.body_error()).await, InError::Gone);
    let logged = soon(front.logged()).await;
    assert_eq!(logged.failure.as_deref(), Some("visitor_gone"), "{logged:?}");
    visitor.drain.force();
}

#[tokio::test]
async fn hazard_070_rapid_resets_end_the_connection() {
    let (front, _cancelled) = Front::hanging_tls().await;
    let mut visitor = connect(&front).await;
    let mut requests = 0;
    let error = loop {
        match visitor.send.clone().ready().await {
            Ok(mut send) => {
                let Ok((_answer, mut send)) = send.send_request(request("GET", "/"), true) else {
                    break None;
                };
                send.send_reset(Reason::CANCEL);
                requests += 1;
                tokio::task::yield_now().await;
            }
            Err(error) => break Some(error),
        }
        assert!(requests < 5_000, "never stopped");
    };
    let ended = soon(visitor.ended.take().unwrap()).await.unwrap().unwrap();
    // The frame that says why may be overtaken by the reset of the connection, since we had not read everything.
    let error = ended.err().or(error).expect("the connection ended without an error");
    assert!(error.is_io() || error.reason() == Some(Reason::ENHANCE_YOUR_CALM), "{error}");
}

#[tokio::test]
async fn hazard_073_a_ping_flood_ends_the_connection() {
    let front = Front::tls(Fake::path()).await;
    let mut stream = tls(&front).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    for _ in 0..10_000 {
        if stream.write_all(&ping).await.is_err() {
            break;
        }
    }
    let mut all = Vec::new();
    let _ = soon(stream.read_to_end(&mut all)).await;
    // A GOAWAY frame with ENHANCE_YOUR_CALM, unless the reset of the connection overtook it.
    let goaway = all.windows(9).position(|frame| frame[..5] == [0, 0, 8, 7, 0]);
    assert!(goaway.is_none_or(|at| all[at + 16] == 11));
}

#[tokio::test]
async fn a_drain_says_goaway_and_finishes_what_runs() {
    let (fake, release) = Fake::gated();
    let front = Front::tls(fake).await;
    let mut visitor = connect(&front).await;
    let (answer, _) = visitor.send.send_request(request("GET", "/"), true).unwrap();
    front.seen().await;
    front.drain.start();
    let goaway = soon(async {
        loop {
            match visitor.send.clone().ready().await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        }
    });
    let goaway = goaway.await;
    assert!(goaway.is_go_away() && goaway.reason() == Some(Reason::NO_ERROR), "{goaway}");
    release.send(()).unwrap();
    assert_eq!(soon(body(soon(answer).await.unwrap().into_body())).await.unwrap().0, b"at last");
    drop(visitor.send);
    soon(visitor.ended.take().unwrap()).await.unwrap().unwrap().unwrap();
    assert_eq!(front.drain.finish(Duration::from_secs(5)).await, causeway_daemon::drain::Finished::Clean);
}

#[tokio::test]
async fn hazard_102_http_1_bytes_on_an_h2_connection_end_it() {
    let front = Front::tls(Fake::path()).await;
    let mut stream = tls(&front).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    let _ = soon(stream.read_to_end(&mut all)).await;
    assert!(front.nothing_seen());
}

#[tokio::test]
async fn hazard_107_a_declared_body_that_stops_is_given_up() {
    let front = Front::tls(Fake::echo_whole()).await;
    let mut visitor = connect(&front).await;
    let mut head = request("POST", "/");
    head.headers_mut().insert("content-length", "5".parse().unwrap());
    let (answer, mut send) = visitor.send.send_request(head, false).unwrap();
    send.send_data(Bytes::from_static(b"abc"), false).unwrap();
    front.seen().await;
    tokio::time::pause();
    assert_eq!(answer.await.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
    visitor.drain.force();
}

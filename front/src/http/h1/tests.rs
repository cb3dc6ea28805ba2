mod cut;

use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::testing::{Fake, Front};
use super::*;
use crate::exchange::{Abort, InError};
use crate::http::page::{Hop, Page, Pages};
use crate::overload::Step;

/// Sends everything, reads until the server closes.
async fn talk(front: &Front, bytes: &str) -> String {
    let mut stream = front.connect().await;
    stream.write_all(bytes.as_bytes()).await.unwrap();
    read_all(&mut stream).await
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut all))
        .await
        .expect("the server does not close");
    String::from_utf8_lossy(&all).into_owned()
}

/// Reads until `end` has come.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(end.as_bytes()) {
        let byte = timeout(Duration::from_secs(5), stream.read_u8()).await;
        match byte {
            Ok(Ok(byte)) => all.push(byte),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&all)),
        }
    }
    String::from_utf8(all).unwrap()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n")
}

fn close(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn a_request_reaches_the_core_and_its_answer_the_visitor() {
    let front = Front::start(Fake::echo()).await;
    let answer = talk(
        &front,
        "POST /x?y HTTP/1.1\r\nHost: A.example:80\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\
         Content-Length: 5\r\n\r\nhello",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    let seen = front.seen().await;
    assert_eq!(
        (seen.host.as_str(), seen.path.as_str(), seen.kind),
        ("a.example", "/x?y", BodyKind::Known(5))
    );
    assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen.headers[HOST], "A.example:80");
    assert!(!seen.headers.contains_key("x-hop") && !seen.headers.contains_key("connection"));
    let logged = front.logged().await;
    assert_eq!((logged.status, logged.bytes_in, logged.bytes_out), (Some(200), 5, 5));
    assert_eq!(logged.failure, None);
}

#[tokio::test]
async fn a_chunked_body_with_trailers_arrives_whole() {
    let front = Front::start(Fake::echo()).await;
    let answer = talk(
        &front,
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 7\r\nHost: evil\r\n\r\n",
    )
    .await;
    assert!(answer.contains("transfer-encoding: chunked\r\n"), "{answer}");
    assert!(answer.contains("x-sum: 7\r\n") && !answer.contains("evil"), "{answer}");
    assert_eq!(front.seen().await.kind, BodyKind::Unknown);
}

#[tokio::test]
async fn hazard_032_pipelined_requests_are_answered_in_order_and_a_bad_one_ends_it() {
    let front = Front::start(Fake::path()).await;
    let stream = get("/1") + &get("/2") + "GET /3 HTTP/1.1\nHost: a\n\n" + &get("/4");
    let answer = talk(&front, &stream).await;
    let order: Vec<&str> =
        answer.lines().filter(|line| line.starts_with("HTTP/1.1") || line.starts_with('/')).collect();
    assert_eq!(order, ["HTTP/1.1 200 OK", "/1HTTP/1.1 200 OK", "/2HTTP/1.1 400 Bad Request"], "{answer}");
    assert!(answer.contains("connection: close\r\n"));
}

#[tokio::test]
async fn refusals_are_answered_logged_and_close_the_connection() {
    let front = Front::start(Fake::echo()).await;
    for (bytes, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0", 400),
        ("\u{16}\u{3}\u{1}\0\u{5}hello", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ] {
        let answer = talk(&front, bytes).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes:?}: {answer}");
        assert!(answer.contains("connection: close") && answer.contains("Request: "), "{answer}");
        let logged = front.logged().await;
        assert_eq!(logged.status, Some(status));
        assert!(logged.failure.is_some());
    }
    assert!(front.nothing_seen());
}

#[tokio::test]
async fn hazard_034_however_requests_are_split_the_answers_are_the_same() {
    let front = Front::start(Fake::echo_whole()).await;
    let stream =
        "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"
            .to_owned()
            + "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nde"
            + "GET /3 HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n";
    let without_dates =
        |text: String| text.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n");
    let whole = without_dates(talk(&front, &stream).await);
    assert_eq!(whole.matches("200 OK").count(), 3, "{whole}");
    for cut in 1..stream.len() {
        let mut socket = front.connect().await;
        socket.set_nodelay(true).unwrap();
        socket.write_all(&stream.as_bytes()[..cut]).await.unwrap();
        tokio::task::yield_now().await;
        socket.write_all(&stream.as_bytes()[cut..]).await.unwrap();
        assert_eq!(without_dates(read_all(&mut socket).await), whole, "cut at {cut}");
    }
}

#[tokio::test]
async fn hazard_051_a_loop_is_broken() {
    let front = Front::start(Fake::echo()).await;
    let answer =
        talk(&front, "GET / HTTP/1.1\r\nHost: a\r\nCDN-Loop: causeway-test\r\nConnection: close\r\n\r\n")
            .await;
    assert!(answer.starts_with("HTTP/1.1 508 "), "{answer}");
}

#[tokio::test]
async fn hazard_011_a_bad_chunk_fails_the_body_and_gets_400() {
    let front = Front::start(Fake::echo_whole()).await;
    let answer = talk(
        &front,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0x1\r\na\r\n0\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(front.body_error().await, InError::Malformed("malformed chunk size"));
}

#[tokio::test]
async fn hazard_015_a_body_that_ends_early_is_an_error_not_an_end() {
    let front = Front::start(Fake::echo_whole()).await;
    for body in [
        "Content-Length: 10\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
    ] {
        let mut stream = front.connect().await;
        stream.write_all(format!("POST / HTTP/1.1\r\nHost: a\r\n{body}").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(front.body_error().await, InError::Gone);
    }
}

#[tokio::test]
async fn hazard_033_the_core_decides_when_100_is_sent() {
    let front = Front::start(Fake::new(|exchange| async move {
        exchange.interim.send(StatusCode::CONTINUE, &http::HeaderMap::new());
        let body = exchange.body.collect().await.unwrap().to_bytes();
        Response::new(OutBody::full(body))
    }))
    .await;
    let mut stream = front.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read_until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.unwrap();
    assert!(read_until(&mut stream, "\r\n\r\nabc").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_status_that_nobody_knows_keeps_its_number_and_gets_no_words() {
    let front = Front::start(Fake::new(|_| async move {
        Response::builder().status(599).body(OutBody::full("x")).unwrap()
    }))
    .await;
    let mut stream = front.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\nx").await;
    assert!(answer.starts_with("HTTP/1.1 599 \r\n"), "{answer}");
}

#[tokio::test]
async fn hazard_033_after_a_second_the_edge_says_100_itself() {
    let front = Front::start(Fake::echo_whole()).await;
    let mut stream = front.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let began = std::time::Instant::now();
    assert_eq!(read_until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&began.elapsed()));
    stream.write_all(b"abc").await.unwrap();
    assert!(read_until(&mut stream, "\r\n\r\nabc").await.starts_with("HTTP/1.1 200 OK\r\n"));
    // A visitor that does not wait is not held up.
    let began = std::time::Instant::now();
    stream.write_all(format!("{head}def").as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, "def").await.contains("HTTP/1.1 200 OK\r\n"));
    assert!(began.elapsed() < Duration::from_millis(500));
}

#[tokio::test]
async fn hazard_033_a_final_answer_without_the_body_closes() {
    let front = Front::start(Fake::status(StatusCode::PAYLOAD_TOO_LARGE)).await;
    let mut stream = front.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn hazard_031_and_146_an_early_answer_arrives_and_the_rest_is_no_request() {
    let front = Front::start(Fake::status(StatusCode::UNAUTHORIZED)).await;
    let mut stream = front.connect().await;
    let smuggled = get("/smuggled");
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{smuggled}");
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..10 {
        // The server may close at any time: what counts is that its answer arrives.
        let _ = stream.write_all(&[b'x'; 1000]).await;
    }
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("connection: close"), "{answer}");
    assert_eq!(front.seen().await.path, "/");
    assert!(front.nothing_seen());
}

#[tokio::test]
async fn informational_responses_come_before_the_final_one() {
    let front = Front::start(Fake::new(|exchange| async move {
        let hints = http::HeaderMap::from_iter([(http::header::LINK, HeaderValue::from_static("</a.css>"))]);
        for _ in 0..20 {
            exchange.interim.send(StatusCode::EARLY_HINTS, &hints);
        }
        tokio::task::yield_now().await;
        exchange.interim.send(StatusCode::SWITCHING_PROTOCOLS, &hints);
        Response::new(OutBody::full("x"))
    }))
    .await;
    for _ in 0..2 {
        let answer = talk(&front, &close("/")).await;
        assert_eq!(
            answer.matches("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n").count(),
            16,
            "{answer}"
        );
        let last = answer.rfind("HTTP/1.1 103").unwrap();
        assert!(answer[last..].contains("HTTP/1.1 200 OK") && !answer.contains("101"), "{answer}");
    }
    let answer = talk(&front, "GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK") || answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn hazard_055_a_websocket_is_raw_bytes_both_ways_with_half_close() {
    let front = Front::start(Fake::websocket()).await;
    let mut stream = front.connect().await;
    let ask = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\nearly";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"), "{head}");
    stream.write_all(b" and late").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut stream).await, "early and late, then the end");
    let logged = front.logged().await;
    assert_eq!((logged.status, logged.bytes_in, logged.bytes_out), (Some(101), 14, 28));
}

#[tokio::test]
async fn hazard_055_and_059_a_refused_websocket_stays_http_and_closes() {
    let front = Front::start(Fake::status(StatusCode::FORBIDDEN)).await;
    let ask = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n".to_owned()
        + &get("/smuggled");
    let answer = talk(&front, &ask).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("connection: close"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1);
    assert_eq!(front.seen().await.path, "/ws");
    assert!(front.nothing_seen());
}

#[tokio::test]
async fn hazard_057_a_switch_that_nobody_asked_for_is_502() {
    let front = Front::start(Fake::status(StatusCode::SWITCHING_PROTOCOLS)).await;
    assert!(talk(&front, &close("/")).await.starts_with("HTTP/1.1 502 "));
    let front = Front::start(Fake::new(|_| async {
        let switch = Response::builder().status(101).header("upgrade", "h2c");
        switch.body(OutBody::empty()).unwrap()
    }))
    .await;
    let ask = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n";
    assert!(talk(&front, ask).await.starts_with("HTTP/1.1 502 "));
}

#[tokio::test]
async fn hazard_138_a_body_that_breaks_never_looks_complete() {
    let broken = || {
        Fake::new(|_| async {
            let frames = [Ok(Frame::data(Bytes::from_static(b"half"))), Err(Abort::new("origin reset"))];
            Response::new(OutBody::stream(StreamBody::new(futures_util::stream::iter(frames))))
        })
    };
    let front = Front::start(broken()).await;
    let answer = talk(&front, &get("/")).await;
    assert!(!answer.contains("\r\n0\r\n"), "{answer}");
    assert_eq!(front.logged().await.failure.as_deref(), Some("origin reset"));
    // Without framing only a reset can tell.
    let mut stream = front.connect().await;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    let end = timeout(Duration::from_secs(5), stream.read_to_end(&mut all)).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_response_shorter_than_it_declared_closes_without_completing() {
    let front = Front::start(Fake::new(|_| async {
        let body = StreamBody::new(futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"abc")))]));
        Response::builder().header(CONTENT_LENGTH, 10).body(OutBody::stream(body)).unwrap()
    }))
    .await;
    let answer = talk(&front, &get("/")).await;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    assert!(body.len() < 10, "{answer}");
}

#[tokio::test]
async fn hazard_147_a_visitor_that_leaves_cancels_its_request() {
    let (front, cancelled) = Front::hanging().await;
    let mut stream = front.connect().await;
    stream.write_all(get("/").as_bytes()).await.unwrap();
    front.seen().await;
    drop(stream);
    timeout(Duration::from_secs(1), cancelled).await.expect("not cancelled in a second").unwrap_err();
    assert_eq!(front.logged().await.failure.as_deref(), Some("visitor_gone"));
}

#[tokio::test(start_paused = true)]
async fn hazard_106_a_head_has_ten_seconds_however_it_drips() {
    let front = Front::start(Fake::echo()).await;
    let mut stream = front.connect().await;
    for byte in get("/").bytes().take(9) {
        stream.write_all(&[byte]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let answer = read_all_paused(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn hazard_107_a_body_that_stops_fails_after_the_grace() {
    let front = Front::start(Fake::echo_whole()).await;
    let mut stream = front.connect().await;
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await.unwrap();
    let answer = read_all_paused(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(front.body_error().await, InError::Slow);
}

#[tokio::test(start_paused = true)]
async fn hazard_109_an_idle_connection_ends_silently() {
    let front = Front::start(Fake::path()).await;
    let mut stream = front.connect().await;
    stream.write_all(get("/idle").as_bytes()).await.unwrap();
    let began = Instant::now();
    let answer = read_all_paused(&mut stream).await;
    assert!(
        answer.ends_with("/idle") && began.elapsed() >= Duration::from_secs(75),
        "{answer} {:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn hazard_109_who_idles_already_goes_too_when_it_gets_crowded() {
    let front = Front::start(Fake::path()).await;
    let mut stream = front.connect().await;
    stream.write_all(get("/idle").as_bytes()).await.unwrap();
    let mut answer = [0; 1024];
    let count = stream.read(&mut answer).await.unwrap();
    assert!(answer[..count].ends_with(b"/idle"));
    front.pressure().overload.set(Step::Tight);
    let began = Instant::now();
    assert_eq!(read_all_paused(&mut stream).await, "");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

/// With the clock paused a timeout would fire before the socket is ready.
async fn read_all_paused(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn a_drain_lets_the_current_response_finish_and_ends_idle_connections() {
    let front = Front::start(Fake::path()).await;
    let mut idle = front.connect().await;
    idle.write_all(get("/idle").as_bytes()).await.unwrap();
    read_until(&mut idle, "/idle").await;
    let mut fresh = front.connect().await;
    let (slow, release) = Fake::gated();
    let busy_front = Front::start(slow).await;
    let mut busy = busy_front.connect().await;
    busy.write_all(get("/slow").as_bytes()).await.unwrap();
    busy_front.seen().await;
    front.drain.start();
    busy_front.drain.start();
    assert_eq!(read_all(&mut idle).await, "");
    assert_eq!(read_all(&mut fresh).await, "");
    release.send(()).unwrap();
    let answer = read_all(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("connection: close"), "{answer}");
    timeout(Duration::from_secs(5), busy_front.drain.finish(Duration::from_secs(4))).await.unwrap();
}

#[tokio::test]
async fn head_and_pages_keep_the_connection() {
    let front = Front::start(Fake::new(|exchange| async move {
        let page = Page::new(StatusCode::NOT_FOUND, Hop::Edge, "Nothing has this name.");
        Pages::of(exchange.id, &exchange.head).answer(&page)
    }))
    .await;
    let mut stream = front.connect().await;
    stream.write_all(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 404 ") && !head.contains("content-length: 0"), "{head}");
    stream.write_all(close("/").as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("Nothing has this name."), "{answer}");
    assert_eq!(front.logged().await.failure, None);
}

//! A hostile edge, or a faithful one with a hostile visitor: no byte of one request becomes part of another at the origin.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails where it panics")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use causeway_tunnel::{AbortCode, BodyKind, First};
use http::{HeaderMap, Method};
use parking_lot::Mutex;
use support::{Road, SOON, Wire, collect, field, origin, road};
use tokio::time::timeout;

/// What an origin read: connection, head, body.
type Seen = Arc<Mutex<Vec<(usize, String, Vec<u8>)>>>;

/// An origin that believes the framing it is told, as nginx and Node do, and answers 404 to everything before it has
/// read the body.
async fn believing() -> (String, Seen) {
    let seen = Seen::default();
    let tell = Arc::clone(&seen);
    let address = origin(move |mut wire: Wire, count| {
        let tell = Arc::clone(&tell);
        async move {
            while let Some(head) = wire.head().await {
                wire.say("HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnone").await;
                let lower = head.to_ascii_lowercase();
                let length =
                    lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                let body = if lower.contains("transfer-encoding") {
                    let mut body = Vec::new();
                    while !body.ends_with(b"0\r\n\r\n") {
                        body.extend(wire.body(1).await);
                    }
                    body
                } else {
                    let mut body = Vec::new();
                    for _ in 0..length.unwrap_or(0) {
                        // A test that ends closes the connection: what was read so far is what counts.
                        match timeout(SOON, wire.byte()).await {
                            Ok(Some(byte)) => body.push(byte),
                            _ => break,
                        }
                    }
                    body
                };
                tell.lock().push((count, head, body));
            }
        }
    })
    .await;
    (format!("http://{address}"), seen)
}

async fn next_visitor(road: &Road) {
    let mut head = road.head(Method::GET, "/next");
    head.headers = HeaderMap::from_iter([field("cookie", "secret=1")]);
    let got =
        timeout(SOON, road.exchange(head, First::Only(Bytes::new()))).await.expect("an answer").unwrap();
    assert_eq!(got.status(), 404);
}

/// Every request at the origin has the body that was sent with it, and the next visitor's is a request.
fn expect_apart(seen: &Seen, body: &[u8]) {
    let seen = seen.lock();
    let next: Vec<_> = seen.iter().filter(|(_, head, _)| head.starts_with("GET /next ")).collect();
    assert_eq!(next.len(), 1, "the next visitor's request was swallowed: {seen:?}");
    assert!(next[0].2.is_empty(), "{seen:?}");
    for (_, head, read) in seen.iter().filter(|(_, head, _)| !head.starts_with("GET /next ")) {
        assert!(read.is_empty() || read == body, "{head}: {:?}", String::from_utf8_lossy(read));
    }
}

#[tokio::test]
async fn an_upgrade_with_a_length_takes_nothing_from_the_next_visitor() {
    for said in [
        vec![field("content-length", "60")],
        vec![field("transfer-encoding", "chunked")],
        vec![field("content-length", "60"), field("content-length", "61")],
    ] {
        let (service, seen) = believing().await;
        let road = road(&service, "").await;
        let (mut send, mut recv) = road.open().await;
        let mut head = road.head(Method::GET, "/chat");
        head.upgrade = Some("websocket".to_owned());
        head.headers = HeaderMap::from_iter(said);
        send.request(&head, First::More).await.unwrap();
        let ended = async { send.end().await };
        let (got, _) = tokio::join!(timeout(SOON, collect(&mut recv)), ended);
        assert_eq!(got.unwrap().unwrap().status(), 404);
        while road.app.status().in_flight > 0 {
            tokio::task::yield_now().await;
        }
        next_visitor(&road).await;
        expect_apart(&seen, b"");
    }
}

#[tokio::test]
async fn a_connection_that_carried_an_upgrade_attempt_is_never_used_again() {
    let (service, seen) = believing().await;
    let road = road(&service, "").await;
    for _ in 0..2 {
        let (mut send, mut recv) = road.open().await;
        let mut head = road.head(Method::GET, "/chat");
        head.upgrade = Some("websocket".to_owned());
        send.request(&head, First::More).await.unwrap();
        let (got, _) = tokio::join!(timeout(SOON, collect(&mut recv)), send.end());
        assert_eq!(got.unwrap().unwrap().status(), 404);
        while road.app.status().in_flight > 0 {
            tokio::task::yield_now().await;
        }
    }
    next_visitor(&road).await;
    let connections: Vec<usize> = seen.lock().iter().map(|(connection, ..)| *connection).collect();
    assert_eq!(connections, [0, 1, 2]);
}

#[tokio::test]
async fn what_a_hostile_edge_says_of_a_body_is_not_what_the_origin_is_told() {
    let body: &'static [u8] = b"0123456789";
    for said in [
        vec![field("content-length", "60")],
        vec![field("content-length", "3")],
        vec![field("transfer-encoding", "chunked"), field("content-length", "60")],
        vec![field("transfer-encoding", "identity"), field("trailer", "content-length")],
        vec![field("expect", "100-continue"), field("content-length", "60")],
    ] {
        for kind in [BodyKind::None, BodyKind::Known(10), BodyKind::Unknown] {
            let (service, seen) = believing().await;
            let road = road(&service, "").await;
            let mut head = road.head(Method::POST, "/first");
            head.headers = HeaderMap::from_iter(said.clone());
            head.body = kind;
            let sent = if kind == BodyKind::None { &[][..] } else { body };
            let got = road.exchange(head, First::Only(Bytes::from_static(sent))).await.unwrap();
            assert_eq!(got.status(), 404);
            while road.app.status().in_flight > 0 {
                tokio::task::yield_now().await;
            }
            next_visitor(&road).await;
            let expected: &[u8] = match kind {
                BodyKind::None => b"",
                BodyKind::Known(_) => body,
                BodyKind::Unknown => b"A\r\n0123456789\r\n0\r\n\r\n",
            };
            expect_apart(&seen, expected);
            for (_, head, _) in seen.lock().iter().filter(|(_, head, _)| head.starts_with("POST")) {
                assert!(!head.contains("trailer:") && !head.contains("expect:"), "{said:?} {kind:?}: {head}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_what_its_head_said_costs_its_connection() {
    for (kind, sent) in [
        (BodyKind::None, &b"GET /evil HTTP/1.1\r\nhost: x\r\n\r\n"[..]),
        (BodyKind::Known(4), b"longer than four"),
        (BodyKind::Known(400), b"shorter"),
    ] {
        let (service, seen) = believing().await;
        let road = road(&service, "").await;
        let mut head = road.head(Method::POST, "/first");
        head.body = kind;
        let _ = road.exchange(head, First::Only(Bytes::from_static(sent))).await;
        while road.app.status().in_flight > 0 {
            tokio::task::yield_now().await;
        }
        next_visitor(&road).await;
        let seen = seen.lock();
        assert!(seen.iter().all(|(_, head, _)| !head.contains("/evil")), "{seen:?}");
        let next: Vec<_> = seen.iter().filter(|(_, head, _)| head.starts_with("GET /next ")).collect();
        assert_eq!(next.len(), 1, "{kind:?}: {seen:?}");
        assert_eq!(next[0].0, 1, "{kind:?}: the connection was used again");
    }
}

#[tokio::test]
async fn an_upload_that_was_cut_off_costs_its_connection() {
    let (service, seen) = believing().await;
    let road = road(&service, "").await;
    let (mut send, mut recv) = road.open().await;
    let mut head = road.head(Method::POST, "/first");
    head.body = BodyKind::Unknown;
    send.request(&head, First::More).await.unwrap();
    send.data(Bytes::from_static(b"half")).await.unwrap();
    let _ = timeout(SOON, collect(&mut recv)).await.unwrap();
    send.abort(AbortCode::BadBody);
    while road.app.status().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    next_visitor(&road).await;
    assert_eq!(seen.lock().last().unwrap().0, 1);
}

/// An HTTP/2 origin that checks lengths, as all do, and tells what it was told.
#[allow(clippy::disallowed_methods, reason = "the runtime of a test owns its tasks")]
async fn h2_origin() -> (String, Seen) {
    let seen = Seen::default();
    let tell = Arc::clone(&seen);
    let listener = tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tell = Arc::clone(&tell);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let tell = Arc::clone(&tell);
                    tokio::spawn(async move {
                        let head = format!("{:?}", request.headers());
                        let mut body = Vec::new();
                        let mut recv = request.into_body();
                        while let Some(bytes) = recv.data().await {
                            body.extend_from_slice(&bytes.unwrap());
                        }
                        tell.lock().push((0, head, body));
                        respond.send_response(http::Response::new(()), true).unwrap();
                    });
                }
            });
        }
    });
    (format!("h2c://{address}"), seen)
}

#[tokio::test]
async fn what_a_hostile_edge_says_of_a_body_is_not_what_an_http2_origin_is_told() {
    for said in [
        vec![field("content-length", "60")],
        vec![field("content-length", "3"), field("content-length", "4")],
        vec![field("transfer-encoding", "chunked"), field("expect", "100-continue")],
        vec![field("connection", "close"), field("http2-settings", "AAAA"), field("upgrade", "h2c")],
    ] {
        for kind in [BodyKind::None, BodyKind::Known(10), BodyKind::Unknown] {
            let (service, seen) = h2_origin().await;
            let road = road(&service, "").await;
            let mut head = road.head(Method::POST, "/first");
            head.headers = HeaderMap::from_iter(said.clone());
            head.body = kind;
            let sent: &'static [u8] = if kind == BodyKind::None { b"" } else { b"0123456789" };
            let got = road.exchange(head, First::Only(Bytes::from_static(sent))).await.unwrap();
            assert_eq!(got.status(), 200, "{said:?} {kind:?}");
            let seen = seen.lock();
            assert_eq!(seen[0].2, sent);
            let lengths = seen[0].1.matches("content-length").count();
            assert_eq!(lengths, usize::from(kind != BodyKind::Unknown), "{}", seen[0].1);
            for name in ["transfer-encoding", "expect", "upgrade", "connection", "http2-settings"] {
                assert!(!seen[0].1.contains(name), "{}", seen[0].1);
            }
        }
    }
}

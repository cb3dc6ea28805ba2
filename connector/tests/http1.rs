//! HTTP/1.1 origins, good and bad: what the edge gets to see of them.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails where it panics")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use causeway_tunnel::{AbortCode, BodyKind, First, Frame, ResponseEvent};
use http::{HeaderMap, Method};
use support::{Ended, SOON, Wire, collect, field, origin, road, road_with};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

/// Answers every request on a connection with this.
async fn always(answer: &'static str) -> String {
    let address = origin(move |mut wire: Wire, _| async move {
        while wire.head().await.is_some() {
            wire.say(answer).await;
        }
    })
    .await;
    format!("http://{address}")
}

/// Answers the first request of each connection with this, then closes.
async fn once(answer: &'static str) -> String {
    let address = origin(move |mut wire: Wire, _| async move {
        wire.head().await;
        wire.say(answer).await;
    })
    .await;
    format!("http://{address}")
}

#[tokio::test]
async fn a_request_reaches_the_origin_unchanged_and_the_answer_comes_back() {
    let (tell, mut told) = mpsc::channel(4);
    let address = origin(move |mut wire: Wire, _| {
        let tell = tell.clone();
        async move {
            tell.send(wire.head().await.unwrap()).await.unwrap();
            wire.say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nserver: nginx\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nconnection: close\r\n\r\nhello").await;
        }
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    let mut head = road.head(Method::GET, "/a%2Fb?c=%20d");
    head.headers = HeaderMap::from_iter([field("user-agent", "curl"), field("x-forwarded-for", "192.0.2.7")]);
    let got = road.exchange(head, First::Only(Bytes::new())).await.unwrap();
    assert_eq!((got.status(), got.text().as_str()), (200, "hello"));
    assert_eq!(got.head.body, BodyKind::Known(5));
    assert_eq!(got.head.headers.get_all("set-cookie").iter().count(), 2);
    assert!(!got.head.headers.contains_key("connection"));
    let seen = told.recv().await.unwrap();
    assert!(seen.starts_with("GET /a%2Fb?c=%20d HTTP/1.1\r\n"), "{seen}");
    let mut lines: Vec<&str> = seen.lines().skip(1).filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["host: blog.example.dev", "user-agent: curl", "x-forwarded-for: 192.0.2.7"]);
}

#[tokio::test]
async fn http_host_header_sets_host_and_the_public_name_goes_to_x_forwarded_host() {
    let (tell, mut told) = mpsc::channel(4);
    let address = origin(move |mut wire: Wire, _| {
        let tell = tell.clone();
        async move {
            tell.send(wire.head().await.unwrap()).await.unwrap();
            wire.say("HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
    .await;
    let road = road(&format!("http://{address}"), "httpHostHeader: 'inside:8080'").await;
    assert_eq!(road.get("/").await.unwrap().status(), 204);
    let seen = told.recv().await.unwrap();
    assert!(
        seen.contains("\r\nhost: inside:8080\r\n")
            && seen.contains("\r\nx-forwarded-host: blog.example.dev\r\n"),
        "{seen}"
    );
}

#[tokio::test]
async fn connections_are_kept_for_the_next_request() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let address = origin(move |mut wire: Wire, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        async move {
            while wire.head().await.is_some() {
                wire.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n").await;
            }
        }
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    for _ in 0..20 {
        assert_eq!(road.get("/").await.unwrap().text(), "hi");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn hazard_138_a_body_shorter_than_its_length_is_an_abort() {
    let road = road(&once("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort").await, "").await;
    // The break was seen together with the head: then not even the head is handed on.
    assert_eq!(road.get("/").await.unwrap_err(), Ended::BeforeHead(AbortCode::OriginReset));
}

#[tokio::test]
async fn hazard_138_a_chunked_body_cut_off_is_an_abort() {
    let road =
        road(&once("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhe").await, "")
            .await;
    assert_eq!(road.get("/").await.unwrap_err(), Ended::BeforeHead(AbortCode::OriginReset));
}

#[tokio::test]
async fn hazard_138_a_reset_in_the_body_is_an_abort() {
    let arrived = Arc::new(Notify::new());
    let go = Arc::clone(&arrived);
    let address = origin(move |mut wire: Wire, _| {
        let go = Arc::clone(&go);
        async move {
            wire.head().await;
            wire.say("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort").await;
            go.notified().await;
            wire.reset();
        }
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    let (mut send, mut recv) = road.open().await;
    send.request(&road.head(Method::GET, "/"), First::Only(Bytes::new())).await.unwrap();
    let Ok(ResponseEvent::Final(head)) = recv.response().await else { panic!("no answer") };
    assert_eq!(head.body, BodyKind::Known(100));
    let Ok(Frame::Data(bytes)) = recv.frame().await else { panic!("no body") };
    assert_eq!(bytes, "short");
    arrived.notify_one();
    assert_eq!(recv.frame().await.unwrap_err().code(), AbortCode::OriginReset);
}

#[tokio::test]
async fn hazard_148_a_close_delimited_answer_ends_with_a_clean_close() {
    let road = road(&once("HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nall of it").await, "").await;
    let got = road.get("/").await.unwrap();
    assert_eq!((got.text().as_str(), got.head.body), ("all of it", BodyKind::Unknown));
}

#[tokio::test]
async fn hazard_141_and_142_answers_that_are_not_http_are_named_as_such() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad\x01name: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nname: va\x00lue\r\n\r\n",
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
    ] {
        let road = road(&once(answer).await, "").await;
        assert_eq!(
            road.get("/").await.unwrap_err(),
            Ended::BeforeHead(AbortCode::OriginProtocol),
            "{answer:?}"
        );
    }
    let huge: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100_000)).into_boxed_str());
    let road = road(&once(huge).await, "").await;
    assert_eq!(road.get("/").await.unwrap_err(), Ended::BeforeHead(AbortCode::OriginProtocol));
}

#[tokio::test]
async fn hazard_143_bytes_behind_an_answer_end_its_connection() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let address = origin(move |mut wire: Wire, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        async move {
            while wire.head().await.is_some() {
                wire.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await;
            }
        }
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    for _ in 0..3 {
        assert_eq!(road.get("/").await.unwrap().text(), "ok");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn hazard_144_a_body_where_none_may_be_is_not_handed_on() {
    let service = always("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\netag: x\r\n\r\n").await;
    let road_304 = road(&service, "").await;
    let got = road_304.get("/").await.unwrap();
    assert_eq!((got.status(), got.head.body, got.body.len()), (304, BodyKind::None, 0));
    assert_eq!(got.head.headers["content-length"], "5");
    let road_204 = road(&always("HTTP/1.1 204 No Content\r\n\r\nsurprise").await, "").await;
    assert_eq!(road_204.get("/").await.unwrap().body.len(), 0);
    assert_eq!(road_204.get("/").await.unwrap().status(), 204);
    let road_head = road(&always("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").await, "").await;
    let head = road_head.head(Method::HEAD, "/");
    let got = road_head.exchange(head, First::Only(Bytes::new())).await.unwrap();
    assert_eq!((got.head.body, got.head.headers["content-length"].as_bytes()), (BodyKind::None, &b"9"[..]));
}

#[tokio::test]
async fn hazard_145_interim_answers_are_handed_on_and_bounded() {
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let road_early = road(&always(early).await, "").await;
    let got = road_early.get("/").await.unwrap();
    assert_eq!(got.interim.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [103, 102]);
    assert_eq!(got.interim[0].1["link"], "</a.css>; rel=preload");
    assert_eq!(got.text(), "ok");
    let endless: &'static str = Box::leak("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(40).into_boxed_str());
    let road = road(&once(endless).await, "").await;
    assert_eq!(road.get("/").await.unwrap_err(), Ended::BeforeHead(AbortCode::OriginProtocol));
}

#[tokio::test]
async fn hazard_057_a_101_that_nobody_asked_for_is_refused() {
    let road = road(
        &once("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n").await,
        "",
    )
    .await;
    assert_eq!(road.get("/").await.unwrap_err(), Ended::BeforeHead(AbortCode::OriginProtocol));
}

/// Answers one request well; the next one on the same connection is read and met with a close.
async fn racing() -> (String, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let address = origin(move |mut wire: Wire, _| {
        let counter = Arc::clone(&counter);
        async move {
            wire.head().await;
            counter.fetch_add(1, Ordering::Relaxed);
            wire.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            if wire.head().await.is_some() {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .await;
    (format!("http://{address}"), requests)
}

#[tokio::test]
async fn hazard_137_a_kept_connection_that_died_costs_a_repeatable_request_nothing() {
    let (service, requests) = racing().await;
    let road = road(&service, "").await;
    for _ in 0..4 {
        assert_eq!(road.get("/").await.unwrap().text(), "ok");
    }
    // The first on a new connection; each further one is read on the kept connection, and sent again on another.
    assert_eq!(requests.load(Ordering::Relaxed), 1 + 3 * 2);
}

#[tokio::test]
async fn hazard_137_a_request_that_may_not_be_repeated_is_never_sent_twice() {
    let (service, requests) = racing().await;
    let road = road(&service, "").await;
    assert_eq!(road.get("/").await.unwrap().text(), "ok");
    assert_eq!(road.post(b"pay").await.unwrap_err(), Ended::BeforeHead(AbortCode::OriginReset));
    assert_eq!(requests.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn hazard_137_a_kept_connection_closed_meanwhile_is_noticed_before_an_unrepeatable_request_is_sent() {
    let (tell, mut told) = mpsc::channel(4);
    let address = origin(move |mut wire: Wire, _| {
        let tell = tell.clone();
        async move {
            wire.head().await;
            wire.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            drop(wire);
            tell.send(()).await.unwrap();
        }
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    for _ in 0..4 {
        assert_eq!(road.post(b"x").await.unwrap().text(), "ok");
        timeout(SOON, told.recv()).await.expect("the connection is closed").unwrap();
    }
}

#[tokio::test]
async fn hazard_136_a_small_put_is_sent_again_with_its_whole_body_when_the_origin_broke_off() {
    let address = origin(|mut wire: Wire, count| async move {
        wire.head().await;
        assert_eq!(wire.body(5).await, b"state");
        if count > 0 {
            wire.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    let mut head = road.head(Method::PUT, "/");
    head.body = BodyKind::Known(5);
    let got = road.exchange(head, First::Only(Bytes::from_static(b"state"))).await.unwrap();
    assert_eq!(got.text(), "ok");
}

#[tokio::test]
async fn hazard_135_an_origin_that_is_down_is_unreachable_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let road = road(&format!("http://{address}"), "").await;
    let begin = Instant::now();
    assert_eq!(road.get("/").await.unwrap_err(), Ended::BeforeHead(AbortCode::OriginUnreachable));
    assert!(begin.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn hazard_139_an_origin_that_does_not_answer_is_given_up_at_the_limit() {
    let (tell, mut told) = mpsc::channel(1);
    let address = origin(move |mut wire: Wire, _| {
        let tell = tell.clone();
        async move {
            wire.head().await;
            let _ = wire.until_closed().await;
            tell.send(()).await.unwrap();
        }
    })
    .await;
    let road = road(&format!("http://{address}"), "responseHeaderTimeout: 400ms").await;
    let begin = Instant::now();
    assert_eq!(road.post(b"x").await.unwrap_err(), Ended::BeforeHead(AbortCode::OriginTimeout));
    assert!((300..1500).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    timeout(SOON, told.recv()).await.expect("the origin sees the request cancelled").unwrap();
}

#[tokio::test]
async fn hazard_139_the_limit_begins_when_a_streamed_upload_is_complete() {
    let address = origin(|mut wire: Wire, _| async move {
        wire.head().await;
        wire.body(10).await;
        let _ = wire.until_closed().await;
    })
    .await;
    let road = road(&format!("http://{address}"), "responseHeaderTimeout: 300ms").await;
    let (mut send, mut recv) = road.open().await;
    let mut head = road.head(Method::POST, "/");
    head.body = BodyKind::Known(10);
    send.request(&head, First::More).await.unwrap();
    // Slower than the limit, which is not for uploads.
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        send.data(Bytes::from_static(b"12345")).await.unwrap();
    }
    let ended = timeout(SOON, collect(&mut recv)).await.unwrap().unwrap_err();
    assert_eq!(ended, Ended::BeforeHead(AbortCode::OriginTimeout));
}

#[tokio::test]
async fn a_streamed_upload_of_known_length_gives_its_connection_back() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let (tell, mut told) = mpsc::channel(4);
    let address = origin(move |mut wire: Wire, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        let tell = tell.clone();
        async move {
            while wire.head().await.is_some() {
                for _ in 0..2 {
                    wire.body(5).await;
                    tell.send(()).await.unwrap();
                }
                wire.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    for _ in 0..4 {
        let (mut send, mut recv) = road.open().await;
        let mut head = road.head(Method::POST, "/");
        head.body = BodyKind::Known(10);
        send.request(&head, First::More).await.unwrap();
        for piece in ["12345", "67890"] {
            send.data(Bytes::from_static(piece.as_bytes())).await.unwrap();
            timeout(SOON, told.recv()).await.expect("the origin has it").unwrap();
        }
        let (got, ended) = tokio::join!(timeout(SOON, collect(&mut recv)), send.end());
        ended.unwrap();
        assert_eq!(got.unwrap().unwrap().text(), "ok");
        // The request's end and the connection's return are one step behind the answer.
        while road.app.status().in_flight > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn hazard_140_silence_inside_a_body_ends_it_but_not_an_event_stream() {
    let silent = |head: &'static str| async move {
        let address = origin(move |mut wire: Wire, _| async move {
            wire.head().await;
            wire.say(head).await;
            tokio::time::sleep(Duration::from_millis(1200)).await;
            wire.say("5\r\nworld\r\n0\r\n\r\n").await;
        })
        .await;
        format!("http://{address}")
    };
    let body = silent("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
    let road_body = road(&body, "idleTimeout: 300ms").await;
    assert_eq!(road_body.get("/").await.unwrap_err(), Ended::InBody(AbortCode::OriginTimeout, 5));
    let events = silent("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
    let road_events = road(&events, "idleTimeout: 300ms").await;
    assert_eq!(road_events.get("/").await.unwrap().text(), "helloworld");
}

#[tokio::test]
async fn hazard_147_a_visitor_who_goes_away_frees_the_origin_within_a_second() {
    let (tell, mut told) = mpsc::channel(4);
    let address = origin(move |mut wire: Wire, _| {
        let tell = tell.clone();
        async move {
            let head = wire.head().await.unwrap();
            if head.starts_with("GET /body") {
                wire.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n").await;
            }
            tell.send("asked").await.unwrap();
            let _ = wire.until_closed().await;
            tell.send("closed").await.unwrap();
        }
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    for path in ["/head", "/body"] {
        let (mut send, mut recv) = road.open().await;
        send.request(&road.head(Method::GET, path), First::Only(Bytes::new())).await.unwrap();
        assert_eq!(told.recv().await.unwrap(), "asked");
        let begin = Instant::now();
        recv.stop(AbortCode::Cancelled);
        assert_eq!(timeout(SOON, told.recv()).await.unwrap().unwrap(), "closed");
        assert!(begin.elapsed() < Duration::from_secs(1), "{path}: {:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn hazard_015_an_upload_cut_off_never_looks_whole_to_the_origin() {
    let (tell, mut told) = mpsc::channel(4);
    let address = origin(move |mut wire: Wire, _| {
        let tell = tell.clone();
        async move {
            wire.head().await;
            tell.send(wire.body(9).await).await.unwrap();
            let rest = wire.until_closed().await.unwrap_or_default();
            tell.send(rest).await.unwrap();
        }
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    let (mut send, mut recv) = road.open().await;
    let mut head = road.head(Method::POST, "/");
    head.body = BodyKind::Unknown;
    send.request(&head, First::More).await.unwrap();
    send.data(Bytes::from_static(b"half")).await.unwrap();
    assert_eq!(timeout(SOON, told.recv()).await.unwrap().unwrap(), b"4\r\nhalf\r\n");
    send.abort(AbortCode::BadBody);
    let rest = timeout(SOON, told.recv()).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&rest), "", "not even the end of the chunks");
    assert_eq!(collect(&mut recv).await.unwrap_err(), Ended::BeforeHead(AbortCode::BadBody));
}

#[tokio::test]
async fn hazard_146_an_early_answer_arrives_while_the_upload_runs() {
    let address = origin(|mut wire: Wire, _| async move {
        wire.head().await;
        wire.say("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno!").await;
        let _ = wire.until_closed().await;
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    let (mut send, mut recv) = road.open().await;
    let mut head = road.head(Method::POST, "/");
    head.body = BodyKind::Known(1 << 30);
    send.request(&head, First::More).await.unwrap();
    let upload = async {
        let piece = Bytes::from(vec![7; 64 * 1024]);
        loop {
            if send.data(piece.clone()).await.is_err() {
                break;
            }
        }
    };
    let (got, stopped) = tokio::join!(timeout(SOON, collect(&mut recv)), timeout(SOON, upload));
    let got = got.expect("the answer at once").unwrap();
    assert_eq!((got.status(), got.text().as_str()), (413, "no!"));
    stopped.expect("the upload is stopped");
}

#[tokio::test]
async fn both_bodies_flow_at_once_through_full_windows() {
    let address = origin(|mut wire: Wire, _| async move {
        wire.head().await;
        wire.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        // Echoes the chunked bytes as they are: chunks are chunks.
        let (mut read, mut write) = wire.stream.into_split();
        tokio::io::AsyncWriteExt::write_all(&mut write, &wire.read).await.unwrap();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    let (mut send, mut recv) = road.open().await;
    let mut head = road.head(Method::POST, "/");
    head.body = BodyKind::Unknown;
    send.request(&head, First::More).await.unwrap();
    const PIECES: usize = 200;
    let upload = async {
        for n in 0..PIECES {
            send.data(Bytes::from(vec![n as u8; 50_000])).await.unwrap();
        }
        send.end().await.unwrap();
    };
    let (got, ()) = tokio::join!(timeout(SOON * 3, collect(&mut recv)), upload);
    let got = got.expect("all of it in time").unwrap();
    assert_eq!(got.body.len(), PIECES * 50_000);
    assert!(got.body.chunks(50_000).enumerate().all(|(n, piece)| piece.iter().all(|byte| *byte == n as u8)));
}

#[tokio::test]
async fn expect_continue_and_trailers_pass_both_ways() {
    let (tell, mut told) = mpsc::channel(4);
    let address = origin(move |mut wire: Wire, _| {
        let tell = tell.clone();
        async move {
            let head = wire.head().await.unwrap();
            wire.say("HTTP/1.1 100 Continue\r\n\r\n").await;
            // The chunked body with its trailers ends as a head does.
            let body = wire.head().await.unwrap();
            tell.send((head, body)).await.unwrap();
            wire.say("HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n").await;
        }
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    let (mut send, mut recv) = road.open().await;
    let mut head = road.head(Method::POST, "/");
    (head.body, head.expect_continue) = (BodyKind::Unknown, true);
    head.headers = HeaderMap::from_iter([field("trailer", "x-check")]);
    send.request(&head, First::More).await.unwrap();
    let ResponseEvent::Interim(status, _) = recv.response().await.unwrap() else { panic!("100 first") };
    assert_eq!(status, 100);
    send.data(Bytes::from_static(b"body")).await.unwrap();
    send.trailers(&HeaderMap::from_iter([field("x-check", "9")])).await.unwrap();
    send.end().await.unwrap();
    let got = timeout(SOON, collect(&mut recv)).await.unwrap().unwrap();
    assert_eq!(got.trailers.unwrap()["x-sum"], "7");
    let (head, body) = told.recv().await.unwrap();
    assert!(head.contains("expect: 100-continue") && head.contains("transfer-encoding: chunked"), "{head}");
    assert!(body.starts_with("4\r\nbody\r\n") && body.contains("x-check: 9"), "{body}");
}

#[tokio::test]
async fn disable_chunked_encoding_sends_a_length_instead() {
    let (tell, mut told) = mpsc::channel(4);
    let address = origin(move |mut wire: Wire, _| {
        let tell = tell.clone();
        async move {
            while let Some(head) = wire.head().await {
                tell.send((head, wire.body(10).await)).await.unwrap();
                wire.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let road = road(&format!("http://{address}"), "disableChunkedEncoding: true").await;
    let (mut send, mut recv) = road.open().await;
    let mut head = road.head(Method::POST, "/");
    head.body = BodyKind::Unknown;
    send.request(&head, First::More).await.unwrap();
    for _ in 0..2 {
        send.data(Bytes::from_static(b"12345")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    send.end().await.unwrap();
    assert_eq!(collect(&mut recv).await.unwrap().text(), "ok");
    let (seen, body) = told.recv().await.unwrap();
    assert!(seen.contains("content-length: 10") && !seen.contains("chunked"), "{seen}");
    assert_eq!(body, b"1234512345");
    let (mut send, mut recv) = road.open().await;
    send.request(&head, First::More).await.unwrap();
    let upload = async { while send.data(Bytes::from(vec![0; 256 * 1024])).await.is_ok() {} };
    let (got, ()) = tokio::join!(timeout(SOON, collect(&mut recv)), upload);
    assert_eq!(got.unwrap().unwrap().status(), 411);
}

#[tokio::test]
async fn rules_choose_by_hostname_and_path_and_answer_by_themselves() {
    let service = always("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\norigin").await;
    let rules = format!(
        "ingress:\n  - path: ^/api\n    service: {service}\n  - path: ^/hello\n    service: hello_world\n  - path: ^/tcp\n    service: tcp://127.0.0.1:1\n  - service: http_status:418\n"
    );
    let road = road_with(&rules).await;
    assert_eq!(road.get("/api/x").await.unwrap().text(), "origin");
    assert!(road.get("/hello").await.unwrap().text().contains("Causeway"));
    assert_eq!(road.get("/other").await.unwrap().status(), 418);
    assert_eq!(road.get("/tcp").await.unwrap_err(), Ended::BeforeHead(AbortCode::NotImplemented));
    assert_eq!(road.get("/x/..%2fapi").await.unwrap().status(), 400);
}

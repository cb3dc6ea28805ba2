//! Who goes away is noticed at the other end, nothing cut looks whole, and a slow reader costs no memory.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::time::Duration;

use bytes::Bytes;
use causeway_tests::client::{End, PROTOCOLS, Protocol, visit};
use causeway_tests::origin::scripted::Scripted;
use causeway_tests::origin::{http, sample};
use causeway_tests::site::{APP, Site};
use causeway_tests::{run, wait};
use h3::error::Code;
use http::Request;

const SECOND: Duration = Duration::from_secs(1);

fn url(path: &str) -> String {
    format!("https://{APP}{path}")
}

#[test]
fn hazard_147_a_visitor_who_leaves_during_a_download_is_told_to_the_origin_within_a_second() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        for protocol in PROTOCOLS {
            let before = origin.counters().cancelled();
            match protocol {
                Protocol::Http1 => {
                    let mut client = site.http1().await;
                    client
                        .send(format!("GET /bytes/1000000000 HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes())
                        .await;
                    assert_eq!(client.head().await.unwrap().status, 200);
                }
                Protocol::Http2 => {
                    let mut client = site.http2().await;
                    let request = Request::get(url("/bytes/1000000000")).body(()).unwrap();
                    let mut stream = client.open(request, true).await.unwrap();
                    assert_eq!(stream.head().await.unwrap().status(), 200);
                    stream.reset();
                }
                Protocol::Http3 => {
                    let mut client = site.http3().await;
                    let request = Request::get(url("/bytes/1000000000")).body(()).unwrap();
                    let mut stream = client.open(request).await.unwrap();
                    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
                    stream.stop_sending(Code::H3_REQUEST_CANCELLED);
                    // The connection stays: the stop alone must do it.
                    wait::holds("the origin's request cancelled", SECOND, || {
                        origin.counters().cancelled() > before
                    })
                    .await;
                }
            }
            wait::holds("the origin's request cancelled", SECOND, || origin.counters().cancelled() > before)
                .await;
        }
        wait::holds("nothing running at the origin", SECOND, || origin.counters().running() == 0).await;
    });
}

#[test]
fn hazard_147_a_visitor_who_leaves_before_the_answer_is_told_to_the_origin_within_a_second() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        for protocol in PROTOCOLS {
            let before = origin.counters().cancelled();
            match protocol {
                Protocol::Http1 => {
                    let mut client = site.http1().await;
                    client.send(format!("GET /slow/60000 HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
                    wait::holds("the request at the origin", SECOND, || origin.counters().running() > 0)
                        .await;
                }
                Protocol::Http2 => {
                    let mut client = site.http2().await;
                    let mut stream =
                        client.open(Request::get(url("/slow/60000")).body(()).unwrap(), true).await.unwrap();
                    wait::holds("the request at the origin", SECOND, || origin.counters().running() > 0)
                        .await;
                    stream.reset();
                    // The connection stays: the reset alone must do it.
                    wait::holds("the origin's request cancelled", SECOND, || {
                        origin.counters().cancelled() > before
                    })
                    .await;
                }
                Protocol::Http3 => {
                    let mut client = site.http3().await;
                    let mut stream =
                        client.open(Request::get(url("/slow/60000")).body(()).unwrap()).await.unwrap();
                    stream.finish().await.unwrap();
                    wait::holds("the request at the origin", SECOND, || origin.counters().running() > 0)
                        .await;
                    stream.stop_sending(Code::H3_REQUEST_CANCELLED);
                    wait::holds("the origin's request cancelled", SECOND, || {
                        origin.counters().cancelled() > before
                    })
                    .await;
                }
            }
            wait::holds("the origin's request cancelled", SECOND, || origin.counters().cancelled() > before)
                .await;
        }
    });
}

#[test]
fn hazard_015_an_upload_that_breaks_off_never_looks_complete_to_the_origin() {
    run(async {
        let origin = Scripted::start(|mut connection| async move {
            connection.head().await;
            let mut body = Vec::new();
            while let Some(bytes) = connection.bytes().await {
                body.extend(bytes);
            }
            assert!(!body.ends_with(b"0\r\n\r\n"), "the origin was told that the body is whole");
            connection.wait_gone().await;
        })
        .await;
        let site = Site::of(origin.service()).await;
        let heads = ["content-length: 1000000", "transfer-encoding: chunked"];
        for (n, framing) in heads.iter().enumerate() {
            let mut client = site.http1().await;
            client.send(format!("POST / HTTP/1.1\r\nhost: {APP}\r\n{framing}\r\n\r\n").as_bytes()).await;
            client.send(b"5\r\nhello\r\n").await;
            wait::holds("the request at the origin", SECOND, || origin.heads().len() > n).await;
            drop(client);
            wait::holds("the origin's connection gone", SECOND, || origin.gone() > n).await;
        }
        let mut client = site.http2().await;
        let mut stream = client.open(Request::post(url("/")).body(()).unwrap(), false).await.unwrap();
        stream.send.send_data(Bytes::from_static(b"hello"), false).unwrap();
        wait::holds("the request at the origin", SECOND, || origin.heads().len() > 2).await;
        stream.reset();
        wait::holds("the origin's connection gone", SECOND, || origin.gone() > 2).await;
    });
}

#[test]
fn hazard_138_an_answer_that_breaks_off_never_looks_complete_to_the_visitor() {
    run(async {
        let cases = [
            ("short of its length", "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nonly this"),
            ("chunks without an end", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"),
            ("half a chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nhello"),
        ];
        for reset in [false, true] {
            for (name, answer) in cases {
                let origin = Scripted::start(move |mut connection| async move {
                    connection.request().await;
                    connection.send(answer.as_bytes()).await;
                    connection.pause(Duration::from_millis(50)).await;
                    if reset {
                        connection.reset();
                    }
                })
                .await;
                let site = Site::of(origin.service()).await;
                for protocol in PROTOCOLS {
                    let answer = visit(&site.edge, protocol, &url("/")).await;
                    assert_eq!(
                        (answer.status, answer.end),
                        (200, End::Cut),
                        "{protocol:?} {name}, reset {reset}: {answer:?}"
                    );
                }
            }
        }
    });
}

#[test]
fn hazard_150_a_reader_who_stalls_stops_the_origin_and_costs_little_memory() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let _ = visit(&site.edge, Protocol::Http1, &url("/bytes/1000000")).await.ok();
        let (edge, connector) = (site.edge.program.usage(), site.connector.program.usage());
        let mut stalled = Vec::new();
        for _ in 0..10 {
            let mut client = site.http1().await;
            client.send(format!("GET /bytes/1000000000 HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
            assert_eq!(client.head().await.unwrap().status, 200);
            stalled.push(client);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        // A window for what was read that fast until it stalled, each of its packets with those that came in one piece with it.
        let allowed = 10 * 5 * 1024 * 1024;
        for (name, before, now) in [
            ("edge", edge, site.edge.program.usage()),
            ("connector", connector, site.connector.program.usage()),
        ] {
            let grown = now.resident_bytes.saturating_sub(before.resident_bytes);
            assert!(grown < allowed, "{name} grew by {} KiB with ten stalled readers", grown / 1024);
        }
        // A neighbour is served meanwhile, and at once.
        let answer =
            tokio::time::timeout(5 * SECOND, visit(&site.edge, Protocol::Http2, &url("/bytes/5000000")))
                .await;
        assert_eq!(answer.expect("a neighbour is not held up").ok().body.len(), 5_000_000);
        drop(stalled);
        wait::holds("the origin's requests cancelled", 2 * SECOND, || origin.counters().running() == 0).await;
    });
}

#[test]
fn hazard_150_an_origin_that_does_not_read_stops_the_visitor() {
    run(async {
        let origin = Scripted::start(|mut connection| async move {
            connection.head().await;
            connection.hang().await;
        })
        .await;
        let site = Site::of(origin.service()).await;
        let before = site.edge.program.usage();
        let mut client = site.http1().await;
        client
            .send(format!("POST / HTTP/1.1\r\nhost: {APP}\r\ncontent-length: 10000000000\r\n\r\n").as_bytes())
            .await;
        let piece = vec![0; 1 << 20];
        let mut taken = 0;
        while tokio::time::timeout(SECOND, client.try_send(&piece)).await.is_ok_and(|sent| sent.is_ok()) {
            taken += 1;
            assert!(taken < 64, "64 MiB were taken though the origin reads nothing");
        }
        let grown = site.edge.program.usage().resident_bytes.saturating_sub(before.resident_bytes);
        assert!(grown < 8 << 20, "the edge grew by {} KiB", grown / 1024);
    });
}

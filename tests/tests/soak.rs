//! Mixed load, then quiet: memory, tasks and file descriptors return to where they were (done-when 5).

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use causeway_tests::child::Program;
use causeway_tests::client::{Http1, Http2, over_http1};
use causeway_tests::edge::{Edge, gauge};
use causeway_tests::load::Load;
use causeway_tests::origin::{http, sample};
use causeway_tests::process::Usage;
use causeway_tests::site::{APP, Site};
use causeway_tests::{long, run_within, wait};
use futures_util::{SinkExt, StreamExt};
use http::Request;
use tokio_tungstenite::tungstenite::Message;

/// One round of everything that is not a plain request.
async fn oddities(edge: &Edge, round: u64) {
    // WebSocket, closed properly and not.
    if let Ok(mut socket) = over_http1(Http1::tls(edge, APP).await, APP, "/ws").await {
        let _ = socket.send(Message::binary(vec![1; 10_000])).await;
        let _ = socket.next().await;
        if round.is_multiple_of(2) {
            let _ = socket.close(None).await;
        }
    }
    // An upload, and one that breaks off.
    let mut client = Http1::tls(edge, APP).await;
    let request = Request::post(format!("https://{APP}/sink")).body(Bytes::from(vec![2; 300_000])).unwrap();
    assert_eq!(client.fetch(request).await.unwrap().status, 200);
    client
        .send(
            format!("POST /sink HTTP/1.1\r\nhost: {APP}\r\ncontent-length: 1000000\r\n\r\nbut no more")
                .as_bytes(),
        )
        .await;
    // Downloads left half way.
    let mut client = Http1::tls(edge, APP).await;
    client.send(format!("GET /bytes/50000000 HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
    let _ = client.bytes(1000).await;
    let mut client = Http2::connect(edge, APP).await;
    for path in ["/bytes/50000000", "/slow/5000", "/sse/100/50"] {
        let request = Request::get(format!("https://{APP}{path}")).body(()).unwrap();
        let mut stream = client.open(request, true).await.unwrap();
        if round.is_multiple_of(2) {
            let _ = tokio::time::timeout(Duration::from_millis(20), stream.head()).await;
        }
        stream.reset();
    }
    // Something malformed.
    let mut client = Http1::plain(edge.http).await;
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
    let _ = client.answer("GET").await;
}

/// The figures of both programs.
fn usage(programs: [&Program; 2]) -> [Usage; 2] {
    programs.map(Program::usage)
}

#[test]
fn mixed_load_leaves_no_memory_tasks_or_descriptors_behind() {
    let length = Duration::from_secs(if long() { 600 } else { 20 });
    run_within(length + Duration::from_secs(120), async move {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let programs = [&site.edge.program, &site.connector.program];
        // Warm: pools, caches and the allocator have their size after a first round of everything.
        let warm = Load::start(&site.edge, APP, "/bytes/20000", 20_000, 6, 4);
        for round in 0..10 {
            oddities(&site.edge, round).await;
        }
        warm.stop().await;
        let quiet = quiet(&site).await;
        let before = usage(programs);

        let load = Load::start(&site.edge, APP, "/bytes/20000", 20_000, 6, 4);
        let since = Instant::now();
        let mut round = 0;
        let mut peak = before;
        while since.elapsed() < length {
            round += 1;
            oddities(&site.edge, round).await;
            for (peak, now) in peak.iter_mut().zip(usage(programs)) {
                peak.resident_bytes = peak.resident_bytes.max(now.resident_bytes);
                peak.descriptors = peak.descriptors.max(now.descriptors);
            }
        }
        let tally = load.stop().await;
        println!(
            "{} answers and {round} rounds in {:?}, slowest {:?}",
            tally.answered,
            since.elapsed(),
            tally.slowest
        );
        assert_eq!(tally.failed, 0, "{:?}", tally.failures);

        let after_quiet = self::quiet(&site).await;
        let after = usage(programs);
        println!("before {before:?}\npeak   {peak:?}\nafter  {after:?}\ntasks  {quiet:?} -> {after_quiet:?}");
        assert_eq!(quiet, after_quiet, "tasks of edge and connector");
        for (name, before, after) in [("edge", before[0], after[0]), ("connector", before[1], after[1])] {
            assert!(after.descriptors <= before.descriptors + 2, "{name}: {before:?} -> {after:?}");
            assert_eq!(after.threads, before.threads, "{name}");
            let allowed = before.resident_bytes + (6 << 20) + before.resident_bytes / 10;
            assert!(after.resident_bytes <= allowed, "{name}: {before:?} -> {after:?}");
        }
        assert_eq!(origin.counters().running(), 0);
        for (page, name) in [
            (site.edge.metrics().await, "causeway_edge_task_panics_total"),
            (site.connector.metrics().await, "causeway_connector_task_panics_total"),
        ] {
            assert_eq!(gauge(&page, name), 0.0);
        }
    });
}

/// Waits until nothing is in flight and idle connections are gone, then says how many tasks there are.
async fn quiet(site: &Site) -> (f64, f64) {
    let look = || async {
        let page = site.edge.metrics().await;
        let open = causeway_tests::edge::sample(&page, "causeway_edge_connections_open", &[]);
        let flight = causeway_tests::edge::sample(&page, "causeway_edge_streams_in_flight", &[]);
        (open == 0.0 && flight == 0.0).then_some(())
    };
    wait::until("no connection and no stream", Duration::from_secs(20), look).await;
    let mut last = None;
    loop {
        let edge = gauge(&site.edge.metrics().await, "causeway_edge_tasks");
        let connector = gauge(&site.connector.metrics().await, "causeway_connector_tasks");
        if last == Some((edge, connector)) {
            return (edge, connector);
        }
        last = Some((edge, connector));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

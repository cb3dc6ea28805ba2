//! What one connection, one process and one machine's memory and files may be asked for, and what happens beyond it
//! (hazards 71, 76, 78, 111 and 112).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use causeway_tests::client::{Http1, PROTOCOLS, Protocol, fetch, tls_connect, visit};
use causeway_tests::edge::EdgeOptions;
use causeway_tests::files::Folder;
use causeway_tests::origin::{http, sample};
use causeway_tests::process::Usage;
use causeway_tests::site::{APP, Site, to};
use causeway_tests::{run, run_within, wait};
use http::Request;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SOON: Duration = Duration::from_secs(10);
/// Of every connection, whatever it speaks.
const MAX_REQUESTS: usize = 10_000;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A request for `/slow/…` on this stream, whose answer takes its time.
fn ask(stream: u32) -> Vec<u8> {
    let field = |name: &str, value: &str| {
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    };
    let fields = [(":method", "GET"), (":scheme", "https"), (":authority", APP), (":path", "/slow/60000")];
    frame(1, 0x5, stream, &fields.map(|(name, value)| field(name, value)).concat())
}

/// Plays frames, and waits until the edge has closed the connection. Its last GOAWAY's code, if it came.
async fn closes(site: &Site, frames: &[u8]) -> Option<u32> {
    let stream = tls_connect(site.edge.https, &site.edge.ca(), APP, &["h2"]).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let hello = [PREFACE, &frame(4, 0, 0, &[])].concat();
    let send = async {
        writer.write_all(&hello).await?;
        writer.write_all(frames).await
    };
    let mut said = Vec::new();
    let both = async { tokio::join!(send, reader.read_to_end(&mut said)) };
    assert!(tokio::time::timeout(SOON, both).await.is_ok(), "the connection is borne");
    let mut code = None;
    let mut rest = said.as_slice();
    while let [a, b, c, kind, _, _, _, _, _, payload @ ..] = rest {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        if let (7, Some([_, _, _, _, number @ ..])) = (*kind, payload.first_chunk::<8>()) {
            code = Some(u32::from_be_bytes(*number));
        }
        rest = payload.get(length..).unwrap_or_default();
    }
    code
}

#[test]
fn hazard_071_resets_that_the_edge_is_made_to_send_are_bounded_and_spare_the_origin() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        // MadeYouReset (CVE-2025-8671): each request is taken, and then its stream is made to break.
        let broken = frame(8, 0, 1, &[0, 0, 0, 0]);
        let flood: Vec<u8> = (0..5_000_u32)
            .flat_map(|n| {
                let stream = 2 * n + 1;
                let mut update = broken.clone();
                update[5..9].copy_from_slice(&stream.to_be_bytes());
                [ask(stream), update].concat()
            })
            .collect();
        let code = closes(&site, &flood).await;
        // ENHANCE_YOUR_CALM, or PROTOCOL_ERROR; the reset of the connection may overtake it.
        assert!(matches!(code, None | Some(1 | 11)), "{code:?}");
        assert!(
            origin.counters().requests() < 500,
            "{} requests at the origin",
            origin.counters().requests()
        );
        wait::holds("the origin to be left alone", SOON, || origin.counters().running() == 0).await;
        visit(&site.edge, Protocol::Http2, &format!("https://{APP}/bytes/10")).await.ok();
    });
}

#[test]
fn hazard_076_a_window_beyond_its_greatest_size_ends_the_connection() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let most = 0x7fff_ffff_u32.to_be_bytes();
        const FLOW_CONTROL_ERROR: u32 = 3;
        let of_connection = frame(8, 0, 0, &most);
        assert_eq!(closes(&site, &of_connection).await, Some(FLOW_CONTROL_ERROR));
        let above = [[0, 4].as_slice(), &0x8000_0000_u32.to_be_bytes()].concat();
        // The library says PROTOCOL_ERROR of the setting, which h2spec takes as well.
        assert!(matches!(closes(&site, &frame(4, 0, 0, &above)).await, Some(1 | FLOW_CONTROL_ERROR)));
    });
}

#[test]
fn hazard_078_a_connection_that_has_asked_ten_thousand_times_is_ended_in_good_order() {
    run_within(Duration::from_secs(180), async {
        // Answered by the edge itself, so that ten thousand take a moment: the connection counts all the same.
        let site = Site::of("hello_world").await;
        let mut client = site.http2().await;
        let mut answered = 0;
        let request = || Request::get("https://nobody.invalid/").body(Bytes::new()).unwrap();
        while let Ok(answer) = client.fetch(request(), None).await {
            assert_eq!(answer.status, 421);
            answered += 1;
            assert!(answered < MAX_REQUESTS + 100, "it is never ended");
        }
        assert!(answered >= MAX_REQUESTS, "{answered}: what was asked before the end is answered");
        let mut client = Http1::plain(site.edge.http).await;
        for n in 1..=MAX_REQUESTS {
            client.send(b"GET / HTTP/1.1\r\nhost: nobody.invalid\r\n\r\n").await;
            let answer = client.answer("GET").await.unwrap();
            let last = answer.header("connection").is_some_and(|value| value.contains("close"));
            assert_eq!((answer.status, last), (404, n == MAX_REQUESTS), "the answer to request {n}");
        }
    });
}

#[test]
fn hazard_111_without_file_descriptors_the_edge_waits_and_serves_on() {
    run(async {
        let origin = sample().await;
        let config =
            "limits: { connections: 100000, connectionsPerIp: 100000, connectionRatePerIp: 0 }".to_owned();
        let options = EdgeOptions { config, ..Default::default() };
        let site = Site::with(options, Folder::default(), &to(http(&origin))).await;
        let mut kept = site.http1().await;
        let request = || Request::get(format!("https://{APP}/bytes/10")).body(Bytes::new()).unwrap();
        kept.fetch(request()).await.unwrap().ok();
        // So many files more than it has now.
        let pid = site.edge.program.pid();
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
        let limit = Rlimit { current: Some(open + 20), maximum: Some(open + 20) };
        prlimit(Pid::from_raw(i32::try_from(pid).unwrap()), Resource::Nofile, limit).unwrap();
        let mut held = Vec::new();
        for _ in 0..100 {
            held.push(TcpStream::connect(site.edge.https).await.unwrap());
        }
        site.edge.program.line("raise the limit of open files", SOON).await;
        // It does not spin, says it once, and carries on what it has.
        let (before, since) = (Usage::of(pid).cpu, Instant::now());
        for _ in 0..20 {
            kept.fetch(request()).await.unwrap().ok();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let busy = Usage::of(pid).cpu - before;
        assert!(busy < since.elapsed() / 3, "{busy:?} of {:?}", since.elapsed());
        let lines = site.edge.program.lines();
        assert_eq!(lines.iter().filter(|line| line.contains("raise the limit of open files")).count(), 1);
        drop(held);
        let look = || async {
            let fresh = TcpStream::connect(site.edge.http).await.ok()?;
            let mut client = Http1::over(fresh);
            client.send(format!("GET /bytes/10 HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
            client.answer("GET").await.ok().filter(|answer| answer.status == 200)
        };
        wait::until("a new visitor to be served", SOON, look).await;
    });
}

#[test]
fn hazard_112_without_memory_new_requests_get_503_at_once_and_with_some_they_are_served() {
    run(async {
        let origin = sample().await;
        let with_memory = async |bytes: u64| {
            let config = format!("limits: {{ memoryBytes: {bytes} }}");
            let options = EdgeOptions { config, ..Default::default() };
            Site::with(options, Folder::default(), &to(http(&origin))).await
        };
        let request = || Request::get(format!("https://{APP}/bytes/10")).body(Bytes::new()).unwrap();
        let site = with_memory(1 << 40).await;
        for protocol in PROTOCOLS {
            fetch(&site.edge, protocol, request()).await.unwrap().ok();
        }
        // Programs of one build differ in size by some percent: this one has room to begin with, and visitors fill it up.
        let limit = site.edge.program.usage().resident_bytes * 10 / 8;
        let site = with_memory(limit).await;
        let share = || site.edge.program.usage().resident_bytes as f64 / limit as f64;
        let mut guests = Vec::new();
        while share() < 0.92 {
            assert!(guests.len() < 2000, "{} of the memory is used", share());
            guests.push(tls_connect(site.edge.https, &site.edge.ca(), APP, &["h2"]).await);
        }
        let look = || async {
            let step = site.edge.metric("causeway_edge_overload_step", &[]).await;
            (step > 1.0).then_some(step)
        };
        let (step, _) = wait::until("the edge to look at its memory", SOON, look).await;
        assert_eq!(step, 2.0, "{} visitors, {} of the memory", guests.len(), share());
        for protocol in PROTOCOLS {
            let since = Instant::now();
            let answer = fetch(&site.edge, protocol, request()).await.unwrap();
            assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{answer:?}");
            assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
        }
        site.edge.program.line("memory runs out", SOON).await;
    });
}

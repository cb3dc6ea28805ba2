//! A link that stands still is a pause and not a failure: what is in flight waits, what is new goes elsewhere, and when the link
//! is back everything goes on.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::time::{Duration, Instant};

use causeway_sample::content::{Sum, pattern_sum};
use causeway_tests::client::{Http1, Protocol, over_http1, tls_connect, visit};
use causeway_tests::connector::Connector;
use causeway_tests::edge::{Edge, gauge};
use causeway_tests::load::Load;
use causeway_tests::origin::grpc::Grpc;
use causeway_tests::origin::{http, sample};
use causeway_tests::relay::Relay;
use causeway_tests::site::{APP, Site, to};
use causeway_tests::{long, needs, run_within, wait};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

const SECOND: Duration = Duration::from_secs(1);
const READY: Duration = Duration::from_secs(20);
const GRPC: &str = "grpc.example.test";
/// One piece that a visitor reads or sends, and how long it then takes: 6 MB a second, so that what is in flight at the cut is
/// still so long after.
const PIECE: usize = 64 * 1024;
const PACE: Duration = Duration::from_millis(10);

/// Something that goes on while the link stands still. It ends whole once `stop` says so, and says how long nothing moved at most.
struct Going {
    name: &'static str,
    moved: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    task: JoinSet<Duration>,
}

impl Going {
    fn start<F, Fut>(name: &'static str, make: F) -> Self
    where
        F: FnOnce(Course) -> Fut,
        Fut: Future<Output = Duration> + Send + 'static,
    {
        let (moving, moved) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let course = Course { moving, stopped, last: Instant::now(), longest: Duration::ZERO };
        let mut task = JoinSet::new();
        task.spawn(make(course));
        Self { name, moved, stop, task }
    }

    async fn moves(&mut self) {
        let moves = async {
            for _ in 0..3 {
                self.moved.changed().await.unwrap_or_else(|_| panic!("the {} ended early", self.name));
            }
        };
        tokio::time::timeout(READY, moves)
            .await
            .unwrap_or_else(|_| panic!("the {} does not move", self.name));
    }

    async fn finish(mut self) -> Duration {
        self.stop.send_replace(true);
        let ended = tokio::time::timeout(60 * SECOND, self.task.join_next()).await;
        let ended = ended.unwrap_or_else(|_| panic!("the {} does not end", self.name));
        ended.expect("it is joined once").unwrap()
    }
}

struct Course {
    moving: watch::Sender<u64>,
    stopped: watch::Receiver<bool>,
    last: Instant,
    longest: Duration,
}

impl Course {
    fn step(&mut self) {
        self.longest = self.longest.max(self.last.elapsed());
        self.last = Instant::now();
        self.moving.send_modify(|steps| *steps += 1);
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }
}

async fn connected(edge: &Edge) -> Http1 {
    Http1::tls(edge, APP).await
}

/// Reads at a pace, or as fast as it comes, to the end.
async fn download(edge: &Edge, length: u64, pace: Duration) -> Going {
    let mut client = connected(edge).await;
    client.send(format!("GET /bytes/{length} HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    let name = if pace.is_zero() { "fast download" } else { "download" };
    Going::start(name, move |mut course| async move {
        let mut sum = Sum::default();
        while sum.bytes() < length {
            let bytes = client.bytes(PIECE).await;
            assert!(!bytes.is_empty(), "cut after {} of {length} bytes", sum.bytes());
            sum.update(&bytes);
            course.step();
            // To be told to stop is to be told to hurry.
            if !pace.is_zero() && !course.is_stopped() {
                tokio::time::sleep(pace).await;
            }
        }
        assert_eq!(sum.finish(), pattern_sum(length));
        course.longest
    })
}

/// Sends chunks until it is told to stop; what came is compared by its sum.
async fn upload(edge: &Edge) -> Going {
    let mut client = connected(edge).await;
    client
        .send(format!("POST /sink HTTP/1.1\r\nhost: {APP}\r\ntransfer-encoding: chunked\r\n\r\n").as_bytes())
        .await;
    Going::start("upload", move |mut course| async move {
        let mut sum = Sum::default();
        let piece: Vec<u8> = (0..PIECE).map(|at| (at % 253) as u8).collect();
        while !course.is_stopped() {
            let framed = [format!("{PIECE:x}\r\n").as_bytes(), &piece, b"\r\n"].concat();
            client.try_send(&framed).await.expect("the upload is taken");
            sum.update(&piece);
            course.step();
            tokio::time::sleep(PACE).await;
        }
        client.send(b"0\r\n\r\n").await;
        let text = client.answer("POST").await.unwrap().ok().text();
        let bytes = sum.bytes();
        assert!(text.contains(&sum.finish()), "{bytes} bytes were sent, and the origin saw {text}");
        course.longest
    })
}

/// Echoes, one after the other.
async fn web_socket(edge: &Edge) -> Going {
    let mut socket = over_http1(connected(edge).await, APP, "/ws").await.unwrap();
    Going::start("WebSocket", move |mut course| async move {
        let mut number = 0_u32;
        while !course.is_stopped() {
            let message = Message::binary(number.to_be_bytes().to_vec());
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.next().await.expect("the socket is open").unwrap(), message);
            number += 1;
            course.step();
            tokio::time::sleep(PACE).await;
        }
        socket.close(None).await.unwrap();
        course.longest
    })
}

fn rules(origin: &str, grpc: &str) -> String {
    format!("ingress:\n  - hostname: {GRPC}\n    service: {grpc}\n  - service: {origin}\n")
}

/// A request that is asked for now, answered whenever.
fn asked(edge: &Edge, path: &str) -> JoinSet<u16> {
    let (https, ca) = (edge.https, causeway_tests::client::Entrance::ca(edge));
    let request = http::Request::get(format!("https://{APP}{path}")).body(bytes::Bytes::new()).unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut client = Http1::over(tls_connect(https, &ca, APP, &["http/1.1"]).await.unwrap());
        client.fetch(request).await.unwrap().ok().status
    });
    task
}

async fn status(mut asked: JoinSet<u16>) -> u16 {
    asked.join_next().await.expect("it was asked").unwrap()
}

fn stand_still(pause: Duration) {
    let python = needs("python");
    run_within(pause + 120 * SECOND, async move {
        let origin = sample().await;
        let grpc = match &python {
            Some(python) => Some(Grpc::start(python).await),
            None => None,
        };
        let service = grpc.as_ref().map_or_else(|| "http_status:404".to_owned(), Grpc::service);
        let (site, relay) = Site::linked(&rules(&http(&origin), &service)).await;
        let mut all = vec![
            download(&site.edge, 1 << 26, PACE).await,
            download(&site.edge, 3 << 26, Duration::ZERO).await,
            upload(&site.edge).await,
            web_socket(&site.edge).await,
        ];
        let mut calls = None;
        if let Some(grpc) = &grpc {
            calls = Some(grpc.steady(&site.edge, GRPC, pause + 3 * SECOND).await);
        }
        for going in &mut all {
            going.moves().await;
        }
        relay.cut();
        let cut = Instant::now();
        site.edge.wait_state("site", "DOWN", 6 * SECOND).await;
        println!("suspected after {:?}", cut.elapsed());
        let waiting = asked(&site.edge, "/bytes/1");
        tokio::time::sleep(pause.saturating_sub(cut.elapsed())).await;
        for going in &mut all {
            going.moved.mark_unchanged();
        }
        relay.mend();
        let mended = Instant::now();
        let mut resumed = Vec::new();
        for going in &mut all {
            going.moved.changed().await.unwrap_or_else(|_| panic!("the {} ended", going.name));
            resumed.push((going.name, mended.elapsed()));
        }
        assert_eq!(status(waiting).await, 200);
        let answered = mended.elapsed();
        println!(
            "{pause:?}: a request that waited was answered {answered:?} after the return; moving again: {resumed:?}"
        );
        assert!(answered < 3 * SECOND, "{answered:?}");
        if let Some(mut calls) = calls {
            assert!(calls.ended(pause + 60 * SECOND).await.success(), "{}", calls.log());
            println!("gRPC: {}", calls.log());
        }
        for going in all {
            let name = going.name;
            println!("{name}: nothing moved for {:?} at most", going.finish().await);
        }
        let page = site.edge.metrics().await;
        assert!(
            causeway_tests::edge::sample(&page, "causeway_edge_session_suspicions_total", &[]) >= 1.0,
            "{page}"
        );
        assert!(causeway_tests::edge::sample(&page, "causeway_edge_sessions_suspected", &[]) < 1.0, "{page}");
    });
}

#[test]
fn nothing_breaks_while_the_link_stands_still_for_three_seconds() {
    stand_still(3 * SECOND);
}

#[test]
fn nothing_breaks_while_the_link_stands_still_for_eight_seconds() {
    stand_still(8 * SECOND);
}

#[test]
fn nothing_breaks_while_the_link_stands_still_for_twenty_seconds() {
    if long() {
        stand_still(20 * SECOND);
    }
}

/// Measures how soon an idle link is used after its return: nothing is under way that its window could be full of.
#[test]
fn a_link_that_is_back_is_used_at_once() {
    run_within(90 * SECOND, async {
        let origin = sample().await;
        let (site, relay) = Site::linked(&to(http(&origin))).await;
        for pause in [3, 8] {
            relay.cut();
            site.edge.wait_state("site", "DOWN", 10 * SECOND).await;
            let waiting = asked(&site.edge, "/bytes/1");
            wait::until("the connector to suspect both", 10 * SECOND, async || {
                let sessions = site.connector.status().await["edges"][0]["sessions"].as_array().cloned()?;
                sessions.iter().all(|session| session["suspected"] == true).then_some(())
            })
            .await;
            let page = site.connector.metrics().await;
            assert!(gauge(&page, "causeway_connector_sessions_suspected") >= 2.0, "{page}");
            assert_eq!(site.connector.health().await, 1, "not ready while no edge is heard");
            tokio::time::sleep(pause * SECOND).await;
            relay.mend();
            let mended = Instant::now();
            assert_eq!(status(waiting).await, 200);
            let took = mended.elapsed();
            println!("{pause} s of silence: answered {took:?} after the return");
            assert!(took < 2 * SECOND, "{took:?}");
            site.edge.wait_state("site", "HEALTHY", 10 * SECOND).await;
        }
        let ids = |sessions: Vec<serde_json::Value>| {
            let mut ids: Vec<_> = sessions.iter().map(|session| session["id"].to_string()).collect();
            ids.sort();
            ids
        };
        let look = || async { (site.edge.sessions().await == 2).then_some(()) };
        wait::until("one session of each role", 10 * SECOND, look).await;
        let before = ids(site.edge.all_sessions().await);
        visit(&site.edge, Protocol::Http1, &format!("https://{APP}/bytes/10")).await.ok();
        assert_eq!(ids(site.edge.all_sessions().await), before);
    });
}

#[test]
fn new_requests_are_served_elsewhere_while_a_link_is_silent() {
    run_within(120 * SECOND, async {
        let origin = sample().await;
        let rules = to(http(&origin));
        let (site, relay) = Site::linked(&rules).await;
        let direct = format!("edges:\n  - {}\n{rules}", site.edge.tunnel);
        let mut other = Connector::start(&site.tunnel.token, &direct);
        other.ready(READY).await;
        let load = Load::start(&site.edge, APP, "/bytes/2000", 2000, 6, 4);
        wait::holds("load to flow", READY, || load.answered() > 500).await;
        relay.cut();
        let before = load.answered();
        let heard = || async { (site.edge.heard_sessions().await == 2).then_some(()) };
        wait::until("the silent sessions to be suspected", 10 * SECOND, heard).await;
        wait::holds("load to flow elsewhere", READY, || load.answered() > before + 500).await;
        relay.mend();
        let healthy = site.edge.wait_state("site", "HEALTHY", READY).await;
        let tally = load.stop().await;
        println!(
            "{} answers, slowest {:?}; whole {healthy:?} after the return",
            tally.answered, tally.slowest
        );
        assert_eq!(tally.failed, 0, "{:?}", tally.failures);
        assert!(tally.slowest < 3 * SECOND, "{:?}", tally.slowest);
    });
}

#[test]
fn a_connector_whose_port_changes_on_the_way_keeps_its_session_and_what_it_carries() {
    run_within(90 * SECOND, async {
        let origin = sample().await;
        let (site, relay) = Site::linked(&to(http(&origin))).await;
        let mut all = vec![
            download(&site.edge, 1 << 25, PACE).await,
            upload(&site.edge).await,
            web_socket(&site.edge).await,
        ];
        let id = |sessions: &[serde_json::Value]| {
            let primary = sessions.iter().find(|session| session["role"] == "primary");
            primary.map(|session| session["id"].to_string())
        };
        let before = id(&site.edge.all_sessions().await);
        assert!(before.is_some());
        for _ in 0..3 {
            for going in &mut all {
                going.moved.mark_unchanged();
            }
            rebound(&relay, &mut all).await;
        }
        assert_eq!(id(&site.edge.all_sessions().await), before);
        for going in all {
            let name = going.name;
            println!("{name}: nothing moved for {:?} at most", going.finish().await);
        }
    });
}

/// A NAT that lost a mapping for good: what was in flight by it is lost, but nothing waits for thirty seconds.
#[test]
fn a_new_session_proves_that_the_old_way_is_dead() {
    run_within(90 * SECOND, async {
        let origin = sample().await;
        let (site, relay) = Site::linked(&to(http(&origin))).await;
        let ids = |sessions: Vec<serde_json::Value>| -> Vec<String> {
            sessions.iter().map(|session| session["id"].to_string()).collect()
        };
        let before = ids(site.edge.all_sessions().await);
        let slow = asked(&site.edge, "/slow/1000");
        wait::holds("the request at the origin", 5 * SECOND, || origin.counters().running() > 0).await;
        relay.strand();
        let since = Instant::now();
        assert_eq!(status(slow).await, 200, "asked again on the new session");
        println!("answered after {:?}", since.elapsed());
        let look = || async {
            let now = ids(site.edge.all_sessions().await);
            (now.len() == 2 && now.iter().all(|id| !before.contains(id))).then_some(())
        };
        let (_, took) = wait::until("new sessions alone", 15 * SECOND, look).await;
        println!("the old ones were gone {:?} after that", took);
        let page = site.edge.metrics().await;
        let labels = ["reason=\"successor\""];
        assert!(
            causeway_tests::edge::sample(&page, "causeway_edge_sessions_given_up_total", &labels) >= 1.0,
            "{page}"
        );
        site.connector.program.line("closing a session that is silent", 5 * SECOND).await;
    });
}

async fn rebound(relay: &Relay, all: &mut [Going]) {
    relay.rebind();
    for going in all {
        going.moves().await;
    }
}

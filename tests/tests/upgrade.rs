//! Upgrades that no visitor notices: the edge's next process takes over in place, a connector's successor comes before it goes. Hazards 153,
//! 154.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use causeway_tests::child::Program;
use causeway_tests::client::{Duplex, Http2, Protocol, over_http1, over_http2, visit};
use causeway_tests::edge::EdgeOptions;
use causeway_tests::files::Folder;
use causeway_tests::load::Load;
use causeway_tests::origin::{http, sample};
use causeway_tests::site::{APP, Site, to};
use causeway_tests::{long, run, run_within, wait};
use futures_util::{SinkExt, StreamExt};
use rustix::process::{Pid, Signal, kill_process};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const READY: Duration = Duration::from_secs(20);
const URL: &str = "https://app.example.test/bytes/10";

/// Messages come back on it, which goes through the process of the edge that was there when it was opened.
struct Socket {
    io: WebSocketStream<Box<dyn Duplex>>,
    /// Held as long as the socket.
    _connection: Option<Http2>,
}

impl Socket {
    async fn over_http1(site: &Site) -> Self {
        Self { io: over_http1(site.http1().await, APP, "/ws").await.unwrap(), _connection: None }
    }

    async fn over_http2(site: &Site) -> Self {
        let mut client = site.http2().await;
        Self { io: over_http2(&mut client, APP, "/ws").await.unwrap(), _connection: Some(client) }
    }

    async fn works(&mut self) {
        let sent = Message::binary(vec![7; 100_000]);
        self.io.send(sent.clone()).await.unwrap();
        let back = tokio::time::timeout(READY, self.io.next()).await.expect("an echo");
        assert!(back.unwrap().unwrap() == sent);
    }
}

/// Upgrades `rounds` times under load from visitors of all three kinds.
async fn upgraded(mut site: Site, rounds: u32) {
    let load = Load::start(&site.edge, APP, "/bytes/2000", 2000, 6, 3);
    let load = load.and_http3(&site.edge, APP, "/bytes/2000", 2000, 3);
    let mut before: Vec<(Program, [Socket; 2])> = Vec::new();
    for round in 0..rounds {
        let answered = load.answered();
        wait::holds("load to flow", READY, || load.answered() > answered + 500).await;
        let sockets = [Socket::over_http1(&site).await, Socket::over_http2(&site).await];
        before.push((site.edge.upgrade().await, sockets));
        for (_, sockets) in &mut before {
            for socket in sockets {
                socket.works().await;
            }
        }
        assert_eq!(load.failed(), 0, "round {round}: {:?}", load.stop().await.failures);
        // Three generations at once, and the oldest ends as soon as nobody uses it.
        if before.len() == 3 {
            let (mut oldest, sockets) = before.remove(0);
            drop(sockets);
            assert!(oldest.ended(READY).await.success());
        }
    }
    let answered = load.answered();
    wait::holds("load to flow", READY, || load.answered() > answered + 500).await;
    let tally = load.stop().await;
    println!("{} answers over {rounds} upgrades, slowest {:?}", tally.answered, tally.slowest);
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
    assert!(tally.slowest < no_stall(), "{:?}", tally.slowest);
}

/// How long no answer takes. The machine is shared with other tests where it is not the long form's.
fn no_stall() -> Duration {
    Duration::from_millis(if long() { 50 } else { 500 })
}

#[test]
fn hazard_154_an_edge_is_upgraded_in_place_and_no_visitor_notices() {
    let rounds = if long() { 100 } else { 5 };
    run_within(Duration::from_secs(120 + u64::from(rounds) * 10), async move {
        let origin = sample().await;
        upgraded(Site::start(&to(http(&origin))).await, rounds).await;
    });
}

#[test]
fn hazard_154_the_shards_of_an_edge_are_upgraded_together() {
    run_within(Duration::from_secs(120), async {
        let origin = sample().await;
        let options = EdgeOptions { config: "shards: 3".to_owned(), ..EdgeOptions::default() };
        let site = Site::with(options, Folder::default(), &to(http(&origin))).await;
        upgraded(site, 3).await;
    });
}

#[test]
fn hazard_153_a_connector_whose_successor_is_there_before_it_goes_is_not_missed() {
    let rounds = if long() { 100 } else { 5 };
    run_within(Duration::from_secs(60 + rounds * 10), async move {
        let origin = sample().await;
        let rules = to(http(&origin));
        let mut site = Site::start(&rules).await;
        let load = Load::start(&site.edge, APP, "/bytes/2000", 2000, 6, 3);
        let load = load.and_http3(&site.edge, APP, "/bytes/2000", 2000, 3);
        for round in 0..rounds {
            let answered = load.answered();
            wait::holds("load to flow", READY, || load.answered() > answered + 500).await;
            let next = site.replica(&rules).await;
            let mut before = std::mem::replace(&mut site.connector, next);
            before.program.terminate();
            assert!(before.program.ended(READY).await.success());
            assert_eq!(load.failed(), 0, "round {round}: {:?}", load.stop().await.failures);
        }
        let tally = load.stop().await;
        println!("{} answers over {rounds} upgrades, slowest {:?}", tally.answered, tally.slowest);
        assert_eq!(tally.failed, 0, "{:?}", tally.failures);
        assert!(tally.slowest < no_stall(), "{:?}", tally.slowest);
    });
}

#[test]
fn a_request_that_comes_on_a_connection_to_the_process_before_is_answered_and_the_last() {
    run(async {
        let origin = sample().await;
        let mut site = Site::start(&to(http(&origin))).await;
        let mut kept = site.http1().await;
        let request = || http::Request::get(URL).body(bytes::Bytes::new()).unwrap();
        kept.fetch(request()).await.unwrap().ok();
        let mut before = site.edge.upgrade().await;
        let answer = kept.fetch(request()).await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{answer:?}");
        assert!(before.ended(READY).await.success());
        visit(&site.edge, Protocol::Http1, URL).await.ok();
    });
}

#[test]
fn a_successor_that_cannot_start_leaves_everything_to_the_process_before_it() {
    run(async {
        let origin = sample().await;
        let mut site = Site::start(&to(http(&origin))).await;
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().to_string();
        let refused = site.edge.cli(&["run", "--take-over", "--dev", "--http", &port]).await;
        assert!(refused.stderr.contains("--http") && refused.code != 0, "{refused:?}");
        let strange = site.edge.cli(&["run", "--take-over", "--dev", "--config", "/nowhere"]).await;
        assert!(strange.stderr.contains("/nowhere"), "{strange:?}");
        for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Http3] {
            visit(&site.edge, protocol, URL).await.ok();
        }
        // And who does not ask to take over is told.
        let second = site.edge.cli(&["run", "--dev"]).await;
        assert!(second.stderr.contains("another edge runs"), "{second:?}");
        site.edge.upgrade().await.ended(READY).await;
        visit(&site.edge, Protocol::Http3, URL).await.ok();
    });
}

/// Kills the process at the end: it is no child of ours.
struct Stranger(Pid);

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

#[test]
fn the_upgrade_command_has_the_edge_start_its_next_process_and_waits_for_it() {
    run(async {
        let origin = sample().await;
        let mut site = Site::start(&to(http(&origin))).await;
        let upgraded = site.edge.cli(&["upgrade", "--output", "json"]).await.json();
        let pid = i32::try_from(upgraded["pid"].as_i64().unwrap()).unwrap();
        let _next = Stranger(Pid::from_raw(pid).unwrap());
        assert!(site.edge.program.ended(READY).await.success());
        visit(&site.edge, Protocol::Http2, URL).await.ok();
        let status = site.edge.status().await;
        assert_eq!((status["pid"].as_i64(), status["ready"].as_bool()), (Some(pid.into()), Some(true)));
    });
}

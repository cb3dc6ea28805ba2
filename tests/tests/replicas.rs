//! Several connectors of one tunnel, several shards of one edge: load is shared, dead or draining sessions are never chosen.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::time::Duration;

use bytes::Bytes;
use causeway_tests::client::{Http1, PROTOCOLS, Protocol, fetch, visit};
use causeway_tests::edge::EdgeOptions;
use causeway_tests::load::Load;
use causeway_tests::origin::scripted::Scripted;
use causeway_tests::origin::{closed_port, http, sample};
use causeway_tests::site::{APP, Site, to};
use causeway_tests::{run, wait};
use http::Request;

const URL: &str = "https://app.example.test/";

#[test]
fn requests_are_shared_among_replicas() {
    run(async {
        let (one, two) = (sample().await, sample().await);
        let site = Site::of(http(&one)).await;
        let _replica = site.replica(&to(http(&two))).await;
        let load = Load::start(&site.edge, APP, "/bytes/100", 100, 8, 0);
        wait::holds("load to flow", Duration::from_secs(20), || load.answered() > 1000).await;
        let tally = load.stop().await;
        assert_eq!(tally.failed, 0, "{:?}", tally.failures);
        let (one, two) = (one.counters().requests(), two.counters().requests());
        let share = one as f64 / (one + two) as f64;
        assert!((0.2..0.8).contains(&share), "{one} and {two}");
    });
}

#[test]
fn the_replica_with_fewer_streams_in_flight_is_preferred() {
    run(async {
        let (one, two) = (sample().await, sample().await);
        let site = Site::of(http(&one)).await;
        let _replica = site.replica(&to(http(&two))).await;
        // Forty long requests, one after the other: with two candidates and the smaller wins, they end up almost even.
        let mut held = Vec::new();
        for n in 1..=40 {
            let mut client = Http1::plain(site.edge.http).await;
            client.send(format!("GET /slow/60000 HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
            let running = || one.counters().running() + two.counters().running() == n;
            wait::holds("the request at an origin", Duration::from_secs(5), running).await;
            held.push(client);
        }
        let (one, two) = (one.counters().running(), two.counters().running());
        assert!(one.abs_diff(two) <= 8, "{one} and {two}");
    });
}

#[test]
fn hazard_135_what_was_not_executed_is_tried_on_another_replica() {
    run(async {
        let good = sample().await;
        let site = Site::of(http(&good)).await;
        // This replica's origin refuses connections: nothing is executed there, so any request may be tried on the other.
        let _broken = site.replica(&to(format!("http://{}", closed_port()))).await;
        for protocol in PROTOCOLS {
            for n in 0..20 {
                visit(&site.edge, protocol, &format!("{URL}bytes/{n}")).await.ok();
                let request =
                    Request::post(format!("{URL}sink")).body(Bytes::from(vec![b'x'; 1000])).unwrap();
                let seen = fetch(&site.edge, protocol, request).await.unwrap();
                assert_eq!(
                    seen.status,
                    200,
                    "{protocol:?}: a small POST is tried again, too: {}",
                    seen.text()
                );
            }
        }
    });
}

#[test]
fn hazard_136_no_request_is_executed_twice() {
    run(async {
        // An origin that takes the request and then breaks off: a POST must never reach a second one.
        let broken = || {
            Scripted::start(|mut connection| async move {
                connection.request().await;
                connection.reset();
            })
        };
        let (one, two) = (broken().await, broken().await);
        let site = Site::of(one.service()).await;
        let _replica = site.replica(&to(two.service())).await;
        for n in 0..20 {
            let before = one.heads().len() + two.heads().len();
            let request = Request::post(URL).header("x-mark", n).body(Bytes::from_static(b"pay")).unwrap();
            assert_eq!(fetch(&site.edge, Protocol::Http2, request).await.unwrap().status, 502);
            assert_eq!(one.heads().len() + two.heads().len() - before, 1);
        }
    });
}

/// The shards to which the site's connectors have sessions.
fn shards_with_sessions(status: &serde_json::Value) -> Vec<u64> {
    let all = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let connectors = all(&status["tunnels"]).into_iter().flat_map(|tunnel| all(&tunnel["connectors"]));
    let sessions = connectors.flat_map(|connector| all(&connector["sessions"]));
    let mut shards: Vec<u64> = sessions.filter_map(|session| session["shard"].as_u64()).collect();
    shards.sort_unstable();
    shards.dedup();
    shards
}

#[test]
fn three_shards_serve_whatever_shard_a_visitor_meets() {
    run(async {
        let origin = sample().await;
        let options = EdgeOptions { config: "shards: 3\n".into(), ..Default::default() };
        let site = Site::with(options, Default::default(), &to(http(&origin))).await;
        let look = || async {
            let shards = shards_with_sessions(&site.edge.status().await);
            (shards == [0, 1, 2]).then_some(())
        };
        wait::until("a session to each shard", Duration::from_secs(20), look).await;
        // The kernel spreads connections over the shards' sockets: with 60 of them each shard has some.
        for protocol in PROTOCOLS {
            for _ in 0..30 {
                visit(&site.edge, protocol, &format!("{URL}bytes/100")).await.ok();
            }
        }
        let load = Load::start(&site.edge, APP, "/bytes/1000", 1000, 9, 3);
        wait::holds("load to flow", Duration::from_secs(20), || load.answered() > 1500).await;
        let tally = load.stop().await;
        assert_eq!(tally.failed, 0, "{:?}", tally.failures);
    });
}

#[test]
fn a_shard_without_a_session_hands_over_instead_of_refusing() {
    run(async {
        let origin = sample().await;
        let options = EdgeOptions { config: "shards: 3\n".into(), ..Default::default() };
        let mut site = Site::with(options, Default::default(), &to(http(&origin))).await;
        // A fresh connector has its sessions one by one: from the first moment on, no visitor may see a refusal.
        site.connector.program.kill().await;
        site.edge.wait_state("site", "DOWN", Duration::from_secs(10)).await;
        let _connector = causeway_tests::connector::Connector::start(&site.tunnel.token, &to(http(&origin)));
        let look = || async {
            (visit(&site.edge, Protocol::Http1, &format!("{URL}bytes/1")).await.status == 200).then_some(())
        };
        wait::until("the first answer", Duration::from_secs(20), look).await;
        for _ in 0..60 {
            visit(&site.edge, Protocol::Http1, &format!("{URL}bytes/1")).await.ok();
        }
    });
}

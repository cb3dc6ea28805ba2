//! What dies, stops, reloads or loses its link costs no request that could be saved: done-when 4, hazards 152 to 168.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use causeway_tests::client::{Http1, Protocol, visit};
use causeway_tests::connector::Connector;
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::load::Load;
use causeway_tests::origin::{http, sample};
use causeway_tests::site::{APP, NAMES, Site, to};
use causeway_tests::{long, run, run_within, wait};
use tokio::net::TcpStream;

const SECOND: Duration = Duration::from_secs(1);
const READY: Duration = Duration::from_secs(20);

#[test]
fn hazard_152_killing_one_of_two_connectors_under_load_fails_no_idempotent_request() {
    let rounds = if long() { 100 } else { 4 };
    run_within(Duration::from_secs(60 + rounds * 10), async move {
        let origin = sample().await;
        let rules = to(http(&origin));
        let site = Site::start(&rules).await;
        let mut victim = site.replica(&rules).await;
        let load = Load::start(&site.edge, APP, "/bytes/2000", 2000, 8, 4);
        let mut keep = site.connector;
        for round in 0..rounds {
            let before = load.answered();
            wait::holds("load to flow", READY, || load.answered() > before + 500).await;
            victim.program.kill().await;
            // In turn: the survivor becomes the next victim, so that both were under load for a while.
            let mut fresh = Connector::start(&site.tunnel.token, &rules);
            fresh.ready(READY).await;
            std::mem::swap(&mut keep, &mut fresh);
            victim = fresh;
            assert_eq!(load.failed(), 0, "round {round}: {:?}", load.stop().await.failures);
        }
        let tally = load.stop().await;
        println!("{} answers over {rounds} kills, slowest {:?}", tally.answered, tally.slowest);
        assert_eq!(tally.failed, 0, "{:?}", tally.failures);
        assert!(tally.slowest < Duration::from_secs(3), "{:?}", tally.slowest);
    });
}

#[test]
fn hazard_153_while_the_only_connector_is_restarted_its_visitors_wait_and_none_fails() {
    let rounds = if long() { 100 } else { 4 };
    run_within(Duration::from_secs(60 + rounds * 10), async move {
        let origin = sample().await;
        let rules = to(http(&origin));
        let mut site = Site::start(&rules).await;
        let load = Load::start(&site.edge, APP, "/bytes/2000", 2000, 8, 4);
        for round in 0..rounds {
            let before = load.answered();
            wait::holds("load to flow", READY, || load.answered() > before + 500).await;
            site.connector.program.terminate();
            site.connector.program.ended(READY).await;
            site.connector = Connector::start(&site.tunnel.token, &rules);
            site.connector.ready(READY).await;
            assert_eq!(load.failed(), 0, "round {round}: {:?}", load.stop().await.failures);
        }
        let tally = load.stop().await;
        println!("{} answers over {rounds} restarts, slowest {:?}", tally.answered, tally.slowest);
        assert_eq!(tally.failed, 0, "{:?}", tally.failures);
        assert!(tally.slowest < Duration::from_secs(3), "{:?}", tally.slowest);
        let waited = site.edge.metric("causeway_edge_request_waits_total", &["tunnel"]).await;
        assert!(waited > 0.0, "nobody had to wait: the test shows nothing");
    });
}

#[test]
fn hazard_152_a_frozen_connector_is_noticed_within_three_seconds() {
    run(async {
        let origin = sample().await;
        let rules = to(http(&origin));
        let site = Site::start(&rules).await;
        let frozen = site.replica(&rules).await;
        let with_both = site.edge.heard_sessions().await;
        frozen.program.freeze();
        let since = Instant::now();
        let look = || async { (site.edge.heard_sessions().await < with_both).then_some(()) };
        wait::until("the frozen connector's sessions to be suspected", Duration::from_secs(6), look).await;
        println!("noticed after {:?}", since.elapsed());
        assert!(since.elapsed() < Duration::from_millis(3700), "{:?}", since.elapsed());
        for _ in 0..20 {
            visit(&site.edge, Protocol::Http1, &format!("https://{APP}/bytes/10")).await.ok();
        }
        frozen.program.thaw();
        let look = || async { (site.edge.heard_sessions().await == with_both).then_some(()) };
        wait::until("the thawed connector to be heard again", Duration::from_secs(6), look).await;
    });
}

#[test]
fn of_a_thousand_reloads_under_load_none_loses_a_request() {
    let rounds = if long() { 1000 } else { 150 };
    run_within(Duration::from_secs(400), async move {
        let origin = sample().await;
        let rules = |n: u64| {
            let wanted = format!("  - hostname: {APP}\n    service: {}\n", http(&origin));
            let changing =
                format!("  - hostname: r{n}.example.test\n    service: http_status:2{:02}\n", n % 90);
            // The order changes as well, so that route ids move.
            let both = if n.is_multiple_of(2) {
                format!("{wanted}{changing}")
            } else {
                format!("{changing}{wanted}")
            };
            format!("ingress:\n{both}  - service: http_status:404\n")
        };
        let site = Site::start(&rules(0)).await;
        let load = Load::start(&site.edge, APP, "/bytes/3000", 3000, 6, 2);
        wait::holds("load to flow", READY, || load.answered() > 500).await;
        let before = site.connector.program.usage();
        for n in 1..=rounds {
            site.connector.rules(&rules(n));
            if n % 3 == 0 {
                site.connector.program.hang_up();
            }
            tokio::time::sleep(Duration::from_millis(if long() { 200 } else { 60 })).await;
        }
        let last = format!("r{rounds}.example.test");
        let look = || async {
            let answer = visit(&site.edge, Protocol::Http1, &format!("https://{last}/")).await;
            (u64::from(answer.status) == 200 + rounds % 90).then_some(())
        };
        wait::until("the last rules to serve", Duration::from_secs(10), look).await;
        let tally = load.stop().await;
        let after = site.connector.program.usage();
        println!(
            "{} answers over {rounds} reloads, slowest {:?}; {before:?} -> {after:?}",
            tally.answered, tally.slowest
        );
        assert_eq!(tally.failed, 0, "{:?}", tally.failures);
        assert!(after.resident_bytes < before.resident_bytes + (8 << 20), "{before:?} -> {after:?}");
    });
}

#[test]
fn a_bad_file_keeps_the_old_rules_and_says_where_it_is_wrong() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        site.connector.rules("ingress:\n  - servce: http://127.0.0.1\n");
        let line = site.connector.program.line("config.yml:2:", Duration::from_secs(5)).await;
        assert!(line.contains("service"), "{line}");
        visit(&site.edge, Protocol::Http1, &format!("https://{APP}/inspect")).await.ok();
        let status = site.connector.status().await.to_string();
        assert!(status.contains("config.yml:2:"), "status shows the place: {status}");
        let metrics = site.connector.metrics().await;
        let failed = metrics
            .lines()
            .any(|line| line.contains("reload") && !line.starts_with('#') && !line.ends_with(" 0"));
        assert!(failed, "metrics show the failed reload: {metrics}");
        site.connector.rules(&to(http(&origin)));
        let look =
            || async { (!site.connector.status().await.to_string().contains("config.yml:2:")).then_some(()) };
        wait::until("the good file to be taken", Duration::from_secs(5), look).await;
    });
}

#[test]
fn reload_follows_a_swapped_symlink() {
    run(async {
        let folder = causeway_tests::files::Folder::default();
        // As a ConfigMap is mounted: config.yml -> ..data/config.yml, ..data -> ..1
        for (version, status) in [("..1", 201), ("..2", 202)] {
            std::fs::create_dir(folder.join(version)).unwrap();
            std::fs::write(
                folder.join(version).join("config.yml"),
                format!("ingress:\n  - service: http_status:{status}\n"),
            )
            .unwrap();
        }
        std::os::unix::fs::symlink("..1", folder.join("..data")).unwrap();
        let edge = Edge::start().await;
        let created = edge.create("site", &NAMES).await;
        std::os::unix::fs::symlink("..data/config.yml", folder.join("linked.yml")).unwrap();
        let token = folder.write("token", &created.token);
        let mut command =
            tokio::process::Command::new(causeway_tests::programs::program("causeway-connector"));
        command.arg("run").arg("--config").arg(folder.join("linked.yml")).arg("--token-file").arg(token);
        command.args(["--metrics", "127.0.0.1:0"]).arg("--control").arg(folder.join("control.sock"));
        let _connector = causeway_tests::child::Program::start("connector", command);
        edge.wait_state("site", "HEALTHY", READY).await;
        let status = || async { visit(&edge, Protocol::Http1, &format!("https://{APP}/")).await.status };
        assert_eq!(status().await, 201);
        std::os::unix::fs::symlink("..2", folder.join("..tmp")).unwrap();
        std::fs::rename(folder.join("..tmp"), folder.join("..data")).unwrap();
        let look = || async { (status().await == 202).then_some(()) };
        wait::until("the new rules", Duration::from_secs(5), look).await;
    });
}

/// How long after the link is mended the first request succeeds.
async fn first_success(site: &Site) -> Duration {
    let since = Instant::now();
    let look = || async {
        (visit(&site.edge, Protocol::Http1, &format!("https://{APP}/bytes/1")).await.status == 200)
            .then_some(())
    };
    wait::until("a request to succeed", Duration::from_secs(30), look).await;
    since.elapsed()
}

#[test]
fn hazard_158_a_link_that_was_down_for_a_second_serves_again_within_a_second() {
    run(async {
        let origin = sample().await;
        let (site, relay) = Site::linked(&to(http(&origin))).await;
        first_success(&site).await;
        for _ in 0..if long() { 20 } else { 3 } {
            relay.cut();
            tokio::time::sleep(SECOND).await;
            relay.mend();
            let took = first_success(&site).await;
            println!("1 s outage: first success after {took:?}");
            assert!(took < SECOND, "{took:?}");
        }
    });
}

#[test]
fn hazard_155_a_link_that_was_down_for_long_serves_again_within_two_seconds() {
    let outage = Duration::from_secs(if long() { 60 } else { 12 });
    run_within(outage + Duration::from_secs(60), async move {
        let origin = sample().await;
        let (site, relay) = Site::linked(&to(http(&origin))).await;
        first_success(&site).await;
        relay.cut();
        site.edge.wait_state("site", "DOWN", Duration::from_secs(10)).await;
        let before = relay.packets();
        tokio::time::sleep(outage).await;
        println!("{} packets sent into the void in {outage:?}", relay.packets() - before);
        relay.mend();
        let took = first_success(&site).await;
        println!("{outage:?} outage: first success after {took:?}");
        assert!(took < 2 * SECOND, "{took:?}");
    });
}

#[test]
fn hazard_161_a_link_that_is_dead_in_one_direction_is_noticed_at_both_ends() {
    run_within(90 * SECOND, async {
        let origin = sample().await;
        let rules = to(http(&origin));
        let (site, relay) = Site::linked(&rules).await;
        first_success(&site).await;
        let beside = format!("edges: ['{}']\n{rules}", site.edge.tunnel);
        let mut beside = Connector::start(&site.tunnel.token, &beside);
        beside.ready(READY).await;
        let with_both = site.edge.heard_sessions().await;
        let load = Load::start(&site.edge, APP, "/bytes/2000", 2000, 4, 2);
        wait::holds("load to flow", READY, || load.answered() > 200).await;
        relay.cut_the_way_back();
        let since = Instant::now();
        let look = || async { (site.edge.heard_sessions().await == with_both - 2).then_some(()) };
        wait::until("the edge to know that it is not heard", 6 * SECOND, look).await;
        println!("the edge knows after {:?}", since.elapsed());
        let (before, at) = (load.answered(), Instant::now());
        wait::holds("the load to flow on", 4 * SECOND, || load.answered() > before + 200).await;
        println!("flows after {:?}", at.elapsed());
        relay.mend();
        let look = || async { (site.edge.heard_sessions().await == with_both).then_some(()) };
        wait::until("both to be heard", READY, look).await;
        let tally = load.stop().await;
        println!("slowest {:?}", tally.slowest);
        assert_eq!(tally.failed, 0, "{:?}", tally.failures);
        assert!(tally.slowest < 4 * SECOND, "{:?}", tally.slowest);
    });
}

/// A hundred connectors, in this process: each as a program has it, with its own thread, sessions and patience.
#[test]
fn hazard_156_connectors_that_return_at_once_are_all_back_within_fifteen_seconds() {
    // A thousand would be a thousand machines: on one they leave each other, and the edge, no time.
    let (tunnels, each) = (4, 25);
    run_within(200 * SECOND, async move {
        let mut edge = Edge::start().await;
        let mut connectors = Vec::new();
        for tunnel in 0..tunnels {
            let created = edge.create(&format!("t{tunnel}"), &[&format!("t{tunnel}.example.test")]).await;
            for _ in 0..each {
                connectors.push(within(&created.token).await);
            }
        }
        let all = 2 * tunnels * each;
        let there = async |edge: &Edge| (edge.heard_sessions().await == all).then_some(());
        wait::until("all to be there", 60 * SECOND, || there(&edge)).await;
        let (https, http, tunnel) = (Some(edge.https), Some(edge.http), Some(edge.tunnel));
        let data = Some(edge.kill().await);
        // So long that each has given up, and dials for ever.
        tokio::time::sleep(5 * SECOND).await;
        edge = Edge::with(EdgeOptions { data, https, http, tunnel, ..EdgeOptions::default() }).await;
        let since = Instant::now();
        wait::until("all to be back", 60 * SECOND, || there(&edge)).await;
        println!("{} connectors are back after {:?}", connectors.len(), since.elapsed());
        assert!(since.elapsed() < 15 * SECOND, "{:?}", since.elapsed());
    });
}

/// A connector of this process.
async fn within(token: &str) -> causeway_connector::app::App {
    let settings = causeway_connector::app::Settings {
        config: causeway_connector::config::parse("rules.yml", "ingress:\n  - service: hello_world\n")
            .unwrap(),
        file: None,
        edges: Vec::new(),
        token: causeway_tunnel::Token::parse(token).unwrap(),
        metrics: Some(([127, 0, 0, 1], 0).into()),
        shards: None,
        control: None,
        levels: None,
        visits: Default::default(),
        within: None,
    };
    causeway_connector::app::App::start(settings).await.unwrap()
}

#[test]
fn hazard_155_an_edge_that_restarts_is_found_again() {
    run(async {
        let origin = sample().await;
        let (site, relay) = Site::linked(&to(http(&origin))).await;
        first_success(&site).await;
        let Site { edge, connector, .. } = site;
        let data = edge.kill().await;
        let edge =
            Edge::with(EdgeOptions { data: Some(data), address: Some(relay.addr()), ..Default::default() })
                .await;
        relay.lead_to(edge.tunnel);
        // Told by the edge itself, at the connector's next packet: nobody waits for a silence.
        connector.program.line("the peer was started anew", Duration::from_secs(3)).await;
        let took = edge.wait_state("site", "HEALTHY", Duration::from_secs(20)).await;
        println!("back {took:?} after the edge");
        assert!(took < Duration::from_secs(6), "{took:?}");
        visit(&edge, Protocol::Http2, &format!("https://{APP}/bytes/10")).await.ok();
        drop(connector);
    });
}

/// From the moment that an edge takes a connection to the site's first whole answer. Who asks in between is to wait and not to fail.
async fn first_answer(http: SocketAddr) -> Duration {
    let connection = loop {
        if let Ok(connection) = TcpStream::connect(http).await {
            break connection;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let since = Instant::now();
    let request = http::Request::get(format!("http://{APP}/bytes/10")).body(Bytes::new()).unwrap();
    Http1::over(connection).fetch(request).await.unwrap().ok();
    since.elapsed()
}

#[test]
fn hazard_155_after_a_crash_of_the_edge_the_first_visitor_waits_for_a_moment_and_does_not_fail() {
    let rounds = if long() { 50 } else { 5 };
    run_within(Duration::from_secs(60 + rounds * 10), async move {
        let origin = sample().await;
        let rules = format!("ingress:\n  - service: {}\n    http: serve\n", http(&origin));
        let Site { mut edge, mut connector, .. } = Site::start(&rules).await;
        connector.ready(READY).await;
        let mut all = Vec::new();
        for _ in 0..rounds {
            let load = Load::start(&edge, APP, "/bytes/2000", 2000, 4, 0);
            wait::holds("load to flow", READY, || load.answered() > 100).await;
            let (https, http, tunnel) = (Some(edge.https), Some(edge.http), Some(edge.tunnel));
            let data = Some(edge.kill().await);
            drop(load.stop().await);
            let options = EdgeOptions { data, https, http, tunnel, ..Default::default() };
            let (again, took) = tokio::join!(Edge::with(options), first_answer(http.unwrap()));
            edge = again;
            all.push(took);
            edge.wait_state("site", "HEALTHY", READY).await;
        }
        all.sort_unstable();
        println!("from the socket's return to the first answer: {all:?}");
        let p95 = all[all.len() * 95 / 100];
        assert!(p95 < Duration::from_millis(if long() { 300 } else { 1500 }), "{p95:?}");
    });
}

#[test]
fn hazard_162_names_are_resolved_anew_and_every_address_is_tried() {
    run(async {
        let origin = sample().await;
        let edge = Edge::start().await;
        let port = edge.tunnel.port();
        // `localhost` has an IPv6 address on which nothing listens, beside the IPv4 one; the first edge of the list does not exist.
        let created = edge
            .cli(&[
                "tunnel",
                "create",
                "site",
                "--hostname",
                "*.example.test",
                "--address",
                "nowhere.invalid:443",
                "--address",
                &format!("localhost:{port}"),
                "--output",
                "json",
            ])
            .await
            .json();
        let mut connector = Connector::start(created["token"].as_str().unwrap(), &to(http(&origin)));
        connector.ready(READY).await;
        visit(&edge, Protocol::Http1, &format!("https://{APP}/bytes/10")).await.ok();
    });
}

#[test]
fn hazard_153_a_graceful_stop_finishes_what_is_in_flight_and_loses_nothing() {
    run(async {
        let origin = sample().await;
        let rules = to(http(&origin));
        let site = Site::start(&rules).await;
        let replica = site.replica(&rules).await;
        let load = Load::start(&site.edge, APP, "/bytes/2000", 2000, 8, 2);
        wait::holds("load to flow", READY, || load.answered() > 300).await;
        let mut slow = site.http1().await;
        slow.send(format!("GET /slow/2000 HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut stopping = [site.connector, replica];
        stopping[0].program.terminate();
        let code = stopping[0].program.ended(Duration::from_secs(10)).await;
        assert_eq!(code.code(), Some(0));
        assert_eq!(slow.answer("GET").await.unwrap().ok().text(), "slow\n");
        let tally = load.stop().await;
        assert_eq!(tally.failed, 0, "{:?}", tally.failures);
    });
}

#[test]
fn an_idle_connector_leaves_at_once_and_a_second_signal_ends_at_once() {
    run(async {
        let origin = sample().await;
        let mut site = Site::of(http(&origin)).await;
        let since = Instant::now();
        site.connector.program.terminate();
        assert_eq!(site.connector.program.ended(Duration::from_secs(5)).await.code(), Some(0));
        assert!(since.elapsed() < Duration::from_millis(1500), "{:?}", since.elapsed());
        site.edge.wait_state("site", "DOWN", 2 * SECOND).await;

        let mut connector = site.replica(&to(http(&origin))).await;
        let mut slow = site.http1().await;
        slow.send(format!("GET /slow/60000 HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
        wait::holds("the slow request at the origin", 2 * SECOND, || origin.counters().running() > 0).await;
        connector.program.terminate();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(connector.program.runs(), "it waits for what is in flight");
        connector.program.terminate();
        connector.program.ended(2 * SECOND).await;
    });
}

#[test]
fn hazard_154_an_edge_that_stops_finishes_what_is_in_flight() {
    run(async {
        let origin = sample().await;
        let mut site = Site::of(http(&origin)).await;
        let mut slow1 = site.http1().await;
        slow1.send(format!("GET /slow/1500 HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
        let mut client = site.http2().await;
        let request = http::Request::get(format!("https://{APP}/slow/1500")).body(()).unwrap();
        let slow2 = client.open(request, true).await.unwrap();
        wait::holds("both at the origin", 2 * SECOND, || origin.counters().running() == 2).await;
        site.edge.program.terminate();
        let (one, two) = tokio::join!(slow1.answer("GET"), slow2.answer());
        assert_eq!((one.unwrap().ok().text(), two.unwrap().ok().text()), ("slow\n".into(), "slow\n".into()));
        assert_eq!(site.edge.program.ended(Duration::from_secs(10)).await.code(), Some(0));
    });
}

//! The edge's command line: tunnels made, listed, shown, rotated and revoked; states; each with JSON for programs.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::time::{Duration, Instant};

use causeway_tests::client::{Http1, Protocol, visit};
use causeway_tests::connector::Connector;
use causeway_tests::edge::Edge;
use causeway_tests::origin::{http, sample};
use causeway_tests::run;
use causeway_tests::site::{APP, NAMES, Site, to};

const READY: Duration = Duration::from_secs(20);

#[test]
fn a_tunnel_is_created_listed_and_shown_and_its_token_appears_once() {
    run(async {
        let edge = Edge::start().await;
        let text = edge
            .cli(&[
                "tunnel",
                "create",
                "home",
                "--hostname",
                "a.example.test",
                "--hostname",
                "*.b.example.test",
            ])
            .await
            .ok();
        assert!(text.contains("docker run"), "the line to paste: {text}");
        let token = regex::Regex::new(r"cwt1_[A-Za-z0-9_-]+")
            .unwrap()
            .find(&text)
            .expect("a token")
            .as_str()
            .to_owned();
        for args in [vec!["tunnel", "list"], vec!["tunnel", "show", "home"], vec!["status"]] {
            let plain = edge.cli(&args).await.ok();
            assert!(plain.contains("home"), "{args:?}: {plain}");
            let json = edge.cli(&[args.as_slice(), &["--output", "json"]].concat()).await.json().to_string();
            assert!(json.contains("*.b.example.test"), "{args:?}: {json}");
            for shown in [plain, json] {
                assert!(!shown.contains(&token) && !shown.contains("cwt1_"), "{args:?} shows the token");
            }
        }
        let again = edge.cli(&["tunnel", "create", "home", "--hostname", "c.example.test"]).await;
        assert!(again.code != 0 && again.text().contains("home"), "a name is unique: {}", again.text());
        let taken = edge.cli(&["tunnel", "create", "other", "--hostname", "a.example.test"]).await;
        assert!(
            taken.code != 0 && taken.text().contains("a.example.test") && taken.text().contains("home"),
            "{}",
            taken.text()
        );
        for bad in ["a..b", "*.*.x", "a-.test", "http://a.test", "*a.test"] {
            let refused = edge.cli(&["tunnel", "create", "bad", "--hostname", bad]).await;
            assert!(
                refused.code != 0 && refused.text().contains(bad.trim_start_matches("*.")),
                "{bad}: {}",
                refused.text()
            );
        }
        let missing = edge.cli(&["tunnel", "show", "hmoe"]).await;
        assert!(missing.code != 0 && missing.text().contains("hmoe"), "{}", missing.text());
        assert!(!edge.program.log_contains("cwt1_"), "no token in the log");
    });
}

#[test]
fn states_tell_inactive_healthy_degraded_and_down() {
    run(async {
        let origin = sample().await;
        let edge = Edge::start().await;
        let created = edge.create("site", &NAMES).await;
        assert_eq!(edge.tunnel_state("site").await, "INACTIVE");
        let mut connector = Connector::start(&created.token, &to(http(&origin)));
        connector.ready(READY).await;
        edge.wait_state("site", "HEALTHY", READY).await;
        assert!(edge.sessions().await >= 2, "a primary and a warm standby");
        let status = edge.status().await;
        let tunnel = &status["tunnels"][0];
        let connectors = tunnel["connectors"].as_array().unwrap();
        assert_eq!(connectors.len(), 1);
        assert!(connectors[0]["version"].as_str().unwrap().contains(env!("CARGO_PKG_VERSION")), "{status}");
        assert!(connectors[0]["address"].as_str().unwrap().starts_with("127.0.0.1"), "{status}");
        assert!(connectors[0]["since"].is_i64(), "{status}");
        assert_eq!(tunnel["hostnames"].as_array().map(Vec::len), Some(2), "{status}");
        connector.program.kill().await;
        edge.wait_state("site", "DOWN", Duration::from_secs(6)).await;

        // Rules that lack a granted name: connected, but not whole.
        let rules =
            "ingress:\n  - { hostname: nowhere.else, service: hello_world }\n  - service: http_status:404\n";
        let mut partial = Connector::start(&created.token, rules);
        partial.ready(READY).await;
        edge.wait_state("site", "DEGRADED", Duration::from_secs(10)).await;
    });
}

#[test]
fn hazard_121_revoking_cuts_live_sessions_within_five_seconds() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let neighbour = site.edge.create("neighbour", &["neighbour.test"]).await;
        let mut other = Connector::start(&neighbour.token, &to(http(&origin)));
        other.ready(READY).await;
        let mut running = site.http1().await;
        running.send(format!("GET /slow/60000 HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
        site.edge.cli(&["tunnel", "revoke", "site"]).await.ok();
        let since = Instant::now();
        let look = || async {
            let served =
                visit(&site.edge, Protocol::Http1, "https://neighbour.test/bytes/1").await.status == 200;
            (served && site.edge.sessions().await <= 2).then_some(())
        };
        causeway_tests::wait::until("the sessions to be cut", Duration::from_secs(5), look).await;
        println!("cut after {:?}", since.elapsed());
        let mut client = Http1::plain(site.edge.http).await;
        client.send(format!("GET / HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
        assert_eq!(client.answer("GET").await.unwrap().status, 404, "the name belongs to nobody");
        site.connector.program.line("revoked", Duration::from_secs(10)).await;
    });
}

#[test]
fn revoking_works_while_the_edge_is_stopped() {
    run(async {
        let edge = Edge::start().await;
        let created = edge.create("site", &NAMES).await;
        let tunnel = Some(edge.tunnel);
        let data = edge.kill().await;
        let mut command = tokio::process::Command::new(causeway_tests::programs::program("causeway-edge"));
        command.args(["tunnel", "revoke", "site", "--data"]).arg(data.path());
        causeway_tests::child::output(command).await.ok();
        let options = causeway_tests::edge::EdgeOptions { data: Some(data), tunnel, ..Default::default() };
        let edge = Edge::with(options).await;
        let connector = Connector::start(&created.token, &to("hello_world"));
        // It finds the edge where it was, and is told.
        connector.program.line("revoked", Duration::from_secs(10)).await;
        assert_eq!(edge.sessions().await, 0);
    });
}

#[test]
fn rotating_keeps_both_tokens_for_the_overlap_and_only_the_new_one_after_it() {
    run(async {
        let origin = sample().await;
        let rules = to(http(&origin));
        let site = Site::start(&rules).await;
        let rotated =
            site.edge.cli(&["tunnel", "rotate", "site", "--overlap", "6s", "--output", "json"]).await.json();
        let fresh = rotated["token"].as_str().unwrap().to_owned();
        assert_ne!(fresh, site.tunnel.token);
        let mut with_old = Connector::start(&site.tunnel.token, &rules);
        with_old.ready(Duration::from_secs(5)).await;
        let mut with_new = Connector::start(&fresh, &rules);
        with_new.ready(Duration::from_secs(5)).await;
        drop(with_old);
        tokio::time::sleep(Duration::from_secs(7)).await;
        let late = Connector::start(&site.tunnel.token, &rules);
        late.program.line("expired", Duration::from_secs(10)).await;
        visit(&site.edge, Protocol::Http1, &format!("https://{APP}/bytes/1")).await.ok();
    });
}

#[test]
fn healthcheck_and_check_answer_by_exit_code() {
    run(async {
        let edge = Edge::start().await;
        assert_eq!(edge.cli(&["healthcheck"]).await.code, 0);
        let good = edge.data().write("good.yaml", "shards: 2\nlisten: { https: ['127.0.0.1:8443'] }\n");
        let checked = |path: std::path::PathBuf| {
            let mut command =
                tokio::process::Command::new(causeway_tests::programs::program("causeway-edge"));
            command.arg("check").arg(path);
            causeway_tests::child::output(command)
        };
        assert_eq!(checked(good).await.code, 0);
        for (name, text, expected) in [
            ("misspelt key", "shrads: 2\n", vec!["bad.yaml:1:", "shards"]),
            ("bad address", "listen: { https: [nonsense] }\n", vec!["bad.yaml:1:19", "address"]),
            ("bad duration", "grace: soon\n", vec!["bad.yaml:1:", "soon"]),
            (
                "missing certificate",
                "certificates: [{ cert: /nowhere/a.crt, key: /nowhere/a.key }]\n",
                vec!["/nowhere/a.crt"],
            ),
        ] {
            let bad = edge.data().write("bad.yaml", text);
            let seen = checked(bad).await;
            for part in expected {
                assert!(
                    seen.code == 1 && seen.text().contains(part),
                    "{name}: {} {}",
                    seen.code,
                    seen.text()
                );
            }
        }
        let control = edge.data().path().display().to_string();
        let data = edge.kill().await;
        let mut command = tokio::process::Command::new(causeway_tests::programs::program("causeway-edge"));
        command.args(["healthcheck", "--data", &control]);
        assert_ne!(causeway_tests::child::output(command).await.code, 0, "nothing runs here");
        drop(data);
    });
}

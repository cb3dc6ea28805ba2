//! What an operator can see: one access log line a request, metrics with bounded labels, health, log level at run time.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::time::Duration;

use bytes::Bytes;
use causeway_tests::client::{Http1, PROTOCOLS, Protocol, fetch, get, visit};
use causeway_tests::edge::sample as metric;
use causeway_tests::origin::{http, sample};
use causeway_tests::run;
use causeway_tests::site::{APP, Site};
use http::Request;

#[test]
fn programs_with_nothing_to_do_do_next_to_nothing() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        visit(&site.edge, Protocol::Http1, &format!("https://{APP}/bytes/1")).await.ok();
        let used = || [site.edge.program.usage().cpu, site.connector.program.usage().cpu];
        // Of several windows one is enough: what never rests uses all of each, and what a busy machine makes dearer does not.
        let mut least = [Duration::MAX; 2];
        for _ in 0..3 {
            let before = used();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = used();
            for at in 0..2 {
                least[at] = least[at].min(now[at] - before[at]);
            }
        }
        assert!(least.iter().all(|used| *used < Duration::from_millis(150)), "in a second: {least:?}");
    });
}

#[test]
fn each_request_is_one_line_with_everything_that_happened() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        for (n, protocol) in PROTOCOLS.into_iter().enumerate() {
            let path = format!("/bytes/{}", 5000 + n);
            let request = Request::post(format!("https://{APP}{path}?secret=1"))
                .body(Bytes::from_static(b"0123456789"))
                .unwrap();
            let answer = fetch(&site.edge, protocol, request).await.unwrap().ok();
            let line = site.edge.access_line(&path).await;
            assert_eq!(
                (&line["method"], &line["status"], &line["host"]),
                (&"POST".into(), &200.into(), &APP.into()),
                "{line}"
            );
            assert_eq!(
                (&line["bytes_in"], &line["bytes_out"]),
                (&10.into(), &answer.body.len().into()),
                "{line}"
            );
            assert_eq!((&line["tunnel"], &line["visitor"]), (&"site".into(), &"127.0.0.1".into()), "{line}");
            assert!(line["session"].as_str().is_some_and(|id| id.len() == 16), "{line}");
            assert!(line["request"].as_str().is_some_and(|id| id.len() == 32), "{line}");
            assert!(line["duration_ms"].as_f64() >= line["first_byte_ms"].as_f64(), "{line}");
            assert!(line["timestamp"].is_string(), "{line}");
            assert!(!line.to_string().contains("secret"), "the query is not logged: {line}");
        }
        let before = site.edge.access_log().len();
        visit(&site.edge, Protocol::Http1, &format!("https://{APP}/status/404")).await;
        site.edge.access_line("/status/404").await;
        assert_eq!(site.edge.access_log().len(), before + 1, "one request, one line");
    });
}

#[test]
fn what_failed_is_named_in_the_line() {
    run(async {
        let site = Site::of(format!("http://{}", causeway_tests::origin::closed_port())).await;
        visit(&site.edge, Protocol::Http1, &format!("https://{APP}/down")).await;
        let line = site.edge.access_line("/down").await;
        assert_eq!(line["status"], 502);
        assert!(line["failure"].as_str().is_some_and(|failure| failure.contains("unreachable")), "{line}");
        // The connector says which address it was, in its own log.
        site.connector.program.line("refused", Duration::from_secs(5)).await;
    });
}

#[test]
fn hazard_114_a_visitor_cannot_forge_log_lines() {
    run(async {
        let site = Site::of("hello_world").await;
        let mut client = Http1::plain(site.edge.http).await;
        client
            .send(
                format!("GET /a%0d%0ainjected HTTP/1.1\r\nhost: {APP}\r\nuser-agent: \x7f\r\n\r\n")
                    .as_bytes(),
            )
            .await;
        let _ = client.answer("GET").await;
        let mut client = Http1::plain(site.edge.http).await;
        client.send(b"GET /b HTTP/1.1\r\nhost: \x1b[31mred\r\n\r\n").await;
        let _ = client.answer("GET").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        for line in site.edge.program.lines() {
            assert!(!line.starts_with("injected") && !line.contains('\x1b'), "{line:?}");
        }
    });
}

#[test]
fn metrics_count_requests_bytes_durations_and_sessions() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        for _ in 0..10 {
            visit(&site.edge, Protocol::Http2, &format!("https://{APP}/bytes/1000")).await.ok();
        }
        visit(&site.edge, Protocol::Http1, &format!("https://{APP}/status/404")).await;
        let counted = || async {
            let page = site.edge.metrics().await;
            (metric(&page, "causeway_edge_requests_total", &["tunnel=\"site\""]) >= 11.0).then_some(page)
        };
        let (page, _) =
            causeway_tests::wait::until("the requests in the metrics", Duration::from_secs(5), counted).await;
        assert_eq!(metric(&page, "causeway_edge_requests_total", &["status=\"4xx\""]), 1.0, "{page}");
        assert_eq!(
            metric(&page, "causeway_edge_request_duration_seconds_count", &["tunnel=\"site\""]),
            11.0,
            "{page}"
        );
        assert!(
            metric(&page, "causeway_edge_request_body_bytes_total", &["direction=\"out\""]) >= 10_000.0,
            "{page}"
        );
        assert_eq!(metric(&page, "causeway_edge_streams_in_flight", &["tunnel=\"site\""]), 0.0, "{page}");
        assert!(metric(&page, "causeway_edge_sessions", &["tunnel=\"site\""]) >= 2.0, "{page}");
    });
}

#[test]
fn hazard_115_invented_names_and_methods_make_no_new_series() {
    run(async {
        let site = Site::of("hello_world").await;
        visit(&site.edge, Protocol::Http1, &format!("https://{APP}/")).await.ok();
        let series = |page: &str| page.lines().filter(|line| !line.starts_with('#')).count();
        for n in 0..3 {
            let mut client = Http1::plain(site.edge.http).await;
            client.send(format!("GET / HTTP/1.1\r\nhost: warm{n}.example.test\r\n\r\n").as_bytes()).await;
            let _ = client.answer("GET").await;
        }
        let before = series(&site.edge.metrics().await);
        for n in 0..200 {
            let mut client = Http1::plain(site.edge.http).await;
            client
                .send(
                    format!("M{n} /{n} HTTP/1.1\r\nhost: n{n}.example.test\r\nconnection: close\r\n\r\n")
                        .as_bytes(),
                )
                .await;
            let _ = client.answer("GET").await;
            let mut client = Http1::plain(site.edge.http).await;
            client
                .send(
                    format!("GET /{n} HTTP/1.1\r\nhost: n{n}.invalid\r\nconnection: close\r\n\r\n")
                        .as_bytes(),
                )
                .await;
            let _ = client.answer("GET").await;
        }
        let after = series(&site.edge.metrics().await);
        assert!(after <= before + 30, "{before} series became {after}");
    });
}

#[test]
fn health_and_log_level_are_on_the_admin_port_only() {
    run(async {
        let site = Site::of("hello_world").await;
        assert!(!get(site.edge.admin, "/live").await.is_empty());
        assert!(!get(site.edge.admin, "/ready").await.is_empty());
        for path in ["/metrics", "/ready", "/live", "/status", "/log"] {
            let answer = visit(&site.edge, Protocol::Http1, &format!("https://{APP}{path}")).await;
            assert!(!answer.text().contains("causeway_edge_"), "{path} is public");
        }
        let mut client = Http1::plain(site.edge.admin).await;
        client.send(b"PUT /log HTTP/1.1\r\nhost: admin\r\ncontent-length: 5\r\n\r\ndebug").await;
        let answer = client.answer("PUT").await.unwrap();
        assert!(answer.status < 300, "{answer:?}");
        assert!(get(site.edge.admin, "/log").await.contains("debug"));
    });
}

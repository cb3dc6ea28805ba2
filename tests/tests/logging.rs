//! Nothing that logs can stop traffic, or drown what matters.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use causeway_tests::child::Reader;
use causeway_tests::client::{Http1, get};
use causeway_tests::connector::Connector;
use causeway_tests::edge::{Edge, EdgeOptions, sample};
use causeway_tests::files::Folder;
use causeway_tests::run;
use causeway_tests::site::{APP, NAMES, to};

const START: Duration = Duration::from_secs(20);
/// Of both programs, with nothing in flight.
const STOP: Duration = Duration::from_secs(8);
const REQUESTS: usize = 2_000;
/// A line of the access log is as long: more than pipe and queue hold together, long before the last request.
const PATH_BYTES: usize = 2_000;

#[test]
fn an_unread_log_stops_no_request_and_no_stop() {
    run(async {
        let edge = Edge::with(EdgeOptions { stderr: Reader::Stalls, ..EdgeOptions::default() }).await;
        let tunnel = edge.create("site", &NAMES).await;
        let arguments = ["--log-level", "trace"];
        let rules = to("http_status:200");
        let mut connector =
            Connector::start_with(Folder::default(), &tunnel.token, &rules, &arguments, Reader::Stalls);
        connector.ready(START).await;
        edge.wait_state("site", "HEALTHY", START).await;

        let mut visitor = Http1::tls(&edge, APP).await;
        for number in 0..REQUESTS {
            let path = format!("/{number}{}", "x".repeat(PATH_BYTES));
            visitor.send(format!("GET {path} HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
            assert_eq!(visitor.answer("GET").await.unwrap().status, 200, "request {number}");
        }
        assert!(get(edge.admin, "/live").await.contains("live"));
        let dropped = sample(&edge.metrics().await, "causeway_edge_log_lines_dropped_total", &[]);
        assert!(dropped > 0.0, "{dropped}");
        let page = connector.metrics().await;
        assert!(sample(&page, "causeway_connector_log_lines_dropped_total", &[]) > 0.0, "{page}");

        drop(visitor);
        connector.program.terminate();
        assert!(connector.program.ended(STOP).await.success());
        let mut edge = edge;
        edge.program.terminate();
        assert!(edge.program.ended(STOP).await.success());
    });
}

#[test]
fn a_reader_that_comes_back_is_told_once_how_many_lines_are_missing() {
    run(async {
        let options = EdgeOptions { stderr: Reader::Stalls, ..EdgeOptions::default() };
        let mut edge = Edge::with(options).await;
        edge.create("site", &NAMES).await;
        let mut visitor = Http1::tls(&edge, APP).await;
        while sample(&edge.metrics().await, "causeway_edge_log_lines_dropped_total", &[]) == 0.0 {
            for _ in 0..100 {
                let path = "x".repeat(PATH_BYTES);
                visitor.send(format!("GET /{path} HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
                visitor.answer("GET").await.unwrap();
            }
        }
        edge.program.read_on();
        let note = edge.program.line("log lines were dropped", START).await;
        let note: serde_json::Value = serde_json::from_str(&note).unwrap();
        let dropped = sample(&edge.metrics().await, "causeway_edge_log_lines_dropped_total", &[]);
        assert_eq!((&note["level"], note["dropped"].as_f64()), (&"WARN".into(), Some(dropped)), "{note}");
        visitor.send(format!("GET /after HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
        visitor.answer("GET").await.unwrap();
        edge.access_line("/after").await;
        let notes = edge.program.lines().iter().filter(|line| line.contains("lines were dropped")).count();
        assert_eq!(notes, 1);
    });
}

#[test]
fn an_announcement_that_is_refused_is_one_warning_however_many_names_it_has() {
    run(async {
        let edge = Edge::start().await;
        let tunnel = edge.create("site", &NAMES).await;
        let refused =
            (0..30).map(|n| format!("  - {{ hostname: n{n}.refused.test, service: http_status:200 }}\n"));
        let rules = format!("ingress:\n{}  - service: http_status:404\n", refused.collect::<String>());
        let connector = Connector::start(&tunnel.token, &rules);
        let line = connector.program.line("the edge does not serve these hostnames", START).await;
        assert!(line.contains("refused=30") && line.contains("n0.refused.test, n1.refused.test"), "{line}");
        assert!(!line.contains("n9.refused.test"), "{line}");
        // Both sessions have announced by then: one for traffic and one in reserve.
        let look = || async {
            let status = connector.status().await;
            let sessions = status["edges"][0]["sessions"].as_array().map_or(0, Vec::len);
            (sessions >= 2).then_some(())
        };
        causeway_tests::wait::until("two sessions", START, look).await;
        let lines = connector.program.lines();
        let warnings = lines.iter().filter(|line| line.contains("refused.test")).count();
        assert!(warnings <= 2, "{warnings} warnings:\n{}", connector.program.log());
    });
}

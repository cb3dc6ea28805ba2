//! What the origin learns about the visitor is true, and what belongs to one connection ends there: hazards 46 to 54.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use bytes::Bytes;
use causeway_tests::client::{Answer, Http1, PROTOCOLS, Protocol, fetch, visit};
use causeway_tests::origin::scripted::Scripted;
use causeway_tests::origin::{http, sample};
use causeway_tests::run;
use causeway_tests::site::{APP, Site};
use http::Request;
use serde_json::Value;

/// All values of a header that the sample origin saw.
fn seen(answer: &Answer, name: &str) -> Vec<String> {
    let json = answer.json();
    let pairs = json["headers"].as_array().cloned().unwrap_or_default();
    let of_name = pairs.iter().filter(|pair| pair[0] == name);
    of_name.filter_map(|pair| pair[1].as_str().map(str::to_owned)).collect()
}

#[test]
fn hazard_049_forwarding_headers_are_ours_and_a_visitors_are_dropped() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        for protocol in PROTOCOLS {
            let mut request = Request::get(format!("https://{APP}/inspect"));
            for name in [
                "x-forwarded-for",
                "x-forwarded-proto",
                "x-forwarded-host",
                "x-forwarded-port",
                "x-real-ip",
                "forwarded",
                "cf-connecting-ip",
                "true-client-ip",
                "x-client-ip",
            ] {
                request = request.header(name, "6.6.6.6");
            }
            let answer = fetch(&site.edge, protocol, request.body(Bytes::new()).unwrap()).await.unwrap().ok();
            assert!(!answer.text().contains("6.6.6.6"), "{protocol:?}: {}", answer.text());
            assert_eq!(seen(&answer, "x-forwarded-for"), ["127.0.0.1"], "{protocol:?}");
            assert_eq!(seen(&answer, "x-forwarded-proto"), ["https"], "{protocol:?}");
            assert_eq!(seen(&answer, "x-forwarded-host"), [APP], "{protocol:?}");
            assert_eq!(seen(&answer, "x-real-ip"), ["127.0.0.1"], "{protocol:?}");
            let forwarded = seen(&answer, "forwarded").concat();
            assert!(forwarded.contains("for=127.0.0.1") && forwarded.contains("proto=https"), "{forwarded}");
        }
        let mut client = Http1::plain(site.edge.http).await;
        client.send(format!("GET /inspect HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
        assert_eq!(seen(&client.answer("GET").await.unwrap().ok(), "x-forwarded-proto"), ["http"]);
    });
}

#[test]
fn hazard_049_a_trusted_proxy_in_front_is_believed() {
    run(async {
        let origin = sample().await;
        let options = causeway_tests::edge::EdgeOptions {
            config: "trustedProxies: [127.0.0.0/8]\n".into(),
            ..Default::default()
        };
        let site = Site::with(options, Default::default(), &causeway_tests::site::to(http(&origin))).await;
        let request =
            Request::get(format!("https://{APP}/inspect")).header("x-forwarded-for", "6.6.6.6, 203.0.113.9");
        let answer =
            fetch(&site.edge, Protocol::Http1, request.body(Bytes::new()).unwrap()).await.unwrap().ok();
        assert_eq!(seen(&answer, "x-real-ip"), ["203.0.113.9"], "counted from the right: {}", answer.text());
    });
}

#[test]
fn hazard_047_connection_cannot_remove_what_is_vital() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let mut client = site.http1().await;
        let head = format!(
            "POST /inspect HTTP/1.1\r\nHost: {APP}\r\nAuthorization: Basic abc\r\nCookie: a=1\r\nX-Mine: gone\r\nContent-Length: 2\r\n\
             Connection: keep-alive, X-Forwarded-For, Host, Authorization, Content-Length, Cookie, X-Mine, X-Real-IP\r\n\r\nhi"
        );
        client.send(head.as_bytes()).await;
        let answer = client.answer("POST").await.unwrap().ok();
        assert_eq!(seen(&answer, "host"), [APP]);
        assert_eq!(seen(&answer, "authorization"), ["Basic abc"]);
        assert_eq!(seen(&answer, "cookie"), ["a=1"]);
        assert_eq!(seen(&answer, "x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(seen(&answer, "x-real-ip"), ["127.0.0.1"]);
        assert_eq!(seen(&answer, "x-mine"), Vec::<String>::new(), "what the visitor named is removed");
        assert_eq!(answer.json()["body"], "hi");
    });
}

#[test]
fn hazard_048_hop_by_hop_headers_end_at_the_edge_both_ways() {
    run(async {
        let origin = Scripted::always(
            "HTTP/1.1 200 OK\r\nconnection: keep-alive, x-private\r\nx-private: 1\r\nkeep-alive: timeout=5\r\nproxy-authenticate: Basic\r\n\
             x-public: yes\r\ncontent-length: 2\r\n\r\nok",
        )
        .await;
        let site = Site::of(origin.service()).await;
        let mut client = site.http1().await;
        let head = format!(
            "GET / HTTP/1.1\r\nHost: {APP}\r\nKeep-Alive: 300\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nProxy-Authorization: Basic x\r\n\
             HTTP2-Settings: AAAA\r\nX-Causeway-Route: 9\r\n\r\n"
        );
        client.send(head.as_bytes()).await;
        let answer = client.answer("GET").await.unwrap().ok();
        let head = origin.heads()[0].to_ascii_lowercase();
        for name in ["keep-alive: 300", "proxy-", "\r\nte:", "http2-settings", "x-causeway"] {
            assert!(!head.contains(name), "{name} in {head}");
        }
        assert_eq!(answer.header("x-public"), Some("yes"));
        for name in ["x-private", "keep-alive", "proxy-authenticate"] {
            assert_eq!(answer.header(name), None, "{name}");
        }
        let answer = visit(&site.edge, Protocol::Http2, &format!("https://{APP}/")).await.ok();
        assert_eq!((answer.header("connection"), answer.header("x-public")), (None, Some("yes")));
    });
}

#[test]
fn hazard_051_a_request_that_comes_back_is_a_loop() {
    run(async {
        // A rule that leads back to the edge's own plain listener.
        let edge = causeway_tests::edge::Edge::start().await;
        let created = edge.create("site", &causeway_tests::site::NAMES).await;
        let rules = causeway_tests::site::to(format!("http://{}", edge.http));
        let mut connector = causeway_tests::connector::Connector::start(&created.token, &rules);
        connector.ready(std::time::Duration::from_secs(20)).await;
        let answer = visit(&edge, Protocol::Http1, &format!("https://{APP}/")).await;
        assert_eq!(answer.status, 508, "{}", answer.text());
    });
}

#[test]
fn hazard_052_headers_that_only_the_origin_understands_pass() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        for protocol in PROTOCOLS {
            let request = Request::post(format!("https://{APP}/inspect"))
                .header("x-original-url", "/admin")
                .header("x-http-method-override", "DELETE")
                .header("x-many", "a")
                .header("x-many", "b");
            let answer = fetch(&site.edge, protocol, request.body(Bytes::from_static(b"x")).unwrap())
                .await
                .unwrap()
                .ok();
            assert_eq!(answer.json()["method"], "POST");
            assert_eq!(seen(&answer, "x-original-url"), ["/admin"]);
            assert_eq!(seen(&answer, "x-http-method-override"), ["DELETE"]);
            assert_eq!(seen(&answer, "x-many"), ["a", "b"], "repeated fields stay apart and in order");
        }
    });
}

#[test]
fn nothing_is_added_that_changes_the_answer() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let answer = visit(&site.edge, Protocol::Http1, &format!("https://{APP}/inspect")).await.ok();
        let json = answer.json();
        let names: Vec<&str> =
            json["headers"].as_array().unwrap().iter().filter_map(|pair| pair[0].as_str()).collect();
        for name in names {
            let ours = name.starts_with("x-forwarded-")
                || ["host", "x-real-ip", "forwarded", "cdn-loop", "via", "x-request-id"].contains(&name);
            assert!(ours, "the origin saw {name}, which nobody sent");
        }
        assert_eq!(answer.header("content-encoding"), None);
    });
}

#[test]
fn redirects_are_not_followed_and_not_rewritten() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        for protocol in PROTOCOLS {
            let answer = visit(&site.edge, protocol, &format!("https://{APP}/login")).await;
            assert_eq!(
                (answer.status, answer.header("location")),
                (302, Some(format!("http://{APP}/home").as_str()))
            );
        }
        assert!(origin.counters().requests() >= 2);
    });
}

#[test]
fn hazard_054_two_visitors_answers_never_mix() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let mut tasks = tokio::task::JoinSet::new();
        for visitor in 0..20 {
            let mut client = site.http1().await;
            tasks.spawn(async move {
                for n in 0..50 {
                    let mark = format!("{visitor}-{n}");
                    let request = Request::post(format!("https://{APP}/inspect")).header("x-mark", &mark);
                    let answer =
                        client.fetch(request.body(Bytes::from(mark.clone())).unwrap()).await.unwrap().ok();
                    assert_eq!(answer.json()["body"], Value::from(mark));
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert_eq!(origin.counters().requests(), 1000);
    });
}

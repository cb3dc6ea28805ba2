//! Whatever an origin does wrong reaches the visitor as the right status or as a reset, over HTTP/1.1 and HTTP/2: hazards 135 to 151.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use causeway_tests::client::{Answer, End, PROTOCOLS, Protocol, fetch, visit};
use causeway_tests::edge::EdgeOptions;
use causeway_tests::origin::scripted::Scripted;
use causeway_tests::origin::{closed_port, content::Pattern, http, sample};
use causeway_tests::run;
use causeway_tests::site::{APP, Site, to};
use http::Request;

const URL: &str = "https://app.example.test/";

/// An edge that does not wait long for anything.
fn impatient() -> EdgeOptions {
    let config = "limits: { responseHeaderTimeout: 1s, bodyIdleTimeout: 1s }\n";
    EdgeOptions { config: config.into(), ..Default::default() }
}

/// Visits a site whose origin answers with these bytes and closes.
async fn answers(answer: &[u8]) -> Vec<(Protocol, Answer)> {
    let origin = Scripted::once(answer).await;
    let site = Site::of(origin.service()).await;
    let mut seen = Vec::new();
    for protocol in PROTOCOLS {
        seen.push((protocol, visit(&site.edge, protocol, URL).await));
    }
    seen
}

#[test]
fn hazard_135_an_origin_that_is_not_there_is_a_bad_gateway_at_once() {
    run(async {
        let names = [
            format!("http://{}", closed_port()),
            "http://origin.invalid:80".into(),
            "unix:/nowhere/origin.sock".into(),
        ];
        for service in names {
            let site = Site::of(&service).await;
            for protocol in PROTOCOLS {
                let since = Instant::now();
                let answer = visit(&site.edge, protocol, URL).await;
                assert_eq!(answer.status, 502, "{protocol:?} {service}: {}", answer.text());
                assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
            }
        }
    });
}

#[test]
fn hazard_135_an_origin_that_does_not_accept_is_a_timeout() {
    run(async {
        // An address of TEST-NET in a namespace of our own would not answer either; a full backlog is the portable way to say nothing.
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap().as_socket().unwrap();
        let _fillers: Vec<_> = (0..4)
            .map(|_| {
                let socket =
                    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                let _ = socket.connect(&addr.into());
                socket
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let rules = format!("originRequest: {{ connectTimeout: 1s }}\n{}", to(format!("http://{addr}")));
        let site = Site::start(&rules).await;
        for protocol in PROTOCOLS {
            let since = Instant::now();
            let answer = visit(&site.edge, protocol, URL).await;
            assert!([502, 504].contains(&answer.status), "{protocol:?} {}", answer.text());
            assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
        }
    });
}

#[test]
fn hazard_136_a_reset_before_any_answer_is_retried_once_and_then_a_bad_gateway() {
    run(async {
        let origin = Scripted::start(|mut connection| async move {
            connection.request().await;
            connection.reset();
        })
        .await;
        let site = Site::of(origin.service()).await;
        for protocol in PROTOCOLS {
            let before = origin.heads().len();
            assert_eq!(visit(&site.edge, protocol, URL).await.status, 502, "{protocol:?}");
            let tries = origin.heads().len() - before;
            assert!(tries <= 2, "a GET was sent {tries} times");
            // Not idempotent: once, whatever happens.
            let before = origin.heads().len();
            let request = Request::post(URL).body(Bytes::from_static(b"pay")).unwrap();
            assert_eq!(fetch(&site.edge, protocol, request).await.unwrap().status, 502, "{protocol:?}");
            assert_eq!(origin.heads().len() - before, 1, "{protocol:?}: a POST was sent again");
        }
    });
}

#[test]
fn hazard_137_a_kept_connection_that_died_costs_no_request() {
    run(async {
        // Answers one request a connection without saying so, as servers with an idle limit do.
        let origin = Scripted::start(|mut connection| async move {
            connection.request().await;
            connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            connection.pause(Duration::from_millis(20)).await;
        })
        .await;
        let site = Site::of(origin.service()).await;
        for protocol in PROTOCOLS {
            for pause in [0, 5, 15, 19, 20, 21, 25, 40] {
                for _ in 0..5 {
                    visit(&site.edge, protocol, URL).await.ok();
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            }
        }
    });
}

#[test]
fn hazard_139_an_origin_that_says_nothing_is_a_timeout_and_is_told() {
    run(async {
        let origin = Scripted::start(|mut connection| async move {
            connection.request().await;
            connection.wait_gone().await;
        })
        .await;
        let site = Site::with(impatient(), Default::default(), &to(origin.service())).await;
        for (n, protocol) in PROTOCOLS.into_iter().enumerate() {
            let since = Instant::now();
            let answer = visit(&site.edge, protocol, URL).await;
            assert_eq!(answer.status, 504, "{protocol:?}");
            let took = since.elapsed();
            assert!(took > Duration::from_millis(900) && took < Duration::from_secs(3), "{took:?}");
            let what = "the origin's request cancelled";
            causeway_tests::wait::holds(what, Duration::from_secs(1), || origin.gone() > n).await;
        }
    });
}

#[test]
fn hazard_140_an_answer_that_stalls_is_cut() {
    run(async {
        let origin = Scripted::start(|mut connection| async move {
            connection.request().await;
            connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nsome").await;
            connection.wait_gone().await;
        })
        .await;
        let site = Site::with(impatient(), Default::default(), &to(origin.service())).await;
        for protocol in PROTOCOLS {
            let answer = visit(&site.edge, protocol, URL).await;
            assert_eq!((answer.status, answer.end), (200, End::Cut), "{protocol:?}");
        }
    });
}

#[test]
fn hazard_141_heads_that_are_not_http_are_a_bad_gateway() {
    run(async {
        let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x-a: 1\r\n".repeat(300));
        let long = format!("HTTP/1.1 200 OK\r\nx-a: {}\r\ncontent-length: 0\r\n\r\n", "a".repeat(100_000));
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("garbage", b"this is not HTTP at all\r\n\r\n".to_vec()),
            ("status 99", b"HTTP/1.1 099 Low\r\ncontent-length: 0\r\n\r\n".to_vec()),
            ("status of two digits", b"HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n".to_vec()),
            ("HTTP/3.7", b"HTTP/3.7 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()),
            ("control in a value", b"HTTP/1.1 200 OK\r\nx-a: a\x01b\r\ncontent-length: 0\r\n\r\n".to_vec()),
            ("NUL in a value", b"HTTP/1.1 200 OK\r\nx-a: a\0b\r\ncontent-length: 0\r\n\r\n".to_vec()),
            ("negative length", b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n".to_vec()),
            ("length with a plus", b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok".to_vec()),
            ("no colon", b"HTTP/1.1 200 OK\r\nnocolon\r\ncontent-length: 0\r\n\r\n".to_vec()),
            ("300 headers", many.into_bytes()),
            ("100 KB of header", long.into_bytes()),
            ("an end before the head's end", b"HTTP/1.1 200 OK\r\ncontent-le".to_vec()),
            ("nothing", Vec::new()),
        ];
        let mut wrong = Vec::new();
        for (name, bytes) in cases {
            for (protocol, answer) in answers(&bytes).await {
                if answer.status != 502 {
                    wrong.push(format!("{name} over {protocol:?}: {}", answer.status));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn hazard_142_ambiguous_framing_is_a_bad_gateway_and_bad_chunks_a_cut() {
    run(async {
        let ambiguous: [(&str, &[u8]); 4] = [
            ("CL+TE", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            ("two CL that differ", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok"),
            ("CL list", b"HTTP/1.1 200 OK\r\ncontent-length: 2, 3\r\n\r\nok"),
            ("TE gzip", b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, foo\r\n\r\nok"),
        ];
        let mut wrong = Vec::new();
        for (name, bytes) in ambiguous {
            for (protocol, answer) in answers(bytes).await {
                if answer.status != 502 && answer.end != End::Cut {
                    wrong.push(format!(
                        "{name} over {protocol:?}: {} {:?} {}",
                        answer.status,
                        answer.end,
                        answer.text()
                    ));
                }
            }
        }
        let chunks: [(&str, &[u8]); 5] = [
            ("no size", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n"),
            (
                "overflow",
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nok\r\n0\r\n\r\n",
            ),
            (
                "data longer than its size",
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nokXX\r\n0\r\n\r\n",
            ),
            ("negative", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n"),
            ("no end", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"),
        ];
        for (name, bytes) in chunks {
            for (protocol, answer) in answers(bytes).await {
                if answer.status != 502 && answer.end != End::Cut {
                    wrong.push(format!("{name} over {protocol:?}: {} {:?}", answer.status, answer.end));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn hazard_143_bytes_after_an_answer_are_nobodys() {
    run(async {
        let origin = Scripted::start(|mut connection| async move {
            while connection.request().await.is_some() {
                connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen").await;
            }
        })
        .await;
        let site = Site::of(origin.service()).await;
        for protocol in PROTOCOLS {
            for _ in 0..10 {
                assert_eq!(visit(&site.edge, protocol, URL).await.ok().text(), "ok", "{protocol:?}");
            }
        }
        assert!(
            origin.connections() >= 20,
            "a connection with stray bytes is not used again: {}",
            origin.connections()
        );
    });
}

#[test]
fn hazard_144_bytes_where_no_body_may_be_are_nobodys() {
    run(async {
        let origin = Scripted::start(|mut connection| async move {
            while let Some(head) = connection.request().await {
                let status = head.split(['/', ' ']).nth(2).unwrap_or("204").to_owned();
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 6\r\n\r\nstolen");
                let answer = answer.replace("204 X\r\ncontent-length: 6\r\n", "204 X\r\n");
                connection.send(answer.as_bytes()).await;
            }
        })
        .await;
        let site = Site::of(origin.service()).await;
        for protocol in PROTOCOLS {
            for status in [204, 304] {
                for _ in 0..3 {
                    let answer = visit(&site.edge, protocol, &format!("{URL}{status}")).await;
                    assert_eq!((answer.status, answer.body.len()), (status, 0), "{protocol:?}");
                }
            }
            let request = Request::head(format!("{URL}200")).body(Bytes::new()).unwrap();
            let answer = fetch(&site.edge, protocol, request).await.unwrap();
            assert_eq!((answer.status, answer.body.len()), (200, 0), "{protocol:?}");
            assert_eq!(
                visit(&site.edge, protocol, &format!("{URL}200")).await.ok().text(),
                "stolen",
                "its own body"
            );
        }
    });
}

#[test]
fn hazard_145_interim_answers_without_end_are_cut() {
    run(async {
        let origin = Scripted::start(|mut connection| async move {
            connection.request().await;
            while connection.try_send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n").await {}
        })
        .await;
        let site = Site::of(origin.service()).await;
        for protocol in PROTOCOLS {
            let request = Request::get(URL).body(Bytes::new()).unwrap();
            let answer = tokio::time::timeout(Duration::from_secs(10), fetch(&site.edge, protocol, request))
                .await
                .expect("an end");
            if let Ok(answer) = answer {
                assert_eq!(answer.status, 502, "{protocol:?}");
                assert!(answer.interim.len() <= 16, "{protocol:?}: {} interim answers", answer.interim.len());
            }
        }
    });
}

#[test]
fn hazard_148_an_answer_that_ends_with_the_connection_ends_cleanly() {
    run(async {
        for (protocol, answer) in answers(b"HTTP/1.0 200 OK\r\nx-old: yes\r\n\r\nold but whole").await {
            let answer = answer.ok();
            assert_eq!(
                (answer.text().as_str(), answer.header("x-old")),
                ("old but whole", Some("yes")),
                "{protocol:?}"
            );
        }
        // The same with a reset instead of a FIN is no end.
        let origin = Scripted::start(|mut connection| async move {
            connection.request().await;
            connection.send(b"HTTP/1.0 200 OK\r\n\r\nold and").await;
            connection.pause(Duration::from_millis(50)).await;
            connection.reset();
        })
        .await;
        let site = Site::of(origin.service()).await;
        for protocol in PROTOCOLS {
            assert_eq!(visit(&site.edge, protocol, URL).await.end, End::Cut, "{protocol:?}");
        }
    });
}

#[test]
fn hazard_018_a_folded_header_of_an_origin_is_joined_or_refused() {
    run(async {
        for (protocol, answer) in
            answers(b"HTTP/1.1 200 OK\r\nx-a: one\r\n two\r\ncontent-length: 2\r\n\r\nok").await
        {
            let joined = answer.status == 200
                && answer.header("x-a").is_some_and(|value| !value.contains(['\r', '\n']));
            assert!(joined || answer.status == 502, "{protocol:?}: {answer:?}");
        }
    });
}

#[test]
fn hazard_149_an_origin_that_reads_slowly_gets_every_byte() {
    run(async {
        let origin = Scripted::start(|mut connection| async move {
            let Some(head) = connection.head().await else { return };
            let mut left: usize = head
                .to_ascii_lowercase()
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ").and_then(|text| text.parse().ok()))
                .unwrap_or_default();
            while left > 0 {
                let Some(bytes) = connection.bytes().await else { return };
                left -= bytes.len();
                connection.pause(Duration::from_micros(200)).await;
            }
            connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        })
        .await;
        let site = Site::of(origin.service()).await;
        let mut pattern = Pattern::sized(4 << 20);
        let mut body = Vec::new();
        while let Some(chunk) = pattern.take_chunk() {
            body.extend_from_slice(&chunk);
        }
        for protocol in PROTOCOLS {
            let request = Request::put(URL).body(Bytes::from(body.clone())).unwrap();
            assert_eq!(fetch(&site.edge, protocol, request).await.unwrap().status, 200, "{protocol:?}");
        }
    });
}

#[test]
fn hazard_151_a_broken_origin_does_not_touch_its_neighbour() {
    run(async {
        let good = sample().await;
        let bad = Scripted::start(|connection| async move { connection.hang().await }).await;
        let rules = format!(
            "ingress:\n  - hostname: bad.example.test\n    service: {}\n  - hostname: gone.example.test\n    service: http://{}\n  - service: {}\n",
            bad.service(),
            closed_port(),
            http(&good),
        );
        let site = Site::start(&rules).await;
        let mut stuck = Vec::new();
        for _ in 0..50 {
            let mut client = causeway_tests::client::Http1::tls(&site.edge, "bad.example.test").await;
            client.send(b"GET / HTTP/1.1\r\nhost: bad.example.test\r\n\r\n").await;
            stuck.push(client);
        }
        for protocol in PROTOCOLS {
            assert_eq!(visit(&site.edge, protocol, "https://gone.example.test/").await.status, 502);
            let since = Instant::now();
            visit(&site.edge, protocol, &format!("https://{APP}/bytes/1000")).await.ok();
            assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
        }
    });
}

//! HTTP/3 for visitors: requests of every kind by clients of three makes, cancellation both ways, floods, phones that
//! change their address, leaving in good order, and when it is announced. What is the same whatever the version of HTTP is
//! in the other files, which ask over all of them.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::time::Duration;

use bytes::Bytes;
use causeway_tests::child::output;
use causeway_tests::client::{End, Http3, Protocol, fetch, http3_answer, quic_dial, visit};
use causeway_tests::connector::Connector;
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::files::Folder;
use causeway_tests::origin::content::pattern_sum;
use causeway_tests::origin::scripted::Scripted;
use causeway_tests::origin::{http, sample, tcp_and_udp_port};
use causeway_tests::site::{APP, Site, to};
use causeway_tests::{needs, run, wait};
use futures_util::future::join_all;
use h3::error::Code;
use http::{HeaderMap, Request};
use tokio::net::UdpSocket;
use tokio::process::Command;

const LOCALHOST: &str = "localhost";
const SECOND: Duration = Duration::from_secs(1);

fn url(path: &str) -> String {
    format!("https://{APP}{path}")
}

fn get(path: &str) -> Request<Bytes> {
    Request::get(url(path)).body(Bytes::new()).unwrap()
}

/// A site that speaks HTTPS over TCP and UDP on one port.
async fn on_one_port(service: impl std::fmt::Display, config: &str) -> Site {
    let port = tcp_and_udp_port();
    let options = EdgeOptions {
        config: config.to_owned(),
        https: Some(port),
        tunnel: Some(port),
        ..EdgeOptions::default()
    };
    Site::with(options, Folder::default(), &to(service)).await
}

#[test]
fn aioquic_asks_in_every_way_holds_a_websocket_and_changes_its_address() {
    let Some(python) = needs("python") else { return };
    run(async move {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let script = causeway_tests::programs::here().join("python/http3_client.py");
        let mut command = Command::new(python);
        command.arg("-u").arg(script).arg(site.edge.tunnel.to_string()).arg(site.edge.ca()).arg(APP);
        let seen = output(command).await;
        for kind in ["requests", "websocket", "phone"] {
            assert!(seen.stdout.contains(&format!("passed {kind}")), "{kind}: {}", seen.text());
        }
    });
}

#[test]
fn hazard_091_early_requests_are_marked_or_wait_and_a_ticket_is_good_for_one_time() {
    let Some(python) = needs("python") else { return };
    run(async move {
        let origin = sample().await;
        for (config, first) in
            [("earlyData: true\n", "first taken=True marked=GET\n"), ("", "first taken=False marked=\n")]
        {
            let options = EdgeOptions { config: config.to_owned(), ..EdgeOptions::default() };
            let site = Site::with(options, Folder::default(), &to(http(&origin))).await;
            let script = causeway_tests::programs::here().join("python/http3_client.py");
            let mut command = Command::new(&python);
            command
                .arg("-u")
                .arg(script)
                .arg(site.edge.tunnel.to_string())
                .arg(site.edge.ca())
                .args([APP, "early"]);
            let seen = output(command).await;
            assert!(seen.stdout.contains(first), "{config}: {}", seen.text());
            assert!(seen.stdout.contains("again taken=False marked=\n"), "{config}: {}", seen.text());
        }
    });
}

#[test]
fn ngtcp2_downloads_and_uploads() {
    let Some(gtlsclient) = needs("gtlsclient") else { return };
    run(async move {
        let origin = sample().await;
        // It sends the name that it dials, or `localhost`.
        let edge = Edge::start().await;
        let created = edge.create("site", &[LOCALHOST]).await;
        let mut connector = Connector::start(&created.token, &to(http(&origin)));
        connector.ready(20 * SECOND).await;
        edge.wait_state("site", "HEALTHY", 20 * SECOND).await;
        let (folder, port) = (tempfile::tempdir().unwrap(), edge.tunnel.port().to_string());
        let ask = |more: &[&str], paths: &[&str]| {
            let mut command = Command::new(&gtlsclient);
            command.args(["--quiet", "--exit-on-all-streams-close"]).args(more);
            command.arg("--download").arg(folder.path()).arg("127.0.0.1").arg(&port);
            command.args(paths.iter().map(|path| format!("https://{LOCALHOST}:{port}{path}")));
            output(command)
        };
        let seen = ask(&[], &["/bytes/3000000", "/bytes/10"]).await;
        let of = |name: &str| std::fs::read(folder.path().join(name)).unwrap_or_default().len();
        assert_eq!((of("3000000"), of("10")), (3_000_000, 10), "{}", seen.text());
        let sent = folder.path().join("sent");
        std::fs::write(&sent, vec![7; 500_000]).unwrap();
        let seen = ask(&["--http-method", "POST", "--data", sent.to_str().unwrap()], &["/sink"]).await;
        let told = std::fs::read_to_string(folder.path().join("sink")).unwrap_or_default();
        assert!(told.contains("500000"), "{told} {}", seen.text());
    });
}

#[test]
fn trailers_and_early_hints_go_through() {
    run(async {
        let origin = Scripted::always(
            "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\nHTTP/1.1 200 OK\r\ntrailer: x-sum\r\n\
             transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n",
        )
        .await;
        let site = Site::of(origin.service()).await;
        let answer = site.http3().await.fetch(get("/"), None).await.unwrap().ok();
        assert_eq!(answer.interim.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [103]);
        assert_eq!((answer.text().as_str(), answer.trailers.len()), ("ok", 1), "{answer:?}");
    });
}

#[test]
fn trailers_of_a_request_reach_the_origin() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let request = Request::post(url("/echo")).body(Bytes::from_static(b"body")).unwrap();
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
        let answer = site.http3().await.fetch(request, Some(trailers)).await.unwrap();
        assert_eq!(
            (answer.status, answer.text().as_str(), answer.end),
            (200, "body", End::Clean),
            "{answer:?}"
        );
    });
}

#[test]
fn a_hundred_requests_share_a_connection() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let mut client = site.http3().await;
        let mut streams = Vec::new();
        for n in 0..100 {
            let mut stream = client
                .open(Request::get(url(&format!("/bytes/{}", n * 1000))).body(()).unwrap())
                .await
                .unwrap();
            stream.finish().await.unwrap();
            streams.push(http3_answer(stream));
        }
        for (n, answer) in join_all(streams).await.into_iter().enumerate() {
            assert_eq!(answer.unwrap().ok().body.len(), n * 1000);
        }
        let line = site.edge.access_line("/bytes/99000").await;
        assert!(line.to_string().contains("HTTP/3"), "{line}");
    });
}

#[test]
fn hazard_096_a_phone_that_changes_its_network_loses_nothing() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let mut client = site.http3().await;
        let mut stream = client.open(Request::get(url("/bytes/8000000")).body(()).unwrap()).await.unwrap();
        stream.finish().await.unwrap();
        assert_eq!(stream.recv_response().await.unwrap().status(), 200);
        client.move_on();
        let mut length = 0;
        while let Some(piece) = stream.recv_data().await.unwrap() {
            length += bytes::Buf::remaining(&piece);
        }
        assert_eq!(length, 8_000_000);
        client.fetch(get("/bytes/1"), None).await.unwrap().ok();
    });
}

#[test]
fn hazard_095_requests_that_are_given_up_at_once_end_the_connection_and_no_other() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let (mut flood, mut neighbour) = (site.http3().await, site.http3().await);
        for _ in 0..2_000 {
            let Ok(mut stream) = flood.open(Request::get(url("/slow/60000")).body(()).unwrap()).await else {
                break;
            };
            stream.stop_stream(Code::H3_REQUEST_CANCELLED);
            stream.stop_sending(Code::H3_REQUEST_CANCELLED);
        }
        let why = flood.ended(10 * SECOND).await.expect("the flood's connection is ended");
        assert!(why.contains("H3_EXCESSIVE_LOAD"), "{why}");
        neighbour.fetch(get("/bytes/10"), None).await.unwrap().ok();
        wait::holds("nothing running at the origin", 5 * SECOND, || origin.counters().running() == 0).await;
    });
}

#[test]
fn an_upload_that_stands_still_holds_up_no_other_request_of_its_connection() {
    run(async {
        let origin = Scripted::start(|mut connection| async move {
            let Some(head) = connection.head().await else { return };
            if head.starts_with("POST") {
                // Takes nothing of it.
                connection.wait_gone().await;
            } else {
                connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
            }
        })
        .await;
        let site = Site::of(origin.service()).await;
        let mut client = site.http3().await;
        let mut stream = client.open(Request::post(url("/standing")).body(()).unwrap()).await.unwrap();
        let standing = async {
            let piece = Bytes::from(vec![0; 64 * 1024]);
            while stream.send_data(piece.clone()).await.is_ok() {}
        };
        let beside = async {
            wait::holds("the upload at the origin", 5 * SECOND, || !origin.heads().is_empty()).await;
            for _ in 0..20 {
                client.fetch(get("/"), None).await.unwrap().ok();
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = standing => panic!("the upload ended"),
            () = beside => {}
        }
    });
}

#[test]
fn an_early_answer_is_not_held_up_by_the_upload() {
    run(async {
        let origin = Scripted::start(|mut connection| async move {
            connection.head().await;
            connection
                .send(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno\n")
                .await;
            connection.wait_gone().await;
        })
        .await;
        let site = Site::of(origin.service()).await;
        let request = Request::post(url("/")).body(Bytes::from(vec![0; 32 << 20])).unwrap();
        let answer = fetch(&site.edge, Protocol::Http3, request).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (413, "no\n"));
    });
}

#[test]
fn a_stop_lets_what_runs_come_to_its_end_and_says_so() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let mut client = site.http3().await;
        let mut stream = client.open(Request::get(url("/slow/1500")).body(()).unwrap()).await.unwrap();
        stream.finish().await.unwrap();
        wait::holds("the request at the origin", 5 * SECOND, || origin.counters().running() > 0).await;
        site.edge.program.terminate();
        let answer = http3_answer(stream).await.unwrap().ok();
        assert!(!answer.body.is_empty() || answer.status == 200);
        let why = client.ended(10 * SECOND).await.expect("the connection is ended");
        assert!(why.contains("H3_NO_ERROR"), "{why}");
    });
}

#[test]
fn hazard_097_http3_is_announced_where_it_answers_and_nowhere_else() {
    run(async {
        let origin = sample().await;
        let site = on_one_port(http(&origin), "").await;
        let port = site.edge.https.port();
        for protocol in [Protocol::Http1, Protocol::Http2] {
            // The port that the visitor names is the one that he came by.
            let mut request = get("/bytes/1");
            *request.uri_mut() = format!("https://{APP}:{port}/bytes/1").parse().unwrap();
            request.headers_mut().insert("host", format!("{APP}:{port}").parse().unwrap());
            if protocol == Protocol::Http1 {
                let mut client = site.http1().await;
                client.send(format!("GET /bytes/1 HTTP/1.1\r\nhost: {APP}:{port}\r\n\r\n").as_bytes()).await;
                let answer = client.answer("GET").await.unwrap().ok();
                assert_eq!(
                    answer.header("alt-svc"),
                    Some(&*format!("h3=\":{port}\"; ma=86400")),
                    "{answer:?}"
                );
            } else {
                let answer = fetch(&site.edge, protocol, request).await.unwrap().ok();
                assert_eq!(
                    answer.header("alt-svc"),
                    Some(&*format!("h3=\":{port}\"; ma=86400")),
                    "{answer:?}"
                );
            }
            let other = visit(&site.edge, protocol, &url("/bytes/1")).await.ok();
            assert_eq!(other.header("alt-svc"), None, "443 is another port");
        }
        let own = visit(&site.edge, Protocol::Http3, &url("/bytes/1")).await.ok();
        assert_eq!(own.header("alt-svc"), None, "who speaks it need not be told");
    });
}

#[test]
fn http3_can_be_switched_off() {
    run(async {
        let origin = sample().await;
        let site = on_one_port(http(&origin), "http3: false\n").await;
        let refused = quic_dial(site.edge.tunnel, &site.edge.ca(), APP, "h3").await;
        assert!(refused.is_err(), "{refused:?}");
        let port = site.edge.https.port();
        let mut client = site.http1().await;
        client.send(format!("GET /bytes/1 HTTP/1.1\r\nhost: {APP}:{port}\r\n\r\n").as_bytes()).await;
        assert_eq!(client.answer("GET").await.unwrap().ok().header("alt-svc"), None);
    });
}

#[test]
fn hazard_043_a_name_without_a_certificate_gets_no_connection() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        for name in ["stranger.test", "example.test.stranger.test"] {
            assert!(Http3::at(site.edge.tunnel, &site.edge.ca(), name).await.is_err(), "{name}");
        }
        let mut client = site.http3().await;
        let other = Request::get("https://stranger.test/").body(Bytes::new()).unwrap();
        assert_eq!(
            client.fetch(other, None).await.unwrap().status,
            421,
            "nor one that came for another name"
        );
    });
}

#[test]
fn hazard_083_and_090_versions_are_told_to_whole_first_packets_alone() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let hello = |length: usize| {
            let mut packet = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8];
            packet.extend([7; 8]);
            packet.push(8);
            packet.extend([9; 8]);
            packet.resize(length, 0);
            packet
        };
        let mut answer = [0; 1500];
        socket.send_to(&hello(600), site.edge.tunnel).await.unwrap();
        socket.send_to(&hello(1200), site.edge.tunnel).await.unwrap();
        let length =
            tokio::time::timeout(5 * SECOND, socket.recv(&mut answer)).await.expect("an answer").unwrap();
        assert_eq!(answer[1..5], [0; 4], "version negotiation");
        assert!(answer[..length].windows(4).any(|version| version == [0, 0, 0, 1]), "version 1 is offered");
        // The packet that was too short came first: had it been answered, that answer would be here by now.
        let more = tokio::time::timeout(SECOND / 5, socket.recv(&mut answer)).await;
        assert!(more.is_err(), "the short one was answered too");
    });
}

#[test]
fn a_head_that_is_too_long_is_answered_431() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let mut client = site.http3().await;
        for (fields, length) in [(5, 15_000), (120, 10)] {
            let mut request = get("/");
            for n in 0..fields {
                let name: http::HeaderName = format!("x-{n}").parse().unwrap();
                request.headers_mut().insert(name, "a".repeat(length).parse().unwrap());
            }
            // The client knows the edge's limit and keeps to it: that it cannot send more is the same to us.
            match client.fetch(request, None).await {
                Ok(answer) => assert_eq!(answer.status, 431, "{fields} fields of {length}"),
                Err(error) => assert!(error.contains("too big"), "{error}"),
            }
        }
        let sum = client.fetch(get("/bytes/1000"), None).await.unwrap().ok();
        assert_eq!(sum.body.len(), 1000, "{}", pattern_sum(1000));
    });
}

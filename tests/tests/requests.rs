//! Requests of every kind reach the origin as the visitor sent them, and the answers come back whole, over HTTP/1.1 and HTTP/2.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use causeway_tests::client::{End, fetch, protocols, visit};
use causeway_tests::origin::content::{Sum, pattern_sum};
use causeway_tests::origin::scripted::Scripted;
use causeway_tests::origin::{http, nginx::Nginx, sample, sample_h2c};
use causeway_tests::site::{APP, Site};
use causeway_tests::{needs, run};
use http::Request;

const MIB: u64 = 1 << 20;

fn url(path: &str) -> String {
    format!("https://{APP}{path}")
}

/// The SHA-256 of some bytes.
fn sum(bytes: &[u8]) -> String {
    let mut sum = Sum::default();
    sum.update(bytes);
    sum.finish()
}

#[test]
fn every_method_arrives_as_it_was_sent() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        for protocol in protocols() {
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "PURGE", "QUERY"] {
                let request = Request::builder()
                    .method(method)
                    .uri(url("/inspect?a=1&b=%2F"))
                    .body(Bytes::new())
                    .unwrap();
                let seen = fetch(&site.edge, protocol, request).await.unwrap().ok().json();
                assert_eq!(seen["method"], method, "{protocol:?}");
                assert_eq!(seen["target"], "/inspect?a=1&b=%2F", "{protocol:?} {method}");
            }
        }
    });
}

#[test]
fn hazard_028_paths_arrive_byte_for_byte() {
    run(async {
        let origin = Scripted::always("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let site = Site::of(origin.service()).await;
        let paths =
            ["/a/../b", "//x//y", "/%2f%2F", "/a;p=1", "/%00", "/a%20b?c=%zz&d=%", "/~user/!$&'()*+,=:@"];
        for protocol in protocols() {
            for path in paths {
                // `%zz` is no valid escape, but the query is the origin's to judge.
                let answer = visit(&site.edge, protocol, &url(path)).await;
                assert_eq!(answer.status, 200, "{protocol:?} {path}");
                let head = origin.heads().pop().unwrap();
                assert!(head.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{protocol:?} {path}: {head}");
            }
        }
    });
}

#[test]
fn bodies_go_both_ways_with_and_without_a_length() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        for protocol in protocols() {
            for length in [0, 1, 100, 16 * 1024, 64 * 1024 + 1, MIB, 8 * MIB + 7] {
                for kind in ["bytes", "chunked"] {
                    let answer = visit(&site.edge, protocol, &url(&format!("/{kind}/{length}"))).await.ok();
                    assert_eq!(answer.body.len() as u64, length, "{protocol:?} {kind}");
                    assert_eq!(sum(&answer.body), pattern_sum(length), "{protocol:?} {kind} {length}");
                    // Framing is each hop's own: an answer that came whole may be given its length, but never a wrong one.
                    let told = answer.header("content-length").map(str::to_owned);
                    let right = told == Some(length.to_string()) || (kind == "chunked" && told.is_none());
                    assert!(right, "{protocol:?} {kind} {length}: {told:?}");
                }
                let body =
                    Bytes::from(visit(&site.edge, protocol, &url(&format!("/bytes/{length}"))).await.body);
                let request = Request::post(url("/sink")).body(body).unwrap();
                let seen = fetch(&site.edge, protocol, request).await.unwrap().ok().json();
                assert_eq!(
                    (&seen["bytes"], &seen["sha256"]),
                    (&length.into(), &pattern_sum(length).into()),
                    "{protocol:?}"
                );
            }
        }
    });
}

#[test]
fn a_chunked_upload_arrives_whole() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let mut client = site.http1().await;
        client
            .send(
                format!("POST /sink HTTP/1.1\r\nhost: {APP}\r\ntransfer-encoding: chunked\r\n\r\n")
                    .as_bytes(),
            )
            .await;
        let mut expected = Vec::new();
        for n in 0..200usize {
            let piece: Vec<u8> = (0..n * 7 + 1).map(|i| (i % 251) as u8).collect();
            client.send(format!("{:x};ext=ignored\r\n", piece.len()).as_bytes()).await;
            client.send(&piece).await;
            client.send(b"\r\n").await;
            expected.extend(piece);
        }
        client.send(b"0\r\n\r\n").await;
        let seen = client.answer("POST").await.unwrap().ok().json();
        assert_eq!((&seen["bytes"], &seen["sha256"]), (&expected.len().into(), &sum(&expected).into()));
    });
}

#[test]
fn answers_without_a_body_have_none() {
    run(async {
        let origin = Scripted::start(|mut connection| async move {
            while let Some(head) = connection.request().await {
                let answer = match head.split(' ').nth(1).unwrap_or_default() {
                    "/204" => "HTTP/1.1 204 No Content\r\nx-kept: yes\r\n\r\n",
                    "/304" => "HTTP/1.1 304 Not Modified\r\ncontent-length: 1234\r\netag: \"a\"\r\n\r\n",
                    "/205" => "HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n",
                    _ => "HTTP/1.1 200 OK\r\ncontent-length: 4321\r\nx-kept: yes\r\n\r\n",
                };
                connection.send(answer.as_bytes()).await;
            }
        })
        .await;
        let site = Site::of(origin.service()).await;
        for protocol in protocols() {
            for (path, status) in [("/204", 204), ("/304", 304), ("/205", 205)] {
                let answer = visit(&site.edge, protocol, &url(path)).await;
                assert_eq!(
                    (answer.status, answer.body.len(), answer.end),
                    (status, 0, End::Clean),
                    "{protocol:?}"
                );
            }
            let request = Request::head(url("/head")).body(Bytes::new()).unwrap();
            let answer = fetch(&site.edge, protocol, request).await.unwrap();
            assert_eq!((answer.status, answer.body.len()), (200, 0), "{protocol:?} HEAD");
            assert_eq!(
                answer.header("content-length"),
                Some("4321"),
                "{protocol:?}: HEAD tells the length a GET would have"
            );
            assert_eq!(answer.header("x-kept"), Some("yes"));
        }
    });
}

#[test]
fn hazard_145_early_hints_pass_in_order() {
    run(async {
        let origin = Scripted::always(
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </b.js>; rel=preload\r\n\r\n\
             HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        )
        .await;
        let site = Site::of(origin.service()).await;
        for protocol in protocols() {
            let answer = visit(&site.edge, protocol, &url("/")).await.ok();
            let links: Vec<_> =
                answer.interim.iter().map(|(status, headers)| (*status, headers[0].1.clone())).collect();
            let hint = |file: &str| (103, format!("</{file}>; rel=preload"));
            assert_eq!(links, [hint("a.css"), hint("b.js")], "{protocol:?}");
        }
    });
}

#[test]
fn expect_100_continue_waits_for_the_origin_and_not_for_ever() {
    run(async {
        let origin = Scripted::start(|mut connection| async move {
            while let Some(head) = connection.head().await {
                if head.starts_with("POST /refuse") {
                    connection.send(b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
                    return;
                }
                connection.send(b"HTTP/1.1 100 Continue\r\n\r\n").await;
                while connection.bytes().await.is_some_and(|bytes| !bytes.ends_with(b"end")) {}
                connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
        })
        .await;
        let site = Site::of(origin.service()).await;
        let mut client = site.http1().await;
        let head = |path: &str| {
            format!(
                "POST {path} HTTP/1.1\r\nhost: {APP}\r\ncontent-length: 6\r\nexpect: 100-continue\r\n\r\n"
            )
        };
        client.send(head("/").as_bytes()).await;
        let since = Instant::now();
        assert_eq!(client.head().await.unwrap().status, 100);
        assert!(
            since.elapsed() < Duration::from_millis(1500),
            "the visitor waits {:?} for 100",
            since.elapsed()
        );
        client.send(b"my end").await;
        assert_eq!(client.answer("POST").await.unwrap().status, 200);

        // A final status before the body: the visitor sees it without having sent a byte, and no request is read out of the body.
        let mut client = site.http1().await;
        client.send(head("/refuse").as_bytes()).await;
        let answer = client.answer("POST").await.unwrap();
        assert_eq!(answer.status, 417);
    });
}

#[test]
fn trailers_pass_both_ways() {
    run(async {
        let origin = sample_h2c().await;
        let site = Site::of(format!("h2c://{}", origin.addr())).await;
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", "42".parse().unwrap());
        let request = Request::post(url("/inspect"))
            .header("te", "trailers")
            .body(Bytes::from_static(b"body"))
            .unwrap();
        let seen = site.http2().await.fetch(request, Some(trailers)).await.unwrap().ok().json();
        assert_eq!(seen["trailers"], serde_json::json!([["x-sum", "42"]]));
        assert_eq!(seen["body"], "body");

        let mut client = site.http1().await;
        let head = format!(
            "POST /inspect HTTP/1.1\r\nhost: {APP}\r\nte: trailers\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
        );
        client.send(head.as_bytes()).await;
        client.send(b"4\r\nbody\r\n0\r\nx-sum: 43\r\n\r\n").await;
        let seen = client.answer("POST").await.unwrap().ok().json();
        assert_eq!(seen["trailers"], serde_json::json!([["x-sum", "43"]]));

        for protocol in protocols() {
            let request = Request::get(url("/trailers")).header("te", "trailers").body(Bytes::new()).unwrap();
            let answer = fetch(&site.edge, protocol, request).await.unwrap().ok();
            assert_eq!(answer.trailers, [("x-checksum".to_owned(), "b1946ac9".to_owned())], "{protocol:?}");
        }
    });
}

#[test]
fn hazard_149_events_come_one_by_one_without_delay() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        // The first event must be here long before the second exists; five events 100 ms apart.
        let mut client = site.http1().await;
        client
            .send(
                format!("GET /sse/5/100 HTTP/1.1\r\nhost: {APP}\r\naccept: text/event-stream\r\n\r\n")
                    .as_bytes(),
            )
            .await;
        let head = client.head().await.unwrap();
        assert_eq!(head.status, 200);
        let since = Instant::now();
        let mut text = String::new();
        let mut times = Vec::new();
        while !text.contains("data: 4") {
            text += &String::from_utf8_lossy(&client.bytes(usize::MAX).await);
            while times.len() < text.matches("data: ").count() {
                times.push(since.elapsed());
            }
        }
        assert!(times[0] < Duration::from_millis(60), "the first event took {:?}", times[0]);
        let total = times[4] - times[0];
        assert!(
            total > Duration::from_millis(380) && total < Duration::from_millis(600),
            "events at {times:?}"
        );
    });
}

#[test]
fn hazard_146_an_early_answer_reaches_the_visitor_while_the_upload_runs() {
    run(async {
        let answer =
            "HTTP/1.1 413 Content Too Large\r\ncontent-length: 9\r\nconnection: close\r\n\r\ntoo large";
        let origin = Scripted::start(move |mut connection| async move {
            connection.head().await;
            connection.send(answer.as_bytes()).await;
            connection.wait_gone().await;
        })
        .await;
        let site = Site::of(origin.service()).await;

        let mut client = site.http1().await;
        client
            .send(
                format!("POST / HTTP/1.1\r\nhost: {APP}\r\ncontent-length: {}\r\n\r\n", 1u64 << 30)
                    .as_bytes(),
            )
            .await;
        let since = Instant::now();
        let answer = client.answer("POST").await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (413, "too large"));
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());

        // HTTP/2: with the window full of unread upload, and the connection lives on.
        let mut client = site.http2().await;
        let request = Request::post(url("/")).body(()).unwrap();
        let mut stream = client.open(request, false).await.unwrap();
        stream.send.reserve_capacity(4 << 20);
        let _ = stream.send.send_data(Bytes::from(vec![0; 4 << 20]), false);
        let since = Instant::now();
        let response = stream.head().await.unwrap();
        assert_eq!(response.status(), 413);
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
        let second = Request::get(url("/again")).body(Bytes::new()).unwrap();
        assert_eq!(client.fetch(second, None).await.unwrap().status, 413, "the connection survives");
    });
}

#[test]
fn hazard_149_both_directions_flow_at_once() {
    run(async {
        let origin = sample_h2c().await;
        let site = Site::of(format!("h2c://{}", origin.addr())).await;
        let mut client = site.http2().await;
        let mut stream = client.open(Request::post(url("/echo")).body(()).unwrap(), false).await.unwrap();
        let mut body = stream.head().await.unwrap().into_body();
        for n in 0..50u8 {
            stream.send.send_data(Bytes::from(vec![n]), false).unwrap();
            let back = tokio::time::timeout(Duration::from_secs(2), body.data())
                .await
                .expect("a byte comes back at once");
            assert_eq!(back.unwrap().unwrap().as_ref(), [n]);
            body.flow_control().release_capacity(1).unwrap();
        }
        stream.send.send_data(Bytes::new(), true).unwrap();
        assert!(body.data().await.is_none_or(|data| data.unwrap().is_empty()), "a clean end");
    });
}

#[test]
fn hazard_032_pipelined_requests_are_answered_in_order() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let mut client = site.http1().await;
        let one = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: {APP}\r\n\r\n");
        client.send([one("/slow/200"), one("/bytes/10"), one("/status/404")].concat().as_bytes()).await;
        assert_eq!(client.answer("GET").await.unwrap().text(), "slow\n");
        assert_eq!(client.answer("GET").await.unwrap().body.len(), 10);
        assert_eq!(client.answer("GET").await.unwrap().status, 404);
    });
}

#[test]
fn http_1_0_visitors_are_served() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let mut client = site.http1().await;
        client.send(format!("GET /chunked/1000 HTTP/1.0\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
        let answer = client.answer("GET").await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 1000));
        assert_eq!(answer.header("transfer-encoding"), None, "HTTP/1.0 knows no chunks");
    });
}

#[test]
fn nginx_serves_files_ranges_compression_and_uploads() {
    let Some(path) = needs("nginx") else { return };
    run(async move {
        let nginx = Nginx::start(&path).await;
        let content: Vec<u8> = (0..3_000_000u32).map(|i| (i % 253) as u8).collect();
        nginx.put("file.bin", &content);
        nginx.put("text.txt", "compress me ".repeat(1000).as_bytes());
        let site = Site::of(nginx.service()).await;
        for protocol in protocols() {
            let whole = visit(&site.edge, protocol, &url("/file.bin")).await.ok();
            assert_eq!(whole.body, content, "{protocol:?}");
            let range =
                Request::get(url("/file.bin")).header("range", "bytes=1000-1999").body(Bytes::new()).unwrap();
            let range = fetch(&site.edge, protocol, range).await.unwrap();
            assert_eq!((range.status, range.body.as_slice()), (206, &content[1000..2000]), "{protocol:?}");
            // Nothing is added: without Accept-Encoding the answer is plain; with it, compressed bytes pass unread.
            let plain = visit(&site.edge, protocol, &url("/text.txt")).await.ok();
            assert_eq!(plain.header("content-encoding"), None, "{protocol:?}");
            let request =
                Request::get(url("/text.txt")).header("accept-encoding", "gzip").body(Bytes::new()).unwrap();
            let packed = fetch(&site.edge, protocol, request).await.unwrap().ok();
            assert_eq!(packed.header("content-encoding"), Some("gzip"), "{protocol:?}");
            assert_eq!(packed.body[..2], [0x1f, 0x8b], "{protocol:?}");
            let name = format!("up-{protocol:?}");
            let request =
                Request::put(url(&format!("/upload/{name}"))).body(Bytes::from(content.clone())).unwrap();
            assert_eq!(fetch(&site.edge, protocol, request).await.unwrap().status, 201, "{protocol:?}");
            assert_eq!(nginx.uploaded(&name), content, "{protocol:?}");
        }
    });
}

#[test]
fn curl_and_h2load_agree() {
    let (Some(curl), Some(h2load)) = (needs("curl"), needs("h2load")) else { return };
    run(async move {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let https = site.edge.https;
        for version in ["--http1.1", "--http2"] {
            let mut command = tokio::process::Command::new(&curl);
            command
                .args(["-sS", version, "--cacert"])
                .arg(site.edge.ca())
                .arg("--connect-to")
                .arg(format!("::{https}"));
            command
                .args(["-w", "%{http_version} %{http_code} %{size_download}", "-o", "/dev/null"])
                .arg(url("/bytes/1000000"));
            let seen = causeway_tests::child::output(command).await.ok();
            let expected = if version == "--http2" { "2 200 1000000" } else { "1.1 200 1000000" };
            assert_eq!(seen, expected);
        }
        let mut command = tokio::process::Command::new(&h2load);
        command
            .args(["-n", "2000", "-c", "4", "-m", "16"])
            .arg(format!("--connect-to={https}"))
            .arg(url("/bytes/1024"));
        let seen = causeway_tests::child::output(command).await.ok();
        assert!(seen.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{seen}");
    });
}

#[test]
fn a_hundred_requests_share_one_http2_connection() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let mut client = site.http2().await;
        let mut streams = Vec::new();
        for n in 0..100 {
            let request = Request::get(url(&format!("/bytes/{}", n * 300))).body(()).unwrap();
            streams.push((n, client.open(request, true).await.unwrap()));
        }
        for (n, stream) in streams.into_iter().rev() {
            assert_eq!(stream.answer().await.unwrap().ok().body.len(), n * 300);
        }
    });
}

//! Ambiguous or malformed HTTP/1.1 is refused before it is routed: hazards 1 to 58, byte by byte.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::time::Duration;

use causeway_tests::client::Http1;
use causeway_tests::origin::scripted::Scripted;
use causeway_tests::run;
use causeway_tests::site::{APP, Site};

/// A request with these header lines, asking for a POST of two bytes.
fn post(lines: &str) -> Vec<u8> {
    format!("POST /case HTTP/1.1\r\nHost: {APP}\r\n{lines}\r\nhi").into_bytes()
}

/// A chunked request with this body.
fn chunked(body: &[u8]) -> Vec<u8> {
    let head = format!("POST /case HTTP/1.1\r\nHost: {APP}\r\nTransfer-Encoding: chunked\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A GET with these header lines.
fn get(lines: &[u8]) -> Vec<u8> {
    [format!("GET /case HTTP/1.1\r\nHost: {APP}\r\n").as_bytes(), lines, b"\r\n"].concat()
}

/// A request with this start line and Host lines.
fn raw(text: &str) -> Vec<u8> {
    text.replace("APP", APP).into_bytes()
}

/// A site whose origin answers 200 to everything and keeps what it saw.
async fn site() -> (Scripted, Site) {
    let origin = Scripted::always("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let site = Site::of(origin.service()).await;
    (origin, site)
}

/// Sends one case in clear text, where nothing but HTTP can refuse it, and expects one of the statuses, a closed connection, and
/// an origin that saw nothing.
async fn refused(
    origin: &Scripted,
    site: &Site,
    name: &str,
    bytes: &[u8],
    statuses: &[u16],
) -> Result<(), String> {
    let before = origin.heads().len();
    let mut client = Http1::plain(site.edge.http).await;
    client.send(bytes).await;
    let answer = client.answer("GET").await.map_err(|error| format!("{name}: no answer ({error})"))?;
    if !statuses.contains(&answer.status) {
        return Err(format!("{name}: {} instead of {statuses:?}", answer.status));
    }
    if !client.closes(Duration::from_secs(8)).await {
        return Err(format!("{name}: {}, but the connection stays open", answer.status));
    }
    match origin.heads().len() - before {
        0 => Ok(()),
        _ => Err(format!("{name}: {}, but the origin saw {:?}", answer.status, origin.heads().last())),
    }
}

fn all_refused(cases: Vec<(&'static str, Vec<u8>)>, statuses: &'static [u16]) {
    run(async move {
        let (origin, site) = site().await;
        let mut wrong = Vec::new();
        for (name, bytes) in cases {
            wrong.extend(refused(&origin, &site, name, &bytes, statuses).await.err());
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn hazard_001_to_005_two_framings_or_a_length_that_is_no_number_are_refused() {
    all_refused(
        vec![
            ("CL+TE", post("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n")),
            ("TE+CL", post("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n")),
            ("two CL that differ", post("Content-Length: 2\r\nContent-Length: 3\r\n")),
            ("two CL alike", post("Content-Length: 2\r\nContent-Length: 2\r\n")),
            ("CL list", post("Content-Length: 2, 2\r\n")),
            ("CL +2", post("Content-Length: +2\r\n")),
            ("CL -1", post("Content-Length: -1\r\n")),
            ("CL 0x2", post("Content-Length: 0x2\r\n")),
            ("CL 2_0", post("Content-Length: 2_0\r\n")),
            ("CL 2 2", post("Content-Length: 2 2\r\n")),
            ("CL empty", post("Content-Length: \r\n")),
            ("CL junk", post("Content-Length: 2abc\r\n")),
            ("CL overflow", post("Content-Length: 18446744073709551618\r\n")),
            ("CL above 2^63", post("Content-Length: 9223372036854775808\r\n")),
        ],
        &[400, 413],
    );
}

#[test]
fn hazard_006_to_009_a_transfer_encoding_that_is_not_just_chunked_is_refused() {
    let head = format!("POST /case HTTP/1.1\r\nHost: {APP}\r\nTransfer-Encoding: ");
    let nbsp = [head.as_bytes(), b"\xa0chunked\r\n\r\n0\r\n\r\n"].concat();
    all_refused(
        vec![
            ("TE xchunked", post("Transfer-Encoding: xchunked\r\n")),
            ("TE identity", post("Transfer-Encoding: identity\r\n")),
            ("TE gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n")),
            ("TE chunked, identity", post("Transfer-Encoding: chunked, identity\r\n")),
            ("TE ,chunked", post("Transfer-Encoding: ,chunked\r\n")),
            ("TE chunked, chunked", post("Transfer-Encoding: chunked, chunked\r\n")),
            ("TE twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")),
            ("TE vtab", post("Transfer-Encoding: \x0bchunked\r\n")),
            ("TE NUL", post("Transfer-Encoding: chunked\0\r\n")),
            ("TE nbsp", nbsp),
            ("TE quoted", post("Transfer-Encoding: \"chunked\"\r\n")),
            ("TE with a parameter", post("Transfer-Encoding: chunked;q=1\r\n")),
            ("space before the colon", post("Transfer-Encoding : chunked\r\n")),
            ("tab before the colon", post("Content-Length\t: 2\r\n")),
            (
                "TE on HTTP/1.0",
                raw("POST /case HTTP/1.0\r\nHost: APP\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            ),
        ],
        &[400, 501],
    );
}

#[test]
fn hazard_010_an_http_1_0_request_without_a_length_has_no_body() {
    run(async {
        let (origin, site) = site().await;
        let mut client = Http1::plain(site.edge.http).await;
        client
            .send(
                raw("POST /case HTTP/1.0\r\nHost: APP\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: APP\r\n\r\n")
                    .as_slice(),
            )
            .await;
        let _ = client.answer("POST").await;
        assert!(client.closes(Duration::from_secs(8)).await);
        assert!(!origin.heads().iter().any(|head| head.contains("smuggled")), "{:?}", origin.heads());
    });
}

#[test]
fn hazard_011_to_014_malformed_chunks_end_the_request_and_never_look_like_an_end() {
    run(async {
        let cases: Vec<(&str, &[u8])> = vec![
            ("0x1", b"0x2\r\nhi\r\n0\r\n\r\n"),
            ("+2", b"+2\r\nhi\r\n0\r\n\r\n"),
            ("-1", b"-1\r\nhi\r\n0\r\n\r\n"),
            ("1_0", b"1_0\r\nhi\r\n0\r\n\r\n"),
            ("empty size", b"\r\nhi\r\n0\r\n\r\n"),
            ("overflow", b"10000000000000002\r\nhi\r\n0\r\n\r\n"),
            ("seventeen digits", b"00000000000000002\r\nhi\r\n0\r\n\r\n"),
            ("bare LF after the size", b"2\nhi\r\n0\r\n\r\n"),
            ("bare CR after the size", b"2\rhi\r\n0\r\n\r\n"),
            ("bare LF after the data", b"2\r\nhi\n0\r\n\r\n"),
            ("bare CR after the data", b"2\r\nhi\r0\r\n\r\n"),
            ("bare LF at the end", b"2\r\nhi\r\n0\r\n\n"),
            ("LF in an extension", b"2;a=\nb\r\nhi\r\n0\r\n\r\n"),
            ("CR in an extension", b"2;a=\rb\r\nhi\r\n0\r\n\r\n"),
            ("NUL in an extension", b"2;a=\0\r\nhi\r\n0\r\n\r\n"),
            ("data longer than its size", b"2\r\nhiXX\r\n0\r\n\r\n"),
            ("space before the size", b" 2\r\nhi\r\n0\r\n\r\n"),
        ];
        let (_, site) = site().await;
        // An origin that waits for the body's end: it must never see one.
        let origin = Scripted::start(|mut connection| async move {
            connection.head().await;
            let mut body = Vec::new();
            while let Some(bytes) = connection.bytes().await {
                body.extend(bytes);
                if body.ends_with(b"0\r\n\r\n") {
                    connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
            }
        })
        .await;
        let strict = site.replica(&causeway_tests::site::to(origin.service())).await;
        drop(site.connector);
        let mut wrong = Vec::new();
        for (name, body) in cases {
            let mut client = Http1::plain(site.edge.http).await;
            client.send(&chunked(body)).await;
            match client.answer("POST").await {
                Ok(answer) if answer.status == 400 => {}
                // The head may have gone out already: then closing without an answer is right as well.
                Err(_) => {}
                Ok(answer) => wrong.push(format!("{name}: {}", answer.status)),
            }
            if !client.closes(Duration::from_secs(8)).await {
                wrong.push(format!("{name}: the connection stays open"));
            }
        }
        drop(strict);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn hazard_013_valid_chunk_extensions_are_dropped_and_long_ones_refused() {
    run(async {
        let (origin, site) = site().await;
        let mut client = Http1::plain(site.edge.http).await;
        client.send(&chunked(b"2;a=b;c=\"d e\"\r\nhi\r\n0\r\n\r\n")).await;
        assert_eq!(client.answer("POST").await.unwrap().status, 200);
        assert!(!origin.heads()[0].contains("a=b"));
        let long = format!("2;a={}\r\nhi\r\n0\r\n\r\n", "x".repeat(20_000));
        let mut client = Http1::plain(site.edge.http).await;
        client.send(&chunked(long.as_bytes())).await;
        let answer = client.answer("POST").await;
        assert!(
            answer.as_ref().is_err() || answer.as_ref().is_ok_and(|answer| answer.status >= 400),
            "{answer:?}"
        );
    });
}

#[test]
fn hazard_016_and_017_trailers_that_would_change_the_request_are_dropped_and_floods_refused() {
    run(async {
        let origin = causeway_tests::origin::sample_h2c().await;
        let site = Site::of(format!("h2c://{}", origin.addr())).await;
        let head = format!(
            "POST /inspect HTTP/1.1\r\nHost: {APP}\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let mut client = Http1::plain(site.edge.http).await;
        let trailers = "host: evil\r\ncontent-length: 9\r\ntransfer-encoding: x\r\nauthorization: no\r\nx-forwarded-for: 6.6.6.6\r\nconnection: close\r\nx-good: yes\r\n";
        client.send(format!("{head}2\r\nhi\r\n0\r\n{trailers}\r\n").as_bytes()).await;
        let seen = client.answer("POST").await.unwrap().ok().json();
        assert_eq!(seen["trailers"], serde_json::json!([["x-good", "yes"]]));
        assert!(!seen["headers"].to_string().contains("evil"), "never merged into the headers: {seen}");

        for flood in ["x: y\r\n".repeat(200), format!("x: {}\r\n", "y".repeat(20_000))] {
            let mut client = Http1::plain(site.edge.http).await;
            client.send(format!("{head}2\r\nhi\r\n0\r\n{flood}\r\n").as_bytes()).await;
            let answer = client.answer("POST").await;
            assert!(
                answer.as_ref().is_err() || answer.as_ref().is_ok_and(|answer| answer.status >= 400),
                "{answer:?}"
            );
            assert!(client.closes(Duration::from_secs(8)).await);
        }
    });
}

#[test]
fn hazard_018_to_024_malformed_header_lines_are_refused() {
    let line = |bytes: &[u8]| get(bytes);
    all_refused(
        vec![
            ("obs-fold", line(b"X-A: 1\r\n b\r\n")),
            ("space before the first header", raw("GET /case HTTP/1.1\r\n Host: APP\r\nHost: APP\r\n\r\n")),
            ("NUL in a value", line(b"X-A: a\0b\r\n")),
            ("bare CR in a value", line(b"X-A: a\rb\r\n")),
            ("control in a value", line(b"X-A: a\x01b\r\n")),
            ("DEL in a value", line(b"X-A: a\x7fb\r\n")),
            ("bare LF at a line's end", line(b"X-A: 1\nX-B: 2\r\n")),
            ("bare LF everywhere", raw("GET /case HTTP/1.1\nHost: APP\n\n")),
            ("no colon", line(b"nocolon\r\n")),
            ("empty name", line(b": value\r\n")),
            ("space in a name", line(b"X A: 1\r\n")),
            ("name with a high byte", line(b"X-\x80: 1\r\n")),
            ("name with a slash", line(b"X/A: 1\r\n")),
        ],
        &[400],
    );
}

#[test]
fn hazard_023_names_with_an_underscore_cannot_pose_as_ours() {
    run(async {
        let (origin, site) = site().await;
        let mut client = Http1::plain(site.edge.http).await;
        client
            .send(&get(
                b"X_Forwarded_For: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\nContent_Length: 99\r\nMy_Own: kept\r\n",
            ))
            .await;
        let answer = client.answer("GET").await.unwrap();
        let head = origin.heads().pop().unwrap_or_default().to_ascii_lowercase();
        let dropped = answer.status == 200 && !head.contains("6.6.6.6") && !head.contains("content_length");
        assert!(dropped || answer.status == 400, "{} {head}", answer.status);
        assert!(
            answer.status == 400 || head.contains("my_own: kept"),
            "a name that poses as nothing passes: {head}"
        );
    });
}

#[test]
fn hazard_025_to_027_malformed_request_lines_are_refused() {
    let with = |line: &str| raw(&format!("{line}\r\nHost: APP\r\n\r\n"));
    all_refused(
        vec![
            ("two spaces", with("GET  /case HTTP/1.1")),
            ("tab", with("GET\t/case HTTP/1.1")),
            ("no version", with("GET /case")),
            ("HTTP/1.10", with("GET /case HTTP/1.10")),
            ("HTTP/2.0", with("GET /case HTTP/2.0")),
            ("HTTP/0.9", with("GET /case HTTP/0.9")),
            ("http/1.1", with("GET /case http/1.1")),
            ("fragment", with("GET /case#frag HTTP/1.1")),
            ("non-ASCII path", with("GET /cas\u{e9} HTTP/1.1")),
            ("NUL in the path", with("GET /ca\0se HTTP/1.1")),
            ("backslash", with("GET /ca\\se HTTP/1.1")),
            ("no slash", with("GET case HTTP/1.1")),
            ("method with a bracket", with("G[T /case HTTP/1.1")),
            ("method of 33 letters", with("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG /case HTTP/1.1")),
            ("h2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
            (
                "TLS on the plain port",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n"
                    .to_vec(),
            ),
            (
                "PROXY protocol",
                raw("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET /case HTTP/1.1\r\nHost: APP\r\n\r\n"),
            ),
        ],
        &[400, 405, 501, 505],
    );
}

#[test]
fn hazard_026_and_062_trace_and_connect_are_not_allowed() {
    run(async {
        let (origin, site) = site().await;
        for line in ["TRACE /case", "TRACK /case", "CONNECT other.example:443", &format!("CONNECT {APP}:443")]
        {
            let mut client = Http1::plain(site.edge.http).await;
            client.send(raw(&format!("{line} HTTP/1.1\r\nHost: APP\r\n\r\n")).as_slice()).await;
            let status = client.answer("GET").await.unwrap().status;
            assert!([400, 405, 501].contains(&status), "{line}: {status}");
        }
        assert!(origin.heads().is_empty(), "{:?}", origin.heads());
    });
}

#[test]
fn hazard_025_and_029_what_is_too_long_is_named_and_refused() {
    run(async {
        let (origin, site) = site().await;
        let cases = [
            (
                "target of 9 KiB",
                raw(&format!("GET /{} HTTP/1.1\r\nHost: APP\r\n\r\n", "a".repeat(9 * 1024))),
                414,
            ),
            ("one header of 17 KiB", get(format!("X-A: {}\r\n", "b".repeat(17 * 1024)).as_bytes()), 431),
            (
                "70 KiB of headers",
                get(format!("X-A: {}\r\n", "c".repeat(10 * 1024)).repeat(7).as_bytes()),
                431,
            ),
            ("101 headers", get("X-A: 1\r\n".repeat(101).as_bytes()), 431),
        ];
        for (name, bytes, status) in cases {
            refused(&origin, &site, name, &bytes, &[status]).await.unwrap();
        }
    });
}

#[test]
fn hazard_031_bytes_after_a_refused_request_are_never_a_new_one() {
    run(async {
        let (origin, site) = site().await;
        let mut client = Http1::plain(site.edge.http).await;
        let refused = raw("POST /case HTTP/1.1\r\nHost: unknown.invalid\r\nContent-Length: 60\r\n\r\n");
        let smuggled = raw("GET /smuggled HTTP/1.1\r\nHost: APP\r\n\r\n");
        client.send(&[refused, smuggled].concat()).await;
        assert!(client.answer("POST").await.unwrap().status >= 400);
        let _ = client.closes(Duration::from_secs(8)).await;
        assert!(origin.heads().is_empty(), "{:?}", origin.heads());
    });
}

#[test]
fn hazard_033_an_unknown_expectation_does_not_desynchronise() {
    run(async {
        let (origin, site) = site().await;
        let mut client = Http1::plain(site.edge.http).await;
        client.send(raw("POST /case HTTP/1.1\r\nHost: APP\r\nExpect: the-unexpected\r\nContent-Length: 2\r\n\r\nhi").as_slice()).await;
        let status = client.answer("POST").await.unwrap().status;
        assert!([200, 417].contains(&status), "{status}");
        assert!(origin.heads().len() <= 1);
    });
}

#[test]
fn hazard_034_a_request_split_at_any_byte_is_the_same_request() {
    run(async {
        let origin = causeway_tests::origin::sample().await;
        let site = Site::of(causeway_tests::origin::http(&origin)).await;
        let request = raw(
            "POST /inspect?x=1 HTTP/1.1\r\nHost: APP\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3;e=1\r\nyou\r\n0\r\n\r\n",
        );
        for at in 1..request.len() {
            let mut client = Http1::plain(site.edge.http).await;
            client.send(&request[..at]).await;
            // Long enough for the first part to be read alone; nothing tells from outside that it was.
            tokio::time::sleep(Duration::from_millis(3)).await;
            client.send(&request[at..]).await;
            let seen = client
                .answer("POST")
                .await
                .unwrap_or_else(|error| panic!("split at {at}: {error}"))
                .ok()
                .json();
            assert_eq!(seen["body"], "hiyou", "split at {at}");
        }
    });
}

#[test]
fn hazard_035_to_038_a_host_that_is_missing_doubled_or_malformed_is_refused() {
    let host = |value: &str| raw(&format!("GET /case HTTP/1.1\r\nHost: {value}\r\n\r\n"));
    all_refused(
        vec![
            ("no Host", raw("GET /case HTTP/1.1\r\n\r\n")),
            ("two Hosts", raw("GET /case HTTP/1.1\r\nHost: APP\r\nHost: APP\r\n\r\n")),
            ("Host list", host("APP, b.example.test")),
            ("userinfo", host("user@APP")),
            ("path", host("APP/path")),
            ("space", host("app example.test")),
            ("empty", host("")),
            ("bad port", host("APP:abc")),
            ("port 0", host("APP:0")),
            ("port 65536", host("APP:65536")),
            ("254 bytes", host(&format!("{}.example.test", "a.".repeat(121)))),
            ("label of 64", host(&format!("{}.example.test", "a".repeat(64)))),
            ("percent", host("app%2eexample.test")),
            ("IPv6 zone", host("[fe80::1%25eth0]")),
            ("unicode", host("\u{e4}pp.example.test")),
            (
                "absolute-form that differs",
                raw("GET http://b.example.test/case HTTP/1.1\r\nHost: APP\r\n\r\n"),
            ),
            ("absolute-form with userinfo", raw("GET http://user@APP/case HTTP/1.1\r\nHost: APP\r\n\r\n")),
            ("absolute-form of another scheme", raw("GET ftp://APP/case HTTP/1.1\r\nHost: APP\r\n\r\n")),
        ],
        &[400],
    );
}

#[test]
fn hazard_037_and_038_case_port_dot_and_absolute_form_lead_to_the_same_site() {
    run(async {
        let (origin, site) = site().await;
        for request in [
            "GET /case HTTP/1.1\r\nHost: APP.EXAMPLE.TEST\r\n\r\n",
            "GET /case HTTP/1.1\r\nHost: app.example.test.\r\n\r\n",
            "GET /case HTTP/1.1\r\nHost: app.example.test:80\r\n\r\n",
            "GET /case HTTP/1.1\r\nHost: app.example.test:8443\r\n\r\n",
            "GET http://app.example.test/case HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
        ] {
            let mut client = Http1::plain(site.edge.http).await;
            client.send(request.as_bytes()).await;
            assert_eq!(client.answer("GET").await.unwrap().status, 200, "{request}");
            assert!(origin.heads().pop().unwrap().starts_with("GET /case HTTP/1.1\r\n"));
        }
    });
}

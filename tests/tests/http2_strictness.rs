//! HTTP/2 at the TLS listener: every h2spec case, and what must not slip through on the way to an HTTP/1.1 origin (hazards 39, 40, 66 to 81).

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::time::Duration;

use bytes::Bytes;
use causeway_tests::child::output;
use causeway_tests::client::{Http1, tls_connect};
use causeway_tests::origin::scripted::Scripted;
use causeway_tests::origin::{http, sample};
use causeway_tests::site::{APP, Site};
use causeway_tests::{needs, run, run_within};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Name and value.
type Field<'a> = (&'a [u8], &'a [u8]);

/// One frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A literal header field without indexing, names and values as given: HPACK does not mind what HTTP/2 forbids.
fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0, u8::try_from(name.len()).unwrap()], name, &[u8::try_from(value.len()).unwrap()], value].concat()
}

fn request_fields(extra: &[Field<'_>]) -> Vec<u8> {
    let usual: [Field<'_>; 4] =
        [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", APP.as_bytes()), (b":path", b"/case")];
    usual.iter().chain(extra).flat_map(|(name, value)| field(name, value)).collect()
}

/// How the edge reacted to a header block on stream 1.
#[derive(Debug, PartialEq, Eq)]
enum Reaction {
    Answered(String),
    StreamReset,
    ConnectionClosed,
}

/// Sends raw frames after the preface and reads until something happens to stream 1.
async fn react(site: &Site, frames: &[u8]) -> Reaction {
    let mut stream = tls_connect(site.edge.https, &site.edge.ca(), APP, &["h2"]).await.unwrap();
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &[]), frames].concat()).await.unwrap();
    loop {
        let mut head = [0; 9];
        match tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut head)).await {
            Err(_) => panic!("no reaction within 10 s"),
            Ok(Err(_)) => return Reaction::ConnectionClosed,
            Ok(Ok(_)) => {}
        }
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).await.is_err() {
            return Reaction::ConnectionClosed;
        }
        match (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]])) {
            (1, 1) => {
                let mut decoder = Hpack;
                return Reaction::Answered(decoder.status(&payload));
            }
            (3, 1) => return Reaction::StreamReset,
            (7, _) => return Reaction::ConnectionClosed,
            _ => {}
        }
    }
}

/// Enough HPACK to read `:status`, which every server sends first.
struct Hpack;

impl Hpack {
    fn status(&mut self, block: &[u8]) -> String {
        let indexed = ["200", "204", "206", "304", "400", "404", "500"];
        match block[0] {
            byte @ 0x88..=0x8e => indexed[usize::from(byte - 0x88)].to_owned(),
            // A literal with the name `:status` (index 8): the value follows, plain or Huffman-coded.
            _ => match block.get(1..) {
                Some([length, rest @ ..]) if *length < 0x80 => {
                    String::from_utf8_lossy(&rest[..usize::from(*length)]).into_owned()
                }
                _ => "coded".to_owned(),
            },
        }
    }
}

async fn site() -> (Scripted, Site) {
    let origin = Scripted::always("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let site = Site::of(origin.service()).await;
    (origin, site)
}

#[test]
fn h2spec_passes_every_case_at_the_tls_port() {
    let Some(h2spec) = needs("h2spec") else { return };
    run_within(Duration::from_secs(300), async move {
        let origin = sample().await;
        // Certificates from a file for the name that h2spec connects to: it sends SNI `localhost`.
        let edge = causeway_tests::edge::Edge::start().await;
        let created = edge.create("site", &["localhost"]).await;
        let mut connector = causeway_tests::connector::Connector::start(
            &created.token,
            &causeway_tests::site::to(http(&origin)),
        );
        connector.ready(Duration::from_secs(20)).await;
        let mut command = Command::new(h2spec);
        command.args(["-t", "-k", "-h", "localhost", "-o", "3", "-p", &edge.https.port().to_string()]);
        // An answer that takes a moment: case 6.9.1/3 judges a stream that must still be open when its frames arrive.
        command.args(["-P", "/slow/30"]);
        let seen = output(command).await;
        let summary =
            seen.stdout.lines().rev().find(|line| line.contains("tests,")).unwrap_or_default().to_owned();
        println!("{summary}");
        assert!(summary.contains("0 failed") && !summary.starts_with("0 tests"), "{}", seen.text());
        assert_eq!(seen.code, 0, "{}", seen.text());
    });
}

#[test]
fn hazard_066_and_067_what_http1_would_read_differently_is_reset_before_it_is_forwarded() {
    run(async {
        let (origin, site) = site().await;
        let cases: Vec<(&str, &[u8], &[u8])> = vec![
            ("CRLF in a value", b"x-a", b"1\r\nx-b: 2"),
            ("LF in a value", b"x-a", b"1\n2"),
            ("NUL in a value", b"x-a", b"1\x002"),
            ("upper case", b"X-A", b"1"),
            ("colon in a name", b"x:a", b"1"),
            ("space in a name", b"x a", b"1"),
            ("CRLF in a name", b"x\r\na", b"1"),
            ("empty name", b"", b"1"),
            ("transfer-encoding", b"transfer-encoding", b"chunked"),
            ("connection", b"connection", b"close"),
            ("keep-alive", b"keep-alive", b"1"),
            ("upgrade", b"upgrade", b"h2c"),
            ("te of another kind", b"te", b"gzip"),
            ("leading space", b"x-a", b" 1"),
            ("trailing tab", b"x-a", b"1\t"),
            ("unknown pseudo", b":x", b"1"),
            ("second :path", b":path", b"/other"),
            ("second :authority", b":authority", b"b.example.test"),
            ("two lengths", b"content-length", b"1, 1"),
        ];
        let mut wrong = Vec::new();
        for (name, key, value) in cases {
            let block = request_fields(&[(key, value)]);
            let reaction = react(&site, &frame(1, 0x5, 1, &block)).await;
            if !matches!(&reaction, Reaction::StreamReset | Reaction::ConnectionClosed)
                && reaction != Reaction::Answered("400".into())
            {
                wrong.push(format!("{name}: {reaction:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(origin.heads().is_empty(), "{:?}", origin.heads());
    });
}

#[test]
fn hazard_039_and_040_a_request_without_one_clear_authority_and_path_is_refused() {
    run(async {
        let (origin, site) = site().await;
        let make = |fields: &[(&[u8], &[u8])]| {
            fields.iter().flat_map(|(name, value)| field(name, value)).collect::<Vec<u8>>()
        };
        let (method, scheme): (Field<'_>, Field<'_>) = ((b":method", b"GET"), (b":scheme", b"https"));
        let (authority, path): (Field<'_>, Field<'_>) =
            ((b":authority", APP.as_bytes()), (b":path", b"/case"));
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("Host that differs", request_fields(&[(b"host", b"b.example.test")])),
            ("neither :authority nor Host", make(&[method, scheme, path])),
            ("no :path", make(&[method, scheme, authority])),
            ("empty :path", make(&[method, scheme, authority, (b":path", b"")])),
            ("no :method", make(&[scheme, authority, path])),
            ("no :scheme", make(&[method, authority, path])),
            ("pseudo after a field", make(&[method, scheme, path, (b"x-a", b"1"), authority])),
            (":path without slash", make(&[method, scheme, authority, (b":path", b"case")])),
            (":path with a space", make(&[method, scheme, authority, (b":path", b"/a b")])),
            (":method with a space", make(&[(b":method", b"GET /x"), scheme, authority, path])),
            (
                ":authority with userinfo",
                make(&[method, scheme, (b":authority", b"u@app.example.test"), path]),
            ),
            ("plain CONNECT", make(&[(b":method", b"CONNECT"), authority])),
        ];
        let mut wrong = Vec::new();
        for (name, block) in cases {
            let reaction = react(&site, &frame(1, 0x5, 1, &block)).await;
            let fine = match &reaction {
                Reaction::Answered(status) => {
                    ["400", "405", "421", "501", "coded"].contains(&status.as_str())
                }
                _ => true,
            };
            if !fine {
                wrong.push(format!("{name}: {reaction:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(origin.heads().is_empty(), "{:?}", origin.heads());
    });
}

#[test]
fn hazard_027_a_fragment_never_reaches_the_origin() {
    run(async {
        let (origin, site) = site().await;
        let fields: [Field<'_>; 4] = [
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", APP.as_bytes()),
            (b":path", b"/a#b"),
        ];
        let block: Vec<u8> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
        react(&site, &frame(1, 0x5, 1, &block)).await;
        // The h2 crate drops a fragment while it reads; what counts is that edge and origin read the same path.
        let line = site.edge.access_line("/a").await;
        let heads = origin.heads();
        assert!(
            heads.iter().all(|head| head.starts_with("GET /a HTTP/1.1\r\n")) && line["path"] == "/a",
            "{heads:?} {line}"
        );
    });
}

#[test]
fn hazard_068_a_length_that_lies_is_a_stream_error_and_no_whole_request() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        for (length, body) in [("10", "hello"), ("2", "hello")] {
            let fields = [
                (b":method".as_slice(), b"POST".as_slice()),
                (b":scheme", b"https"),
                (b":authority", APP.as_bytes()),
                (b":path", b"/sink"),
                (b"content-length", length.as_bytes()),
            ];
            let block: Vec<u8> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
            let frames = [frame(1, 0x4, 1, &block), frame(0, 0x1, 1, body.as_bytes())].concat();
            let reaction = react(&site, &frames).await;
            assert_ne!(reaction, Reaction::Answered("200".into()), "length {length} with 5 bytes");
        }
    });
}

#[test]
fn hazard_069_cookies_in_pieces_are_one_at_the_origin() {
    run(async {
        let (origin, site) = site().await;
        let block = request_fields(&[(b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"cookie", b"c=3")]);
        assert_eq!(react(&site, &frame(1, 0x5, 1, &block)).await, Reaction::Answered("200".into()));
        let head = origin.heads().pop().unwrap().to_ascii_lowercase();
        assert!(head.contains("cookie: a=1; b=2; c=3\r\n"), "{head}");
    });
}

#[test]
fn hazard_070_rapid_resets_end_the_connection_and_spare_the_neighbours() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let mut attacker = site.http2().await;
        let mut resets = 0;
        for _ in 0..20_000 {
            let request = Request::get(format!("https://{APP}/slow/1000")).body(()).unwrap();
            let Ok(mut stream) = attacker.open(request, true).await else { break };
            stream.reset();
            resets += 1;
            if resets % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
        assert!(resets < 20_000, "20,000 resets were taken");
        let answer = site
            .http2()
            .await
            .fetch(Request::get(format!("https://{APP}/bytes/10")).body(Bytes::new()).unwrap(), None)
            .await;
        assert_eq!(answer.unwrap().ok().body.len(), 10);
    });
}

#[test]
fn hazard_072_and_073_floods_of_frames_end_the_connection() {
    run(async {
        let (_origin, site) = site().await;
        let block = request_fields(&[]);
        let continuation: Vec<u8> = [frame(1, 0x1, 1, &block)]
            .into_iter()
            .chain((0..5000).map(|_| frame(9, 0, 1, &field(b"x-filler", &[b'a'; 100]))))
            .flatten()
            .collect();
        let pings: Vec<u8> = (0..200_000).flat_map(|n: u64| frame(6, 0, 0, &n.to_be_bytes())).collect();
        let settings: Vec<u8> = (0..200_000).flat_map(|_| frame(4, 0, 0, &[])).collect();
        let before = site.edge.program.usage().resident_bytes;
        for (name, flood) in [("CONTINUATION", continuation), ("PING", pings), ("SETTINGS", settings)] {
            let mut stream = tls_connect(site.edge.https, &site.edge.ca(), APP, &["h2"]).await.unwrap();
            stream.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
            // The attacker reads nothing: what the edge would answer must not pile up.
            let _ = tokio::time::timeout(Duration::from_secs(10), stream.write_all(&flood)).await;
            drop(stream);
            let grown = site.edge.program.usage().resident_bytes.saturating_sub(before);
            assert!(grown < 16 << 20, "{name}: the edge grew by {} KiB", grown / 1024);
        }
        assert_eq!(
            react(&site, &frame(1, 0x5, 1, &block)).await,
            Reaction::Answered("200".into()),
            "still serving"
        );
    });
}

#[test]
fn hazard_074_a_header_list_of_100_kib_is_refused() {
    run(async {
        let (origin, site) = site().await;
        let mut request = Request::get(format!("https://{APP}/case"));
        for n in 0..90 {
            request = request.header(format!("x-{n}"), "v".repeat(1200));
        }
        let answer = site.http2().await.fetch(request.body(Bytes::new()).unwrap(), None).await;
        assert!(
            answer.as_ref().is_err() || answer.as_ref().is_ok_and(|answer| answer.status == 431),
            "{answer:?}"
        );
        assert!(origin.heads().is_empty());
    });
}

#[test]
fn hazard_079_and_102_protocols_do_not_mix() {
    run(async {
        let (_origin, site) = site().await;
        // HTTP/1.1 bytes where ALPN said h2.
        let stream = tls_connect(site.edge.https, &site.edge.ca(), APP, &["h2"]).await.unwrap();
        let mut client = Http1::over(stream);
        client.send(format!("GET / HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
        while !client.bytes(1 << 16).await.is_empty() {}
        // ALPN that is not ours only, and none at all.
        let refused = tls_connect(site.edge.https, &site.edge.ca(), APP, &["causeway/1", "acme"]).await;
        assert!(refused.is_err(), "an ALPN that nobody serves is refused");
        let stream = tls_connect(site.edge.https, &site.edge.ca(), APP, &[]).await.unwrap();
        let mut client = Http1::over(stream);
        client.send(format!("GET / HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
        assert_eq!(client.answer("GET").await.unwrap().status, 200, "without ALPN it is HTTP/1.1");
    });
}

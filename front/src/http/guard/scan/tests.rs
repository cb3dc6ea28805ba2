use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use super::super::super::sizes::{MAX_FIELD_BYTES, MAX_HEAD_BYTES, MAX_TARGET_BYTES};
use super::*;

/// What became of a stream: heads seen, body bytes passed, messages ended, and the refusal that stopped it.
#[derive(Clone, Default, PartialEq, Eq)]
struct Outcome {
    heads: Vec<Vec<u8>>,
    body: Vec<u8>,
    ends: usize,
    refusal: Option<Refusal>,
    /// Not passed when the input ended.
    left: usize,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = self.body.iter().take(80).copied().collect::<Vec<u8>>();
        write!(
            f,
            "{} heads, {} body bytes {:?}, ",
            self.heads.len(),
            self.body.len(),
            body.escape_ascii().to_string()
        )?;
        write!(f, "{} ends, {:?}, {} left", self.ends, self.refusal, self.left)
    }
}

/// Runs a stream through the scanner in parts, as the guard does.
fn run<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut scanner = Scanner::new();
    let mut held: Vec<u8> = Vec::new();
    let mut outcome = Outcome::default();
    for part in parts {
        held.extend_from_slice(part);
        loop {
            match scanner.step(&held) {
                Step::More => break,
                Step::Head { skip, len, head } => {
                    outcome.heads.push(held[skip..skip + len].to_vec());
                    held.drain(..skip + len);
                    if !head.websocket && matches!(head.framing, Framing::None | Framing::Length(0)) {
                        outcome.ends += 1;
                    }
                }
                Step::Body { len, end } => {
                    outcome.body.extend(held.drain(..len));
                    outcome.ends += usize::from(end);
                }
                Step::Refuse(refusal) => {
                    outcome.refusal = Some(refusal);
                    return outcome;
                }
            }
        }
    }
    outcome.left = held.len();
    outcome
}

fn whole(bytes: &[u8]) -> Outcome {
    run([bytes])
}

/// A request whose only fields beside Host are these lines.
fn with(lines: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n")
}

/// A chunked request with this body.
fn chunked(body: &str) -> String {
    with("Transfer-Encoding: chunked\r\n") + body
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n")
}

/// Each row: the hazard's number, the bytes, and the status that they must get.
fn refused() -> Vec<(u32, String, u16)> {
    let mut rows = vec![
        (1, with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n") + "abc", 400),
        (1, with("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n") + "0\r\n\r\n", 400),
        (2, with("Content-Length: 3\r\nContent-Length: 4\r\n") + "abcd", 400),
        (3, with("Content-Length: 3\r\nContent-Length: 3\r\n") + "abc", 400),
        (3, with("Content-Length: 2, 2\r\n") + "ab", 400),
        (5, with("Content-Length: 007\r\n") + "abcdefg", 400),
        (8, with("Transfer-Encoding : chunked\r\n"), 400),
        (8, with("Bad Name: x\r\n"), 400),
        (8, with("Content-Length\t: 3\r\n"), 400),
        (9, "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(), 400),
        (17, chunked(&format!("0\r\nx: {}\r\n\r\n", "a".repeat(17_000))), 431),
        (17, chunked(&format!("0\r\n{}\r\n", "x: y\r\n".repeat(101))), 431),
        (18, with("A: b\r\n c\r\n"), 400),
        (19, "GET / HTTP/1.1\r\n Host: a\r\n\r\n".into(), 400),
        (20, with("A: b\0c\r\n"), 400),
        (20, with("A: b\rc\r\n"), 400),
        (20, with("A: b\u{7f}c\r\n"), 400),
        (20, with("A: b\u{1b}c\r\n"), 400),
        (21, "GET / HTTP/1.1\nHost: a\n\n".into(), 400),
        (21, "GET / HTTP/1.1\r\nHost: a\n\r\n".into(), 400),
        (21, "GET / HTTP/1.1\r\nHost: a\r\n\n".into(), 400),
        (22, with("no colon here\r\n"), 400),
        (22, with(": empty name\r\n"), 400),
        (22, with("na(me: x\r\n"), 400),
        (22, with("n\u{e9}me: x\r\n"), 400),
        (25, get(&format!("/{}", "a".repeat(MAX_TARGET_BYTES))), 414),
        (25, get(&format!("/{}", "a".repeat(64 * 1024))), 414),
        (25, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        (25, "GET /  HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        (25, "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        (25, "GET /\r\nHost: a\r\n\r\n".into(), 400),
        (25, "GET / HTTP/1.10\r\nHost: a\r\n\r\n".into(), 400),
        (25, "GET / HTTP/2.0\r\nHost: a\r\n\r\n".into(), 505),
        (25, "GET / HTTP/0.9\r\nHost: a\r\n\r\n".into(), 505),
        (25, "GET / http/1.1\r\nHost: a\r\n\r\n".into(), 400),
        (25, "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        (26, "get / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        (26, "GE{T / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        (26, format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(33)), 501),
        (26, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 405),
        (26, "TRACK / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 405),
        (27, get("/a#b"), 400),
        (27, get("/\u{fc}"), 400),
        (27, get("/a\0b"), 400),
        (27, get("/a\\b"), 400),
        (27, get("a/b"), 400),
        (27, get("*"), 400),
        (29, with(&format!("A: {}\r\n", "b".repeat(MAX_FIELD_BYTES))), 431),
        (29, with(&format!("A: {}\r\n", "b".repeat(MAX_HEAD_BYTES))), 431),
        (29, with(&"A: b\r\n".repeat(101)), 431),
        (29, with(&format!("A: {}\r\n", "b".repeat(8_000)).repeat(9)), 431),
        (33, with("Expect: 200-maybe\r\n"), 417),
        (35, "GET / HTTP/1.1\r\n\r\n".into(), 400),
        (35, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".into(), 400),
        (35, "GET / HTTP/1.0\r\n\r\n".into(), 400),
        (38, get("ftp://a.example/"), 400),
        (38, get("http://user@a.example/"), 400),
        (38, get("http:///x"), 400),
        (58, "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".into(), 400),
        (
            58,
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx".into(),
            400,
        ),
        (58, with("Connection: upgrade\r\nUpgrade: websocket\r\n"), 400),
        (58, with("Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"), 400),
        (58, with("Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n"), 400),
        (
            58,
            with("Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Key: eA==\r\n"),
            400,
        ),
        (62, "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n".into(), 405),
        (79, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 400),
        (102, "\u{16}\u{3}\u{1}\u{2}".into(), 400),
    ];
    for value in
        ["+2", "-1", "0x2", "2_0", "2 2", "", "2;", ";2", "9223372036854775808", "99999999999999999999"]
    {
        rows.push((4, with(&format!("Content-Length: {value}\r\n")) + "ab", 400));
    }
    for value in ["xchunked", "identity", "gzip, chunked", "chunked, identity", "gzip"] {
        rows.push((6, with(&format!("Transfer-Encoding: {value}\r\n")), 501));
    }
    for value in [
        ",chunked",
        "chunked,",
        "chunked, chunked",
        "",
        "chunked;x=1",
        "\"chunked\"",
        "chunked\t",
        "\u{b}chunked",
    ] {
        rows.push((7, with(&format!("Transfer-Encoding: {value}\r\n")), 400));
    }
    rows.push((6, with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400));
    for value in ["chun\u{a0}ked", "\u{85}chunked"] {
        rows.push((7, with(&format!("Transfer-Encoding: {value}\r\n")), 400));
    }
    for size in [
        "0x1",
        "+1",
        "-1",
        "1_0",
        "",
        " 1",
        "1 ",
        "g",
        "8000000000000000",
        "10000000000000000",
        "ffffffffffffffff1",
    ] {
        rows.push((11, chunked(&format!("{size}\r\na\r\n0\r\n\r\n")), 400));
    }
    for body in [
        "1\na\r\n0\r\n\r\n",
        "1\r\na\n0\r\n\r\n",
        "1\ra\r\n0\r\n\r\n",
        "1\r\na\r0\r\n\r\n",
        "1\r\na\r\n0\n\r\n",
        "1\r\na\r\n0\r\n\n",
        "1\r\na\r\n0\r\nX: y\n\r\n",
    ] {
        rows.push((12, chunked(body), 400));
    }
    for ext in [
        ";",
        ";a=",
        ";a=b;",
        ";a=\"b",
        ";a\n",
        ";a=\"b\r\n\"",
        ";a\0",
        ";a =b",
        "; a",
        ";a=b c",
        &format!(";{}", "a".repeat(17_000)),
    ] {
        rows.push((13, chunked(&format!("1{ext}\r\na\r\n0\r\n\r\n")), 400));
    }
    for body in
        ["1\r\nab\r\n0\r\n\r\n", "2\r\na\r\n0\r\n\r\n", "0\r\nbad trailer\r\n\r\n", "0\r\n x: y\r\n\r\n"]
    {
        rows.push((14, chunked(body), 400));
    }
    rows
}

#[test]
fn hazards_001_to_079_are_refused_with_their_status() {
    for (number, bytes, status) in refused() {
        let shown = &bytes[..bytes.floor_char_boundary(120)];
        let outcome = whole(bytes.as_bytes());
        let got = outcome.refusal.map(|refusal| refusal.status.as_u16());
        assert_eq!(got, Some(status), "hazard {number}: {shown:?} gave {:?}", outcome.refusal);
    }
}

#[test]
fn hazard_034_a_refusal_is_the_same_however_the_bytes_are_split() {
    for (number, bytes, _) in refused() {
        let bytes = bytes.as_bytes();
        let at_once = whole(bytes);
        let by_byte = run(bytes.chunks(1));
        assert_eq!(at_once, by_byte, "hazard {number}");
        for cut in (1..bytes.len()).step_by(bytes.len() / 50 + 1) {
            assert_eq!(at_once, run([&bytes[..cut], &bytes[cut..]]), "hazard {number} cut at {cut}");
        }
    }
}

#[test]
fn what_is_unusual_but_right_passes() {
    let fine = [
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost:a\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: \t a \t\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: a\r\nX: \u{fc}\tb\r\n\r\n".into(),
        "M-SEARCH * HTTP/1.1\r\nHost: a\r\n\r\n".replace("* ", "/ "),
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        get("http://a.example"),
        get("HTTPS://a.example:443/x?y"),
        get("/a/../b//%2f%00;x?y=\\d&z={|}`'^"),
        get(&format!("/{}", "a".repeat(MAX_TARGET_BYTES - 1))),
        with(&format!("A: {}\r\n", "b".repeat(MAX_FIELD_BYTES - 4))),
        with(&"A: b\r\n".repeat(99)),
        with("Content-Length: 0\r\n"),
        with("Content-Length: 3\r\n") + "abc",
        chunked("3\r\nabc\r\n00\r\n\r\n"),
        chunked("1;a;b=c;d=\"e \\\" f\"\r\na\r\nA\r\n0123456789\r\n0;last\r\nX-Sum: 1\r\nY:\r\n\r\n"),
    ];
    for bytes in fine {
        let outcome = whole(bytes.as_bytes());
        assert_eq!(
            (outcome.refusal, outcome.ends, outcome.left),
            (None, 1, 0),
            "{:?}",
            &bytes[..bytes.len().min(99)]
        );
        assert_eq!(outcome, run(bytes.as_bytes().chunks(1)));
    }
}

#[test]
fn hazard_010_nothing_follows_an_http_10_request() {
    let outcome = whole(b"GET / HTTP/1.0\r\nHost: a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((outcome.heads.len(), outcome.refusal), (1, None));
    let outcome =
        whole(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(outcome.heads.len(), 1);
}

#[test]
fn hazard_032_pipelined_requests_are_told_apart() {
    let stream =
        get("/1") + &chunked("3\r\nabc\r\n0\r\n\r\n") + &with("Content-Length: 2\r\n") + "de" + &get("/4");
    let outcome = whole(stream.as_bytes());
    assert_eq!((outcome.heads.len(), outcome.ends, outcome.left), (4, 4, 0));
    assert!(outcome.heads[3].starts_with(b"GET /4"));
}

#[test]
fn hazard_055_nothing_passes_before_an_upgrade_is_granted() {
    let ask = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut scanner = Scanner::new();
    let Step::Head { len, head, .. } = scanner.step(ask) else { panic!("no head") };
    assert!(head.websocket && len == ask.len());
    let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(scanner.step(smuggled), Step::More);
    scanner.upgraded();
    assert_eq!(scanner.step(smuggled), Step::Body { len: smuggled.len(), end: false });
}

#[test]
fn hazard_057_only_a_complete_wish_for_a_websocket_is_one() {
    let wish = |lines: &str, version: &str| {
        let ask = format!(
            "GET / HTTP/{version}\r\nHost: a\r\n{lines}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let Step::Head { head, .. } = Scanner::new().step(ask.as_bytes()) else { panic!("no head in {ask}") };
        head.websocket
    };
    assert!(wish("Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket, h2c\r\n", "1.1"));
    assert!(!wish("Connection: keep-alive\r\nUpgrade: websocket\r\n", "1.1"));
    assert!(!wish("Connection: upgrade\r\nUpgrade: foo\r\n", "1.1"));
    assert!(!wish("Connection: upgrade\r\nUpgrade: websocket\r\n", "1.0"));
}

#[test]
fn hazard_056_h2c_is_not_an_upgrade_that_we_know() {
    let ask = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n";
    let Step::Head { head, .. } = Scanner::new().step(ask) else { panic!("no head") };
    assert!(!head.websocket);
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let field = "[a-zA-Z][a-zA-Z0-9-]{0,12}: ?[ -~]{0,30}";
    let fields = prop::collection::vec(
        field.prop_filter("decides framing", |line| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            !["host", "expect", "connection", "upgrade"].contains(&name.as_str())
        }),
        0..8,
    );
    let body = prop_oneof![
        Just((String::new(), Vec::new())),
        prop::collection::vec(any::<u8>(), 0..200)
            .prop_map(|body| (format!("Content-Length: {}\r\n", body.len()), body)),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..5).prop_map(|chunks| {
            let mut body = Vec::new();
            for chunk in chunks {
                body.extend_from_slice(format!("{:x};e=1\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(&chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\nX-T: 1\r\n\r\n");
            ("Transfer-Encoding: chunked\r\n".to_owned(), body)
        }),
    ];
    let method =
        "[A-Z]{1,10}".prop_filter("not allowed", |m| !["CONNECT", "TRACE", "TRACK"].contains(&m.as_str()));
    (method, "/[a-zA-Z0-9._~!$&'()*+,;=:@%/?-]{0,40}", fields, body).prop_map(
        |(method, target, fields, (framing, body))| {
            let mut bytes =
                format!("{method} {target} HTTP/1.1\r\nHost: a.example\r\n{framing}").into_bytes();
            for field in fields {
                bytes.extend_from_slice(field.as_bytes());
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(&body);
            bytes
        },
    )
}

proptest! {
    #[test]
    fn hazard_034_every_split_of_valid_messages_gives_the_same(
        messages in prop::collection::vec(message(), 1..4),
        cuts in prop::collection::vec(1usize..60, 1..40),
    ) {
        let stream = messages.concat();
        let outcome = whole(&stream);
        assert_eq!((outcome.refusal, outcome.ends, outcome.left), (None, messages.len(), 0));
        let mut rest = &stream[..];
        let mut parts = Vec::new();
        for &cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, behind) = rest.split_at(cut.min(rest.len()));
            parts.push(part);
            rest = behind;
        }
        assert_eq!(run(parts), outcome);
    }

    #[test]
    fn any_bytes_split_anyhow_give_the_same_and_never_panic(
        bytes in prop::collection::vec(prop_oneof![
            prop::sample::select(b"\r\n: \t0aG;/\"".to_vec()), any::<u8>(),
        ], 0..300),
        keep in 0usize..200,
        cut in 1usize..20,
    ) {
        let mut stream = chunked("5\r\nhello\r\n0\r\nX: y\r\n\r\n").into_bytes();
        stream.truncate(keep);
        stream.extend_from_slice(&bytes);
        assert_eq!(run(stream.chunks(cut)), whole(&stream));
    }

    #[test]
    fn a_second_parser_agrees_on_every_head_that_passes(mut bytes in message(), at in 0usize..100, byte in any::<u8>()) {
        let at = at % bytes.len();
        bytes[at] = byte;
        for head in whole(&bytes).heads {
            let mut fields = [httparse::EMPTY_HEADER; 100];
            let mut request = httparse::Request::new(&mut fields);
            let parsed = request.parse(&head);
            assert_eq!(parsed, Ok(httparse::Status::Complete(head.len())));
            let target = request.path.unwrap();
            assert!(target == "*" || target.parse::<http::Uri>().is_ok(), "{target:?}");
            assert!(http::Method::from_bytes(request.method.unwrap().as_bytes()).is_ok());
            for field in request.headers {
                assert!(http::HeaderName::from_bytes(field.name.as_bytes()).is_ok());
                assert!(http::HeaderValue::from_bytes(field.value).is_ok());
            }
        }
    }
}

//! WebSockets over HTTP/1.1 and over HTTP/2 (RFC 8441): every size and opcode comes back unchanged, both halves close on their own.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::time::Duration;

use bytes::Bytes;
use causeway_tests::client::{Http1, Http2, Protocol, over_http1, over_http2, visit};
use causeway_tests::origin::scripted::Scripted;
use causeway_tests::origin::{http, sample};
use causeway_tests::site::{APP, Site};
use causeway_tests::{needs, run};
use futures_util::{SinkExt, StreamExt};
use http::Request;
use tokio::io::AsyncReadExt;
use tokio_tungstenite::tungstenite::Message;

/// Around every boundary of the frame format (125, 126, 65535, 65536) and of the layers below (16 KiB, 64 KiB, 1 MiB).
const SIZES: [usize; 16] =
    [0, 1, 2, 124, 125, 126, 127, 128, 16_383, 16_384, 65_535, 65_536, 65_537, 131_072, 1_000_000, 4_000_000];

type Socket = tokio_tungstenite::WebSocketStream<Box<dyn causeway_tests::client::Duplex>>;

async fn open(site: &Site, protocol: Protocol, path: &str) -> Result<Socket, u16> {
    match protocol {
        Protocol::Http1 => over_http1(site.http1().await, APP, path).await,
        Protocol::Http2 => {
            let mut client = site.http2().await;
            let socket = over_http2(&mut client, APP, path).await;
            // The connection's task must outlive the socket: give it to the runtime until the test ends.
            std::mem::forget(client);
            socket
        }
        Protocol::Http3 => unreachable!("the h3 crate cannot ask for one: aioquic does, in http3.rs"),
    }
}

async fn echo_everything(mut socket: Socket) {
    for size in SIZES {
        let text: String = (0..size).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
        let binary: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        for message in [Message::text(text), Message::binary(binary)] {
            socket.send(message.clone()).await.unwrap();
            let back = tokio::time::timeout(Duration::from_secs(20), socket.next()).await.expect("an echo");
            assert!(back.unwrap().unwrap() == message, "size {size}");
        }
    }
    socket.send(Message::Ping(Bytes::from_static(b"are you there"))).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"are you there")));
    for n in 0..200u32 {
        socket.send(Message::binary(n.to_be_bytes().to_vec())).await.unwrap();
    }
    for n in 0..200u32 {
        assert_eq!(socket.next().await.unwrap().unwrap().into_data().as_ref(), n.to_be_bytes());
    }
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
}

#[test]
fn hazard_065_every_size_and_opcode_comes_back_over_http1() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        echo_everything(open(&site, Protocol::Http1, "/ws").await.unwrap()).await;
    });
}

#[test]
fn hazard_060_every_size_and_opcode_comes_back_over_http2() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        echo_everything(open(&site, Protocol::Http2, "/ws").await.unwrap()).await;
    });
}

#[test]
fn a_client_of_another_make_is_served() {
    let Some(python) = needs("python") else { return };
    run(async move {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let mut command = tokio::process::Command::new(python);
        command.arg(causeway_tests::programs::here().join("python/websocket_client.py"));
        command.arg(site.edge.https.to_string()).arg(site.edge.ca()).arg(APP);
        let seen = causeway_tests::child::output(command).await;
        assert!(seen.code == 0 && seen.stdout.contains("passed"), "{}", seen.text());
    });
}

#[test]
fn hazard_064_a_stopping_edge_lets_sockets_go_on_for_the_grace_period_and_then_closes() {
    run(async {
        let origin = sample().await;
        let options =
            causeway_tests::edge::EdgeOptions { config: "grace: 3s\n".into(), ..Default::default() };
        let mut site =
            Site::with(options, Default::default(), &causeway_tests::site::to(http(&origin))).await;
        let mut socket = open(&site, Protocol::Http1, "/ws").await.unwrap();
        echo_one(&mut socket).await;
        site.edge.program.terminate();
        tokio::time::sleep(Duration::from_millis(1000)).await;
        echo_one(&mut socket).await;
        let status = site.edge.program.ended(Duration::from_secs(8)).await;
        assert!(status.code().is_some(), "{status:?}");
        let last =
            tokio::time::timeout(Duration::from_secs(5), socket.next()).await.expect("the socket ends");
        assert!(!matches!(last, Some(Ok(Message::Text(_) | Message::Binary(_)))), "{last:?}");
    });
}

#[test]
fn ws_services_are_http_services() {
    run(async {
        let origin = sample().await;
        let site = Site::of(format!("ws://{}", origin.addr())).await;
        echo_everything(open(&site, Protocol::Http1, "/ws").await.unwrap()).await;
    });
}

#[test]
fn hazard_055_an_origin_that_refuses_the_upgrade_is_heard() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            for (path, status) in [("/status/401", 401), ("/status/403", 403), ("/bytes/100", 200)] {
                let refused = open(&site, protocol, path).await;
                // Over HTTP/2 a 200 would mean success: the edge must not let it stand for a switch that did not happen.
                if protocol == Protocol::Http2 && status == 200 {
                    assert!(refused.as_ref().is_err_and(|status| *status >= 400), "a 200 without a switch");
                    continue;
                }
                assert_eq!(refused.err(), Some(status), "{protocol:?} {path}");
            }
        }
    });
}

#[test]
fn hazard_055_and_059_bytes_after_a_refused_upgrade_are_no_tunnel() {
    run(async {
        let origin = Scripted::always("HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\n\r\n").await;
        let site = Site::of(origin.service()).await;
        let mut client = site.http1().await;
        let head = format!(
            "GET /ws HTTP/1.1\r\nhost: {APP}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        // The smuggled request names a path that only a raw tunnel would carry to the origin unseen.
        client
            .send([head.as_bytes(), b"GET /smuggled HTTP/1.1\r\nhost: internal\r\n\r\n"].concat().as_slice())
            .await;
        assert_eq!(client.answer("GET").await.unwrap().status, 426);
        let next = client.answer("GET").await;
        let heads = origin.heads();
        assert!(!heads.iter().any(|head| head.contains("host: internal")), "{next:?} {heads:?}");
    });
}

#[test]
fn hazard_057_an_origin_that_switches_to_something_else_is_a_bad_gateway() {
    run(async {
        let origin = Scripted::once(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\nhello",
        )
        .await;
        let site = Site::of(origin.service()).await;
        assert_eq!(open(&site, Protocol::Http1, "/ws").await.err(), Some(502));
        assert_eq!(open(&site, Protocol::Http2, "/ws").await.err(), Some(502));
        // A 101 that nobody asked for.
        let origin = Scripted::always(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        )
        .await;
        let site = Site::of(origin.service()).await;
        assert_eq!(visit(&site.edge, Protocol::Http1, &format!("https://{APP}/")).await.status, 502);
    });
}

#[test]
fn hazard_056_and_057_only_websocket_is_forwarded() {
    run(async {
        let origin = Scripted::always("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let site = Site::of(origin.service()).await;
        let upgrades = [
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
            "connection: upgrade\r\nupgrade: foo/2\r\n",
        ];
        for upgrade in upgrades {
            let mut client = site.http1().await;
            client.send(format!("GET /x HTTP/1.1\r\nhost: {APP}\r\n{upgrade}\r\n").as_bytes()).await;
            assert_eq!(client.answer("GET").await.unwrap().status, 200);
            let head = origin.heads().pop().unwrap().to_ascii_lowercase();
            assert!(!head.contains("upgrade") && !head.contains("http2-settings"), "{head}");
        }
        let mut client = site.http1().await;
        let head = format!(
            "GET /x HTTP/1.1\r\nhost: {APP}\r\nconnection: upgrade\r\nupgrade: websocket, h2c\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        client.send(head.as_bytes()).await;
        let _ = client.answer("GET").await;
        let head = origin.heads().pop().unwrap().to_ascii_lowercase();
        assert!(head.contains("upgrade: websocket\r\n") && !head.contains("h2c"), "{head}");
    });
}

#[test]
fn hazard_058_an_upgrade_needs_get_and_no_body() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        for (line, more) in [
            ("POST /ws", "content-length: 5\r\n\r\nhello"),
            ("GET /ws", "content-length: 5\r\n\r\nhello"),
            ("PUT /ws", "\r\n"),
        ] {
            let mut client = site.http1().await;
            client.send(format!("{line} HTTP/1.1\r\nhost: {APP}\r\n{upgrade}{more}").as_bytes()).await;
            let status = client.head().await.unwrap().status;
            assert!(status != 101, "{line} was upgraded");
        }
    });
}

#[test]
fn hazard_060_an_unknown_protocol_is_not_implemented() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let mut client = site.http2().await;
        for protocol in ["connect-udp", "connect-ip", "chat"] {
            let mut request =
                Request::builder().method("CONNECT").uri(format!("https://{APP}/ws")).body(()).unwrap();
            request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
            let mut stream = client.open(request, false).await.unwrap();
            assert_eq!(stream.head().await.unwrap().status(), 501, "{protocol}");
        }
    });
}

#[test]
fn hazard_063_half_closing_reaches_the_other_side_and_leaves_the_way_back_open() {
    run(async {
        // Not WebSocket frames: a raw exchange after the switch, in which the origin answers only after the visitor's FIN.
        let accept = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        let origin = Scripted::start(move |mut connection| async move {
            connection.head().await;
            connection.send(accept.as_bytes()).await;
            let mut seen = Vec::new();
            while let Some(bytes) = connection.bytes().await {
                seen.extend(bytes);
            }
            connection.send(&[b"after your end: ", seen.as_slice()].concat()).await;
        })
        .await;
        let site = Site::of(origin.service()).await;
        // In clear text: over TLS a FIN is an end of both directions for most stacks.
        let mut client = Http1::plain(site.edge.http).await;
        let head = format!(
            "GET /ws HTTP/1.1\r\nhost: {APP}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        client.send(head.as_bytes()).await;
        assert_eq!(client.head().await.unwrap().status, 101);
        client.send(b"hello").await;
        client.finish().await;
        let mut back = Vec::new();
        loop {
            let bytes = client.bytes(usize::MAX).await;
            if bytes.is_empty() {
                break;
            }
            back.extend_from_slice(&bytes);
        }
        assert_eq!(String::from_utf8_lossy(&back), "after your end: hello");
    });
}

const ACCEPT: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A raw socket in clear text, upgraded with RFC 6455's example key.
async fn raw(site: &Site) -> Http1 {
    let mut client = Http1::plain(site.edge.http).await;
    let head = format!(
        "GET /ws HTTP/1.1\r\nhost: {APP}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    client.send(head.as_bytes()).await;
    assert_eq!(client.head().await.unwrap().status, 101);
    client
}

#[test]
fn an_origin_that_resets_its_socket_resets_the_visitor() {
    run(async {
        let origin = Scripted::start(|mut connection| async move {
            connection.head().await;
            connection.send(ACCEPT).await;
            connection.bytes().await;
            connection.reset();
        })
        .await;
        let site = Site::of(origin.service()).await;
        let mut client = raw(&site).await;
        client.send(b"now").await;
        let (mut io, ahead) = client.into_parts();
        let mut rest = ahead.to_vec();
        let ended = tokio::time::timeout(Duration::from_secs(10), io.read_to_end(&mut rest)).await.unwrap();
        assert_eq!(ended.expect_err("it looks whole").kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_half_closed_socket_is_still_under_the_idle_limit() {
    run(async {
        let origin = Scripted::start(|mut connection| async move {
            connection.head().await;
            connection.send(ACCEPT).await;
            connection.hang().await;
        })
        .await;
        let options = causeway_tests::edge::EdgeOptions {
            config: "limits: { upgradeIdleTimeout: 1s }\n".into(),
            ..Default::default()
        };
        let rules = causeway_tests::site::to(origin.service());
        let site = Site::with(options, Default::default(), &rules).await;
        let mut client = raw(&site).await;
        client.finish().await;
        assert!(client.closes(Duration::from_secs(10)).await);
        assert_eq!(site.edge.access_line("/ws").await["failure"], "idle");
    });
}

#[test]
fn a_thousand_idle_sockets_stay_open_and_cost_little() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let mut client: Http2 = site.http2().await;
        echo_one(&mut over_http2(&mut client, APP, "/ws").await.unwrap()).await;
        let (edge, connector) = (site.edge.program.usage(), site.connector.program.usage());
        let count = 500;
        let mut sockets = Vec::new();
        for _ in 0..count {
            sockets.push(open(&site, Protocol::Http1, "/ws").await.unwrap());
        }
        for socket in &mut sockets {
            echo_one(socket).await;
        }
        for (name, before, now) in [
            ("edge", edge, site.edge.program.usage()),
            ("connector", connector, site.connector.program.usage()),
        ] {
            let each = now.resident_bytes.saturating_sub(before.resident_bytes) / count;
            println!("{name}: {each} bytes for each idle WebSocket, TLS included");
            assert!(each < 100 * 1024, "{name}: {each} bytes for each idle WebSocket");
        }
    });
}

async fn echo_one(socket: &mut Socket) {
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
}

//! Origins beyond plain HTTP/1.1: HTTP/2, TLS, Unix sockets, WebSocket.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails where it panics")]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use causeway_tunnel::{AbortCode, BodyKind, First, ResponseEvent};
use http::{HeaderMap, Method};
use rustls_pki_types::PrivateKeyDer;
use support::{Ended, Got, Road, SOON, Wire, collect, field, origin, rest, road};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// An HTTP/2 server: 103, then an echo of the body with the request's `:authority` in a field and trailers.
#[allow(clippy::disallowed_methods, reason = "the runtime of a test owns its tasks")]
async fn serve_h2(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let mut connection = h2::server::handshake(io).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let authority = request.uri().authority().unwrap().to_string();
            let mut body = request.into_body();
            let hints = http::Response::builder().status(103).header("link", "</a>").body(()).unwrap();
            respond.send_informational(hints).unwrap();
            let answer = http::Response::builder().header("x-authority", authority).body(()).unwrap();
            let mut send = respond.send_response(answer, false).unwrap();
            while let Some(bytes) = body.data().await {
                let bytes = bytes.unwrap();
                let _ = body.flow_control().release_capacity(bytes.len());
                send.reserve_capacity(bytes.len());
                let mut left = bytes;
                while !left.is_empty() {
                    let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
                    send.send_data(left.split_to(room.min(left.len())), false).unwrap();
                }
            }
            let trailers = body.trailers().await.unwrap().unwrap_or_default();
            let mut out = HeaderMap::from_iter([field("grpc-status", "0")]);
            out.extend(trailers);
            send.send_trailers(out).unwrap();
        });
    }
}

#[allow(clippy::disallowed_methods, reason = "the runtime of a test owns its tasks")]
async fn h2c_origin() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_h2(stream));
        }
    });
    address
}

async fn call(road: &Road, pieces: usize) -> Got {
    let (mut send, mut recv) = road.open().await;
    let mut head = road.head(Method::POST, "/pkg.Service/Method");
    head.body = BodyKind::Unknown;
    head.headers = HeaderMap::from_iter([field("content-type", "application/grpc"), field("te", "trailers")]);
    send.request(&head, First::More).await.unwrap();
    let upload = async {
        for _ in 0..pieces {
            send.data(Bytes::from(vec![5; 40_000])).await.unwrap();
        }
        send.trailers(&HeaderMap::from_iter([field("x-client", "1")])).await.unwrap();
        send.end().await.unwrap();
    };
    let (got, ()) = tokio::join!(timeout(SOON, collect(&mut recv)), upload);
    got.unwrap().unwrap()
}

fn expect_echo(got: &Got, pieces: usize) {
    assert_eq!(got.status(), 200);
    assert_eq!(got.interim[0].0, 103);
    assert_eq!(got.body.len(), pieces * 40_000);
    let trailers = got.trailers.as_ref().unwrap();
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-client"]),
        (&"0".parse().unwrap(), &"1".parse().unwrap())
    );
}

#[tokio::test]
async fn hazard_081_grpc_passes_over_h2c_with_trailers_both_ways() {
    let road = road(&format!("h2c://{}", h2c_origin().await), "httpHostHeader: grpc.inside").await;
    let got = call(&road, 30).await;
    expect_echo(&got, 30);
    assert_eq!(got.head.headers["x-authority"], "grpc.inside");
    // Many at once share one connection.
    let calls = futures_util::future::join_all((0..20).map(|_| call(&road, 1))).await;
    calls.iter().for_each(|got| expect_echo(got, 1));
}

#[tokio::test]
async fn hazard_138_an_http2_stream_reset_in_the_body_is_an_abort() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, mut was_seen) = mpsc::channel::<()>(1);
    #[allow(clippy::disallowed_methods, reason = "the runtime of a test owns its tasks")]
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let mut send = respond.send_response(http::Response::new(()), false).unwrap();
        send.send_data(Bytes::from_static(b"half"), false).unwrap();
        tokio::spawn(async move {
            was_seen.recv().await.unwrap();
            send.send_reset(h2::Reason::INTERNAL_ERROR);
        });
        while connection.accept().await.is_some() {}
    });
    let road = road(&format!("h2c://{address}"), "").await;
    let (mut send, mut recv) = road.open().await;
    send.request(&road.head(Method::GET, "/"), First::Only(Bytes::new())).await.unwrap();
    let ResponseEvent::Final(head) = recv.response().await.unwrap() else { panic!("a head") };
    assert_eq!(head.status, 200);
    seen.send(()).await.unwrap();
    let (error, length) = timeout(SOON, rest(&mut recv)).await.unwrap().unwrap_err();
    assert_eq!((error.code(), length), (AbortCode::OriginReset, 4));
}

struct Certified {
    chain: Vec<rustls_pki_types::CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    ca_pem: String,
}

/// A leaf for these names under an authority of its own.
fn certified(names: &[&str]) -> Certified {
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = rcgen::CertifiedIssuer::self_signed(params, ca_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
    Certified {
        chain: vec![leaf.der().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        ca_pem: ca.pem(),
    }
}

/// Says which name TLS was asked for; speaks HTTP/2 when that was agreed, else one answer.
#[allow(clippy::disallowed_methods, reason = "the runtime of a test owns its tasks")]
async fn tls_origin(certified: &Certified, alpn: &[&[u8]]) -> SocketAddr {
    let mut config = rustls::ServerConfig::builder_with_provider(causeway_daemon::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certified.chain.clone(), certified.key.clone_key())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(stream).await else { return };
                if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                    return serve_h2(tls).await;
                }
                let name = tls.get_ref().1.server_name().unwrap_or("none").to_owned();
                let mut seen = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = tls.read(&mut buffer).await {
                    seen.extend_from_slice(&buffer[..count]);
                    if seen.ends_with(b"\r\n\r\n") {
                        seen.clear();
                        let answer =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                        tls.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    address
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[tokio::test]
async fn hazard_129_a_private_certificate_needs_its_authority_its_name_or_an_explicit_word() {
    let certified = certified(&["inside.example"]);
    let address = tls_origin(&certified, &[b"http/1.1"]).await;
    let ca = file(&certified.ca_pem);
    let service = format!("https://{address}");
    let unknown = road(&service, "originServerName: inside.example").await;
    assert_eq!(unknown.get("/").await.unwrap_err(), Ended::BeforeHead(AbortCode::OriginTls));
    let pool = format!("caPool: '{}'", ca.path().display());
    let wrong_name = road(&service, &pool).await;
    assert_eq!(wrong_name.get("/").await.unwrap_err(), Ended::BeforeHead(AbortCode::OriginTls));
    let right = road(&service, &format!("{pool}, originServerName: inside.example")).await;
    assert_eq!(right.get("/").await.unwrap().text(), "inside.example");
    let insecure = road(&service, "noTLSVerify: true").await;
    assert_eq!(insecure.get("/").await.unwrap().text(), "none");
}

#[tokio::test]
async fn a_self_signed_certificate_may_be_its_own_ca_pool() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["inside.example".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let cert = params.self_signed(&key).unwrap();
    let certified = Certified {
        chain: vec![cert.der().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        ca_pem: cert.pem(),
    };
    let address = tls_origin(&certified, &[]).await;
    let pool = file(&certified.ca_pem);
    let pool = format!("caPool: '{}'", pool.path().display());
    let right =
        road(&format!("https://{address}"), &format!("{pool}, originServerName: inside.example")).await;
    assert_eq!(right.get("/").await.unwrap().text(), "inside.example");
    let wrong =
        road(&format!("https://{address}"), &format!("{pool}, originServerName: other.example")).await;
    assert_eq!(wrong.get("/").await.unwrap_err(), Ended::BeforeHead(AbortCode::OriginTls));
}

#[tokio::test]
async fn match_sni_to_host_makes_tls_for_each_host_of_its_own() {
    let certified = certified(&["blog.example.dev", "shop.example.dev"]);
    let address = tls_origin(&certified, &[b"http/1.1"]).await;
    let ca = file(&certified.ca_pem);
    let road = road(
        &format!("https://{address}"),
        &format!("caPool: '{}', matchSNItoHost: true", ca.path().display()),
    )
    .await;
    for host in ["blog.example.dev", "shop.example.dev:8443", "blog.example.dev"] {
        let mut head = road.head(Method::GET, "/");
        head.authority = host.to_owned();
        let got = road.exchange(head, First::Only(Bytes::new())).await.unwrap();
        assert_eq!(got.text(), host.split(':').next().unwrap());
    }
}

#[tokio::test]
async fn idle_connections_for_another_name_make_room() {
    let certified = certified(&["blog.example.dev", "shop.example.dev"]);
    let address = tls_origin(&certified, &[b"http/1.1"]).await;
    let ca = file(&certified.ca_pem);
    let settings = format!(
        "caPool: '{}', matchSNItoHost: true, maxConnections: 1, connectTimeout: 5s",
        ca.path().display()
    );
    let road = road(&format!("https://{address}"), &settings).await;
    for host in ["blog.example.dev", "shop.example.dev", "blog.example.dev"] {
        let mut head = road.head(Method::GET, "/");
        head.authority = host.to_owned();
        assert_eq!(road.exchange(head, First::Only(Bytes::new())).await.unwrap().text(), host);
    }
}

#[tokio::test]
async fn http2_origin_speaks_http2_where_the_origin_does_and_http1_where_not() {
    let certified = certified(&["inside.example"]);
    let ca = file(&certified.ca_pem);
    let settings =
        format!("http2Origin: true, originServerName: inside.example, caPool: '{}'", ca.path().display());
    let both = tls_origin(&certified, &[b"h2", b"http/1.1"]).await;
    let road_h2 = road(&format!("https://{both}"), &settings).await;
    expect_echo(&call(&road_h2, 3).await, 3);
    let only_h1 = tls_origin(&certified, &[b"http/1.1"]).await;
    let road_h1 = road(&format!("https://{only_h1}"), &settings).await;
    for _ in 0..3 {
        assert_eq!(road_h1.get("/").await.unwrap().text(), "inside.example");
    }
}

#[tokio::test]
async fn a_unix_socket_is_an_origin() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    #[allow(clippy::disallowed_methods, reason = "the runtime of a test owns its tasks")]
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            while let Ok(1..) = stream.read(&mut buffer).await {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nunix").await.unwrap();
            }
        }
    });
    let road = road(&format!("unix:{}", path.display()), "").await;
    for _ in 0..2 {
        assert_eq!(road.get("/").await.unwrap().text(), "unix");
    }
}

fn accept_for(head: &str) -> String {
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).expect("a key");
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    BASE64.encode(digest)
}

async fn upgrade(road: &Road) -> (causeway_tunnel::SendStream, causeway_tunnel::RecvStream) {
    let (mut send, recv) = road.open().await;
    let mut head = road.head(Method::GET, "/chat");
    head.upgrade = Some("websocket".to_owned());
    send.request(&head, First::More).await.unwrap();
    (send, recv)
}

#[tokio::test]
async fn hazard_063_a_websocket_carries_bytes_both_ways_and_closes_each_way_for_itself() {
    let (tell, mut told) = mpsc::channel(4);
    let address = origin(move |mut wire: Wire, _| {
        let tell = tell.clone();
        async move {
            let head = wire.head().await.unwrap();
            let accept = accept_for(&head);
            tell.send(head).await.unwrap();
            // The first bytes come together with the 101.
            wire.say(&format!("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\nsec-websocket-protocol: chat\r\n\r\nwelcome")).await;
            let said = wire.until_closed().await.unwrap();
            wire.say(&format!("you said {}", String::from_utf8(said).unwrap())).await;
        }
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    let (send, mut recv) = upgrade(&road).await;
    let ResponseEvent::Final(head) = timeout(SOON, recv.response()).await.unwrap().unwrap() else {
        panic!("101")
    };
    assert_eq!(
        (head.status.as_u16(), head.headers["sec-websocket-protocol"].as_bytes()),
        (101, &b"chat"[..])
    );
    let seen = told.recv().await.unwrap();
    assert!(
        seen.contains("upgrade: websocket")
            && seen.contains("connection: Upgrade")
            && seen.contains("sec-websocket-version: 13"),
        "{seen}"
    );
    let (mut send, mut recv) = (send.into_raw(), recv.into_raw());
    assert_eq!(recv.chunk().await.unwrap().unwrap(), "welcome");
    send.write(Bytes::from_static(b"hello")).await.unwrap();
    send.finish();
    let mut heard = Vec::new();
    while let Some(bytes) = timeout(SOON, recv.chunk()).await.unwrap().unwrap() {
        heard.extend_from_slice(&bytes);
    }
    assert_eq!(heard, b"you said hello");
}

#[tokio::test]
async fn hazard_055_without_a_101_the_answer_is_an_ordinary_one() {
    let address = origin(|mut wire: Wire, _| async move {
        while wire.head().await.is_some() {
            wire.say("HTTP/1.1 426 Upgrade Required\r\ncontent-length: 4\r\n\r\nnope").await;
        }
    })
    .await;
    let road = road(&format!("ws://{address}"), "").await;
    let (mut send, mut recv) = upgrade(&road).await;
    let ResponseEvent::Final(head) = timeout(SOON, recv.response()).await.unwrap().unwrap() else {
        panic!("a head")
    };
    assert_eq!(head.status, 426);
    let _ = send.end().await;
    assert_eq!(rest(&mut recv).await.unwrap().0, b"nope");
}

#[tokio::test]
async fn hazard_057_a_101_to_something_else_or_with_a_wrong_accept_is_refused() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: bm8=\r\n\r\n",
    ] {
        let address = origin(move |mut wire: Wire, _| async move {
            wire.head().await;
            wire.say(answer).await;
            let _ = wire.until_closed().await;
        })
        .await;
        let road = road(&format!("http://{address}"), "").await;
        let (_send, mut recv) = upgrade(&road).await;
        assert_eq!(collect(&mut recv).await.unwrap_err(), Ended::BeforeHead(AbortCode::OriginProtocol));
    }
}

#[tokio::test]
async fn a_websocket_that_is_silent_for_too_long_is_ended() {
    let address = origin(|mut wire: Wire, _| async move {
        let head = wire.head().await.unwrap();
        let accept = accept_for(&head);
        wire.say(&format!("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n")).await;
        let _ = wire.until_closed().await;
    })
    .await;
    let road = road(&format!("http://{address}"), "upgradeIdleTimeout: 200ms").await;
    let (_send, mut recv) = upgrade(&road).await;
    let ResponseEvent::Final(_) = recv.response().await.unwrap() else { panic!("101") };
    let mut recv = recv.into_raw();
    let ended = timeout(SOON, recv.chunk()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), AbortCode::Timeout);
}

#[tokio::test]
async fn a_websocket_that_its_visitor_breaks_off_is_reset_for_the_origin() {
    let (tell, mut told) = mpsc::channel(4);
    let address = origin(move |mut wire: Wire, _| {
        let tell = tell.clone();
        async move {
            let head = wire.head().await.unwrap();
            let accept = accept_for(&head);
            wire.say(&format!("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n")).await;
            let ended = wire.until_closed().await;
            tell.send(ended.map_err(|error| error.kind())).await.unwrap();
        }
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    let (send, mut recv) = upgrade(&road).await;
    let ResponseEvent::Final(_) = recv.response().await.unwrap() else { panic!("101") };
    let mut send = send.into_raw();
    send.write(Bytes::from_static(b"half")).await.unwrap();
    send.abort(AbortCode::Cancelled);
    let ended = timeout(SOON, told.recv()).await.unwrap().unwrap();
    assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset));
}

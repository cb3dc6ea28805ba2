//! The admin server's promises, over real sockets.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Path as Named;
use axum::routing;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::rules::Caller;
use super::{Admin, Reply};
use crate::drain::{Drain, Finished};
use crate::pulse::Pulse;
use crate::readiness::Readiness;
use crate::telemetry;
use crate::unix_client::{RequestError, get, http_get, request};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn admin(readiness: &Readiness) -> Admin {
    Admin::new(Arc::new(Registry::default()), readiness.clone(), None)
}

async fn start(admin: Admin) -> (SocketAddr, Drain) {
    let drain = Drain::new();
    let bound = admin.bind(LOOPBACK).await.unwrap();
    let addr = bound.local_addr().unwrap();
    bound.run(&drain);
    (addr, drain)
}

/// Sends a request as it stands and reads to the end.
async fn raw(addr: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn ready_lists_what_is_waited_for_and_fails_while_draining() {
    let readiness = Readiness::new();
    let hold = readiness.hold("store");
    let (addr, drain) = start(admin(&readiness)).await;

    let (status, body) = http_get(addr, "/ready").await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body, serde_json::json!({ "ready": false, "pending": ["store"] }));

    hold.release();
    assert_eq!(http_get(addr, "/ready").await.unwrap().0, StatusCode::OK);

    readiness.fail();
    drain.start();
    let (status, body) = http_get(addr, "/ready").await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "it answers during the drain");
    assert!(String::from_utf8_lossy(&body).contains("draining"));
    assert_eq!(http_get(addr, "/live").await.unwrap().0, StatusCode::OK);

    assert_eq!(drain.finish(Duration::from_secs(5)).await, Finished::Clean);
    assert!(matches!(http_get(addr, "/live").await, Err(RequestError::Connect { .. })));
}

#[tokio::test]
async fn metrics_are_open_metrics_text() {
    let mut registry = Registry::default();
    let counter = Counter::<u64>::default();
    registry.register("requests", "Requests of visitors", counter.clone());
    counter.inc_by(3);
    let (addr, _drain) = start(Admin::new(Arc::new(registry), Readiness::new(), None)).await;
    let answer = raw(addr, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer}");
    assert!(answer.contains("requests_total 3\n") && answer.ends_with("# EOF\n"), "{answer}");
}

#[tokio::test]
async fn the_log_level_is_read_and_written() {
    let (levels, _subscriber) = telemetry::detached("info");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let drain = Drain::new();
    Admin::new(Arc::new(Registry::default()), Readiness::new(), Some(levels.clone()))
        .bind_unix(&path)
        .unwrap()
        .run(&drain);

    assert_eq!(get(&path, "/log").await.unwrap(), (StatusCode::OK, Bytes::from_static(b"info\n")));
    let set = |level: &'static str| request(&path, Method::PUT, "/log", Bytes::from_static(level.as_bytes()));
    assert_eq!(set("debug\n").await.unwrap(), (StatusCode::OK, Bytes::from_static(b"debug\n")));
    assert_eq!(levels.current(), "debug");

    let (status, body) = set("loud").await.unwrap();
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(String::from_utf8_lossy(&body).contains("error, warn, info"));
    assert_eq!(levels.current(), "debug");
}

#[tokio::test]
async fn a_program_adds_pages_and_actions() {
    let readiness = Readiness::new();
    let admin = admin(&readiness)
        .route("/status", routing::get(async || Reply::json(StatusCode::OK, "{}")))
        .route("/echo", routing::post(async |body: Bytes| Reply::json(StatusCode::ACCEPTED, body)));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let drain = Drain::new();
    admin.clone().bind_unix(&path).unwrap().run(&drain);
    let (addr, _drain) = start(admin).await;

    assert_eq!(http_get(addr, "/status").await.unwrap(), (StatusCode::OK, Bytes::from_static(b"{}")));
    let echoed = request(&path, Method::POST, "/echo", Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(echoed, (StatusCode::ACCEPTED, Bytes::from_static(b"hello")));
}

#[tokio::test]
async fn a_page_has_parameters_in_its_path() {
    let rename = async |Named((tunnel, host)): Named<(String, String)>, body: Bytes| {
        Reply::plain(StatusCode::OK, format!("{tunnel} {host} {}", String::from_utf8_lossy(&body)))
    };
    let admin = admin(&Readiness::new())
        .route("/tunnels/{tunnel}", routing::get(async |Named(tunnel): Named<String>| tunnel))
        .route("/tunnels/{tunnel}/hosts/{host}", routing::post(rename));
    let (addr, _drain) = start(admin).await;
    let (status, body) = http_get(addr, "/tunnels/my%20home").await.unwrap();
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"my home"[..]));
    let post = "POST /tunnels/home/hosts/a.example HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nyes";
    let answer = raw(addr, post).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nhome a.example yes"), "{answer}");
    assert!(answer.contains("cache-control: no-store\r\n"), "{answer}");
    assert_eq!(http_get(addr, "/tunnels/a/b").await.unwrap().0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_answer_may_come_piece_by_piece() {
    let (pieces, from) = mpsc::channel::<Result<Bytes, io::Error>>(1);
    let from = Arc::new(tokio::sync::Mutex::new(from));
    let page = async move || {
        Body::from_stream(futures_util::stream::unfold(from, async |from| {
            let next = from.lock().await.recv().await;
            next.map(|piece| (piece, from))
        }))
    };
    let (addr, _drain) = start(admin(&Readiness::new()).route("/events", routing::get(page))).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    for piece in ["one", "two"] {
        pieces.send(Ok(Bytes::from_static(piece.as_bytes()))).await.unwrap();
        while !String::from_utf8_lossy(&answer).contains(piece) {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "it waits for the end");
        }
    }
    drop(pieces);
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.contains("transfer-encoding: chunked\r\n") && answer.ends_with("\r\n0\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn another_machine_reads_and_changes_nothing() {
    let (levels, _subscriber) = telemetry::detached("info");
    let admin = Admin::new(Arc::new(Registry::default()), Readiness::new(), Some(levels.clone()));
    let pages = TowerToHyperService::new(admin.router(Caller::Remote));
    let request = |method: Method| Request::builder().method(method).uri("/log").body(Body::from("trace"));
    let answer = pages.call(request(Method::PUT).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(levels.current(), "info");
    let answer = pages.call(request(Method::GET).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "info\n");
}

#[tokio::test(start_paused = true)]
async fn neither_an_answer_nor_a_body_is_waited_for_for_ever() {
    let admin = admin(&Readiness::new())
        .route("/stuck", routing::get(std::future::pending::<Reply>))
        .route("/echo", routing::post(async |body: Bytes| body));
    let pages = TowerToHyperService::new(admin.router(Caller::Local));
    let answer = pages.call(Request::get("/stuck").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    let endless = Body::from_stream(futures_util::stream::pending::<Result<Bytes, io::Error>>());
    let answer = pages.call(Request::post("/echo").body(endless).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn live_answers_for_the_threads_that_carry_the_work() {
    let pulse = Pulse::with_patience(Duration::from_millis(100));
    let (addr, drain) = start(admin(&Readiness::new()).watch(pulse.clone())).await;
    drop(drain.spawn_service("beat", pulse.beat("shard 0".to_owned())));
    // Its thread never comes to run it.
    let _stuck = pulse.beat("shard 1".to_owned());
    let until = Instant::now() + Duration::from_secs(20);
    let body = loop {
        let (status, body) = http_get(addr, "/live").await.unwrap();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            break body;
        }
        assert!(Instant::now() < until, "{status}");
    };
    assert_eq!(&body[..], b"stuck, and serving nobody: shard 1; restart this process\n");
}

#[tokio::test]
async fn other_paths_and_methods_are_told_what_there_is() {
    let (addr, _drain) = start(admin(&Readiness::new())).await;
    let (status, body) = http_get(addr, "/nothing").await.unwrap();
    assert_eq!((status, &body[..]), (StatusCode::NOT_FOUND, &b"there is /live, /metrics, /ready\n"[..]));
    let answer = raw(addr, "DELETE /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("allow: GET\r\n"), "{answer}");
    let answer = raw(addr, "HEAD /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_page_in_a_browser_changes_nothing() {
    let (levels, _subscriber) = telemetry::detached("info");
    let (addr, _drain) =
        start(Admin::new(Arc::new(Registry::default()), Readiness::new(), Some(levels.clone()))).await;
    let put = "PUT /log HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\nContent-Length: 5\r\nConnection: close\r\n\r\ntrace";
    assert!(raw(addr, put).await.starts_with("HTTP/1.1 403"));
    assert_eq!(levels.current(), "info");
}

#[tokio::test]
async fn large_bodies_and_headers_are_refused() {
    let (levels, _subscriber) = telemetry::detached("info");
    let (addr, _drain) =
        start(Admin::new(Arc::new(Registry::default()), Readiness::new(), Some(levels))).await;
    let put = "PUT /log HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n";
    assert!(raw(addr, put).await.starts_with("HTTP/1.1 413"));
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    let put = format!(
        "PUT /log HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{chunk}{chunk}1\r\nx\r\n0\r\n\r\n"
    );
    let answer = raw(addr, &put).await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("cannot read the body: length limit"),
        "{answer}"
    );
    let get = format!("GET /live HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let answer = raw(addr, &get).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed() {
    let (addr, _drain) = start(admin(&Readiness::new())).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(b"GET /live HTTP/1.1\r\nHost:").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
}

#[tokio::test]
async fn many_connections_wait_their_turn_and_are_all_answered() {
    let (addr, _drain) = start(admin(&Readiness::new())).await;
    let answers = futures_util::future::join_all((0..200).map(|_| http_get(addr, "/live"))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|(status, _)| *status == StatusCode::OK)));
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_mend() {
    let (addr, _drain) = start(admin(&Readiness::new())).await;
    let error = admin(&Readiness::new()).bind(addr).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(
        error.to_string().contains(&addr.to_string()) && error.to_string().contains("choose another"),
        "{error}"
    );
}

#[tokio::test]
async fn the_socket_is_private_and_gone_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let drain = Drain::new();
    let bound = admin(&Readiness::new()).bind_unix(&path).unwrap();
    assert_eq!(bound.path(), Some(path.as_path()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    bound.run(&drain);
    assert_eq!(get(&path, "/live").await.unwrap().0, StatusCode::OK);
    drain.finish(Duration::from_secs(5)).await;
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(matches!(get(&path, "/live").await, Err(RequestError::NoSocket(_))));
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    // A process that died leaves the file: a std listener does not remove it.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(matches!(get(&path, "/live").await, Err(RequestError::Connect { .. })));

    let drain = Drain::new();
    admin(&Readiness::new()).bind_unix(&path).unwrap().run(&drain);
    assert_eq!(get(&path, "/live").await.unwrap().0, StatusCode::OK);

    let error = admin(&Readiness::new()).bind_unix(&path).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(
        error.to_string().contains("control.sock") && error.to_string().contains("another process"),
        "{error}"
    );
    assert_eq!(get(&path, "/live").await.unwrap().0, StatusCode::OK, "the live one was not disturbed");
}

#[tokio::test]
async fn a_socket_never_replaces_a_file_of_another_kind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    fs::write(&path, "precious").unwrap();
    let error = admin(&Readiness::new()).bind_unix(&path).unwrap_err();
    assert!(error.to_string().contains("move it away"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");

    let error = admin(&Readiness::new()).bind_unix(&folder.path().join("x".repeat(200))).unwrap_err();
    assert!(error.to_string().contains("shorter"), "{error}");
    let error = admin(&Readiness::new()).bind_unix(Path::new("/nonexistent/control.sock")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/control.sock"), "{error}");
}

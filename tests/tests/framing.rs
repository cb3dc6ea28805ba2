//! Framing is ours: no byte of one visitor becomes part of another's request, whatever a visitor or a hostile edge says, with
//! the origins that people run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use causeway_tests::client::Http2;
use causeway_tests::connector::Connector;
use causeway_tests::hostile::{HostileEdge, request};
use causeway_tests::origin::nginx::Nginx;
use causeway_tests::origin::node::Node;
use causeway_tests::site::{APP, Site, to};
use causeway_tests::{needs, run};
use causeway_tunnel::{First, Frame, ResponseEvent, Session};
use http::{HeaderValue, Method, Request};

const READY: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(10);

/// One request of a hostile edge to its end: the status and the body.
async fn ask(session: &Session, head: &causeway_tunnel::RequestHead) -> (u16, Vec<u8>) {
    let (mut send, mut recv) = session.open().await.unwrap();
    send.request(head, First::More).await.unwrap();
    if head.upgrade.is_none() {
        send.end().await.unwrap();
    }
    let answer = async {
        let ResponseEvent::Final(response) = recv.response().await.unwrap() else {
            panic!("no final answer")
        };
        if head.upgrade.is_some() {
            // As our edge does once an attempt was refused: the stream is an ordinary one then.
            send.end().await.unwrap();
        }
        let mut body = Vec::new();
        while let Frame::Data(bytes) = recv.frame().await.unwrap() {
            body.extend_from_slice(&bytes);
        }
        (response.status.as_u16(), body)
    };
    tokio::time::timeout(SOON, answer).await.expect("an answer in time")
}

/// A hostile edge declares bodies for WebSocket attempts that are refused; then other visitors come.
async fn attempts_take_nothing_from_others(service: String) {
    let edge = HostileEdge::start();
    let _connector = Connector::start(&edge.token.expose(), &to(service));
    let (session, _control, routes) = tokio::time::timeout(READY, edge.session()).await.expect("a session");
    for (path, length) in [("/chat", "70"), ("/moved", "70"), ("/chat", "5000"), ("/moved", "1")] {
        let mut attempt = request(APP, path, routes[0].id);
        attempt.upgrade = Some("websocket".into());
        attempt.headers.insert("content-length", HeaderValue::from_static(length));
        let (status, _) = ask(&session, &attempt).await;
        assert!(matches!(status, 404 | 302), "{status}");
        for _ in 0..4 {
            let mut next = request(APP, "/small", routes[0].id);
            // Nobody sends it again: it fails when its beginning went into the attempt's body.
            next.method = Method::POST;
            next.headers.insert("cookie", HeaderValue::from_static("secret=1"));
            let (status, body) = ask(&session, &next).await;
            assert_eq!(status, 200, "after {path} with {length} bytes declared");
            assert!(body.starts_with(b"hello from nginx") || body == b"cookie secret=1", "{body:?}");
        }
    }
}

#[test]
fn a_refused_websocket_with_a_length_takes_nothing_from_the_next_visitor_of_nginx() {
    let Some(nginx) = needs("nginx") else { return };
    run(async move {
        let origin = Nginx::start(&nginx).await;
        attempts_take_nothing_from_others(origin.service()).await;
    });
}

#[test]
fn a_refused_websocket_with_a_length_takes_nothing_from_the_next_visitor_of_node() {
    let Some(node) = needs("node") else { return };
    run(async move {
        let origin = Node::start(&node).await;
        attempts_take_nothing_from_others(origin.service()).await;
    });
}

#[test]
fn an_extended_connect_with_a_length_is_refused_at_the_edge() {
    let Some(nginx) = needs("nginx") else { return };
    run(async move {
        let origin = Nginx::start(&nginx).await;
        let site = Site::of(origin.service()).await;
        let mut attacker = site.http2().await;
        for length in ["70", "5000"] {
            let attempt = Request::builder()
                .method("CONNECT")
                .uri(format!("https://{APP}/chat"))
                .header("sec-websocket-version", "13")
                .header("content-length", length)
                .extension(h2::ext::Protocol::from_static("websocket"));
            let mut stream = attacker.open(attempt.body(()).unwrap(), false).await.unwrap();
            assert_eq!(stream.head().await.unwrap().status(), 400);
            let mut visitor: Http2 = site.http2().await;
            for _ in 0..4 {
                let next = Request::post(format!("https://{APP}/small")).header("cookie", "secret=1");
                let answer = visitor.fetch(next.body(bytes::Bytes::new()).unwrap(), None).await.unwrap();
                assert_eq!((answer.status, &answer.body[..]), (200, &b"hello from nginx\n"[..]));
            }
        }
    });
}

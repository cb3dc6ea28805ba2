//! The core against connectors of the test's own, over real QUIC on loopback.

pub(crate) mod bench;

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use bytes::Bytes;
use causeway_tunnel::{BodyKind, CloseCode, Host, Scheme};
use http::StatusCode;
use http_body_util::BodyExt;

use crate::gate::Gate;
use bench::{Bench, full, get, post, trickle};
use causeway_front::exchange::InBody;
use causeway_front::forward::Patience;

async fn text(response: http::Response<causeway_front::exchange::OutBody>) -> Result<String, String> {
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

#[tokio::test]
async fn a_request_reaches_the_connector_and_its_answer_the_visitor() {
    let bench = Bench::new().await;
    let connector = bench.connector().await;
    let response = bench.send(get("/who")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await.unwrap(), connector.name);
    let response = bench.send(post("/echo", full("hello"), BodyKind::Known(5))).await;
    assert_eq!(text(response).await.unwrap(), "hello");
    let big = "x".repeat(3 << 20);
    let response = bench.send(post("/echo", full(big.clone()), BodyKind::Unknown)).await;
    assert_eq!(text(response).await.unwrap(), big);
}

#[tokio::test]
async fn no_grant_is_404_and_no_connector_503() {
    let bench = Bench::new().await;
    let mut exchange = get("/");
    exchange.host = Host::name("other.example").unwrap();
    assert_eq!(bench.send(exchange).await.status(), StatusCode::NOT_FOUND);
    let response = bench.send(get("/")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key(http::header::RETRY_AFTER));
}

#[tokio::test]
async fn who_comes_between_two_sessions_waits_for_the_next() {
    let bench = Bench::new().await;
    let first = bench.connector().await;
    first.session.close(CloseCode::Done, "");
    bench.until(|status| status.connectors.is_empty()).await;
    let (response, second) = tokio::join!(bench.send(get("/who")), bench.connector());
    assert_eq!(text(response).await.unwrap(), second.name);
    second.session.close(CloseCode::Done, "");
    let put = {
        let mut put = post("/echo", full("body"), BodyKind::Known(4));
        put.head.method = http::Method::PUT;
        put
    };
    // Chosen or not, before the end of the second was heard of.
    let (response, _third) = tokio::join!(bench.send(put), bench.connector());
    assert_eq!(text(response).await.unwrap(), "body");
}

#[tokio::test]
async fn what_the_gate_answers_is_not_carried() {
    let patience = Patience { response_header: Duration::from_secs(5), body_idle: Duration::from_secs(5) };
    let gate = Gate { https: Some(NonZeroU16::MIN), ..Gate::default() };
    let bench = Bench::gated(patience, gate).await;
    let plain = || {
        let mut exchange = get("/who");
        exchange.visitor.scheme = Scheme::Http;
        exchange
    };
    assert_eq!(bench.send(plain()).await.status(), StatusCode::SERVICE_UNAVAILABLE, "nobody is connected");
    let _connector = bench.connector().await;
    let response = bench.send(plain()).await;
    assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
    assert_eq!(response.headers()["location"], "https://a.example:1/who");
    assert_eq!(bench.send(get("/who")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_body_that_comes_slowly_flows_as_it_comes() {
    let bench = Bench::new().await;
    let _connector = bench.connector().await;
    let (body, sender) = trickle();
    let response = bench.send(post("/duplex", body, BodyKind::Unknown));
    sender.send(Ok(Bytes::from_static(b"one"))).await.unwrap();
    let mut body = response.await.into_body();
    for piece in ["one", "two", "three"] {
        if piece != "one" {
            sender.send(Ok(Bytes::from(piece))).await.unwrap();
        }
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(sender);
    assert!(body.frame().await.is_none(), "the end of the request becomes the end of the answer");
}

#[tokio::test]
async fn hazard_146_an_early_answer_arrives_while_the_upload_runs() {
    let bench = Bench::new().await;
    let _connector = bench.connector().await;
    let (body, sender) = trickle();
    sender.send(Ok(Bytes::from(vec![0; 100_000]))).await.unwrap();
    let response = bench.send(post("/early", body, BodyKind::Known(1 << 30))).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(text(response).await.unwrap(), "too much");
    // What comes then is taken for a while, then the body is let go: the visitor's side sees it.
    while sender.send(Ok(Bytes::from(vec![0; 16_384]))).await.is_ok() {}
}

#[tokio::test]
async fn hazard_147_a_visitor_who_goes_away_cancels_the_origin() {
    let bench = Bench::new().await;
    let connector = bench.connector().await;
    let pending = bench.send(get("/hang"));
    tokio::select! {
        _ = pending => panic!("it hangs"),
        () = connector.saw("/hang") => {}
    }
    connector.cancelled("/hang").await;
    let (body, sender) = trickle();
    let mut pending = std::pin::pin!(bench.send(post("/echo", body, BodyKind::Known(10))));
    sender.send(Ok(Bytes::from_static(b"123"))).await.unwrap();
    tokio::select! {
        _ = &mut pending => panic!("the body is not whole"),
        () = connector.saw("/echo") => {}
    }
    sender.send(Err(causeway_front::exchange::InError::Gone)).await.unwrap();
    assert_eq!(pending.await.status(), StatusCode::BAD_REQUEST);
    connector.cancelled("/echo").await;
}

#[tokio::test]
async fn hazard_135_what_was_not_executed_goes_to_another_connector() {
    let bench = Bench::new().await;
    let connectors = [bench.connector().await, bench.connector().await];
    for path in ["/first-refuses", "/first-unreachable"] {
        let response = bench.send(post(path, full("body"), BodyKind::Known(4))).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(text(response).await.unwrap(), "body");
        for connector in &connectors {
            connector.forget();
        }
    }
}

#[tokio::test]
async fn hazard_136_a_reset_by_the_origin_is_the_connectors_to_retry() {
    let bench = Bench::new().await;
    let _connectors = [bench.connector().await, bench.connector().await];
    let response = bench.send(get("/first-resets")).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn hazard_152_a_session_that_dies_under_a_request_is_replaced() {
    let bench = Bench::new().await;
    let _connectors = [bench.connector().await, bench.connector().await];
    let mut put = post("/first-dies", full("put"), BodyKind::Known(3));
    put.head.method = http::Method::PUT;
    let response = bench.send(put).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await.unwrap(), "put");
}

#[tokio::test]
async fn hazard_153_a_draining_session_gets_nothing_new() {
    let bench = Bench::new().await;
    let mut first = bench.connector().await;
    let second = bench.connector().await;
    first.drain().await;
    bench.until(|status| status.connectors.iter().any(|connector| connector.draining)).await;
    for _ in 0..50 {
        assert_eq!(text(bench.send(get("/who")).await).await.unwrap(), second.name);
    }
}

#[tokio::test]
async fn hazard_138_a_broken_body_never_looks_whole() {
    let bench = Bench::new().await;
    let _connector = bench.connector().await;
    for path in ["/short", "/cut", "/long"] {
        let response = bench.send(get(path)).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert!(text(response).await.is_err(), "{path}");
    }
}

#[tokio::test]
async fn hazard_139_no_answer_in_time_is_504() {
    let patience =
        Patience { response_header: Duration::from_millis(200), body_idle: Duration::from_millis(200) };
    let bench = Bench::with(patience).await;
    let connector = bench.connector().await;
    let began = Instant::now();
    let response = bench.send(get("/hang")).await;
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!(began.elapsed() >= Duration::from_millis(200));
    connector.cancelled("/hang").await;
}

#[tokio::test]
async fn hazard_140_a_silent_body_is_broken_off_but_not_an_event_stream() {
    let patience =
        Patience { response_header: Duration::from_secs(5), body_idle: Duration::from_millis(200) };
    let bench = Bench::with(patience).await;
    let _connector = bench.connector().await;
    assert!(text(bench.send(get("/stall")).await).await.unwrap_err().contains("idle"));
    let mut events = bench.send(get("/events")).await.into_body();
    assert!(events.frame().await.unwrap().is_ok());
    let more = tokio::time::timeout(Duration::from_millis(500), events.frame()).await;
    assert!(more.is_err(), "still open");
}

#[tokio::test]
async fn hazard_057_a_switch_that_nobody_asked_for_is_502() {
    let bench = Bench::new().await;
    let _connector = bench.connector().await;
    assert_eq!(bench.send(get("/switch")).await.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn hazard_121_revoking_cuts_the_session() {
    let bench = Bench::new().await;
    let connector = bench.connector().await;
    bench.revoke();
    let closed = tokio::time::timeout(Duration::from_secs(5), connector.session.closed()).await.unwrap();
    assert!(closed.to_string().contains("revoked"), "{closed}");
    assert_eq!(bench.send(get("/who")).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_answer_without_a_body_does_not_wait_for_its_end() {
    let bench = Bench::new().await;
    let _connector = bench.connector().await;
    let response = bench.send(get("/no-body")).await;
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
    assert!(http_body::Body::is_end_stream(response.body()), "HTTP has no body here, not an empty one");
}

#[tokio::test]
async fn an_empty_body_of_unknown_length_is_an_empty_body() {
    let bench = Bench::new().await;
    let _connector = bench.connector().await;
    let response = bench.send(post("/echo", InBody::empty(), BodyKind::Unknown)).await;
    assert_eq!(text(response).await.unwrap(), "");
}

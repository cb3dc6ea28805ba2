//! An origin that ends its HTTP/2 connections in good order loses no request: real nginx, which does so every
//! `keepalive_requests`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use causeway_tests::origin::nginx::Nginx;
use causeway_tests::site::{APP, Site};
use causeway_tests::{needs, run};
use futures_util::future::join_all;
use http::Request;

/// Visitors at once, each with some uploads one after another.
async fn everybody_is_answered(nginx: &std::path::Path, requests: u32, body: usize) {
    let origin = Nginx::with_http2(nginx, requests).await;
    let rules = format!(
        "ingress:\n  - service: https://{}\n    originRequest: {{ http2Origin: true, noTLSVerify: true }}\n",
        origin.addr
    );
    let site = Site::start(&rules).await;
    let visitors = (0..20).map(|_| async {
        let mut client = site.http2().await;
        for n in 0..12 {
            let request =
                Request::post(format!("https://{APP}/{n}")).body(Bytes::from(vec![7; body])).unwrap();
            let answer = client.fetch(request, None).await.unwrap();
            assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
        }
    });
    join_all(visitors).await;
}

#[test]
fn no_upload_is_lost_when_nginx_ends_a_connection_every_20_requests() {
    let Some(nginx) = needs("nginx") else { return };
    run(async move { everybody_is_answered(&nginx, 20, 100_000).await });
}

#[test]
fn no_request_is_lost_when_nginx_ends_a_connection_with_each_request() {
    let Some(nginx) = needs("nginx") else { return };
    run(async move { everybody_is_answered(&nginx, 1, 3).await });
}

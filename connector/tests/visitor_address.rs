//! Where an origin reads the visitor's address that asks for it under a name of its own.

#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

mod support;

use bytes::Bytes;
use causeway_tunnel::First;
use http::{HeaderName, HeaderValue, Method};
use support::{Wire, origin, road};
use tokio::sync::mpsc;

#[tokio::test]
async fn the_visitors_address_goes_into_the_header_of_the_rules_choice_and_nobody_elses_word_does() {
    let (tell, mut told) = mpsc::channel(4);
    let address = origin(move |mut wire: Wire, _| {
        let tell = tell.clone();
        async move {
            tell.send(wire.head().await.unwrap()).await.unwrap();
            wire.say("HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
    .await;
    let road = road(&format!("http://{address}"), "visitorIpHeader: CF-Connecting-IP").await;
    let mut head = road.head(Method::GET, "/");
    head.visitor = "[::ffff:203.0.113.9]:4242".parse().unwrap();
    for (name, said) in
        [("cf-connecting-ip", "1.1.1.1"), ("cf-connecting-ip", "2.2.2.2"), ("cf_connecting_ip", "3.3.3.3")]
    {
        head.headers.append(HeaderName::from_static(name), HeaderValue::from_static(said));
    }
    let (mut send, mut recv) = road.open().await;
    send.request(&head, First::Only(Bytes::new())).await.unwrap();
    recv.response().await.unwrap();
    let seen = told.recv().await.unwrap();
    let lines: Vec<_> = seen.lines().filter(|line| line.starts_with("cf")).collect();
    assert_eq!(lines, ["cf-connecting-ip: 203.0.113.9"]);
}

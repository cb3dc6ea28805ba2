//! How messages end: an early answer before a failed write is delivered, and nothing that was cut off looks whole.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails where it panics")]

mod support;

use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use causeway_tunnel::{AbortCode, BodyKind, First, ResponseEvent};
use http::{HeaderMap, Method};
use support::{Ended, Road, SOON, Wire, collect, field, origin, rest, road};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// An upload of 3 MB to its end, or as far as it is wanted.
async fn upload(road: &Road, kind: BodyKind) -> Result<support::Got, Ended> {
    let (mut send, mut recv) = road.open().await;
    let mut head = road.head(Method::PUT, "/");
    head.body = kind;
    send.request(&head, First::More).await.unwrap();
    let body = async {
        for _ in 0..50 {
            if send.data(Bytes::from(vec![0; 60_000])).await.is_err() {
                return;
            }
        }
        let _ = send.end().await;
    };
    let (got, ()) = tokio::join!(timeout(SOON, collect(&mut recv)), body);
    got.expect("an outcome in time")
}

#[tokio::test]
async fn an_answer_that_came_before_a_failed_write_is_delivered() {
    // Answers without reading and closes: the kernel answers the rest of the upload with a reset.
    let address = origin(|mut wire: Wire, _| async move {
        wire.head().await;
        wire.say("HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 8\r\n\r\ntoo big\n")
            .await;
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    for n in 0..40 {
        let kind = if n % 2 == 0 { BodyKind::Known(3_000_000) } else { BodyKind::Unknown };
        let got = upload(&road, kind).await.unwrap_or_else(|ended| panic!("try {n}: {ended:?}"));
        assert_eq!((got.status(), got.text().as_str()), (413, "too big\n"));
    }
}

#[tokio::test]
async fn an_answer_cut_off_by_a_reset_never_looks_whole_after_a_failed_write() {
    // No length: only a clean close would make it whole, and a reset is none.
    let address = origin(|mut wire: Wire, _| async move {
        wire.head().await;
        wire.say("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nthe first half").await;
        // With something unread the kernel closes with a reset.
        wire.stream.readable().await.unwrap();
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    for n in 0..20 {
        let outcome = upload(&road, BodyKind::Known(3_000_000)).await;
        assert!(outcome.is_err(), "try {n}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_space_behind_a_fields_name_in_an_answer_is_removed() {
    let address = origin(|mut wire: Wire, _| async move {
        while wire.head().await.is_some() {
            wire.say("HTTP/1.1 200 OK\r\nx-allow : true\r\nContent-Length : 3\r\n\r\nok\n").await;
        }
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    for _ in 0..2 {
        let got = road.get("/").await.unwrap();
        assert_eq!((got.text().as_str(), got.head.headers["x-allow"].as_bytes()), ("ok\n", &b"true"[..]));
        assert_eq!(got.head.body, BodyKind::Known(3));
    }
}

#[tokio::test]
async fn trailers_of_an_answer_lose_what_is_no_trailer() {
    let address = origin(|mut wire: Wire, _| async move {
        wire.head().await;
        wire.say(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, connection, set-cookie, keep-alive\r\n\r\n\
             2\r\nok\r\n0\r\nx-sum: 7\r\nconnection: close\r\nset-cookie: a=1\r\nkeep-alive: 5\r\n\r\n",
        )
        .await;
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    let trailers = road.get("/").await.unwrap().trailers.unwrap();
    assert_eq!(trailers, HeaderMap::from_iter([field("x-sum", "7")]));
}

#[tokio::test]
async fn the_answer_to_our_own_websocket_key_is_no_ones_business_without_a_101_either() {
    let address = origin(|mut wire: Wire, _| async move {
        wire.head().await;
        wire.say("HTTP/1.1 404 Not Found\r\nsec-websocket-accept: abc\r\ncontent-length: 0\r\n\r\n").await;
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    let (mut send, mut recv) = road.open().await;
    let mut head = road.head(Method::GET, "/chat");
    head.upgrade = Some("websocket".to_owned());
    send.request(&head, First::More).await.unwrap();
    let (got, _) = tokio::join!(timeout(SOON, collect(&mut recv)), send.end());
    let got = got.unwrap().unwrap();
    assert_eq!(got.status(), 404);
    assert!(!got.head.headers.contains_key("sec-websocket-accept"));
}

#[tokio::test]
async fn a_websocket_whose_origin_resets_is_reset() {
    let (tell, told) = mpsc::channel::<()>(1);
    let told = std::sync::Arc::new(tokio::sync::Mutex::new(told));
    let address = origin(move |mut wire: Wire, _| {
        let told = std::sync::Arc::clone(&told);
        async move {
            let head = wire.head().await.unwrap();
            let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
            let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
            let digest =
                aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
            let accept = base64::engine::general_purpose::STANDARD.encode(digest);
            wire.say(&format!("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n")).await;
            told.lock().await.recv().await;
            wire.reset();
        }
    })
    .await;
    for busy in [false, true] {
        let road = road(&format!("http://{address}"), "").await;
        let (mut send, mut recv) = road.open().await;
        let mut head = road.head(Method::GET, "/chat");
        head.upgrade = Some("websocket".to_owned());
        send.request(&head, First::More).await.unwrap();
        let ResponseEvent::Final(head) = timeout(SOON, recv.response()).await.unwrap().unwrap() else {
            panic!("101")
        };
        assert_eq!(head.status, 101);
        let (mut send, mut recv) = (send.into_raw(), recv.into_raw());
        if busy {
            for _ in 0..20 {
                send.write(Bytes::from(vec![0; 10_000])).await.unwrap();
            }
        }
        tell.send(()).await.unwrap();
        let ended = timeout(SOON, recv.chunk()).await.unwrap();
        assert_eq!(ended.unwrap_err().code(), AbortCode::OriginReset, "busy: {busy}");
    }
}

#[tokio::test]
async fn an_answer_without_a_length_that_a_forced_stop_cuts_is_no_clean_end() {
    let address = origin(|mut wire: Wire, _| async move {
        wire.head().await;
        wire.say("HTTP/1.0 200 OK\r\n\r\nthe first half").await;
        let _ = wire.until_closed().await;
    })
    .await;
    let road = road(&format!("http://{address}"), "").await;
    let (mut send, mut recv) = road.open().await;
    send.request(&road.head(Method::GET, "/"), First::Only(Bytes::new())).await.unwrap();
    let ResponseEvent::Final(_) = timeout(SOON, recv.response()).await.unwrap().unwrap() else {
        panic!("a head")
    };
    let stopped = road.app.stop(Duration::from_millis(200));
    let (ended, _) = tokio::join!(timeout(SOON, rest(&mut recv)), stopped);
    assert!(ended.unwrap().is_err());
}

//! Many small frames on one HTTP/2 connection: a receiver that is busy holds its own stream back, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use causeway_tests::client::over_http2;
use causeway_tests::origin::scripted::{Connection, Scripted};
use causeway_tests::origin::{http, sample};
use causeway_tests::run;
use causeway_tests::site::{APP, Site};
use futures_util::{SinkExt, StreamExt};
use http::Request;
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::Message;

/// A sender that gets no window for so long is held back.
const HELD_BACK: Duration = Duration::from_secs(1);

/// Sends pieces of this size until the window is spent and stays so; returns the bytes.
async fn until_held_back(send: &mut h2::SendStream<Bytes>, piece: usize) -> usize {
    let bytes = Bytes::from(vec![b'x'; piece]);
    let mut sent = 0;
    loop {
        send.reserve_capacity(piece);
        while send.capacity() < piece {
            let granted = tokio::time::timeout(HELD_BACK, poll_fn(|cx| send.poll_capacity(cx))).await;
            match granted {
                Ok(granted) => drop(granted.expect("the stream is open").expect("nobody broke it off")),
                Err(_) => return sent,
            }
        }
        send.send_data(bytes.clone(), false).unwrap();
        sent += piece;
    }
}

/// Reads bytes of the body as permits come, and answers with their number.
async fn busy(mut connection: Connection, permits: Arc<Semaphore>) {
    let head = connection.head().await.unwrap();
    if head.starts_with("GET") {
        return connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    }
    let (mut tail, mut read) = (Vec::new(), 0);
    while !tail.ends_with(b"0\r\n\r\n") {
        permits.acquire().await.unwrap().forget();
        let Some(bytes) = connection.bytes().await else { return };
        read += bytes.iter().filter(|byte| **byte == b'x').count();
        tail.extend(bytes);
        tail.drain(..tail.len().saturating_sub(5));
    }
    let body = read.to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    connection.send(head.as_bytes()).await;
}

#[test]
fn an_origin_that_is_busy_holds_back_its_own_stream_and_no_other() {
    run(async {
        let permits = Arc::new(Semaphore::new(0));
        let shared = Arc::clone(&permits);
        let origin = Scripted::start(move |connection| busy(connection, Arc::clone(&shared))).await;
        let site = Site::of(origin.service()).await;
        let mut visitor = site.http2().await;
        let request = Request::post(format!("https://{APP}/upload")).body(()).unwrap();
        let mut upload = visitor.open(request, false).await.unwrap();
        // Everything between here and the origin is full, then has room for a while, in small frames.
        let mut sent = until_held_back(&mut upload.send, 16_000).await;
        permits.add_permits(40);
        sent += until_held_back(&mut upload.send, 10).await;
        let neighbour = Request::get(format!("https://{APP}/neighbour")).body(Bytes::new()).unwrap();
        visitor.fetch(neighbour, None).await.unwrap().ok();
        permits.add_permits(Semaphore::MAX_PERMITS / 2);
        upload.send.send_data(Bytes::new(), true).unwrap();
        assert_eq!(upload.answer().await.unwrap().ok().text(), sent.to_string());
    });
}

#[test]
fn a_burst_of_small_messages_on_a_websocket_harms_nobody() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let mut visitor = site.http2().await;
        let mut socket = over_http2(&mut visitor, APP, "/ws").await.unwrap();
        for number in 0..5_000 {
            socket.feed(Message::text(format!("{number:06}"))).await.unwrap();
            socket.flush().await.unwrap();
        }
        let neighbour = Request::get(format!("https://{APP}/bytes/100")).body(Bytes::new()).unwrap();
        visitor.fetch(neighbour, None).await.unwrap().ok();
        for number in 0..5_000 {
            let message = tokio::time::timeout(Duration::from_secs(20), socket.next()).await.unwrap();
            assert_eq!(message.unwrap().unwrap(), Message::text(format!("{number:06}")));
        }
    });
}

//! How many connections an origin gets, and what becomes of requests beyond that.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails where it panics")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use causeway_tunnel::AbortCode;
use support::{Ended, Wire, origin, road};
use tokio::sync::Semaphore;

/// An origin that answers when a permit is there, and knows how many connections it had at most.
async fn counting() -> (String, Arc<Semaphore>, Arc<AtomicUsize>) {
    let gate = Arc::new(Semaphore::new(0));
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (gate_, most_) = (Arc::clone(&gate), Arc::clone(&most));
    let address = origin(move |mut wire: Wire, _| {
        let (open, most, gate) = (Arc::clone(&open), Arc::clone(&most_), Arc::clone(&gate_));
        async move {
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            while wire.head().await.is_some() {
                gate.acquire().await.unwrap().forget();
                wire.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
            open.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    (format!("http://{address}"), gate, most)
}

#[tokio::test]
async fn requests_beyond_an_origins_connections_wait_for_one_of_them() {
    let (service, gate, most) = counting().await;
    let road = road(&service, "maxConnections: 2").await;
    let all = async { futures_util::future::join_all((0..20).map(|_| road.get("/"))).await };
    let opened = async {
        for _ in 0..20 {
            gate.add_permits(1);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (all, ()) = tokio::join!(all, opened);
    assert!(all.into_iter().all(|got| got.unwrap().text() == "ok"));
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_request_that_waits_for_a_connection_too_long_is_refused_and_was_not_sent() {
    let (service, gate, most) = counting().await;
    let road = road(&service, "maxConnections: 1, connectTimeout: 300ms").await;
    let begin = Instant::now();
    let (held, refused) = tokio::join!(road.get("/"), async {
        while most.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let refused = road.post(b"x").await;
        gate.add_permits(1);
        refused
    });
    assert_eq!(refused.unwrap_err(), Ended::BeforeHead(AbortCode::Refused));
    assert!(begin.elapsed() < Duration::from_secs(3));
    assert_eq!(held.unwrap().text(), "ok");
}

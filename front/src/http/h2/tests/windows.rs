//! Uploads over a long line: as fast as the line when they are taken, small windows when not, and each beside the other.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::SendRequest;
use tokio::time::Instant;

use super::super::limits::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use super::line::line;
use super::{Fake, Front, Visitor};

/// One direction of a path with 80 ms of round trip and 100 Mbit/s: a megabyte is on the way.
const DELAY: Duration = Duration::from_millis(40);
const RATE: u64 = 12_500_000;

async fn far_away(front: &Front) -> Visitor {
    let (near, far) = line(DELAY, RATE);
    front.serve(far);
    let (send, connection) = h2::client::handshake(near).await.unwrap();
    let drain = causeway_daemon::drain::Drain::new();
    let ended = Some(drain.spawn("visitor", connection));
    Visitor { send, drain, ended }
}

async fn post(
    visitor: &mut SendRequest<Bytes>,
    path: &str,
) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
    let head = http::Request::post(format!("http://a.example{path}")).body(()).unwrap();
    poll_fn(|cx| visitor.poll_ready(cx)).await.unwrap();
    visitor.send_request(head, false).unwrap()
}

/// Sends as fast as the windows let it; how much, when that took too long.
async fn push(send: &mut SendStream<Bytes>, mut left: usize, patience: Duration) -> usize {
    let until = Instant::now() + patience;
    let piece = Bytes::from(vec![7; 64 * 1024]);
    let mut sent = 0;
    while left > 0 {
        send.reserve_capacity(left.min(piece.len()));
        let granted = poll_fn(|cx| send.poll_capacity(cx));
        let Ok(granted) = tokio::time::timeout_at(until, granted).await else { break };
        let granted = granted.unwrap().unwrap().min(left).min(piece.len());
        send.send_data(piece.slice(..granted), granted == left).unwrap();
        (left, sent) = (left - granted, sent + granted);
    }
    sent
}

/// Bytes a second of an upload of so many.
async fn rate(visitor: &mut SendRequest<Bytes>, bytes: usize) -> u64 {
    let (answer, mut send) = post(visitor, "/taken").await;
    let since = Instant::now();
    assert_eq!(push(&mut send, bytes, Duration::from_secs(600)).await, bytes);
    assert_eq!(answer.await.unwrap().status(), 200);
    bytes as u64 * 1000 / u64::try_from(since.elapsed().as_millis()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_upload_from_far_away_fills_its_line() {
    let front = Front::start(Fake::takes_or_stands()).await;
    let mut visitor = far_away(&front).await;
    let first = rate(&mut visitor.send, 40_000_000).await;
    assert!(first > RATE / 100 * 88, "{first} bytes a second of {RATE}");
    visitor.drain.force();
    front.drain.force();
}

#[tokio::test(start_paused = true)]
async fn one_that_nobody_takes_keeps_a_small_window_and_holds_no_other_up() {
    let front = Front::start(Fake::takes_or_stands()).await;
    let mut visitor = far_away(&front).await;
    let (_first, mut stands) = post(&mut visitor.send, "/stands").await;
    let sent = push(&mut stands, 100_000_000, Duration::from_secs(10)).await;
    assert!((65_535..=STREAM_WINDOW_BYTES).contains(&sent), "{sent}");
    let beside = rate(&mut visitor.send, 40_000_000).await;
    assert!(beside > RATE / 100 * 80, "{beside} bytes a second of {RATE} beside one that stands");
    // It has a wide window now, as long as another needs it; and still the other flows.
    push(&mut stands, 100_000_000, Duration::from_secs(2)).await;
    let beside = rate(&mut visitor.send, 40_000_000).await;
    assert!(beside > RATE / 100 * 80, "{beside} bytes a second of {RATE} beside one that fills its window");
    visitor.drain.force();
    front.drain.force();
}

#[tokio::test(start_paused = true)]
async fn uploads_that_stand_hold_no_more_than_before_whatever_their_number() {
    let front = Front::start(Fake::takes_or_stands()).await;
    let mut visitor = far_away(&front).await;
    let mut sent = 0;
    let mut standing = Vec::new();
    for _ in 0..20 {
        let (answer, mut stands) = post(&mut visitor.send, "/stands").await;
        sent += push(&mut stands, 10_000_000, Duration::from_secs(1)).await;
        standing.push((answer, stands));
    }
    assert!(sent <= CONNECTION_WINDOW_BYTES, "{sent}");
    visitor.drain.force();
    front.drain.force();
}

#[tokio::test(start_paused = true)]
async fn windows_are_small_again_after_an_upload() {
    let front = Front::start(Fake::takes_or_stands()).await;
    let mut visitor = far_away(&front).await;
    rate(&mut visitor.send, 20_000_000).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let (_answer, mut stands) = post(&mut visitor.send, "/stands").await;
    let sent = push(&mut stands, 100_000_000, Duration::from_secs(10)).await;
    assert_eq!(sent, STREAM_WINDOW_BYTES);
    visitor.drain.force();
    front.drain.force();
}

#[tokio::test(start_paused = true)]
async fn what_was_granted_counts_until_it_is_used_up() {
    let front = Front::start(Fake::takes_or_stands()).await;
    let mut visitor = far_away(&front).await;
    rate(&mut visitor.send, 20_000_000).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let granted = front.budget().held();
    assert!(granted > 1_000_000, "the visitor may still send that: {granted}");
    let mut stands = Vec::new();
    let mut sent = 0;
    for _ in 0..40 {
        let (answer, mut send) = post(&mut visitor.send, "/stands").await;
        sent += push(&mut send, 10_000_000, Duration::from_secs(1)).await;
        stands.push((answer, send));
    }
    assert!(sent <= granted + CONNECTION_WINDOW_BYTES, "{sent}");
    assert!(front.budget().held() >= sent - CONNECTION_WINDOW_BYTES, "{sent}");
    visitor.drain.force();
    drop(visitor);
    front.drain.force();
    while front.budget().held() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_use_what_others_need_is_asked_to_leave() {
    let front = Front::start(Fake::takes_or_stands()).await;
    let mut visitor = far_away(&front).await;
    rate(&mut visitor.send, 20_000_000).await;
    let _others = front.budget().hold(front.budget().bytes() / 2);
    let ended = tokio::time::timeout(Duration::from_secs(20), visitor.ended.take().unwrap()).await;
    ended.expect("it leaves").unwrap().unwrap().unwrap();
    front.drain.force();
}

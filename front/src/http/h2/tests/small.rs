//! Small frames: a burst of them is traffic, padding is not.

use std::time::Duration;

use super::raw::{DATA, END_STREAM, GOAWAY, HEADERS, Raw, frame};
use super::{Fake, Front};

const PADDED: u8 = 8;

#[tokio::test]
async fn a_burst_of_small_frames_to_a_busy_reader_harms_nobody() {
    let (fake, release) = Fake::busy_then_echo();
    let front = Front::tls(fake).await;
    let mut visitor = Raw::connect(&front).await;
    visitor.post(1).await;
    front.seen().await;
    let burst: Vec<u8> = (0..2_600).flat_map(|_| frame(DATA, 0, 1, &[b'x'; 20])).collect();
    visitor.send_all(&burst).await;
    visitor.get(3).await;
    assert_eq!(visitor.next_of_any(&[HEADERS, GOAWAY]).await.stream, 3, "a neighbour is answered meanwhile");
    release.send(()).unwrap();
    visitor.send(DATA, END_STREAM, 1, b"").await;
    let mut echoed = 0;
    while echoed < 2_600 * 20 {
        let frame = visitor.next_of_any(&[DATA, GOAWAY]).await;
        assert_eq!(frame.kind, DATA);
        if frame.stream == 1 {
            echoed += frame.payload.len();
        }
    }
    front.drain.force();
}

#[tokio::test]
async fn a_burst_of_small_messages_on_a_websocket_harms_nobody() {
    let front = Front::tls(Fake::websocket()).await;
    let mut visitor = Raw::connect(&front).await;
    visitor.websocket(1).await;
    visitor.next_of(HEADERS).await;
    let burst: Vec<u8> = (0..5_000).flat_map(|_| frame(DATA, 0, 1, &[b'x'; 12])).collect();
    visitor.send_all(&burst).await;
    let mut echoed = 0;
    while echoed < 5_000 * 12 {
        let frame = visitor.next_of_any(&[DATA, GOAWAY]).await;
        assert_eq!(frame.kind, DATA);
        echoed += frame.payload.len();
    }
    front.drain.force();
}

#[tokio::test]
async fn frames_of_padding_are_a_flood() {
    let front = Front::tls(Fake::echo()).await;
    let mut visitor = Raw::connect(&front).await;
    visitor.post(1).await;
    front.seen().await;
    let padding = frame(DATA, PADDED, 1, &[&[255][..], &[0; 255]].concat());
    let ended = async {
        // The connection ends while these are sent.
        for _ in 0..10_000 {
            if visitor.try_send(&padding).await.is_err() {
                break;
            }
        }
        while visitor.next().await.is_some_and(|frame| frame.kind != GOAWAY) {}
    };
    tokio::time::timeout(Duration::from_secs(15), ended).await.expect("it goes on");
}

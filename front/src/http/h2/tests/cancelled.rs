//! Downloads that their visitor cancels while its line is full, as a player does at each jump.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use http_body::Frame;
use http_body_util::StreamBody;

use super::raw::{DATA, END_STREAM, RST_STREAM, Raw, SETTINGS};
use super::{Fake, Front, OutBody};

const WINDOW_UPDATE: u8 = 8;
const WIDE: u32 = 1 << 30;
const PIECE: &[u8] = &[7; 32 * 1024];

/// Answers POST with a body without end, whose pieces are counted, and GET with a word.
fn endless(pieces: Arc<AtomicUsize>) -> Fake {
    Fake::new(move |exchange| {
        let pieces = Arc::clone(&pieces);
        async move {
            if exchange.head.method == Method::GET {
                return Response::new(OutBody::full("at last"));
            }
            let frames = futures_util::stream::poll_fn(move |_| {
                pieces.fetch_add(1, Ordering::Relaxed);
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(PIECE)))))
            });
            Response::new(OutBody::stream(StreamBody::new(frames)))
        }
    })
}

#[tokio::test]
async fn what_is_thrown_away_with_a_cancelled_download_is_no_ones_debt() {
    let pieces = Arc::<AtomicUsize>::default();
    let front = Front::tls(endless(Arc::clone(&pieces))).await;
    let mut visitor = Raw::connect(&front).await;
    visitor.send(SETTINGS, 0, 0, &[&[0, 4][..], &WIDE.to_be_bytes()].concat()).await;
    visitor.send(WINDOW_UPDATE, 0, 0, &WIDE.to_be_bytes()).await;
    for round in 0..ROUNDS {
        let downloads = || (0..10).map(|number| 1 + 2 * (round * 10 + number));
        let before = pieces.load(Ordering::Relaxed);
        for stream in downloads() {
            visitor.post(stream).await;
        }
        line_is_full(&pieces, before).await;
        for stream in downloads() {
            visitor.send(RST_STREAM, 0, stream, &[0, 0, 0, 8]).await;
        }
    }
    let last = 1 + 2 * ROUNDS * 10;
    visitor.get(last).await;
    loop {
        let frame = visitor.next_of(DATA).await;
        if frame.stream == last {
            assert_eq!((&frame.payload[..], frame.flags & END_STREAM), (&b"at last"[..], END_STREAM));
            return;
        }
    }
}

/// Each leaves something behind.
const ROUNDS: u32 = 5;

/// Waits until no more pieces are asked for.
async fn line_is_full(pieces: &AtomicUsize, before: usize) {
    let mut seen = before;
    while seen == before || pieces.load(Ordering::Relaxed) > seen {
        seen = pieces.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

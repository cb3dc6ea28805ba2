//! Visitors that do not acknowledge the PING of a graceful end.

use std::time::Duration;

use causeway_daemon::drain::Finished;

use super::super::limits::MAX_STREAMS;
use super::raw::{DATA, GOAWAY, HEADERS, REFUSED_STREAM, RST_STREAM, Raw};
use super::{Fake, Front};

const NO_STREAM_IS_LEFT_OUT: [u8; 4] = [0x7f, 0xff, 0xff, 0xff];

#[tokio::test]
async fn a_visitor_that_never_acknowledges_is_left_all_the_same() {
    let front = Front::tls(Fake::path()).await;
    let mut visitor = Raw::connect(&front).await;
    visitor.get(1).await;
    assert_eq!(visitor.next_of(DATA).await.payload, b"/");
    front.drain.start();
    assert_eq!(visitor.next_of(GOAWAY).await.payload[..4], NO_STREAM_IS_LEFT_OUT);
    let last = visitor.next_of(GOAWAY).await.payload;
    assert_eq!((&last[..4], &last[4..8]), (&[0, 0, 0, 1][..], &[0, 0, 0, 0][..]), "stream 1, NO_ERROR");
    assert!(visitor.next().await.is_none(), "nothing comes after the last GOAWAY");
    assert_eq!(front.drain.finish(Duration::from_secs(5)).await, Finished::Clean);
}

#[tokio::test]
async fn a_stream_after_the_time_to_leave_is_refused_and_what_runs_is_finished() {
    let (fake, release) = Fake::gated();
    let front = Front::tls(fake).await;
    let mut visitor = Raw::connect(&front).await;
    visitor.get(1).await;
    front.seen().await;
    front.drain.start();
    visitor.next_of(GOAWAY).await;
    let mut stream = 1;
    loop {
        stream += 2;
        visitor.get(stream).await;
        let answer = visitor.next_of_any(&[HEADERS, RST_STREAM]).await;
        assert_eq!(answer.stream, stream);
        if answer.kind == RST_STREAM {
            assert_eq!(answer.payload, REFUSED_STREAM);
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(stream > 3, "what may have been on its way is served");
    release.send(()).unwrap();
    let whole = loop {
        let frame = visitor.next_of(DATA).await;
        if frame.stream == 1 {
            break frame;
        }
    };
    assert_eq!(whole.payload, b"at last");
    while visitor.next().await.is_some() {}
    assert_eq!(front.drain.finish(Duration::from_secs(5)).await, Finished::Clean);
}

#[tokio::test]
async fn no_more_streams_are_served_after_the_goaway_than_could_be_on_their_way() {
    let front = Front::tls(Fake::path()).await;
    let mut visitor = Raw::connect(&front).await;
    visitor.get(1).await;
    visitor.next_of(DATA).await;
    front.drain.start();
    visitor.next_of(GOAWAY).await;
    let (mut served, mut refused) = (0, 0);
    for number in 1..=MAX_STREAMS + 20 {
        visitor.get(number * 2 + 1).await;
        match visitor.next_of_any(&[HEADERS, RST_STREAM]).await.kind {
            HEADERS => served += 1,
            _ => refused += 1,
        }
    }
    assert_eq!((served, refused), (MAX_STREAMS, 20));
}

//! What is cut off never looks complete: where only the connection's end tells that an answer is whole, it ends in a
//! reset (hazard 138).

use std::io::ErrorKind;

use causeway_daemon::drain::Drain;
use rustls::pki_types::ServerName;
use tokio::io::AsyncRead;
use tokio_rustls::TlsConnector;

use super::*;

const OLD: &[u8] = b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n";
const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A body of `half`, and then what the test says.
fn half(
    then: impl Fn() -> Poll<Option<Result<Frame<Bytes>, Abort>>> + Clone + Send + Sync + 'static,
) -> Fake {
    Fake::new(move |_| {
        let then = then.clone();
        async move {
            let mut first = Some(Ok(Frame::data(Bytes::from_static(b"half"))));
            let frames = futures_util::stream::poll_fn(move |_| match first.take() {
                Some(frame) => Poll::Ready(Some(frame)),
                None => then(),
            });
            Response::new(OutBody::stream(StreamBody::new(frames)))
        }
    })
}

async fn half_arrives(stream: &mut (impl AsyncRead + Unpin)) {
    let mut all = Vec::new();
    while !all.ends_with(b"half") {
        all.push(timeout(Duration::from_secs(5), stream.read_u8()).await.unwrap().unwrap());
    }
}

async fn is_reset(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    let end = timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.expect("it never ends");
    assert_eq!(end.expect_err("it looks whole").kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_answer_that_force_cuts_off_is_reset() {
    let front = Front::start(half(|| Poll::Pending)).await;
    let mut stream = front.connect().await;
    stream.write_all(OLD).await.unwrap();
    half_arrives(&mut stream).await;
    front.drain.force();
    is_reset(&mut stream).await;
}

#[tokio::test]
async fn an_answer_over_tls_that_force_cuts_off_is_reset_without_a_close_notify() {
    let front = Front::tls(half(|| Poll::Pending)).await;
    let connector = TlsConnector::from(Arc::new(front.client()));
    let name = ServerName::try_from("a.example").unwrap();
    let mut stream = connector.connect(name, front.connect().await).await.unwrap();
    stream.write_all(OLD).await.unwrap();
    half_arrives(&mut stream).await;
    front.drain.force();
    is_reset(&mut stream).await;
}

#[tokio::test]
async fn an_answer_that_a_panic_cuts_off_is_reset() {
    let front = Front::start(half(|| panic!("in the body"))).await;
    let mut stream = front.connect().await;
    stream.write_all(OLD).await.unwrap();
    is_reset(&mut stream).await;
}

#[tokio::test]
async fn an_answer_that_its_visitor_does_not_take_is_reset() {
    let more = || Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[7; 65_536])))));
    let front = Front::start(half(more)).await;
    let mut stream = front.connect().await;
    stream.write_all(OLD).await.unwrap();
    front.seen().await;
    tokio::time::pause();
    front.logged().await;
    tokio::time::resume();
    is_reset(&mut stream).await;
}

#[tokio::test]
async fn a_whole_answer_without_a_length_ends_in_order() {
    let front = Front::start(half(|| Poll::Ready(None))).await;
    let mut stream = front.connect().await;
    stream.write_all(OLD).await.unwrap();
    let mut all = Vec::new();
    timeout(Duration::from_secs(5), stream.read_to_end(&mut all)).await.unwrap().unwrap();
    assert!(all.ends_with(b"half"));
}

/// Grants a WebSocket and lets go of it: aborted, or just dropped as force does.
fn let_go(abort: bool) -> Fake {
    Fake::new(move |mut exchange| async move {
        let upgrade = exchange.upgrade.take().unwrap();
        let drain = Drain::new();
        drop(drain.spawn("raw", async move {
            let (_raw_in, mut raw_out) = upgrade.accept().await.unwrap();
            raw_out.write(Bytes::from_static(b"half")).await.unwrap();
            if abort {
                raw_out.abort();
            }
        }));
        Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).body(OutBody::empty()).unwrap()
    })
}

#[tokio::test]
async fn a_websocket_that_is_broken_off_is_reset() {
    for abort in [true, false] {
        let front = Front::start(let_go(abort)).await;
        let mut stream = front.connect().await;
        stream.write_all(UPGRADE).await.unwrap();
        is_reset(&mut stream).await;
    }
}

#[tokio::test]
async fn a_websocket_that_both_sides_end_ends_in_order() {
    let front = Front::start(Fake::websocket()).await;
    let mut stream = front.connect().await;
    stream.write_all(UPGRADE).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = Vec::new();
    timeout(Duration::from_secs(5), stream.read_to_end(&mut all)).await.unwrap().unwrap();
    assert!(all.ends_with(b", then the end"));
}

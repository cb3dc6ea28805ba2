//! One HTTP/2 connection to an origin and many requests on it: what is sent again, and what neighbours feel.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails where it panics")]
#![allow(clippy::disallowed_methods, reason = "the runtime of a test owns its tasks")]

mod support;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use causeway_tunnel::{AbortCode, BodyKind, First, ResponseEvent};
use h2::Reason;
use h2::server::SendResponse;
use http::{HeaderMap, Method, Request};
use parking_lot::Mutex;
use support::{Ended, Road, SOON, collect, field, rest, road};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// An origin on the h2 crate; the play gets each request with its number. Returns the service and a count of connections.
async fn origin<F, R>(play: F) -> (String, Arc<AtomicUsize>)
where
    F: Fn(Request<h2::RecvStream>, SendResponse<Bytes>, usize) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let (play, requests) = (play.clone(), Arc::clone(&requests));
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(play(request, respond, requests.fetch_add(1, Ordering::Relaxed)));
                }
            });
        }
    });
    (format!("h2c://{address}"), connections)
}

/// Sends all of it with regard to the window.
async fn send_all(send: &mut h2::SendStream<Bytes>, mut bytes: Bytes, end: bool) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        send.reserve_capacity(bytes.len());
        let Some(room) = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.transpose()? else {
            return Ok(());
        };
        let piece = bytes.split_to(room.min(bytes.len()));
        send.send_data(piece, end && bytes.is_empty())?;
    }
    Ok(())
}

/// A POST with a body of unknown length, an authorization and trailers.
async fn whole_post(road: &Road, body: Bytes) -> Result<support::Got, Ended> {
    let (mut send, mut recv) = road.open().await;
    let mut head = road.head(Method::POST, "/pay");
    head.body = BodyKind::Unknown;
    head.headers = HeaderMap::from_iter([field("authorization", "Bearer x"), field("cookie", "a=1")]);
    send.request(&head, First::More).await.unwrap();
    let upload = async {
        send.data(body).await?;
        send.trailers(&HeaderMap::from_iter([field("x-sum", "7")])).await?;
        send.end().await
    };
    let (got, _) = tokio::join!(timeout(SOON, collect(&mut recv)), upload);
    got.expect("an answer in time")
}

/// Says in the answer's body what came: authorization, cookie, bytes of the body, a trailer.
async fn echo(request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) {
    let (parts, mut body) = request.into_parts();
    let mut length = 0;
    while let Some(bytes) = body.data().await {
        let bytes = bytes.unwrap();
        length += bytes.len();
        let _ = body.flow_control().release_capacity(bytes.len());
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    let text = |headers: &HeaderMap, name: &str| {
        headers.get(name).map_or("none", |value| value.to_str().unwrap()).to_owned()
    };
    let said = format!(
        "{} {} {length} {}",
        text(&parts.headers, "authorization"),
        text(&parts.headers, "cookie"),
        text(&trailers, "x-sum")
    );
    let mut send = respond.send_response(http::Response::new(()), false).unwrap();
    send_all(&mut send, Bytes::from(said), true).await.unwrap();
}

#[tokio::test]
async fn what_a_refused_request_is_sent_again_with_is_all_of_it() {
    let (service, _) = origin(|request, mut respond, number| async move {
        if number < 3 {
            return respond.send_reset(Reason::REFUSED_STREAM);
        }
        echo(request, respond).await;
    })
    .await;
    let road = road(&service, "").await;
    let got = whole_post(&road, Bytes::from_static(b"12345")).await.unwrap();
    assert_eq!(got.text(), "Bearer x a=1 5 7");
}

#[tokio::test]
async fn a_body_is_sent_again_as_long_as_the_origins_window_did_not_let_it_go() {
    // The first stream is refused when the window of 65,535 bytes is full.
    let (service, _) = origin(|request, mut respond, number| async move {
        if number > 0 {
            return echo(request, respond).await;
        }
        let mut body = request.into_body();
        let mut seen = 0;
        while seen < 65_535 {
            seen += body.data().await.unwrap().unwrap().len();
        }
        respond.send_reset(Reason::REFUSED_STREAM);
    })
    .await;
    let road = road(&service, "").await;
    let got = whole_post(&road, Bytes::from(vec![1; 3_000_000])).await.unwrap();
    assert_eq!(got.text(), "Bearer x a=1 3000000 7");
}

#[tokio::test]
async fn an_origin_that_refuses_everything_is_given_up_soon_and_nothing_was_executed() {
    let (service, _) =
        origin(|_, mut respond, _| async move { respond.send_reset(Reason::REFUSED_STREAM) }).await;
    let road = road(&service, "").await;
    assert_eq!(road.post(b"x").await.unwrap_err(), Ended::BeforeHead(AbortCode::Refused));
}

/// Speaks HTTP/2 by hand: answers the first request of each connection with these bytes, and counts the requests.
async fn broken(answer: &'static [u8]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                stream.read_exact(&mut [0; 24]).await.unwrap();
                stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
                loop {
                    let mut header = [0; 9];
                    if stream.read_exact(&mut header).await.is_err() {
                        return;
                    }
                    let length = usize::from(header[1]) << 8 | usize::from(header[2]);
                    stream.read_exact(&mut vec![0; length]).await.unwrap();
                    if header[3] == 1 {
                        count.fetch_add(1, Ordering::Relaxed);
                        let _ = stream.write_all(answer).await;
                    }
                }
            });
        }
    });
    (format!("h2c://{address}"), requests)
}

#[tokio::test]
async fn a_post_is_executed_once_when_the_origin_breaks_http2_under_it() {
    for (what, answer) in [
        ("DATA on stream 0", &[0, 0, 1, 0, 0, 0, 0, 0, 0, b'x'][..]),
        ("bad HPACK", &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x80]),
        ("an oversized frame", &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
        // ENHANCE_YOUR_CALM, with stream 1 left out: what it did before it was angry, nobody knows.
        ("an angry GOAWAY", &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]),
        ("a stream error", &[0, 0, 4, 8, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
    ] {
        let (service, requests) = broken(answer).await;
        let road = road(&service, "").await;
        let ended = road.post(b"pay").await.unwrap_err();
        assert!(matches!(ended, Ended::BeforeHead(_)), "{what}");
        assert_ne!(ended, Ended::BeforeHead(AbortCode::Refused), "{what}");
        assert_eq!(requests.load(Ordering::Relaxed), 1, "{what}: executed twice");
    }
}

#[tokio::test]
async fn empty_data_frames_of_an_innocent_origin_end_nobody() {
    let (service, connections) = origin(|_, mut respond, _| async move {
        let mut send = respond.send_response(http::Response::new(()), false).unwrap();
        for _ in 0..30 {
            send.send_data(Bytes::new(), false).unwrap();
            tokio::task::yield_now().await;
        }
        send_all(&mut send, Bytes::from_static(b"all"), true).await.unwrap();
    })
    .await;
    let road = road(&service, "").await;
    for _ in 0..10 {
        assert_eq!(road.get("/").await.unwrap().text(), "all");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_visitor_who_does_not_read_a_feed_of_tiny_messages_harms_no_neighbour() {
    const MESSAGES: usize = 200_000;
    let (service, connections) = origin(|request, mut respond, _| async move {
        let mut send = respond.send_response(http::Response::new(()), false).unwrap();
        if request.uri().path() != "/feed" {
            return send_all(&mut send, Bytes::from_static(b"ok"), true).await.unwrap();
        }
        for n in 0..MESSAGES {
            if send_all(&mut send, Bytes::from(vec![n as u8]), n + 1 == MESSAGES).await.is_err() {
                return;
            }
            if n % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    let road = road(&service, "").await;
    let (mut send, mut feed) = road.open().await;
    send.request(&road.head(Method::GET, "/feed"), First::Only(Bytes::new())).await.unwrap();
    let ResponseEvent::Final(_) = timeout(SOON, feed.response()).await.unwrap().unwrap() else {
        panic!("a head")
    };
    // Nobody reads the feed now; the window fills with frames of one byte.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        assert_eq!(road.get("/").await.unwrap().text(), "ok");
    }
    let (body, _) = timeout(SOON * 3, rest(&mut feed)).await.expect("the feed goes on").unwrap();
    assert_eq!(body.len(), MESSAGES);
    assert!(body.iter().enumerate().all(|(n, byte)| *byte == n as u8), "in order");
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn many_visitors_who_do_not_read_leave_the_connection_to_the_others() {
    let (service, connections) = origin(|request, mut respond, _| async move {
        let mut send = respond.send_response(http::Response::new(()), false).unwrap();
        let length = if request.uri().path() == "/stalled" { 2_000_000 } else { 100_000 };
        let _ = send_all(&mut send, Bytes::from(vec![7; length]), true).await;
    })
    .await;
    let road = road(&service, "").await;
    let mut stalled = Vec::new();
    for _ in 0..60 {
        let (mut send, mut recv) = road.open().await;
        send.request(&road.head(Method::GET, "/stalled"), First::Only(Bytes::new())).await.unwrap();
        timeout(SOON, recv.response()).await.unwrap().unwrap();
        stalled.push((send, recv));
    }
    for _ in 0..5 {
        assert_eq!(road.get("/").await.unwrap().body.len(), 100_000);
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

/// Takes connections and says nothing, as a host behind a dropping firewall.
async fn silent() -> (std::net::SocketAddr, Arc<Mutex<Vec<TcpStream>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let held = Arc::new(Mutex::new(Vec::new()));
    let hold = Arc::clone(&held);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            hold.lock().push(stream);
        }
    });
    (address, held)
}

#[tokio::test]
async fn requests_that_wait_for_one_connection_to_a_dead_origin_share_its_timeout() {
    let (address, held) = silent().await;
    let road =
        road(&format!("https://{address}"), "http2Origin: true, noTLSVerify: true, tlsTimeout: 500ms").await;
    let begin = Instant::now();
    let all = futures_util::future::join_all((0..10).map(|_| road.get("/"))).await;
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    for ended in all {
        assert_eq!(ended.unwrap_err(), Ended::BeforeHead(AbortCode::OriginTimeout));
    }
    assert_eq!(held.lock().len(), 1, "one dial for all");
}

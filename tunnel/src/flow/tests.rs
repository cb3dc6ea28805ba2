//! What windows do over real QUIC on a line in memory, with the clock paused.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{Budget, Courier, Flow, Sizes};
use crate::carrier::memory::Line;
use crate::carrier::quic::lossy;
use crate::carrier::{Closed, Connection};
use crate::limits::{FIRST_WINDOW_BYTES, MAX_WINDOW_BYTES, SMALL_WINDOW_BYTES};
use crate::session::Session;
use crate::stream::{First, RecvStream, SendStream, StreamError};
use crate::tests::session_over;
use crate::{AbortCode, BodyKind, Frame, RequestHead, RequestId, ResponseEvent, ResponseHead, Scheme};

struct Pair {
    edge: Session,
    connector: Session,
    of_edge: Arc<Flow>,
    of_connector: Arc<Flow>,
    _couriers: JoinSet<()>,
}

/// A path of 50 ms.
fn line(loss_permille: u32) -> Line {
    Line {
        delay: Duration::from_millis(25),
        // What overtakes another is taken for lost, and would slow the line down.
        jitter: Duration::from_micros(u64::from(loss_permille) * 100),
        loss_permille,
        seed: 7,
        ..Line::default()
    }
}

impl Pair {
    async fn new(line: Line, budget: &Budget, [at_edge, at_connector]: [Sizes; 2]) -> Self {
        let (connector, edge, _) = lossy::pair(line, 256).await;
        let [connector, edge] = [connector, edge].map(Connection::Quic);
        let of_edge = Flow::new(edge.clone(), budget.clone(), at_edge);
        let of_connector = Flow::new(connector.clone(), budget.clone(), at_connector);
        let mut couriers = JoinSet::new();
        couriers.spawn(Courier::open(&edge, &of_edge).await.unwrap().run());
        couriers.spawn(Courier::accept(&connector, &of_connector).await.unwrap().run());
        Self {
            edge: session_over(edge, Arc::clone(&of_edge)),
            connector: session_over(connector, Arc::clone(&of_connector)),
            of_edge,
            of_connector,
            _couriers: couriers,
        }
    }

    /// A stream whose request is known at the other end: the edge's halves, then the connector's.
    async fn stream(&self) -> ((SendStream, RecvStream), (SendStream, RecvStream)) {
        self.stream_of(BodyKind::Unknown).await
    }

    async fn stream_of(&self, body: BodyKind) -> ((SendStream, RecvStream), (SendStream, RecvStream)) {
        let (mut send, recv) = self.edge.open().await.unwrap();
        send.request(&RequestHead { body, ..request() }, First::More).await.unwrap();
        let (answer, mut upload) = self.connector.accept().await.unwrap();
        upload.opening().await.unwrap();
        ((send, recv), (answer, upload))
    }

    /// Downloads so much; says how long it took from the request on.
    async fn download(&self, length: usize) -> Duration {
        let since = Instant::now();
        let ((_send, mut recv), (mut answer, _upload)) = self.stream().await;
        let sent = async {
            answer.response(&response(), First::More).await.unwrap();
            for piece in pieces(length) {
                answer.data(piece).await.unwrap();
            }
            answer.end().await.unwrap();
        };
        let (_, read) = tokio::join!(sent, async {
            let ResponseEvent::Final(_) = recv.response().await.unwrap() else { panic!("no final head") };
            read(&mut recv, usize::MAX).await
        });
        assert_eq!(read, length);
        since.elapsed()
    }
}

fn request() -> RequestHead {
    RequestHead {
        method: Method::POST,
        scheme: Scheme::Https,
        authority: "a.example".to_owned(),
        path: "/".to_owned(),
        headers: HeaderMap::new(),
        visitor: (Ipv4Addr::LOCALHOST, 4242).into(),
        route: 1,
        request_id: RequestId([0; 16]),
        upgrade: None,
        body: BodyKind::Unknown,
        expect_continue: false,
    }
}

fn response() -> ResponseHead {
    ResponseHead { status: StatusCode::OK, headers: HeaderMap::new(), body: BodyKind::Unknown }
}

/// So many bytes in pieces of mixed sizes.
fn pieces(length: usize) -> impl Iterator<Item = Bytes> {
    let mut sizes = [1, 40, 16_384, 700, 65_000, 1_200, 9].into_iter().cycle();
    let mut left = length;
    std::iter::from_fn(move || {
        let size = sizes.next()?.min(left);
        left -= size;
        (size > 0).then(|| Bytes::from(vec![5; size]))
    })
}

/// Reads up to so many bytes, or to the end.
async fn read(recv: &mut RecvStream, most: usize) -> usize {
    let mut length = 0;
    while length < most {
        match recv.frame().await.unwrap() {
            Frame::Data(bytes) => length += bytes.len(),
            Frame::Trailers(_) => {}
            Frame::End => break,
        }
    }
    length
}

/// What a writer gets rid of before it has to wait for long.
async fn written(send: &mut SendStream) -> u64 {
    let mut bytes = 0;
    while timeout(Duration::from_secs(5), send.data(Bytes::from(vec![0; 1000]))).await.is_ok() {
        bytes += 1000;
    }
    bytes
}

fn within(first: u64) -> Sizes {
    Sizes { first, ..Sizes::default() }
}

#[tokio::test(start_paused = true)]
async fn hazard_208_many_mebibytes_outstanding_over_a_line_that_loses_leave_the_session_alive() {
    let (budget, wide) = (Budget::new(256 << 20), within(MAX_WINDOW_BYTES));
    let pair = Pair::new(line(10), &budget, [wide; 2]).await;
    let ((mut send, _recv), (_answer, mut upload)) = pair.stream().await;
    let length = 24 << 20;
    let mut sender = JoinSet::new();
    sender.spawn(async move {
        for piece in pieces(length) {
            send.data(piece).await.unwrap();
        }
        send.end().await.unwrap();
    });
    let mut got = read(&mut upload, 1 << 20).await;
    // The reader pauses until its window is full.
    while pair.connector.traffic().datagrams_received < (MAX_WINDOW_BYTES / 1400) {
        assert!(pair.connector.is_alive(), "{}", pair.connector.closed().await);
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_secs(5)).await;
    assert!(sender.try_join_next().is_none(), "it waits for the reader");
    got += read(&mut upload, usize::MAX).await;
    assert_eq!(got, length);
    sender.join_next().await.unwrap().unwrap();
    assert!(pair.edge.is_alive() && pair.connector.is_alive());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_gets_its_first_window_and_no_more() {
    let budget = Budget::new(256 << 20);
    let pair = Pair::new(line(0), &budget, [Sizes::default(); 2]).await;
    let ((mut send, recv), (mut answer, _upload)) = pair.stream().await;
    answer.response(&response(), First::More).await.unwrap();
    for written in [written(&mut send).await, written(&mut answer).await] {
        assert!((FIRST_WINDOW_BYTES - 3000..=FIRST_WINDOW_BYTES).contains(&written), "{written}");
    }
    assert_eq!(budget.held(), 0, "first windows are not counted before somebody stalls");
    assert!(recv.waiting_bytes() as u64 <= FIRST_WINDOW_BYTES);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_read_gets_more_and_the_next_begins_with_that() {
    let budget = Budget::new(256 << 20);
    let pair = Pair::new(line(0), &budget, [Sizes::default(); 2]).await;
    let cold = pair.download(4 << 20).await;
    let reached = pair.of_edge.first_window(u64::MAX).0;
    assert!(reached >= 16 * FIRST_WINDOW_BYTES, "{reached}");
    let warm = pair.download(4 << 20).await;
    assert!(warm < cold / 2, "{cold:?}, then {warm:?}");
    assert_eq!(budget.held(), 0);
    // So too for what is uploaded: granted as soon as its head is there.
    let stream = || pair.stream_of(BodyKind::Known(4 << 20));
    for _ in 0..2 {
        let ((mut send, _recv), (_answer, mut upload)) = stream().await;
        let sent = async {
            for piece in pieces(4 << 20) {
                send.data(piece).await.unwrap();
            }
            send.end().await.unwrap();
        };
        assert_eq!(tokio::join!(sent, read(&mut upload, usize::MAX)).1, 4 << 20);
    }
    let ((_send, _recv), (_answer, upload)) = stream().await;
    assert!(upload.waiting_bytes() as u64 >= 16 * FIRST_WINDOW_BYTES, "{}", upload.waiting_bytes());
    assert!(upload.held_bytes() > 0 && budget.held() >= upload.held_bytes());
    assert!(pair.of_connector.first_window(u64::MAX).0 > FIRST_WINDOW_BYTES);
}

#[tokio::test(start_paused = true)]
async fn near_the_budgets_end_streams_begin_small_and_wide_ones_shrink() {
    let budget = Budget::new(32 << 20);
    let pair = Pair::new(line(0), &budget, [Sizes::default(); 2]).await;
    pair.download(8 << 20).await;
    let stuck = budget.hold(30 << 20);
    let ((_send, recv), _) = pair.stream().await;
    assert_eq!(recv.waiting_bytes() as u64, SMALL_WINDOW_BYTES);
    pair.download(8 << 20).await;
    assert!(budget.held() <= 32 << 20, "{}", budget.held());
    drop(stuck);
    let ((_send, recv), _) = pair.stream().await;
    assert!(recv.waiting_bytes() as u64 >= FIRST_WINDOW_BYTES);
}

#[tokio::test(start_paused = true)]
async fn who_sends_more_than_was_granted_loses_that_stream_and_no_other() {
    let budget = Budget::new(256 << 20);
    // The edge believes that it may begin with more.
    let pair = Pair::new(line(0), &budget, [within(1 << 20), Sizes::default()]).await;
    let ((mut send, _recv), (_answer, mut upload)) = pair.stream().await;
    // Not read meanwhile.
    let bytes = written(&mut send).await;
    assert!(bytes > FIRST_WINDOW_BYTES * 2, "{bytes}");
    let broken = timeout(Duration::from_secs(5), async {
        loop {
            if let Err(error) = upload.frame().await {
                break error;
            }
        }
    });
    let broken = broken.await.expect("it is noticed");
    assert!(matches!(broken, StreamError::Malformed(_)), "{broken}");
    assert_eq!(send.stopped().await, Some(AbortCode::Protocol));
    assert_eq!(pair.download(100_000).await.as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_waits_for_credit_hears_of_a_stop_and_of_the_end_of_the_session() {
    let pair = Pair::new(line(0), &Budget::new(64 << 20), [Sizes::default(); 2]).await;
    let ((mut stopped, _recv), (_answer, mut upload)) = pair.stream().await;
    let ((mut lost, _recv), (_answer, _upload)) = pair.stream().await;
    let much = Bytes::from(vec![1; 1 << 20]);
    let (stopped, lost, ()) = tokio::join!(stopped.data(much.clone()), lost.data(much), async {
        sleep(Duration::from_secs(1)).await;
        upload.stop(AbortCode::TooLarge);
        sleep(Duration::from_secs(1)).await;
        pair.edge.close(crate::CloseCode::Done, "over");
    });
    assert_eq!(stopped, Err(StreamError::Aborted(AbortCode::TooLarge)));
    assert_eq!(lost, Err(StreamError::Lost(Closed::ByUs)));
}

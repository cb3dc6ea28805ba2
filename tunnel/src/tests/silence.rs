//! A line that stands still, by a paused clock: over the carrier in memory, and over real QUIC on a line in memory.

use tokio::time::Instant;

use super::*;
use crate::carrier::memory::{Line, Network};
use crate::carrier::{RecvHalf, SendHalf, quic::lossy};
use crate::limits::{IDLE_TIMEOUT, KEEP_ALIVE, PROBE_INTERVAL, SUSPECT_MARGIN};

const LINE: Line = Line {
    delay: Duration::from_millis(15),
    jitter: Duration::from_millis(3),
    loss_permille: 0,
    stream_window_bytes: 1 << 16,
    packet_bytes: 1200,
    seed: 1,
};
const SECOND: Duration = Duration::from_secs(1);
/// The earliest and the latest that a silence is noticed by one who looks four times a second: the last sign of life may
/// have been a keep-alive ago.
const NOTICED: std::ops::RangeInclusive<Duration> =
    SUSPECT_MARGIN.saturating_sub(Duration::from_millis(100))..=Duration::from_millis(1800);

/// Goes through the signs of a session for ever, and probes as its keeper would.
async fn keep(session: &Session, control: &mut SendHalf) {
    let mut watch = session.watch();
    loop {
        watch.next().await;
        watch.allow_probe();
        let mut probe = [crate::control::encode(&Message::Probe { unheard: false }).unwrap()];
        let _ = std::future::poll_fn(|cx| control.poll_write(cx, &mut probe)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_suspected_at_once_and_heard_again_when_the_line_moves() {
    let network = Network::new(LINE);
    let mut tasks = JoinSet::new();
    tasks.spawn(network.clone().run());
    let shard = Shard { index: 0, count: 1 };
    let listener = Listener::within(&network, shard);
    let token = Token {
        tunnel: TunnelId::random(),
        key_id: KeyId::random(),
        key: TunnelKey::generate(),
        edges: Vec::new(),
        pin: EdgeIdentity::ephemeral().pin(),
    };
    let dialer = Dialer::within(network.clone(), token.clone(), ConnectorId::random(), "test".to_owned());
    let accept = async {
        let stranger = listener.accept().await.unwrap().connect().await.unwrap();
        stranger.handshake(&OneKey(token.clone(), Standing::Active), |_| Ok(())).await.unwrap()
    };
    let nowhere = (Ipv4Addr::LOCALHOST, 1).into();
    let ((edge, mut at_edge), dialled) = tokio::join!(accept, dialer.dial(nowhere, Role::Primary));
    let (connector, mut at_connector) = dialled.unwrap();

    let mut watch = edge.watch();
    assert!(timeout(10 * SECOND, watch.next()).await.is_err(), "an idle session is no silent one");
    let (mut send, _recv) = edge.open().await.unwrap();
    network.stand_still();
    let since = Instant::now();
    send.request(&request(), First::Only(Bytes::new())).await.unwrap();
    assert_eq!(watch.next().await, Sign::Suspected);
    assert!(NOTICED.contains(&since.elapsed()), "{:?}", since.elapsed());
    for _ in 0..60 {
        let before = Instant::now();
        assert_eq!(watch.next().await, Sign::Silent);
        assert!(before.elapsed() <= PROBE_INTERVAL + Duration::from_millis(1), "{:?}", before.elapsed());
        at_connector.send(&Message::Probe { unheard: false }).await.unwrap();
    }
    assert!(edge.is_suspected() && edge.is_alive());
    edge.suspected().await;

    network.move_on();
    let since = Instant::now();
    assert_eq!(watch.next().await, Sign::Heard);
    assert!(since.elapsed() < Duration::from_millis(500), "{:?}", since.elapsed());
    edge.heard().await;
    assert!(!edge.is_suspected());
    let (_, mut recv) = connector.accept().await.unwrap();
    assert_eq!(opened(&mut recv).await, request(), "what was on its way arrives");
    assert_eq!(at_edge.recv().await.unwrap(), Some(Message::Probe { unheard: false }));

    network.cut();
    let since = Instant::now();
    assert_eq!(edge.closed().await, Closed::Silent);
    assert_eq!(since.elapsed().as_secs(), IDLE_TIMEOUT.as_secs());
}

/// Both ends over QUIC, and what a stream of each needs.
struct OverQuic {
    air: Arc<parking_lot::Mutex<lossy::Air>>,
    edge: Session,
    connector: Session,
    edge_connection: Connection,
    connector_connection: Connection,
}

async fn over_quic() -> OverQuic {
    let (connector, edge, air) = lossy::pair(LINE, 100).await;
    let (connector_connection, edge_connection) = (Connection::Quic(connector), Connection::Quic(edge));
    let edge = session(edge_connection.clone());
    let connector = session(connector_connection.clone());
    OverQuic { air, edge, connector, edge_connection, connector_connection }
}

async fn write(send: &mut SendHalf, bytes: Bytes) {
    let mut chunks = [bytes];
    std::future::poll_fn(|cx| send.poll_write(cx, &mut chunks)).await.unwrap();
}

/// Waits until something came of the stream; says how much.
async fn read(recv: &mut RecvHalf) -> usize {
    let mut length = 0;
    let more = std::future::poll_fn(|cx| recv.poll_read(cx, |bytes| length += bytes.len())).await;
    assert!(more.unwrap(), "the stream goes on");
    length
}

#[tokio::test(start_paused = true)]
async fn over_quic_a_stream_goes_on_as_soon_as_the_line_does() {
    for pause in [3, 8, 20] {
        let OverQuic { air, edge, connector, edge_connection, connector_connection } = over_quic().await;
        // The control stream is the connector's; the edge opens the others.
        let (mut of_connector, _unread) = connector_connection.open().await.unwrap();
        write(&mut of_connector, Bytes::from_static(b"hello")).await;
        let (mut of_edge, mut at_edge) = edge_connection.accept().await.unwrap();
        let (mut asking, mut answer) = edge_connection.open().await.unwrap();
        write(&mut asking, Bytes::from_static(b"request")).await;
        let (mut answering, mut asked) = connector_connection.accept().await.unwrap();
        assert_eq!(read(&mut asked).await, 7);
        let mut tasks = JoinSet::new();
        {
            let (edge, connector) = (edge.clone(), connector.clone());
            tasks.spawn(async move { keep(&edge, &mut of_edge).await });
            tasks.spawn(async move { keep(&connector, &mut of_connector).await });
            tasks.spawn(async move {
                loop {
                    write(&mut answering, Bytes::from_static(&[7; 5000])).await;
                }
            });
            tasks.spawn(async move {
                loop {
                    read(&mut at_edge).await;
                }
            });
        }
        let mut came = 0;
        while came < 1_000_000 {
            came += read(&mut answer).await;
        }
        air.lock().is_cut = true;
        let since = Instant::now();
        // What is under way still arrives; then the window of the stream or of the line is full.
        while timeout(Duration::from_millis(300), read(&mut answer)).await.is_ok() {}
        tokio::join!(edge.suspected(), connector.suspected());
        assert!(since.elapsed() <= *NOTICED.end(), "{:?}", since.elapsed());
        tokio::time::sleep(pause * SECOND - since.elapsed()).await;
        air.lock().is_cut = false;
        let since = Instant::now();
        read(&mut answer).await;
        let resumed = since.elapsed();
        tokio::join!(edge.heard(), connector.heard());
        println!(
            "{pause} s: the stream went on after {resumed:?}, both ends hear after {:?}",
            since.elapsed()
        );
        assert!(resumed < Duration::from_millis(500), "{pause} s: {resumed:?}");
        assert!(since.elapsed() < Duration::from_millis(800), "{:?}", since.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn over_quic_an_idle_session_is_kept_alive_by_the_connector_alone_and_given_up_in_time() {
    let OverQuic { air, edge, connector, .. } = over_quic().await;
    let mut watches = [edge.watch(), connector.watch()];
    for watch in &mut watches {
        // Handshake and path discovery are a burst, behind which is asked.
        while let Ok(sign) = timeout(2 * SECOND, watch.next()).await {
            assert_eq!(sign, Sign::Doubted);
        }
    }
    let before = edge.traffic();
    for watch in &mut watches {
        assert!(timeout(60 * SECOND, watch.next()).await.is_err(), "an idle session is no silent one");
    }
    let sent = edge.traffic().datagrams_sent - before.datagrams_sent;
    let beats = 120 / KEEP_ALIVE.as_secs();
    assert!((beats * 3 / 4..=beats + 5).contains(&sent), "{sent} datagrams of the edge in two minutes");
    air.lock().is_cut = true;
    let since = Instant::now();
    assert_eq!(tokio::join!(edge.closed(), connector.closed()), (Closed::Silent, Closed::Silent));
    assert!((IDLE_TIMEOUT.saturating_sub(SECOND)..IDLE_TIMEOUT + 3 * SECOND).contains(&since.elapsed()));
}

//! Who shares a line gets a fair part of it: two sites' bulk transfers, and a stranger's TCP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use causeway_tests::line::{A, B, Bulk, Course, HOME, Running, Speech, Talk, TcpFlow, VPS, percentile};

use super::ground::Ground;
use super::measure::{Measured, mbit, ms};
use super::small::SETTLE;

/// Frames of a game or a call.
const FRAMES: Duration = Duration::from_nanos(1_000_000_000 / 60);

/// Two sites' bulks at once, and a WebSocket beside them.
pub(super) async fn sites(ground: &Ground, course: Course) -> Vec<Measured> {
    let first = Bulk::connect(&ground.door, A, Speech::Http1).await.endless(A, course);
    let second = Bulk::connect(&ground.door, B, Speech::Http1).await.endless(B, course);
    let talk = Talk::websocket(&ground.door, A, FRAMES).await;
    tokio::time::sleep(SETTLE).await;
    let count =
        |bulk: &Running, name| if course == Course::Down { bulk.moved() } else { ground.origins.sunk(name) };
    let (since, before) = (Instant::now(), [count(&first, A), count(&second, B)]);
    tokio::time::sleep(ground.length).await;
    let rates =
        [count(&first, A) - before[0], count(&second, B) - before[1]].map(|n| mbit(n, since.elapsed()));
    let total = rates[0] + rates[1];
    let record = talk.record();
    let times = record.round_trips(since);
    let broken = record.broken.unwrap_or_else(|| "no frame came back".to_owned());
    let frame =
        |share| if times.is_empty() { Err(broken.clone()) } else { Ok(ms(percentile(&times, share))) };
    let rate = ground.wan.line.shape().rate;
    vec![
        ("first site".to_owned(), Ok(rates[0] / total * 100.0), "%"),
        ("both".to_owned(), Ok(total / rate * 100.0), "% of the line"),
        ("WebSocket p50".to_owned(), frame(0.5), "ms"),
        ("WebSocket p99".to_owned(), frame(0.99), "ms"),
    ]
}

/// Beside one plain TCP flow with cubic, whatever the contender's own TCP has.
pub(super) async fn tcp(ground: &Ground, course: Course) -> Vec<Measured> {
    let bulk = Bulk::connect(&ground.door, A, Speech::Http1).await.endless(A, course);
    let flow = match course {
        Course::Down => TcpFlow::start(&ground.wan.home, SocketAddr::from((VPS, 0)), None).await,
        Course::Up => {
            TcpFlow::start(ground.wan.vps(), SocketAddr::from((HOME, 0)), Some(&ground.wan.home)).await
        }
    };
    tokio::time::sleep(SETTLE).await;
    let count = || if course == Course::Down { bulk.moved() } else { ground.origins.sunk(A) };
    let (since, before) = (Instant::now(), (count(), flow.moved()));
    tokio::time::sleep(ground.length * 2).await;
    let ours = mbit(count() - before.0, since.elapsed());
    let theirs = mbit(flow.moved() - before.1, since.elapsed());
    let rate = ground.wan.line.shape().rate;
    vec![
        ("ours".to_owned(), Ok(ours / (ours + theirs) * 100.0), "%"),
        ("both".to_owned(), Ok((ours + theirs) / rate * 100.0), "% of the line"),
        ("TCP".to_owned(), Ok(theirs), "Mbit/s"),
    ]
}

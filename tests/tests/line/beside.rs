//! What shares the line with a bulk transfer has its part of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use causeway_tests::line::{A, B, Bulk, Course, Running, Shape, Speech, TcpFlow, VPS};
use causeway_tests::{run, wait};

use crate::site;

const SOON: Duration = Duration::from_secs(30);
const WATCHED: Duration = Duration::from_secs(5);

/// A line of 20 Mbit/s whose queue is too long, as many modems have it.
pub(crate) fn home() -> Shape {
    Shape::new(30, 20.0).queue(300)
}

#[test]
fn bulk_transfers_of_two_sites_share_evenly_and_fill_the_line() {
    for course in [Course::Down, Course::Up] {
        run(async move {
            let Some((wan, origins, _ours, door)) = site(home()).await else { return };
            let first = Bulk::connect(&door, A, Speech::Http1).await.endless(A, course);
            let second = Bulk::connect(&door, B, Speech::Http1).await.endless(B, course);
            let count =
                |bulk: &Running, name| if course == Course::Down { bulk.moved() } else { origins.sunk(name) };
            let both = || count(&first, A).min(count(&second, B));
            wait::holds("both to flow", SOON, || both() > 1_000_000).await;
            let (since, before) = (Instant::now(), [count(&first, A), count(&second, B)]);
            tokio::time::sleep(WATCHED).await;
            let moved = [count(&first, A) - before[0], count(&second, B) - before[1]];
            let part = moved[0] as f64 / (moved[0] + moved[1]) as f64;
            assert!((0.3..0.7).contains(&part), "{course:?}: {moved:?}");
            let of_line = crate::share(moved[0] + moved[1], since.elapsed(), wan.line.shape().rate);
            assert!(of_line > 0.75, "{course:?}: both have {of_line:.2} of the line");
        });
    }
}

#[test]
fn a_neighbours_tcp_and_ours_share_a_line() {
    run(async {
        let Some((wan, _origins, _ours, door)) = site(Shape::new(50, 50.0).queue(100)).await else { return };
        let bulk = Bulk::connect(&door, A, Speech::Http1).await.endless(A, Course::Down);
        let flow = TcpFlow::start(&wan.home, SocketAddr::from((VPS, 0)), None).await;
        let both = || bulk.moved().min(flow.moved());
        wait::holds("both to flow", SOON, || both() > 5_000_000).await;
        let before = (bulk.moved(), flow.moved());
        tokio::time::sleep(WATCHED * 2).await;
        let moved = (bulk.moved() - before.0, flow.moved() - before.1);
        let part = moved.0 as f64 / (moved.0 + moved.1) as f64;
        assert!((0.2..0.8).contains(&part), "ours and theirs: {moved:?}");
    });
}

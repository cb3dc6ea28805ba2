//! Small things go before bulk inside a session: nobody waits behind a transfer of another site.

use std::time::{Duration, Instant};

use causeway_tests::line::{A, B, Bulk, Course, Speech, Talk, percentile, requests};
use causeway_tests::{run, wait};

use crate::beside::home;
use crate::site;

const SOON: Duration = Duration::from_secs(30);
const WATCHED: Duration = Duration::from_secs(5);
/// People click; they do not flood.
const PAUSE: Duration = Duration::from_millis(20);

#[test]
fn small_requests_do_not_wait_behind_a_bulk_transfer() {
    for course in [Course::Down, Course::Up] {
        run(async move {
            let Some((wan, origins, _ours, door)) = site(home()).await else { return };
            let alone = requests(&door, B, PAUSE, WATCHED / 5).await.unwrap();
            let bulk = Bulk::connect(&door, A, Speech::Http1).await.endless(A, course);
            let count = || if course == Course::Down { bulk.moved() } else { origins.sunk(A) };
            wait::holds("the bulk to flow", SOON, || count() > 5_000_000).await;
            let (since, before) = (Instant::now(), count());
            let beside = requests(&door, B, PAUSE, WATCHED).await.unwrap();
            let of_line = crate::share(count() - before, since.elapsed(), wan.line.shape().rate);
            let (alone, beside) = (percentile(&alone, 0.5), percentile(&beside, 0.9));
            println!("{course:?}: alone {alone:?}, beside {beside:?}, the bulk has {of_line:.2} of the line");
            assert!(beside < alone * 3, "{course:?}: alone {alone:?}, beside {beside:?}");
            assert!(of_line > 0.75, "{course:?}: the bulk has {of_line:.2} of the line");
        });
    }
}

#[test]
fn a_websocket_stays_quick_beside_two_bulk_transfers() {
    run(async {
        let Some((_wan, _origins, _ours, door)) = site(home()).await else { return };
        let first = Bulk::connect(&door, A, Speech::Http1).await.endless(A, Course::Down);
        let second = Bulk::connect(&door, B, Speech::Http1).await.endless(B, Course::Down);
        let talk = Talk::websocket(&door, A, Duration::from_millis(16)).await;
        wait::holds("both to flow", SOON, || first.moved().min(second.moved()) > 5_000_000).await;
        let since = Instant::now();
        tokio::time::sleep(WATCHED).await;
        let times = talk.record().round_trips(since);
        assert!(times.len() > 200, "{} frames came back: {:?}", times.len(), talk.record().broken);
        let slow = percentile(&times, 0.99);
        assert!(slow < Duration::from_millis(150), "p99 {slow:?}, p50 {:?}", percentile(&times, 0.5));
    });
}

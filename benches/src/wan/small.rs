//! 1 KiB requests alone, then beside a bulk transfer of the same site's line.

use std::time::{Duration, Instant};

use causeway_tests::line::{A, B, Bulk, Course, Speech, percentile, requests};

use super::ground::Ground;
use super::measure::{Measured, mbit, ms};

/// People click; they do not flood.
const PAUSE: Duration = Duration::from_millis(20);
/// Until the bulk transfer fills the line.
pub(super) const SETTLE: Duration = Duration::from_secs(3);

pub(super) async fn beside(ground: &Ground, course: Course) -> Vec<Measured> {
    let mut measured = Vec::new();
    let alone = requests(&ground.door, B, PAUSE, Duration::from_secs(2)).await;
    measured.push(("alone p50".to_owned(), alone.map(|times| ms(percentile(&times, 0.5))), "ms"));
    let bulk = Bulk::connect(&ground.door, A, Speech::Http1).await.endless(A, course);
    tokio::time::sleep(SETTLE).await;
    let count = || if course == Course::Down { bulk.moved() } else { ground.origins.sunk(A) };
    let (since, before) = (Instant::now(), count());
    let times = requests(&ground.door, B, PAUSE, ground.length).await;
    let rate = mbit(count() - before, since.elapsed());
    for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        measured.push((name.to_owned(), times.clone().map(|times| ms(percentile(&times, share))), "ms"));
    }
    let share = if bulk.runs() {
        Ok(rate / ground.wan.line.shape().rate * 100.0)
    } else {
        Err("the bulk ended".into())
    };
    measured.push(("bulk".to_owned(), share, "% of the line"));
    measured
}

//! A line that stops for a while is a pause and no failure: what is in flight ends whole.

use std::time::{Duration, Instant};

use causeway_tests::line::{A, B, Bulk, CALLS, Course, Mode, Shape, Speech, Talk};
use causeway_tests::{run, wait};

use crate::site;

const SOON: Duration = Duration::from_secs(30);
const PACE: Duration = Duration::from_millis(50);
const BYTES: u64 = 15_000_000;

/// Everything at once while the line stops for so long.
fn everything_survives(pause: Duration, mode: Mode) {
    run(async move {
        let Some((wan, origins, _ours, door)) = site(Shape::new(50, 50.0)).await else { return };
        let frames = Talk::websocket(&door, A, PACE).await;
        let calls = Talk::call(&door, CALLS, PACE).await;
        let mut down = Bulk::connect(&door, A, Speech::Http1).await.run(A, Course::Down, BYTES);
        let mut up = Bulk::connect(&door, B, Speech::Http1).await.run(B, Course::Up, BYTES);
        let flow = || down.moved().min(origins.sunk(B)) > 1_000_000;
        wait::holds("both transfers to flow", SOON, flow).await;
        wan.line.turn(mode);
        tokio::time::sleep(pause).await;
        let back = Instant::now();
        wan.line.turn(Mode::Carries);
        for (name, transfer) in [("download", &mut down), ("upload", &mut up)] {
            let ended = tokio::time::timeout(SOON, transfer.end()).await;
            ended.expect("transfers end").unwrap_or_else(|why| panic!("the {name} broke: {why}"));
        }
        for (name, talk) in [("WebSocket", frames), ("call", calls)] {
            let record = talk.record();
            assert!(record.broken.is_none(), "the {name} ended: {:?}", record.broken);
            let after = record.first_after(back).unwrap_or_else(|| panic!("the {name} is silent"));
            println!("the {name} went on after {after:?}");
            let outstanding = || talk.record().outstanding() < 20;
            wait::holds("all messages to come back", SOON, outstanding).await;
        }
    });
}

#[test]
fn everything_in_flight_survives_a_line_that_stands_still_for_three_seconds() {
    everything_survives(Duration::from_secs(3), Mode::StandsStill);
}

#[test]
fn everything_in_flight_survives_a_line_that_stands_still_for_eight_seconds() {
    everything_survives(Duration::from_secs(8), Mode::StandsStill);
}

#[test]
fn everything_in_flight_survives_a_cable_that_was_out_for_eight_seconds() {
    everything_survives(Duration::from_secs(8), Mode::Dark);
}

#[test]
fn everything_in_flight_survives_twenty_seconds_without_a_line() {
    everything_survives(Duration::from_secs(20), Mode::StandsStill);
}

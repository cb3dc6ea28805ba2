//! What a line does to sessions: silence, loss, packets that no longer fit. Who asks anew is served.

use std::time::{Duration, Instant};

use causeway_tests::connector::Connector;
use causeway_tests::line::{A, Bulk, Course, Mode, Shape, Speech, requests};
use causeway_tests::origin::{http, sample};
use causeway_tests::site::to;
use causeway_tests::{long, run, run_within, wait};

use crate::site;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_new_request_is_answered_as_soon_as_the_line_is_back() {
    run(async {
        let Some((wan, _origins, _ours, door)) = site(Shape::new(50, 50.0)).await else { return };
        wan.line.turn(Mode::StandsStill);
        tokio::time::sleep(Duration::from_secs(8)).await;
        let back = Instant::now();
        wan.line.turn(Mode::Carries);
        let look = || async { requests(&door, A, Duration::ZERO, Duration::ZERO).await.ok() };
        wait::until("an answer", SOON, look).await;
        println!("answered after {:?}", back.elapsed());
        // 500 ms on an idle machine, says benches/wan.
        assert!(back.elapsed() < Duration::from_millis(1500), "{:?}", back.elapsed());
    });
}

#[test]
fn new_requests_are_served_elsewhere_while_a_line_stands_still() {
    run(async {
        let Some((wan, _origins, ours, door)) = site(Shape::new(50, 50.0)).await else { return };
        let beside = sample().await;
        let mut second = Connector::start(&ours.tunnel.token, &to(http(&beside)));
        second.ready(SOON).await;
        wan.line.turn(Mode::StandsStill);
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(5) {
            let asked = Instant::now();
            requests(&door, A, Duration::ZERO, Duration::ZERO).await.unwrap();
            assert!(asked.elapsed() < Duration::from_millis(3500), "answered after {:?}", asked.elapsed());
        }
    });
}

#[test]
fn a_transfer_survives_a_path_that_takes_smaller_packets_from_now_on() {
    run(async {
        let Some((wan, _origins, _ours, door)) = site(Shape::new(30, 50.0)).await else { return };
        let mut down = Bulk::connect(&door, A, Speech::Http1).await.run(A, Course::Down, 15_000_000);
        wait::holds("the transfer to flow", SOON, || down.moved() > 5_000_000).await;
        wan.line.change(|shape| shape.mtu = 1300);
        down.end().await.unwrap();
    });
}

/// "too many gaps in stream buffer" (quinn-rs/quinn#2809) closed a whole session where windows are wide and packets are lost.
#[test]
fn loss_closes_no_session() {
    let (length, rate) = if long() { (600, 400.0) } else { (12, 200.0) };
    run_within(Duration::from_secs(length + 120), async move {
        let Some((_wan, origins, ours, door)) = site(Shape::new(50, rate).losing(0.001)).await else {
            return;
        };
        let since = Instant::now();
        let down = Bulk::connect(&door, A, Speech::Http1).await.endless(A, Course::Down);
        let _up = Bulk::connect(&door, A, Speech::Http1).await.endless(A, Course::Up);
        let flow = || down.moved().min(origins.sunk(A));
        wait::holds("both ways to flow", Duration::from_secs(30), || flow() > 2_000_000).await;
        let before = sessions(&ours.edge.status().await);
        while since.elapsed() < Duration::from_secs(length) {
            let moved = flow();
            wait::holds("both ways to flow on", Duration::from_secs(10), || flow() > moved + 100_000).await;
        }
        assert_eq!(sessions(&ours.edge.status().await), before, "the sessions are the same");
    });
}

fn sessions(status: &serde_json::Value) -> Vec<String> {
    let connectors = status["tunnels"][0]["connectors"].as_array().unwrap();
    let sessions = connectors.iter().flat_map(|connector| connector["sessions"].as_array().unwrap());
    sessions.map(|session| session["id"].to_string()).collect()
}

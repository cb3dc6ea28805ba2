//! Networks that do not let UDP through, from the start or from a moment on: sessions go over TCP, and back when they may.

use std::time::{Duration, Instant};

use causeway_tests::line::{A, Door, Origins, Ours, Shape, Wan, requests, wan};
use causeway_tests::load::Load;
use causeway_tests::{run, wait};

const SOON: Duration = Duration::from_secs(30);
/// For the tests: ten minutes is what people have.
const PROBES: &str = "quicProbeInterval: 2s\n";

async fn site(shape: Shape) -> Option<(Wan, Origins, Ours, Door)> {
    let wan = wan(shape)?;
    let mut origins = wan.origins().await;
    PROBES.clone_into(&mut origins.config);
    let ours = wan.ours(&origins).await;
    let door = Door::from(&ours.edge);
    Some((wan, origins, ours, door))
}

/// What the connector's sessions go over, those that take new requests.
async fn carriers(ours: &Ours) -> Vec<String> {
    let status = ours.connector.status().await;
    let sessions = status["edges"][0]["sessions"].as_array().cloned().unwrap_or_default();
    let kept =
        sessions.iter().filter(|session| session["draining"] == false && session["suspected"] == false);
    kept.filter_map(|session| session["carrier"].as_str().map(str::to_owned)).collect()
}

async fn all_over(ours: &Ours, carrier: &str, within: Duration) {
    let look = || async {
        let carriers = carriers(ours).await;
        (carriers.len() == 2 && carriers.iter().all(|over| over == carrier)).then_some(())
    };
    wait::until(&format!("all sessions over {carrier}"), within, look).await;
}

#[test]
fn hazard_157_a_network_without_udp_is_served_over_tcp_within_three_seconds() {
    run(async {
        let Some(wan) = wan(Shape { without_udp: true, ..Shape::new(30, 50.0) }) else { return };
        let origins = wan.origins().await;
        let (edge, tunnel) = wan.edge("").await;
        let door = Door::from(&edge);
        let since = Instant::now();
        let connector = wan.connector(&tunnel, &origins).await;
        println!("ready after {:?}", since.elapsed());
        assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
        requests(&door, A, Duration::ZERO, Duration::ZERO).await.unwrap();
        let ours = Ours { edge, connector, tunnel };
        all_over(&ours, "tcp", SOON).await;
    });
}

#[test]
fn hazard_157_udp_that_goes_away_under_load_is_a_pause_and_its_return_costs_nothing() {
    run(async {
        let Some((wan, _origins, ours, door)) = site(Shape::new(30, 50.0)).await else { return };
        all_over(&ours, "quic", SOON).await;
        requests(&door, A, Duration::ZERO, Duration::ZERO).await.unwrap();
        let load = Load::start(&ours.edge, A, "/bytes/4096", 4096, 2, 2);
        wait::holds("a load", SOON, || load.answered() > 50).await;

        wan.line.change(|shape| shape.without_udp = true);
        let (mut gap, mut last, mut answered) = (Duration::ZERO, Instant::now(), load.answered());
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(8) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if load.answered() > answered {
                (gap, last, answered) = (gap.max(last.elapsed()), Instant::now(), load.answered());
            }
        }
        println!("nobody was answered for {gap:?}");
        assert!(gap.max(last.elapsed()) <= Duration::from_secs(5), "nobody was answered for {gap:?}");
        all_over(&ours, "tcp", SOON).await;

        let failed = load.failed();
        wan.line.change(|shape| shape.without_udp = false);
        all_over(&ours, "quic", SOON).await;
        let before = load.answered();
        wait::holds("the load to go on", SOON, || load.answered() > before + 200).await;
        let tally = load.stop().await;
        assert_eq!(tally.failed, failed, "{:?}", tally.failures);
    });
}

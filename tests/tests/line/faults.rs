//! Lines that are bad rather than gone: much is lost, large packets vanish, a router forgets who was who.

use std::time::{Duration, Instant};

use causeway_tests::connector::Connector;
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::line::{A, B, Bulk, Course, Door, Running, Shape, Speech, percentile, requests, wan};
use causeway_tests::load::Load;
use causeway_tests::origin::{http, sample};
use causeway_tests::relay::Relay;
use causeway_tests::site::{APP, NAMES, to};
use causeway_tests::{long, run, run_within, wait};

use crate::site;

const SOON: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// Of each hundred packets five, both ways.
fn lossy() -> Shape {
    Shape::new(50, 100.0).losing(0.05)
}

#[test]
fn hazard_160_small_requests_beside_a_bulk_transfer_stay_quick_where_much_is_lost() {
    let watched = Duration::from_secs(if long() { 30 } else { 10 });
    run_within(watched * 4 + SOON, async move {
        let Some((_wan, _origins, _ours, door)) = site(lossy()).await else { return };
        let alone = requests(&door, B, PAUSE, watched).await.unwrap();
        let bulk = Bulk::connect(&door, A, Speech::Http1).await.endless(A, Course::Down);
        wait::holds("the bulk to flow", SOON, || bulk.moved() > 5_000_000).await;
        let beside = requests(&door, B, PAUSE, watched).await.unwrap();
        let (alone, beside) = (percentile(&alone, 0.99), percentile(&beside, 0.99));
        println!("p99 alone {alone:?}, beside {beside:?}");
        assert!(beside.as_secs_f64() < alone.as_secs_f64() * 2.5, "alone {alone:?}, beside {beside:?}");
    });
}

#[test]
fn hazard_160_a_transfer_arrives_whole_over_either_carrier_where_much_is_lost() {
    let megabytes = if long() { 100 } else { 4 };
    for protocol in ["quic", "tcp"] {
        run_within(Duration::from_secs(60 + megabytes * 20), async move {
            let Some(wan) = wan(lossy()) else { return };
            let mut origins = wan.origins().await;
            origins.config = format!("protocol: {protocol}\n");
            let ours = wan.ours(&origins).await;
            let door = Door::from(&ours.edge);
            let since = Instant::now();
            let transfer = Bulk::connect(&door, A, Speech::Http1).await;
            transfer.run(A, Course::Down, megabytes << 20).end().await.unwrap();
            println!("{protocol}: {megabytes} MiB in {:?}", since.elapsed());
        });
    }
}

/// The longest time in which nothing of it moved, until its end.
async fn longest_pause(transfer: &mut Running) -> Duration {
    let (mut longest, mut last, mut moved) = (Duration::ZERO, Instant::now(), transfer.moved());
    while transfer.runs() {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = transfer.moved();
        if now > moved {
            (longest, last, moved) = (longest.max(last.elapsed()), Instant::now(), now);
        }
    }
    longest.max(last.elapsed())
}

#[test]
fn hazard_159_a_path_that_takes_no_more_than_1280_bytes_from_now_on_is_a_short_pause() {
    run(async {
        let Some((wan, _origins, _ours, door)) = site(Shape::new(30, 50.0)).await else { return };
        let mut down = Bulk::connect(&door, A, Speech::Http1).await.run(A, Course::Down, 30_000_000);
        wait::holds("the transfer to flow", SOON, || down.moved() > 5_000_000).await;
        wan.line.change(|shape| shape.mtu = 1280);
        let pause = longest_pause(&mut down).await;
        println!("nothing moved for {pause:?} at most");
        down.end().await.unwrap();
        assert!(pause < Duration::from_secs(2), "{pause:?}");
    });
}

#[test]
fn hazard_158_a_router_that_gives_another_port_again_and_again_costs_no_request() {
    let (rounds, every) = if long() { (60, 5) } else { (8, 1) };
    run_within(Duration::from_secs(rounds * every + 90), async move {
        let origin = sample().await;
        let relay = Relay::start().await;
        let edge = Edge::with(EdgeOptions { address: Some(relay.addr()), ..EdgeOptions::default() }).await;
        relay.lead_to(edge.tunnel);
        let tunnel = edge.create("site", &NAMES).await;
        let mut connector = Connector::start(&tunnel.token, &to(http(&origin)));
        connector.ready(SOON).await;
        edge.wait_state("site", "HEALTHY", SOON).await;
        let load = Load::start(&edge, APP, "/bytes/4096", 4096, 4, 2);
        for round in 0..rounds {
            let before = load.answered();
            tokio::time::sleep(Duration::from_secs(every)).await;
            wait::holds("the load to flow", SOON, || load.answered() > before + 100).await;
            relay.rebind();
            assert_eq!(load.failed(), 0, "round {round}");
        }
        let tally = load.stop().await;
        println!("{} answers over {rounds} ports, slowest {:?}", tally.answered, tally.slowest);
        assert_eq!(tally.failed, 0, "{:?}", tally.failures);
    });
}

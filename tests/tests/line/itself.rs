//! The line itself is what it says: else the other tests prove nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use causeway_tests::line::{HOME, Mode, Shape, TcpFlow, Towards, VPS, Wan, wan};
use causeway_tests::process::thread_cpu;
use causeway_tests::{run, wait};
use tokio::net::{TcpListener, TcpStream};

use crate::share;

const SOON: Duration = Duration::from_secs(20);

/// A flow from home to the VPS that has begun.
async fn flowing(wan: &Wan) -> TcpFlow {
    let flow = TcpFlow::start(&wan.home, SocketAddr::from((VPS, 0)), None).await;
    wait::holds("the flow to flow", SOON, || flow.moved() > 2_000_000).await;
    flow
}

/// Bytes of a flow until this time, and the time in truth.
async fn moved_in(flow: &TcpFlow, length: Duration) -> (u64, Duration) {
    let (since, before) = (Instant::now(), flow.moved());
    tokio::time::sleep(length).await;
    (flow.moved() - before, since.elapsed())
}

#[test]
fn a_line_has_the_delay_and_the_rate_that_it_is_given() {
    run(async {
        let Some(wan) = wan(Shape::new(50, 50.0).queue(100)) else { return };
        let listener = TcpListener::bind(SocketAddr::from((VPS, 0))).await.unwrap();
        let since = Instant::now();
        let _stream = wan.home.within(TcpStream::connect(listener.local_addr().unwrap())).await.unwrap();
        assert!(since.elapsed() >= Duration::from_millis(50), "a handshake in {:?}", since.elapsed());

        let flow = flowing(&wan).await;
        let (bytes, time) = moved_in(&flow, Duration::from_secs(3)).await;
        let of_line = share(bytes, time, 50.0);
        assert!((0.6..1.05).contains(&of_line), "TCP fills {of_line:.2} of the line");
        // What the line holds already arrives at its old rate first.
        wan.line.change(|shape| shape.rate = 10.0);
        let of_line = wait::until("the new rate", SOON, || async {
            let (bytes, time) = moved_in(&flow, Duration::from_secs(1)).await;
            Some(share(bytes, time, 10.0)).filter(|of_line| *of_line < 1.1)
        });
        of_line.await;
    });
}

#[test]
fn a_line_that_stands_still_or_is_dark_gives_nothing_and_goes_on() {
    run(async {
        let Some(wan) = wan(Shape::new(20, 50.0)) else { return };
        let flow = flowing(&wan).await;
        for mode in [Mode::StandsStill, Mode::Dark] {
            wan.line.turn(mode);
            let stopped = || async {
                let before = flow.moved();
                tokio::time::sleep(Duration::from_millis(200)).await;
                (flow.moved() == before).then_some(())
            };
            wait::until("the flow to stop", SOON, stopped).await;
            let lost = wan.line.counters(Towards::Second).lost;
            assert_eq!(lost > 0, mode == Mode::Dark, "{lost} packets are lost: {mode:?}");
            let before = flow.moved();
            wan.line.turn(Mode::Carries);
            wait::holds("the flow to go on", SOON, || flow.moved() > before).await;
        }
    });
}

#[test]
fn a_black_hole_takes_large_packets_and_says_nothing() {
    run(async {
        let Some(wan) = wan(Shape::new(20, 50.0)) else { return };
        let flow = flowing(&wan).await;
        wan.line.change(|shape| shape.mtu = 1300);
        let vanished = || wan.line.counters(Towards::Second).too_large > 0;
        wait::holds("large packets to vanish", SOON, vanished).await;
        wan.line.change(|shape| shape.mtu = 1500);
        let before = flow.moved();
        wait::holds("the flow to go on", SOON, || flow.moved() > before).await;
    });
}

#[test]
fn a_line_loses_the_share_that_it_is_told_to() {
    run(async {
        let Some(wan) = wan(Shape::new(4, 200.0).losing(0.02)) else { return };
        wan.tcp("bbr").or_else(|_| wan.tcp("cubic")).unwrap();
        let _flow = TcpFlow::start(&wan.home, SocketAddr::from((VPS, 0)), None).await;
        let many = || wan.line.counters(Towards::Second).taken > 10_000;
        wait::holds("ten thousand packets", SOON, many).await;
        let counters = wan.line.counters(Towards::Second);
        let lost = counters.lost as f64 / counters.taken as f64;
        assert!((0.012..0.028).contains(&lost), "{counters:?}");
    });
}

#[test]
fn both_places_are_gone_with_their_owner() {
    run(async {
        let Some(wan) = wan(Shape::new(1, 100.0)) else { return };
        let listener = wan.home.within(TcpListener::bind(SocketAddr::from((HOME, 0)))).await.unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let ours = format!("cw{}-", std::process::id());
        let names = std::fs::read_dir("/run/netns").unwrap().flatten().map(|entry| entry.file_name());
        let left: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with(&ours)).collect();
        assert!(left.is_empty(), "these have names that outlive a kill: {left:?}");
        drop(wan);
        assert_eq!(thread_cpu("line"), Duration::ZERO, "no line is left");
    });
}

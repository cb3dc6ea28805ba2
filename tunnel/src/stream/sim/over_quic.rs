//! The same two ends over real QUIC on a line in memory, with the clock paused: what the library makes of delay, loss, reordering
//! and windows that are full. Chance decides the schedule as ever, but for what QUIC draws itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use super::chance::Chance;
use super::ledger::{Ledger, Seen};
use super::{Ties, origin, visitor};
use crate::carrier::Connection;
use crate::carrier::memory::Line;
use crate::carrier::quic::lossy;
use crate::code::CloseCode;
use crate::flow::{Courier, Flow};

/// Schedules of a usual run: each has a handshake of its own.
const RUNS: u64 = 500;
/// No schedule takes so long, unless somebody waits for ever.
const DEADLINE: Duration = Duration::from_secs(600);

#[test]
fn no_schedule_over_quic_loses_doubles_or_shortens_anything() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("CAUSEWAY_SIM_SEED").unwrap_or(0);
    let mut seen = Seen::default();
    for seed in first..first + number("CAUSEWAY_SIM_RUNS").map_or(RUNS, |runs: u64| runs.min(RUNS)) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        seen += LocalSet::new().block_on(&runtime, schedule(seed));
    }
    println!("{seen:?}");
}

async fn schedule(seed: u64) -> Seen {
    let chance = Chance::new(seed);
    let ledger = Ledger::default();
    let line = Line {
        delay: Duration::from_millis(chance.below(50).into()),
        jitter: Duration::from_millis(chance.below(20).into()),
        loss_permille: chance.below(2) * chance.below(100),
        stream_window_bytes: (300 + chance.below(3000)).into(),
        packet_bytes: 1200,
        seed,
    };
    let (connector, edge, air) = lossy::pair(line, 2 + chance.below(8)).await;
    let (budget, sizes) = super::pair::windows(&chance);
    let ends = [connector, edge].map(|end| {
        let connection = Connection::Quic(end);
        let flow = Flow::new(connection.clone(), budget.clone(), sizes);
        let session = crate::tests::session_over(connection.clone(), Arc::clone(&flow));
        (connection, flow, session)
    });
    let [(to_edge, flow, connector), (to_connector, of_edge, edge)] = ends;
    let mut couriers = tokio::task::JoinSet::new();
    let courier = Courier::open(&to_connector, &of_edge).await.expect("the line is whole yet");
    couriers.spawn_local(courier.run());
    let courier = Courier::accept(&to_edge, &flow).await.expect("the line is whole yet");
    couriers.spawn_local(courier.run());
    drop((to_edge, flow, to_connector, of_edge));
    let ties = |session: &crate::Session| Ties {
        chance: chance.clone(),
        ledger: ledger.clone(),
        session: session.clone(),
    };
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..chance.below(8) {
        tasks.spawn_local(visitor::visit(ties(&edge), number));
    }
    let at_connector = ties(&connector);
    let mut accepting = tokio::task::JoinSet::new();
    accepting.spawn_local(async move {
        let mut served = tokio::task::JoinSet::new();
        let Ties { chance, session, .. } = &at_connector;
        while let Some((send, recv)) = chance.again(async || session.accept().await).await {
            served.spawn_local(origin::serve(at_connector.clone(), send, recv));
        }
        served.join_all().await;
    });
    let fate = chance.below(8);
    let after = Duration::from_millis(chance.below(800).into());
    let fated = async {
        sleep(after).await;
        match fate {
            0 => {
                ledger.saw(|seen| seen.deaths += 1);
                ledger.die();
                air.lock().is_cut = true;
            }
            1 | 2 => {
                ledger.saw(|seen| seen.closes += 1);
                ledger.die();
                [&connector, &edge][fate as usize - 1].close(CloseCode::Done, "fate");
            }
            _ => {}
        }
    };
    let all = async { tokio::join!(fated, tasks.join_all()) };
    assert!(timeout(DEADLINE, all).await.is_ok(), "seed {seed}: a visitor waits for ever");
    // What is still under way to the connector arrives, or is given up.
    ledger.die();
    edge.close(CloseCode::Done, "over");
    assert!(timeout(DEADLINE, accepting.join_all()).await.is_ok(), "seed {seed}: an origin waits for ever");
    assert_eq!(
        (edge.in_flight(), connector.in_flight()),
        (0, 0),
        "seed {seed}: streams that are counted for ever"
    );
    assert!(
        timeout(DEADLINE, couriers.join_all()).await.is_ok(),
        "seed {seed}: a courier outlives its session"
    );
    drop((connector, edge));
    assert_eq!(budget.held(), 0, "seed {seed}: bytes that nobody holds");
    ledger.seen()
}

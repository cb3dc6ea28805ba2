//! The line stands still under a download, an upload, a WebSocket and a call: what is whole afterwards, and how soon it goes on.

use std::time::{Duration, Instant};

use causeway_tests::line::{A, B, Bulk, CALLS, Course, Mode, Running, Speech, Talk, requests};

use super::ground::Ground;
use super::measure::{Measured, ms};

/// Transfers run for so long before the line stops.
const BEFORE: Duration = Duration::from_secs(1);
/// Pause between two messages.
const PACE: Duration = Duration::from_millis(50);
/// How long after the return everything must have gone on.
const PATIENCE: Duration = Duration::from_secs(40);

pub(super) async fn still(ground: &Ground, pause: Duration) -> Vec<Measured> {
    let door = &ground.door;
    let start = async |host: &'static str, course| {
        Bulk::connect(door, host, Speech::Http1).await.run(host, course, ground.bytes * 2)
    };
    let (mut down, mut up) = (start(A, Course::Down).await, start(B, Course::Up).await);
    let (frames, calls) = (Talk::websocket(door, A, PACE).await, Talk::call(door, CALLS, PACE).await);
    tokio::time::sleep(BEFORE).await;
    ground.wan.line.turn(Mode::StandsStill);
    tokio::time::sleep(pause).await;
    let standing = (down.moved(), ground.origins.sunk(B));
    let back = Instant::now();
    ground.wan.line.turn(Mode::Carries);

    let request = async {
        // Until one is answered: what a person does who presses reload.
        loop {
            if one(ground).await {
                return Ok(ms(back.elapsed()));
            }
            if back.elapsed() > PATIENCE {
                return Err("no new request is answered".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let went_on = async |running: &Running, of: &dyn Fn() -> bool| {
        while !of() {
            if back.elapsed() > PATIENCE || !running.runs() {
                return Err("it did not go on".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(ms(back.elapsed()))
    };
    let (down_moves, up_moves) = (|| down.moved() > standing.0, || ground.origins.sunk(B) > standing.1);
    let (request, down_after, up_after) =
        tokio::join!(request, went_on(&down, &down_moves), went_on(&up, &up_moves));
    let mut measured = vec![("new request after".to_owned(), request, "ms")];
    measured.push(("download went on after".to_owned(), down_after, "ms"));
    measured.push(("upload went on after".to_owned(), up_after, "ms"));
    for (name, running) in [("download", &mut down), ("upload", &mut up)] {
        measured.push((format!("{name} whole"), whole(running).await, "(1 = yes)"));
    }
    for (name, talk) in [("WebSocket", frames), ("call", calls)] {
        let record = talk.record();
        let went_on = match (record.broken.clone(), record.first_after(back)) {
            (Some(why), _) => Err(why),
            (None, None) => Err("silent".to_owned()),
            (None, Some(after)) => Ok(ms(after)),
        };
        measured.push((format!("{name} went on after"), went_on, "ms"));
    }
    measured
}

async fn one(ground: &Ground) -> bool {
    let asked = requests(&ground.door, A, Duration::ZERO, Duration::ZERO);
    let answered = tokio::time::timeout(Duration::from_secs(5), asked).await;
    answered.is_ok_and(|times| times.is_ok())
}

async fn whole(running: &mut Running) -> Result<f64, String> {
    tokio::time::timeout(PATIENCE, running.end()).await.map_err(|_| "it did not end".to_owned())??;
    Ok(1.0)
}

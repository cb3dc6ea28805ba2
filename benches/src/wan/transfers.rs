//! One transfer on a tunnel that has carried nothing yet, the next one on the same, and a longer one where those are short.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use causeway_tests::line::{A, Bulk, Course, Speech};

use super::ground::Ground;
use super::measure::{Measured, mbit};

/// Below this the start of a transfer weighs more than the line.
const SHORT: Duration = Duration::from_secs(2);

/// By a visitor beside the edge, over HTTP/1.1.
pub(super) async fn near(ground: &Ground, course: Course) -> Vec<Measured> {
    let mut bulk = Bulk::connect(&ground.door, A, Speech::Http1).await;
    follow(ground, &mut bulk, course).await
}

/// By a visitor at the other end of the access line, over HTTP/2.
pub(super) async fn far(ground: &Ground, course: Course) -> Vec<Measured> {
    let mut bulk = ground.wan.far.within(Bulk::connect(&ground.door, A, Speech::Http2)).await;
    follow(ground, &mut bulk, course).await
}

async fn follow(ground: &Ground, bulk: &mut Bulk, course: Course) -> Vec<Measured> {
    let word = if course == Course::Down { "down" } else { "up" };
    let (since, mut moved, mut measured) = (ground.running.cpu(), 0, Vec::new());
    let shape = if ground.wan.access.shape().delay.is_zero() {
        ground.wan.line.shape()
    } else {
        ground.wan.access.shape()
    };
    let at_best = Duration::from_secs_f64(ground.bytes as f64 * 8.0 / (shape.rate * 1e6));
    let mut plan = vec![(format!("{word} first"), ground.bytes), (format!("{word} next"), ground.bytes)];
    if at_best < SHORT {
        plan.push((format!("{word} long"), ground.bytes * 5));
    }
    let mut slow = false;
    for (name, bytes) in plan {
        if slow && bytes > ground.bytes {
            break;
        }
        let took = bulk.transfer(A, course, bytes, &AtomicU64::new(0)).await;
        let broken = took.is_err();
        // Who is far from the line's rate shows it in a short transfer as well.
        slow = took.as_ref().is_ok_and(|took| *took > 3 * SHORT);
        measured.push((name, took.map(|took| mbit(bytes, took)), "Mbit/s"));
        if broken {
            return measured;
        }
        moved += bytes;
    }
    let cpu = ground.running.cpu() - since;
    measured.push((format!("{word} CPU"), Ok(cpu.as_nanos() as f64 / moved as f64), "ns/B"));
    measured
}

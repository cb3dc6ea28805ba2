//! The controller on a line of arithmetic: a rate, a round trip, a bounded queue, chance.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const MTU: u64 = 1452;

#[derive(Clone, Copy)]
struct Line {
    /// Bytes a second.
    rate: f64,
    round_trip: Duration,
    /// How long a packet may wait.
    queue: Duration,
    loss_permille: u32,
}

/// What a sender that always has more got through.
struct Outcome {
    /// Of the line.
    part: f64,
    /// The queue that nine of ten packets found no longer.
    queue: Duration,
}

struct Run {
    auto: Auto,
    line: Line,
    rng: StdRng,
    now: Instant,
    /// When the line has sent what it has.
    free_at: Instant,
    /// Sent and not acknowledged: when, when it is acknowledged, or that it is lost.
    flying: VecDeque<(Instant, Option<Instant>)>,
    queues: Vec<Duration>,
    delivered: u64,
}

impl Run {
    fn new(line: Line) -> Self {
        let now = Instant::now();
        let (rng, flying) = (StdRng::seed_from_u64(7), VecDeque::new());
        let auto = Auto::new(now, MTU);
        Self { auto, line, rng, now, free_at: now, flying, queues: Vec::new(), delivered: 0 }
    }

    fn in_flight(&self) -> u64 {
        self.flying.len() as u64 * MTU
    }

    fn send(&mut self) {
        self.auto.on_sent(self.now, MTU, 0);
        let start = self.free_at.max(self.now);
        let waits = start - self.now;
        self.queues.push(waits);
        let is_lost = waits > self.line.queue || self.rng.random_range(0..1000) < self.line.loss_permille;
        if waits <= self.line.queue {
            self.free_at = start + Duration::from_secs_f64(MTU as f64 / self.line.rate);
        }
        self.flying.push_back((self.now, (!is_lost).then(|| self.free_at + self.line.round_trip)));
    }

    /// The next packet that arrives is acknowledged; those before it are lost.
    fn acknowledge(&mut self) {
        let Some(at) = self.flying.iter().position(|(_, acked)| acked.is_some()) else {
            // All of a window: told by a probe.
            self.now += self.line.round_trip * 2;
            let lost = self.in_flight();
            self.flying.clear();
            return self.auto.on_congestion_event(self.now, self.now, true, lost);
        };
        let lost: Vec<_> = self.flying.drain(..at).collect();
        let (sent, acked) = self.flying.pop_front().expect("just found");
        self.now = self.now.max(acked.expect("just found"));
        self.delivered += MTU;
        self.auto.delivery.acked(sent, MTU);
        self.auto.on_end_acks(self.now, self.in_flight() + lost.len() as u64 * MTU, false, None);
        if let Some((last, _)) = lost.last() {
            self.auto.on_congestion_event(self.now, *last, false, lost.len() as u64 * MTU);
        }
    }

    fn run(&mut self, time: Duration) -> Outcome {
        let end = self.now + time;
        (self.delivered, self.queues) = (0, Vec::new());
        while self.now < end {
            while self.in_flight() + MTU < self.auto.window() {
                self.send();
            }
            self.acknowledge();
        }
        self.queues.sort();
        let part = self.delivered as f64 / (self.line.rate * time.as_secs_f64());
        Outcome { part, queue: self.queues[self.queues.len() * 9 / 10] }
    }
}

fn line(megabits: u32, milliseconds: u64, queue: u64, loss_permille: u32) -> Line {
    Line {
        rate: f64::from(megabits) * 125_000.0,
        round_trip: Duration::from_millis(milliseconds),
        queue: Duration::from_millis(queue),
        loss_permille,
    }
}

#[test]
fn a_line_is_filled_whatever_it_loses_and_its_queue_stays_short() {
    for (megabits, milliseconds, queue, loss) in [
        (100, 50, 100, 0),
        (100, 50, 100, 10),
        (100, 30, 20, 10),
        (20, 30, 300, 0),
        (200, 100, 50, 1),
        (1000, 5, 20, 0),
    ] {
        let mut run = Run::new(line(megabits, milliseconds, queue, loss));
        run.run(Duration::from_secs(3));
        let Outcome { part, queue } = run.run(Duration::from_secs(30));
        let of = format!("{megabits} Mbit/s, {milliseconds} ms, {loss} of 1000 lost: {part:.3}, {queue:?}");
        assert!(part > 0.93, "{of}");
        assert!(queue < Duration::from_millis(30), "{of}");
    }
}

#[test]
fn a_shallow_queue_loses_little_and_a_line_that_changes_is_followed() {
    let mut run = Run::new(line(100, 40, 3, 0));
    run.run(Duration::from_secs(5));
    let before = run.run(Duration::from_secs(20));
    assert!(before.part > 0.85, "{:.3}", before.part);
    for megabits in [20, 200] {
        run.line.rate = f64::from(megabits) * 125_000.0;
        run.line.queue = Duration::from_millis(100);
        run.run(Duration::from_secs(5));
        let after = run.run(Duration::from_secs(10));
        assert!(after.part > 0.9, "{megabits} Mbit/s: {:.3}", after.part);
    }
}

#[test]
fn what_was_known_of_a_line_outlives_a_pause() {
    let mut run = Run::new(line(100, 50, 100, 0));
    run.run(Duration::from_secs(5));
    let window = run.auto.window();
    // All that was under way is lost, and nothing is heard for a while.
    let lost = run.in_flight();
    run.flying.clear();
    run.now += Duration::from_secs(8);
    run.auto.on_congestion_event(run.now, run.now, true, lost);
    let after = run.run(Duration::from_secs(1));
    assert!(after.part > 0.8, "{:.3} with {} of {window}", after.part, run.auto.window());
}

#[test]
fn after_a_silence_packets_follow_each_other_as_before_it() {
    let mut run = Run::new(line(100, 50, 100, 0));
    run.run(Duration::from_secs(5));
    let window = run.auto.window();
    // What was on the way during 20 s makes an eighth of them a part of the smoothed round trip.
    run.auto.smoothed = Duration::from_secs(20) / 8;
    let a_round_trip = run.auto.window() as f64 * 0.05 / run.auto.smoothed.as_secs_f64();
    assert!((0.8..1.2).contains(&(a_round_trip / window as f64)), "{a_round_trip} of {window}");
    // A queue is no silence.
    run.auto.smoothed = Duration::from_millis(350);
    assert_eq!(run.auto.window(), window);
}

#[test]
fn a_look_at_the_way_ends_though_every_round_runs_dry() {
    let mut run = Run::new(line(1000, 1, 20, 0));
    run.run(Duration::from_secs(2));
    run.auto.mode = Mode::Drain { since: None };
    for _ in 0..20 {
        run.send();
        while !run.flying.is_empty() {
            run.acknowledge();
        }
    }
    assert!(matches!(run.auto.mode, Mode::Cruise { .. }));
}

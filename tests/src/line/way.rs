//! One direction of a line: which packets are lost or dropped, and when the others arrive. No clock and no I/O.

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::shape::{Mode, Shape};

/// Buffers kept for packets to come.
const SPARE: usize = 1024;

/// What happened to the packets of one direction so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub taken: u64,
    pub given: u64,
    /// Bytes of the packets given.
    pub bytes: u64,
    /// By chance, or in the dark.
    pub lost: u64,
    /// Because the queue was full.
    pub dropped: u64,
    /// Because they were larger than the line takes.
    pub too_large: u64,
}

#[derive(Debug)]
pub(super) struct Way {
    held: VecDeque<Held>,
    /// When the line has sent all that it took, since the line's start.
    free_at: Duration,
    chance: SmallRng,
    spare: Vec<Vec<u8>>,
    pub(super) counters: Counters,
}

#[derive(Debug)]
struct Held {
    due: Duration,
    packet: Vec<u8>,
}

impl Way {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            held: VecDeque::new(),
            free_at: Duration::ZERO,
            chance: SmallRng::seed_from_u64(seed),
            spare: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Takes a packet from the sender.
    pub(super) fn take(&mut self, packet: &[u8], now: Duration, shape: &Shape) {
        self.counters.taken += 1;
        // Chance is asked for every packet, so that the pattern of losses does not hang on the queue.
        let lost = shape.loss > 0.0 && self.chance.random::<f64>() < shape.loss;
        if lost || shape.mode == Mode::Dark || shape.without_udp && is_udp(packet) {
            self.counters.lost += 1;
            return;
        }
        if packet.len() > shape.mtu {
            self.counters.too_large += 1;
            return;
        }
        self.free_at = self.free_at.max(now);
        if self.free_at - now > shape.queue {
            self.counters.dropped += 1;
            return;
        }
        self.free_at += Duration::from_secs_f64(packet.len() as f64 * 8.0 / (shape.rate * 1e6));
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(packet);
        self.held.push_back(Held { due: self.free_at + shape.delay, packet: buffer });
    }

    /// Gives what is due to the receiver.
    pub(super) fn give(&mut self, now: Duration, shape: &Shape, mut give: impl FnMut(&[u8])) {
        while let Some(held) = self.held.pop_front_if(|held| held.due <= now) {
            if shape.mode == Mode::Dark {
                self.counters.lost += 1;
            } else {
                self.counters.given += 1;
                self.counters.bytes += held.packet.len() as u64;
                give(&held.packet);
            }
            if self.spare.len() < SPARE {
                self.spare.push(held.packet);
            }
        }
    }

    /// When the next packet is due.
    pub(super) fn next(&self) -> Option<Duration> {
        self.held.front().map(|held| held.due)
    }

    /// The line stood still for so long.
    pub(super) fn shift(&mut self, pause: Duration) {
        self.free_at += pause;
        for held in &mut self.held {
            held.due += pause;
        }
    }
}

/// Of IPv4.
fn is_udp(packet: &[u8]) -> bool {
    const PROTOCOL_AT: usize = 9;
    packet.get(PROTOCOL_AT) == Some(&17)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// 12 Mbit/s: a packet of 1,500 bytes takes a millisecond.
    fn shape() -> Shape {
        Shape::new(20, 12.0).queue(5)
    }

    fn arrivals(way: &mut Way, shape: &Shape) -> Vec<Duration> {
        let mut arrivals = Vec::new();
        while let Some(next) = way.next() {
            way.give(next, shape, |_| arrivals.push(next));
        }
        arrivals
    }

    #[test]
    fn packets_arrive_after_the_delay_at_the_rate() {
        let mut way = Way::new(1);
        (0..3).for_each(|_| way.take(&[0; 1500], Duration::ZERO, &shape()));
        assert_eq!(arrivals(&mut way, &shape()), [11 * MS, 12 * MS, 13 * MS]);
    }

    #[test]
    fn what_waits_longer_than_the_queue_holds_is_dropped() {
        let mut way = Way::new(1);
        (0..20).for_each(|_| way.take(&[0; 1500], Duration::ZERO, &shape()));
        assert_eq!(arrivals(&mut way, &shape()).len(), 6, "five wait, one is being sent");
        assert_eq!((way.counters.given, way.counters.dropped), (6, 14));
        assert_eq!(way.counters.bytes, 6 * 1500);
    }

    #[test]
    fn loss_is_random_and_the_same_for_the_same_seed() {
        let losses = |seed| {
            let mut way = Way::new(seed);
            let fast = Shape::new(0, 1e6).losing(0.01);
            (0..100_000).for_each(|n| way.take(&[0; 100], n * MS, &fast));
            way.counters.lost
        };
        assert!((900..1100).contains(&losses(7)), "{}", losses(7));
        assert_eq!(losses(7), losses(7));
        assert_ne!(losses(7), losses(8));
    }

    #[test]
    fn large_packets_vanish_in_a_black_hole() {
        let mut way = Way::new(1);
        let hole = Shape { mtu: 1400, ..shape() };
        way.take(&[0; 1401], Duration::ZERO, &hole);
        way.take(&[0; 1400], Duration::ZERO, &hole);
        assert_eq!(arrivals(&mut way, &hole).len(), 1);
        assert_eq!(way.counters.too_large, 1);
    }

    #[test]
    fn a_dark_line_loses_what_is_on_the_way_and_a_still_one_keeps_it() {
        let mut way = Way::new(1);
        way.take(&[0; 1500], Duration::ZERO, &shape());
        way.shift(1000 * MS);
        way.take(&[0; 1500], 1000 * MS, &shape());
        assert_eq!(arrivals(&mut way, &shape()), [1011 * MS, 1012 * MS]);

        way.take(&[0; 1500], 2000 * MS, &shape());
        let dark = Shape { mode: Mode::Dark, ..shape() };
        assert!(way.next().is_some());
        way.give(3000 * MS, &dark, |_| panic!("nothing arrives"));
        assert_eq!(way.counters.lost, 1);
    }
}

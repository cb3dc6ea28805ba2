//! What a path delivers: rates from acknowledgements, and when a round trip is over
//! (draft-ietf-ccwg-bbr, "Delivery Rate Samples").

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The highest rate of so many slots is believed …
const SLOTS: usize = 10;
/// … each at least a round long, and no shorter than this: a pause of the scheduler is no slow line.
const SLOT: Duration = Duration::from_millis(25);
/// A rate needs some time, whatever clocks say.
const SHORTEST: Duration = Duration::from_micros(1);

#[derive(Clone)]
pub(super) struct Delivery {
    pub(super) rates: Rates,
    delivered: u64,
    /// When it last changed.
    delivered_at: Instant,
    /// When the packet was sent that was acknowledged last: a flight begins there.
    flight_from: Instant,
    /// Up to here nobody had more to send.
    limited_until: u64,
    in_flight: u64,
    /// The standing after each change that something was sent in.
    sends: VecDeque<Standing>,
    /// It changed since the last of them.
    is_changed: bool,
    /// Of the acknowledgements that are being read.
    newest: Option<Instant>,
    acked: u64,
}

/// How things stood when packets were sent, from `at` on.
#[derive(Clone, Copy)]
struct Standing {
    at: Instant,
    delivered: u64,
    delivered_at: Instant,
    flight_from: Instant,
    is_limited: bool,
}

pub(super) struct Sample {
    /// Of the newest packet, with the time that the peer took to acknowledge.
    pub(super) rtt: Duration,
    /// There was not enough to send.
    pub(super) is_limited: bool,
    pub(super) ends_round: bool,
}

/// Bytes a second, the highest of the last rounds.
#[derive(Clone)]
pub(super) struct Rates {
    slots: [f64; SLOTS],
    at: usize,
    since: Instant,
    round_end: u64,
}

impl Delivery {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            rates: Rates { slots: [0.0; SLOTS], at: 0, since: now, round_end: 0 },
            delivered: 0,
            delivered_at: now,
            flight_from: now,
            limited_until: 0,
            in_flight: 0,
            sends: VecDeque::new(),
            is_changed: true,
            newest: None,
            acked: 0,
        }
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Whether of late there was not enough to send.
    pub(super) fn is_limited(&self) -> bool {
        self.delivered < self.limited_until
    }

    pub(super) fn sent(&mut self, now: Instant, bytes: u64) {
        if self.in_flight == 0 {
            (self.flight_from, self.delivered_at, self.is_changed) = (now, now, true);
            // There was nothing to send: what this flight meets is a queue that ran dry.
            self.limited_until = self.limited_until.max(self.delivered + bytes);
        }
        self.in_flight += bytes;
        if std::mem::take(&mut self.is_changed) {
            self.sends.push_back(Standing {
                at: now,
                delivered: self.delivered,
                delivered_at: self.delivered_at,
                flight_from: self.flight_from,
                is_limited: self.is_limited(),
            });
        }
    }

    pub(super) fn acked(&mut self, sent: Instant, bytes: u64) {
        self.delivered += bytes;
        self.acked += bytes;
        self.newest = self.newest.max(Some(sent));
    }

    pub(super) fn lost(&mut self, bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    /// The bytes that were acknowledged at once, and what they say.
    pub(super) fn end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
    ) -> (u64, Option<Sample>) {
        self.in_flight = in_flight;
        let acked = std::mem::take(&mut self.acked);
        let Some(newest) = self.newest.take() else { return (acked, None) };
        if app_limited {
            self.limited_until = self.delivered + in_flight;
        }
        let known = self.sends.partition_point(|standing| standing.at <= newest);
        let then = known.checked_sub(1).map(|at| {
            self.sends.drain(..at);
            self.sends[0]
        });
        let sample = then.map(|then| self.sample(now, newest, then));
        self.flight_from = self.flight_from.max(newest);
        (self.delivered_at, self.is_changed) = (now, true);
        (acked, sample)
    }

    fn sample(&mut self, now: Instant, newest: Instant, then: Standing) -> Sample {
        // The longer of the two: neither a burst that was sent nor one that was acknowledged is a fast line.
        let sending = newest.saturating_duration_since(then.flight_from);
        let acking = now.saturating_duration_since(then.delivered_at);
        let interval = sending.max(acking).max(SHORTEST);
        #[expect(clippy::cast_precision_loss, reason = "bytes of one round trip")]
        let rate = (self.delivered - then.delivered) as f64 / interval.as_secs_f64();
        if !then.is_limited || rate > self.rates.max() {
            self.rates.add(rate);
        }
        let ends_round = then.delivered >= self.rates.round_end;
        if ends_round {
            self.rates.round_end = self.delivered;
        }
        Sample { rtt: now.saturating_duration_since(newest), is_limited: then.is_limited, ends_round }
    }
}

impl Rates {
    pub(super) fn max(&self) -> f64 {
        self.slots.iter().copied().fold(0.0, f64::max)
    }

    fn add(&mut self, rate: f64) {
        self.slots[self.at] = self.slots[self.at].max(rate);
    }

    /// A round is over: the oldest of them is forgotten.
    pub(super) fn age(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) >= SLOT {
            self.at = (self.at + 1) % SLOTS;
            self.slots[self.at] = 0.0;
            self.since = now;
        }
    }
}

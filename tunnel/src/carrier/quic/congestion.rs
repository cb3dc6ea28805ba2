//! How much may be in flight: a congestion controller that fills a line that loses packets, and keeps its queue short.
//!
//! It measures what the path delivers ([`delivery`]) and holds a window of just that rate over the shortest round trip, and a
//! few milliseconds more ([`model`]): the few milliseconds are its queue, and where there is none they are what finds more
//! room. Random loss says nothing of the rate, so it is ignored up to a bound. A neighbour that fills the queue and gives way
//! only to loss, as TCP does, would starve such a window: while the queue stays long whatever we do, we compete by its rules
//! ([`rival`]). The rules are BBR's (draft-ietf-ccwg-bbr) where not said otherwise, but for pacing: quinn derives the pace
//! from the window, so the window alone has to be right.
//!
//! ```text
//! Startup ──queue, loss, or no gain──▶ Cruise ──crowded for some rounds──▶ Compete ⇄ Check ──alone──▶ Cruise
//!                                        └─ every 10 s ──▶ Drain (looks at the shortest round trip) ──▶ Cruise
//! ```

mod delivery;
mod model;
mod rival;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{self, Controller, ControllerFactory};
use quinn_proto::RttEstimator;

use super::probe;
use crate::carrier::Congestion;
use delivery::{Delivery, Sample};
use model::Model;
use rival::Rival;

/// The window before anything is known, and while nobody asks for more: as much as browsers' servers send at first.
const FIRST_PACKETS: u64 = 32;
/// The least that keeps acknowledgements coming.
const MIN_PACKETS: u64 = 4;
/// Growth of the rate that is worth another round of doubling.
const STARTUP_GAIN: f64 = 1.25;
/// Rounds without it: the line is full.
const FULL_ROUNDS: u32 = 3;
/// A round's shortest of fewer round trips may be chance.
const DELAY_SAMPLES: u32 = 8;
/// A round trip that was not seen again for so long is looked at with an empty queue.
const MIN_RTT_AGE: Duration = Duration::from_secs(10);
/// So many rounds with a long queue, for so long, make a neighbour.
const RIVAL_ROUNDS: u32 = 5;
const RIVAL_TIME: Duration = Duration::from_millis(300);
/// While competing: how often we look whether we are alone. At least so many round trips.
const CHECK_EVERY: Duration = Duration::from_secs(3);
const CHECK_ROUND_TRIPS: u32 = 20;
/// How long the look may take.
const CHECK_ROUNDS: u32 = 3;

/// A smoothed round trip so long, and so many times the last one, comes from a silence. No queue and no busy machine does that.
const STALE: u32 = 8;
const STALE_FROM: Duration = Duration::from_millis(150);
const MAX_STRETCHED: u64 = 1 << 30;

/// What a transport is configured with.
pub(super) fn factory(congestion: Congestion) -> Arc<dyn ControllerFactory + Send + Sync> {
    match congestion {
        Congestion::Auto => probe::Factory::around(Factory),
        Congestion::Cubic => probe::Factory::around(congestion::CubicConfig::default()),
        Congestion::Bbr => probe::Factory::around(congestion::BbrConfig::default()),
    }
}

#[derive(Debug)]
struct Factory;

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Auto::new(now, u64::from(mtu)))
    }
}

/// One path's controller.
#[derive(Clone)]
struct Auto {
    mode: Mode,
    delivery: Delivery,
    model: Model,
    round: Round,
    window: u64,
    /// The round trip that quinn paces by, and the last one.
    smoothed: Duration,
    latest: Duration,
}

#[derive(Clone)]
enum Mode {
    /// Doubles each round.
    Startup(Startup),
    /// Of the rounds until now, so many found a long queue, the first of them then.
    Cruise {
        crowded: u32,
        since: Instant,
    },
    /// Half a window, until a round began with it; `since` is that round.
    Drain {
        since: Option<u64>,
    },
    Compete {
        rival: Rival,
        until: Instant,
    },
    /// As in Drain, to see whether the queue goes.
    Check {
        rival: Rival,
        rounds: u32,
    },
}

#[derive(Clone, Default)]
struct Startup {
    window: u64,
    rate: f64,
    /// Without growth.
    rounds: u32,
}

/// What was seen since the round began.
#[derive(Clone, Default)]
struct Round {
    number: u64,
    delivered_before: u64,
    lost: u64,
    shortest: Option<Duration>,
    samples: u32,
    /// At some time there was not enough to send.
    is_limited: bool,
}

impl Auto {
    fn new(now: Instant, mtu: u64) -> Self {
        let window = FIRST_PACKETS * mtu;
        Self {
            mode: Mode::Startup(Startup { window, ..Startup::default() }),
            delivery: Delivery::new(now),
            model: Model::new(now, mtu),
            round: Round::default(),
            window,
            smoothed: Duration::ZERO,
            latest: Duration::MAX,
        }
    }

    fn rival(&mut self) -> Option<&mut Rival> {
        match &mut self.mode {
            Mode::Compete { rival, .. } | Mode::Check { rival, .. } => Some(rival),
            _ => None,
        }
    }

    /// A round trip after its first packet the round is over.
    fn end_round(&mut self, now: Instant, is_limited: bool) {
        let number = self.round.number + 1;
        let begun = Round { number, delivered_before: self.delivery.delivered(), ..Round::default() };
        let round = std::mem::replace(&mut self.round, begun);
        let delivered = self.delivery.delivered() - round.delivered_before;
        let is_lossy = self.model.end_round(now, delivered, round.lost, self.window);
        if is_limited {
            // What was sent says little of the line, but for what was lost of it, and how long it takes while its queue is empty.
            self.mode = match std::mem::replace(&mut self.mode, Mode::cruise(now)) {
                Mode::Startup(_) if is_lossy => Mode::cruise(now),
                Mode::Cruise { .. } => Mode::cruise(now),
                look @ (Mode::Drain { .. } | Mode::Check { .. }) => self.look(now, look, round.shortest),
                mode => mode,
            };
            return;
        }
        self.delivery.rates.age(now);
        // A queue that ran dry for want of bytes is no room.
        let is_growing = matches!(self.mode, Mode::Cruise { .. }) && !is_lossy && !round.is_limited;
        self.model.look_for_room(is_growing, round.shortest);
        self.mode = match std::mem::replace(&mut self.mode, Mode::cruise(now)) {
            Mode::Startup(startup) => startup.end_round(now, self.model.rate, is_lossy),
            Mode::Cruise { crowded, since } => self.cruised(now, (crowded, since), round.shortest),
            Mode::Compete { rival, until } if now < until => Mode::Compete { rival, until },
            Mode::Compete { rival, .. } => Mode::Check { rival, rounds: 0 },
            look @ (Mode::Drain { .. } | Mode::Check { .. }) => self.look(now, look, round.shortest),
        };
    }

    /// A look with an empty queue, one round on. It ends also where the small window, or whoever has little to send, makes every
    /// round one that ran dry: else it would go on for as long as that lasts, and so small a window is a reason to run dry.
    fn look(&mut self, now: Instant, look: Mode, shortest: Option<Duration>) -> Mode {
        match look {
            Mode::Check { rival, rounds } => self.checked(now, rival, rounds + 1, shortest),
            Mode::Drain { since: Some(since) } if self.round.number > since + 1 => {
                if let Some(shortest) = shortest {
                    self.model.looked_again(now, shortest);
                }
                Mode::cruise(now)
            }
            drain => drain,
        }
    }

    fn cruised(&self, now: Instant, crowded: (u32, Instant), shortest: Option<Duration>) -> Mode {
        let is_crowded = shortest.is_some_and(|rtt| self.model.is_crowded(rtt));
        let (crowded, since) = if is_crowded { (crowded.0 + 1, crowded.1) } else { (0, now) };
        if crowded >= RIVAL_ROUNDS && now.saturating_duration_since(since) >= RIVAL_TIME {
            let rtt = shortest.unwrap_or_default();
            let rival = Rival::new(now, self.window.max(self.model.half_of_the_line(rtt)), self.model.mtu);
            Mode::Compete { rival, until: now + CHECK_EVERY.max(rtt * CHECK_ROUND_TRIPS) }
        } else if self.model.min_rtt_age(now) > MIN_RTT_AGE {
            Mode::Drain { since: None }
        } else {
            Mode::Cruise { crowded, since }
        }
    }

    fn checked(&self, now: Instant, rival: Rival, rounds: u32, shortest: Option<Duration>) -> Mode {
        let rtt = shortest.unwrap_or_default();
        if shortest.is_some_and(|rtt| self.model.is_alone(rtt)) {
            Mode::cruise(now)
        } else if rounds >= CHECK_ROUNDS {
            Mode::Compete { rival, until: now + CHECK_EVERY.max(rtt * CHECK_ROUND_TRIPS) }
        } else {
            Mode::Check { rival, rounds }
        }
    }

    fn take_sample(&mut self, now: Instant, sample: &Sample) {
        self.latest = sample.rtt;
        self.round.samples += 1;
        self.round.is_limited |= sample.is_limited;
        self.round.shortest = Some(self.round.shortest.map_or(sample.rtt, |rtt| rtt.min(sample.rtt)));
        self.model.saw_round_trip(now, sample.rtt);
        self.model.rate = self.delivery.rates.max();
        if sample.ends_round {
            self.end_round(now, sample.is_limited);
        }
    }

    fn set_window(&mut self, in_flight: u64) {
        let (model, low) = (self.model.window(), self.model.low_window());
        if let Mode::Drain { since: since @ None } = &mut self.mode
            && in_flight <= low + self.model.mtu
        {
            *since = Some(self.round.number);
        }
        self.window = match &self.mode {
            Mode::Startup(startup) => startup.window.max(model),
            Mode::Cruise { .. } => model,
            Mode::Drain { .. } | Mode::Check { .. } => low,
            Mode::Compete { rival, .. } => model.max(rival.window()),
        };
        if self.delivery.is_limited() {
            self.window = self.window.max(FIRST_PACKETS * self.model.mtu);
        }
    }
}

impl Mode {
    fn cruise(now: Instant) -> Self {
        Self::Cruise { crowded: 0, since: now }
    }
}

impl Startup {
    fn end_round(mut self, now: Instant, rate: f64, is_lossy: bool) -> Mode {
        if rate >= self.rate * STARTUP_GAIN {
            (self.rate, self.rounds) = (rate, 0);
        } else {
            self.rounds += 1;
        }
        if self.rounds >= FULL_ROUNDS || is_lossy { Mode::cruise(now) } else { Mode::Startup(self) }
    }
}

impl Controller for Auto {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.delivery.sent(now, bytes);
        if let Some(rival) = self.rival() {
            rival.sent(now, bytes, last_packet_number);
        }
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.delivery.acked(sent, bytes);
        self.smoothed = rtt.get();
        if let Mode::Compete { rival, .. } = &mut self.mode {
            rival.acked(now, sent, bytes, app_limited, rtt);
        }
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        if let Mode::Compete { rival, .. } = &mut self.mode {
            rival.end_acks(now, in_flight, app_limited, largest);
        }
        let was_full = self.delivery.in_flight().max(in_flight) + 2 * self.model.mtu >= self.window / 2;
        let (acked, sample) = self.delivery.end_acks(now, in_flight, app_limited);
        if let Some(sample) = sample {
            self.take_sample(now, &sample);
        }
        if let Mode::Startup(startup) = &mut self.mode {
            if was_full {
                startup.window += acked;
            }
            let is_queue = self.round.shortest.is_some_and(|rtt| self.model.is_delayed(rtt));
            let is_telling = was_full || !self.delivery.is_limited();
            if is_queue && self.round.samples >= DELAY_SAMPLES && is_telling {
                self.mode = Mode::cruise(now);
            }
        }
        self.set_window(in_flight);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.round.lost += lost_bytes;
        self.delivery.lost(lost_bytes);
        if let Some(rival) = self.rival() {
            rival.lost(now, sent, is_persistent, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.model.mtu = u64::from(new_mtu);
        if let Some(rival) = self.rival() {
            rival.set_mtu(new_mtu);
        }
    }

    /// quinn spreads it over the smoothed round trip. After a silence that is a part of the silence, and so little would be let
    /// out that the answers which shorten it take seconds: the window is stretched as much.
    fn window(&self) -> u64 {
        if self.smoothed <= STALE_FROM.max(self.latest.saturating_mul(STALE)) {
            return self.window;
        }
        let stretch = self.smoothed.as_millis() / self.latest.as_millis().max(1);
        self.window.saturating_mul(u64::try_from(stretch).unwrap_or(u64::MAX)).min(MAX_STRETCHED)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        FIRST_PACKETS * self.model.mtu
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests;

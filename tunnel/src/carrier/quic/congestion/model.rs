//! What is believed of a path, and the window that follows from it.

use std::time::{Duration, Instant};

use super::MIN_PACKETS;

/// The queue that we keep: what a busy scheduler, delayed acknowledgements and a radio's turns need to keep the line full.
const SLACK: Duration = Duration::from_millis(5);
/// Between neighbours the turns of a busy machine are all there is to it, and they take longer: a window that they outlast sends
/// less, is believed slow for it, and ends at a fraction of the line.
const NEAR_SLACK: Duration = Duration::from_millis(20);
/// On a fast line it is bounded: receive buffers of the usual 212 kB hold no more.
const SLACK_BYTES: f64 = 384.0 * 1024.0;
/// The same for every connection, however little it carries: so two on one line end up with the same rate.
const EXTRA_PACKETS: u64 = 4;
/// Between neighbours the wait for a processor is longer than the way: by rate and way alone, who is kept waiting would be believed
/// slow, sent less, and so be slower yet. What comes on top there takes a few milliseconds of the slowest network that is so near.
const NEAR: Duration = Duration::from_millis(2);
const NEAR_PACKETS: u64 = 96;
/// Of a round's packets, and at least so many: more than chance takes.
const LOSSY: f64 = 0.03;
const LOSSY_PACKETS: u64 = 8;
const CLEAN: f64 = 0.02;
/// What too many losses leave of the window, and how it comes back, so often.
const LOSSY_PART: f64 = 0.85;
const REGROW: f64 = 1.05;
const REGROW_EVERY: Duration = Duration::from_millis(100);
/// How the window grows in rounds that find no queue at all, up to twice what was delivered.
const GAIN_STEP: f64 = 1.25;
const MAX_GAIN: f64 = 2.0;
/// What the rate has to grow by for the next such step.
const WORTH_MORE: f64 = 1.05;
/// What the line once gave is forgotten by a thousandth a round.
const BEST_DECAY: f64 = 0.999;
/// A longer way than before is believed when so many looks in a row found it; until then it may be a neighbour's queue.
const BELIEVED_AFTER: u32 = 3;

#[derive(Clone)]
pub(super) struct Model {
    pub(super) mtu: u64,
    /// Bytes a second that the path delivers.
    pub(super) rate: f64,
    /// The highest of late, with or without neighbours.
    best: f64,
    min_rtt: Option<Duration>,
    /// When it was last seen, or looked for.
    min_rtt_at: Instant,
    longer: u32,
    gain: f64,
    /// The rate at the last step of the gain.
    rate_before: f64,
    /// What the path holds at most, from too many losses.
    ceiling: Option<f64>,
    ceiling_at: Instant,
}

impl Model {
    pub(super) fn new(now: Instant, mtu: u64) -> Self {
        Self {
            mtu,
            rate: 0.0,
            best: 0.0,
            min_rtt: None,
            min_rtt_at: now,
            longer: 0,
            gain: 1.0,
            rate_before: 0.0,
            ceiling: None,
            ceiling_at: now,
        }
    }

    /// In bytes.
    pub(super) fn window(&self) -> u64 {
        let target = (self.pipe() + self.slack()) * self.gain;
        bytes(self.ceiling.map_or(target, |ceiling| target.min(ceiling))) + self.extra()
    }

    /// One that leaves the queue empty.
    pub(super) fn low_window(&self) -> u64 {
        bytes(self.pipe() / 2.0).max(MIN_PACKETS * self.mtu)
    }

    /// Half of what the line carries beside a neighbour whose queue makes its round trip so long.
    pub(super) fn half_of_the_line(&self, rtt: Duration) -> u64 {
        bytes(self.best * rtt.as_secs_f64() / 2.0)
    }

    pub(super) fn saw_round_trip(&mut self, now: Instant, rtt: Duration) {
        match self.min_rtt {
            Some(min) if rtt > min + min / 16 => {}
            Some(min) if rtt > min => self.min_rtt_at = now,
            _ => (self.min_rtt, self.min_rtt_at, self.longer) = (Some(rtt), now, 0),
        }
    }

    pub(super) fn min_rtt_age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.min_rtt_at)
    }

    /// The shortest round trip of a round that was sent with our queue empty.
    pub(super) fn looked_again(&mut self, now: Instant, rtt: Duration) {
        let min = self.min_rtt.unwrap_or(rtt);
        self.min_rtt_at = now;
        if rtt > min + min / 16 + SLACK / 4 && self.longer + 1 < BELIEVED_AFTER {
            self.longer += 1;
        } else {
            (self.min_rtt, self.longer) = (Some(rtt), 0);
        }
    }

    /// Takes note of a round's losses; says whether they were too many.
    pub(super) fn end_round(&mut self, now: Instant, delivered: u64, lost: u64, window: u64) -> bool {
        self.best = (self.best * BEST_DECAY).max(self.rate);
        let part = float(lost) / float((lost + delivered).max(1));
        if part > LOSSY && lost >= LOSSY_PACKETS * self.mtu {
            self.ceiling = Some((float(window) * LOSSY_PART).max(self.pipe() * REGROW));
            self.ceiling_at = now;
            return true;
        }
        if let Some(ceiling) = self.ceiling
            && part < CLEAN
            && now.saturating_duration_since(self.ceiling_at) >= REGROW_EVERY
        {
            self.ceiling_at = now;
            self.ceiling = Some(ceiling * REGROW).filter(|ceiling| *ceiling < self.pipe() + self.slack());
        }
        false
    }

    /// A round without any queue did not find the end of the line, or ran dry for other reasons: more and more is sent only as
    /// long as more and more arrives.
    pub(super) fn look_for_room(&mut self, may_grow: bool, shortest: Option<Duration>) {
        let next_to_none = (SLACK / 2 + self.min_rtt() / 32).min(self.own_queue() * 4 / 5);
        let is_free = shortest.is_some_and(|rtt| rtt <= self.min_rtt() + next_to_none);
        if !is_free || !may_grow {
            self.gain = 1.0;
        } else if self.gain == 1.0 || self.rate > self.rate_before * WORTH_MORE {
            self.gain = (self.gain * GAIN_STEP).min(MAX_GAIN);
            self.rate_before = self.rate;
        }
    }

    /// Whether a queue has begun (HyStart++, RFC 9406).
    pub(super) fn is_delayed(&self, rtt: Duration) -> bool {
        let min = self.min_rtt();
        rtt > min + (min / 8).clamp(Duration::from_millis(4), Duration::from_millis(16))
    }

    /// Whether the queue is longer than ours.
    pub(super) fn is_crowded(&self, rtt: Duration) -> bool {
        rtt > self.min_rtt() + self.own_queue() * 5 / 4 + self.doubt()
    }

    pub(super) fn is_alone(&self, rtt: Duration) -> bool {
        rtt <= self.min_rtt() + (self.own_queue() + self.doubt()) / 2
    }

    /// What a busy machine or a radio adds now and then.
    fn doubt(&self) -> Duration {
        (self.min_rtt() / 8).clamp(Duration::from_millis(6), Duration::from_millis(20))
    }

    /// How long what we keep waiting takes on the whole line.
    fn own_queue(&self) -> Duration {
        if self.best <= 0.0 {
            return SLACK;
        }
        Duration::try_from_secs_f64((self.slack() + float(self.extra())) / self.best).unwrap_or(SLACK)
    }

    fn min_rtt(&self) -> Duration {
        self.min_rtt.unwrap_or_default()
    }

    /// The bandwidth-delay product.
    fn pipe(&self) -> f64 {
        self.rate * self.min_rtt().as_secs_f64()
    }

    fn extra(&self) -> u64 {
        self.mtu * if self.is_near() { NEAR_PACKETS } else { EXTRA_PACKETS }
    }

    fn slack(&self) -> f64 {
        let slack = if self.is_near() { NEAR_SLACK } else { SLACK };
        (self.rate * slack.as_secs_f64()).min(SLACK_BYTES)
    }

    fn is_near(&self) -> bool {
        self.min_rtt.is_some_and(|way| way < NEAR)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a window, never negative")]
fn bytes(value: f64) -> u64 {
    value as u64
}

#[expect(clippy::cast_precision_loss, reason = "a window")]
fn float(value: u64) -> f64 {
    value as f64
}

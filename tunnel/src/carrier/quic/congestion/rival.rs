//! Beside a neighbour that gives way only to loss: as two of its kind, one of which gives way at each loss.
//!
//! One would get less than its half: what we send comes in bursts, and a short queue drops bursts first.

use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn_proto::RttEstimator;

/// What cubic leaves of its window after a loss (RFC 9438 §4.6).
const CUBIC_LEAVES: (u64, u64) = (7, 10);

pub(super) struct Rival {
    flows: [Box<dyn Controller>; 2],
    /// Which one gives way next.
    turn: usize,
    /// What was sent before belongs to the loss that was answered.
    answered: Option<Instant>,
}

impl Rival {
    /// Both together begin with this window, as after a loss.
    pub(super) fn new(now: Instant, window: u64, mtu: u64) -> Self {
        let flow = || {
            let mut config = CubicConfig::default();
            config.initial_window(window / 2 * CUBIC_LEAVES.1 / CUBIC_LEAVES.0);
            let mut flow = Arc::new(config).build(now, u16::try_from(mtu).unwrap_or(u16::MAX));
            flow.on_congestion_event(now, now, false, mtu);
            flow
        };
        Self { flows: [flow(), flow()], turn: 0, answered: None }
    }

    pub(super) fn window(&self) -> u64 {
        self.flows.iter().map(|flow| flow.window()).sum()
    }

    pub(super) fn sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        for flow in &mut self.flows {
            flow.on_sent(now, bytes, last_packet_number);
        }
    }

    pub(super) fn acked(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        for flow in &mut self.flows {
            flow.on_ack(now, sent, bytes / 2, app_limited, rtt);
        }
    }

    pub(super) fn end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        for flow in &mut self.flows {
            flow.on_end_acks(now, in_flight, app_limited, largest);
        }
    }

    pub(super) fn lost(&mut self, now: Instant, sent: Instant, is_persistent: bool, bytes: u64) {
        if self.answered.is_some_and(|answered| sent <= answered) {
            return;
        }
        self.answered = Some(now);
        self.flows[self.turn].on_congestion_event(now, sent, is_persistent, bytes);
        self.turn = 1 - self.turn;
    }

    pub(super) fn set_mtu(&mut self, mtu: u16) {
        for flow in &mut self.flows {
            flow.on_mtu_update(mtu);
        }
    }
}

impl Clone for Rival {
    fn clone(&self) -> Self {
        let flows = [self.flows[0].clone_box(), self.flows[1].clone_box()];
        Self { flows, turn: self.turn, answered: self.answered }
    }
}

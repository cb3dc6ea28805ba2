//! What a line is like: the same both ways, and changeable while it runs.

use std::time::Duration;

/// The largest packet that the ends send.
pub(super) const MTU: usize = 1500;

/// A line as people have them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// One way.
    pub delay: Duration,
    /// In Mbit/s, headers of IP included.
    pub rate: f64,
    /// How long a packet may wait for the line: what comes when more waits is dropped.
    pub queue: Duration,
    /// Share of packets that are lost, at random.
    pub loss: f64,
    /// Larger packets vanish, and nobody is told.
    pub mtu: usize,
    /// UDP vanishes, and nobody is told.
    pub without_udp: bool,
    pub mode: Mode,
}

/// Whether the line carries anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Carries,
    /// Nothing is taken and nothing is given: what was on the way goes on afterwards, as after a radio's pause.
    StandsStill,
    /// Everything is lost, what was on the way too: a cut cable.
    Dark,
}

impl Shape {
    /// A line of this round trip and rate, whose queue holds 50 ms.
    pub fn new(round_trip_ms: u64, rate: f64) -> Self {
        Self {
            delay: Duration::from_micros(round_trip_ms * 500),
            rate,
            queue: Duration::from_millis(50),
            loss: 0.0,
            mtu: MTU,
            without_udp: false,
            mode: Mode::Carries,
        }
    }

    /// With this share of packets lost.
    pub fn losing(self, loss: f64) -> Self {
        Self { loss, ..self }
    }

    /// With a queue of so many milliseconds.
    pub fn queue(self, ms: u64) -> Self {
        Self { queue: Duration::from_millis(ms), ..self }
    }
}

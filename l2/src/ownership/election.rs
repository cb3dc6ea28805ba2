//! When the next election is due.

use std::time::{Duration, Instant};

/// An election over thousands of VIPs takes milliseconds, and in a crowd every datagram changes something: what comes
/// together is settled together. A death and a drain do not wait.
const SETTLE_EVERY: Duration = Duration::from_millis(10);

/// ```text
/// Settled ──something changed──► Pending ──a moment after the last one──► Settled
///    └─────a death, a drain────────┴────► Urgent ──────at once──────────► Settled
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) enum Election {
    /// Nothing changed since the last one.
    Settled { last: Instant },
    /// Something changed.
    Pending { last: Instant },
    /// There was none yet, or the next one must not wait.
    Urgent,
}

impl Election {
    /// Something changed.
    pub(super) fn request(&mut self) {
        match *self {
            // Settled → Pending.
            Self::Settled { last } => *self = Self::Pending { last },
            // Asked for already.
            Self::Pending { .. } | Self::Urgent => {}
        }
    }

    /// Something changed that must not wait.
    pub(super) fn hurry(&mut self) {
        *self = Self::Urgent;
    }

    /// It is held now. What changes while it is, asks for the next one.
    pub(super) fn hold(&mut self, now: Instant) {
        *self = Self::Settled { last: now };
    }

    /// When it is due, if it is: `at_once` stands for a time that has come.
    pub(super) fn due(&self, at_once: Instant) -> Option<Instant> {
        match *self {
            Self::Settled { .. } => None,
            Self::Pending { last } => Some(last + SETTLE_EVERY),
            Self::Urgent => Some(at_once),
        }
    }
}

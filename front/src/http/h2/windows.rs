//! How wide the windows of a connection's uploads are. Pure: rounds, counts and what is granted come in.
//!
//! A round is a PING and its answer. What was handed on of an upload meanwhile, divided by its time, is the rate at which it
//! is taken; times the shortest round trip seen that is what has to be on the way for it. The window of a stream is four times
//! that for the fastest upload: h2 grants anew when a third of it was taken, so twice remains, and a visitor's own slow start
//! is never held up.
//!
//! h2 has one figure for all streams of a connection, so those beside a fast one have its window too. What they can fill
//! with it is bounded by the connection's window, a few times as wide, and by what the process grants.

use std::time::Duration;

use super::limits::{CONNECTION_WINDOW_BYTES, MAX_HELD_BYTES, MAX_STREAM_WINDOW_BYTES, STREAM_WINDOW_BYTES};

/// The two figures that h2 takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) stream: usize,
    pub(super) connection: usize,
}

/// What one round showed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) took: Duration,
    /// Handed on of the upload that moved most, and of all.
    pub(super) most: usize,
    pub(super) all: usize,
    /// What has come of all uploads and is not handed on.
    pub(super) held: usize,
}

#[derive(Debug)]
pub(super) struct Windows {
    /// The shortest round trip, in microseconds: longer ones have queues in them.
    round_trip: u64,
    /// The best of late, in bytes a second: of one upload, and of all.
    most: u64,
    all: u64,
    now: Sizes,
}

const MICROS: u64 = 1_000_000;
/// Of what has to be on the way.
const GAIN: u128 = 4;

impl Windows {
    pub(super) fn new() -> Self {
        Self { round_trip: u64::MAX, most: 0, all: 0, now: Sizes::SMALL }
    }

    pub(super) fn now(&self) -> Sizes {
        self.now
    }

    /// A round has ended. `grant` says how much of a connection's window there may be.
    pub(super) fn round(&mut self, round: Round, grant: impl FnOnce(usize) -> usize) -> Sizes {
        let took = u64::try_from(round.took.as_micros()).unwrap_or(u64::MAX).max(1);
        // A path may become longer: the shortest is let go by a five-hundredth a round.
        self.round_trip = took.min(self.round_trip.saturating_add(self.round_trip / 500));
        let rate = |bytes: usize| (bytes as u64).saturating_mul(MICROS) / took;
        let (most, all) = (rate(round.most), rate(round.all));
        let faded = |rate: u64| rate / 20 * 19;
        self.most = most.max(faded(self.most));
        self.all = all.max(faded(self.all));
        let round_trip = self.round_trip;
        let wanted = |rate: u64| {
            let bytes = u128::from(rate) * u128::from(round_trip) * GAIN / u128::from(MICROS);
            usize::try_from(bytes).unwrap_or(usize::MAX).min(MAX_STREAM_WINDOW_BYTES)
        };
        let (stream, all) = (step(self.now.stream, wanted(self.most)), wanted(self.all));
        self.settle(stream, all, round.held, grant)
    }

    /// More was held than those who move can spare. They must not be held up by it.
    pub(super) fn crowd(&mut self, held: usize, grant: impl FnOnce(usize) -> usize) {
        self.settle(self.now.stream, 0, held, grant);
    }

    fn settle(
        &mut self,
        stream: usize,
        all: usize,
        held: usize,
        grant: impl FnOnce(usize) -> usize,
    ) -> Sizes {
        // One that fills its window and stands leaves the others theirs; of more it is said when they do.
        let standing = held.clamp(stream, MAX_HELD_BYTES.max(stream));
        let wanted = (stream.max(all) + standing).max(Sizes::SMALL.connection);
        let connection = grant(wanted).max(Sizes::SMALL.connection);
        let most = if connection < wanted { connection / 4 } else { connection };
        let stream = stream.min(most).max(Sizes::SMALL.stream);
        self.now = Sizes { stream, connection };
        self.now
    }
}

impl Sizes {
    pub(super) const SMALL: Self = Self { stream: STREAM_WINDOW_BYTES, connection: CONNECTION_WINDOW_BYTES };
}

/// Each change is a SETTINGS frame: small ones are not worth it.
fn step(now: usize, wanted: usize) -> usize {
    let wanted = wanted.max(STREAM_WINDOW_BYTES);
    if wanted > now / 4 * 5 || wanted < now / 4 * 3 { wanted } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    /// 100 Mbit/s at 80 ms: a megabyte is on the way.
    const PATH: (usize, Duration) = (12_500_000, Duration::from_millis(80));

    fn round(bytes: usize, took: Duration) -> Round {
        Round { took, most: bytes, all: bytes, held: 0 }
    }

    /// Rounds of one upload that its windows hold up, or the line. Gives the windows' sizes.
    fn upload(windows: &mut Windows, rounds: usize, (rate, round_trip): (usize, Duration)) -> Sizes {
        let line = rate * usize::try_from(round_trip.as_millis()).unwrap() / 1000;
        for _ in 0..rounds {
            // What the window has beyond the line waits in a queue before it.
            let window = windows.now().stream;
            let took = round_trip * u32::try_from(window.max(line)).unwrap() / u32::try_from(line).unwrap();
            windows.round(round(window, took), |wanted| wanted);
        }
        windows.now()
    }

    #[test]
    fn an_upload_that_is_taken_gets_four_times_what_its_path_holds_and_no_more() {
        let mut windows = Windows::new();
        upload(&mut windows, 4, PATH);
        let sizes = upload(&mut windows, 100, PATH);
        assert!((3_800_000..5_500_000).contains(&sizes.stream), "{sizes:?}");
        assert!(sizes.connection >= sizes.stream * 2, "{sizes:?}");
    }

    #[test]
    fn a_slow_start_is_never_held_up() {
        let mut windows = Windows::new();
        let mut flight = 14_000;
        while flight < 1_000_000 {
            // The change takes effect one round trip after what led to it.
            let sizes = windows.now();
            windows.round(round(flight, PATH.1), |wanted| wanted);
            assert!(sizes.stream >= flight * 2 || windows.now().stream >= flight * 4, "{flight}: {sizes:?}");
            flight *= 2;
            assert!(sizes.stream >= flight, "{flight}: {sizes:?}");
        }
    }

    #[test]
    fn one_that_is_not_taken_or_near_keeps_a_small_window() {
        let mut windows = Windows::new();
        for _ in 0..50 {
            // What an origin takes of it at 1 MB a second.
            windows.round(round(80_000, PATH.1), |wanted| wanted);
        }
        assert_eq!(windows.now(), Sizes::SMALL);
        for _ in 0..50 {
            windows.round(round(50_000, Duration::from_millis(1)), |wanted| wanted);
        }
        assert_eq!(windows.now(), Sizes::SMALL);
    }

    #[test]
    fn uploads_that_stand_still_leave_the_others_their_windows() {
        let mut windows = Windows::new();
        let sizes = windows.round(Round { held: 2 * MIB, ..round(100 * KIB, PATH.1) }, |wanted| wanted);
        assert!(sizes.connection >= 2 * MIB + sizes.stream, "{sizes:?}");
        windows.crowd(3 * MIB, |wanted| wanted);
        let sizes = windows.now();
        assert!(sizes.connection >= 3 * MIB + sizes.stream, "{sizes:?}");
        windows.crowd(100 * MIB, |wanted| wanted);
        let sizes = windows.now();
        assert!(sizes.connection <= MAX_HELD_BYTES + sizes.stream, "no more than that: {sizes:?}");
    }

    #[test]
    fn windows_shrink_when_the_process_grants_no_more() {
        let mut windows = Windows::new();
        upload(&mut windows, 20, PATH);
        let sizes = windows.round(round(MIB, PATH.1), |_| 3 * MIB);
        assert_eq!(sizes, Sizes { stream: 3 * MIB / 4, connection: 3 * MIB });
        assert_eq!(windows.round(round(MIB, PATH.1), |_| 0), Sizes::SMALL);
    }
}

//! One direction of a stream at its receiver: how much may be under way, by how fast it is read. No I/O, no clock.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Window {
    /// What may be under way.
    size: u64,
    /// What the sender may have sent in all.
    limit: u64,
    /// What the sender may have heard of for certain: the limit before those that are not sent yet.
    heard: u64,
    read: u64,
    /// When how much had been read: where the pace is measured from.
    mark: Option<(Instant, u64)>,
}

/// How the window's size fits what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// It is read as fast as it comes, so more could come.
    Faster,
    Same,
    /// Most of it is never under way.
    Slower,
}

/// The sender sent more than it was granted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exceeded;

/// Over a shorter path the wait for a processor is longer than the path, and a window for the path alone would be granted anew
/// every few packets.
const LEAST_ROUND_TRIP: Duration = Duration::from_millis(1);
/// Above it grants are so few that more of them cost nothing.
const WIDE: u64 = 256 * 1024;
/// The pace is taken over this part of a window.
const PACE_PART: u64 = 4;
/// Round trips that a window lasts for. Twice what the path holds keeps it full while what was lost is sent again; where every
/// round trip loses something, some of that is lost again, and once more.
const WIDTH: f64 = 5.0;
/// A window that is so many times what it should be is halved.
const TOO_WIDE: u32 = 8;

impl Window {
    pub(super) fn new(size: u64) -> Self {
        Self { size, limit: size, heard: size, read: 0, mark: None }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// What may come before more is granted.
    pub(super) fn outstanding(&self) -> u64 {
        self.limit - self.read
    }

    /// Whether more was read than the sender can have heard of, if nothing was sent to it since.
    pub(super) fn is_beyond(&self) -> bool {
        self.read > self.heard
    }

    /// Everything that was granted has been sent.
    pub(super) fn is_heard(&mut self) {
        self.heard = self.limit;
    }

    /// `now` is asked for once a stream, and not for small ones.
    pub(super) fn took(&mut self, bytes: u64, now: impl FnOnce() -> Instant) -> Result<(), Exceeded> {
        if bytes > self.outstanding() {
            return Err(Exceeded);
        }
        self.read += bytes;
        if self.mark.is_none() && self.read >= self.size / 8 {
            self.mark = Some((now(), self.read));
        }
        Ok(())
    }

    /// Half of it was read, or an eighth of a wide one: granted by halves it would travel by halves.
    pub(super) fn is_due(&self) -> bool {
        self.outstanding() <= self.size - self.size / if self.size > WIDE { 8 } else { 2 }
    }

    /// Whether a window lasts for so many round trips.
    pub(super) fn pace(&self, now: Instant, round_trip: Duration) -> Pace {
        let Some((since, read)) = self.mark else { return Pace::Same };
        let taken = self.read - read;
        if taken < self.size / PACE_PART {
            return Pace::Same;
        }
        let passed = now.saturating_duration_since(since).as_secs_f64();
        let right =
            WIDTH * round_trip.max(LEAST_ROUND_TRIP).as_secs_f64() * (taken as f64 / self.size as f64);
        if passed < right {
            Pace::Faster
        } else if passed > right * f64::from(TOO_WIDE) {
            Pace::Slower
        } else {
            Pace::Same
        }
    }

    /// From now on it has this size. The new limit, if that is more than before.
    pub(super) fn grant(&mut self, size: u64, now: Instant) -> Option<u64> {
        self.size = size;
        if self.mark.is_none_or(|(_, read)| self.read - read >= size / PACE_PART) {
            self.mark = Some((now, self.read));
        }
        let limit = self.read + size;
        (limit > self.limit).then(|| {
            self.limit = limit;
            limit
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: u64 = 64 * 1024;

    /// What a window comes to when its stream is read at `rate` bytes a second over `round_trip`.
    fn settles(mut window: Window, rate: f64, round_trip: Duration) -> Window {
        let (mut now, step) = (Instant::now(), 1200);
        for _ in 0..200_000 {
            // The sender is bound by the line, or by a window a round trip.
            let bound = window.size() as f64 / round_trip.as_secs_f64();
            now += Duration::from_secs_f64(step as f64 / rate.min(bound));
            window.took(step, || now).unwrap();
            if window.is_due() {
                let size = match window.pace(now, round_trip) {
                    Pace::Faster => window.size() * 2,
                    Pace::Same => window.size(),
                    Pace::Slower => (window.size() / 2).max(FIRST),
                };
                window.grant(size, now);
            }
        }
        window
    }

    #[test]
    fn a_stream_that_is_read_as_it_comes_gets_some_times_what_the_path_holds_and_not_much_more() {
        for (megabits, milliseconds) in [(100, 50), (200, 100), (1000, 20), (50, 80)] {
            let (rate, round_trip) = (f64::from(megabits) * 125_000.0, Duration::from_millis(milliseconds));
            let path = rate * round_trip.as_secs_f64();
            let size = settles(Window::new(FIRST), rate, round_trip).size();
            let part = size as f64 / path;
            assert!(
                (WIDTH - 0.1..WIDTH * 2.0 + 0.1).contains(&part),
                "{megabits} Mbit/s, {milliseconds} ms: {part}"
            );
            // The same stream, read at a hundredth of it.
            let slow = settles(Window::new(size), rate / 100.0, round_trip).size();
            assert!(slow <= size / 2, "{slow} of {size}");
        }
    }

    proptest! {
        #[test]
        fn a_sender_that_keeps_to_its_limit_is_never_too_much_and_never_stuck(
            first in 1_u64..100, steps in proptest::collection::vec((1_u64..50, 0_u8..3), 1..100)
        ) {
            let (mut window, now) = (Window::new(first), Instant::now());
            let mut limit = first;
            let mut sent = 0;
            for (bytes, change) in steps {
                prop_assert!(limit > sent || window.is_due(), "stuck");
                let bytes = bytes.min(limit - sent);
                sent += bytes;
                prop_assert_eq!(window.took(bytes, || now), Ok(()));
                prop_assert!(window.outstanding() == limit - sent);
                if window.is_due() {
                    let size = [window.size(), window.size() * 2, (window.size() / 2).max(1)][usize::from(change)];
                    limit = window.grant(size, now).unwrap_or(limit);
                }
            }
            prop_assert_eq!(window.took(limit - sent + 1, || now), Err(Exceeded));
        }
    }
}

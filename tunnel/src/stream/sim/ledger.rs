//! What went into each direction of a stream, and what may be believed of what came out.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::AddAssign;
use std::rc::Rc;

use bytes::Bytes;

use crate::stream::StreamError;

/// One direction of one stream: `true` is towards the origin.
pub(super) type Direction = (u32, bool);

/// What the sender has given to the stream.
#[derive(Clone, Copy, Debug, Default)]
struct Given {
    bytes: u64,
    trailers: bool,
    /// The end was given too: nothing was given since.
    is_ended: bool,
    /// Its sender broke it off, or let go of it.
    is_given_up: bool,
    /// Its receiver stopped, or let go of it.
    is_unwanted: bool,
}

/// Clones share it.
#[derive(Clone, Default)]
pub(super) struct Ledger(Rc<RefCell<Book>>);

#[derive(Default)]
struct Book {
    given: HashMap<Direction, Given>,
    seen: Seen,
    /// The connection is about to end, or has ended.
    is_dying: bool,
}

/// What the schedules met.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) whole: u64,
    pub(super) raw_ends: u64,
    pub(super) broken: u64,
    pub(super) cancelled: u64,
    pub(super) stopped: u64,
    pub(super) refused_kinds: u64,
    pub(super) deaths: u64,
    pub(super) closes: u64,
    pub(super) datagrams: u64,
}

impl Ledger {
    /// The next bytes of a direction, so that each tells where it belongs.
    pub(super) fn give(&self, direction: Direction, length: usize) -> Bytes {
        let mut ledger = self.0.borrow_mut();
        let given = ledger.given.entry(direction).or_default();
        let from = given.bytes;
        given.bytes += length as u64;
        (from..given.bytes).map(|at| byte(direction, at)).collect()
    }

    pub(super) fn give_trailers(&self, direction: Direction) {
        self.0.borrow_mut().given.entry(direction).or_default().trailers = true;
    }

    pub(super) fn give_end(&self, direction: Direction) {
        self.0.borrow_mut().given.entry(direction).or_default().is_ended = true;
    }

    /// From now on the receiver may meet a reset.
    pub(super) fn give_up(&self, direction: Direction) {
        self.0.borrow_mut().given.entry(direction).or_default().is_given_up = true;
    }

    /// From now on the sender may hear that nobody reads.
    pub(super) fn want_no_more(&self, direction: Direction) {
        self.0.borrow_mut().given.entry(direction).or_default().is_unwanted = true;
    }

    /// The connection is about to end: from now on anything may be lost.
    pub(super) fn die(&self) {
        self.0.borrow_mut().is_dying = true;
    }

    /// Checks that there was a reason for a reading to fail.
    pub(super) fn reading_failed(&self, direction: Direction, error: &StreamError) {
        self.saw(|seen| seen.broken += 1);
        let is_right = match error {
            StreamError::Aborted(_) => self.given(direction).is_given_up,
            StreamError::Lost(_) => self.0.borrow().is_dying,
            StreamError::Malformed(_) => false,
        };
        assert!(is_right, "{direction:?}: reading failed for no reason: {error}");
    }

    /// As [`Ledger::reading_failed`], before there was an answer: whoever breaks off a request gets none.
    pub(super) fn answer_failed(&self, stream: u32, error: &StreamError) {
        if self.given((stream, true)).is_given_up {
            self.give_up((stream, false));
        }
        self.reading_failed((stream, false), error);
    }

    /// Checks that there was a reason for a writing to fail.
    pub(super) fn writing_failed(&self, direction: Direction, error: &StreamError) {
        self.saw(|seen| seen.stopped += 1);
        let is_right = match error {
            StreamError::Aborted(_) => self.given(direction).is_unwanted,
            StreamError::Lost(_) => self.0.borrow().is_dying,
            StreamError::Malformed(_) => false,
        };
        assert!(is_right, "{direction:?}: writing failed for no reason: {error}");
    }

    /// Counts what the schedule met.
    pub(super) fn saw(&self, count: impl FnOnce(&mut Seen)) {
        count(&mut self.0.borrow_mut().seen);
    }

    pub(super) fn seen(&self) -> Seen {
        self.0.borrow().seen
    }

    /// Checks bytes that came out behind `at` others.
    pub(super) fn took(&self, direction: Direction, at: u64, bytes: &[u8]) {
        let given = self.given(direction);
        assert!(at + bytes.len() as u64 <= given.bytes, "{direction:?}: bytes that were never given");
        for (offset, got) in (at..).zip(bytes) {
            assert_eq!(*got, byte(direction, offset), "{direction:?}: lost or doubled at {offset}");
        }
    }

    /// Checks a clean end behind `at` bytes: only what is whole may look whole.
    pub(super) fn took_end(&self, direction: Direction, at: u64, trailers: bool) {
        let given = self.given(direction);
        assert!(given.is_ended, "{direction:?}: an end that nobody gave");
        assert_eq!((at, trailers), (given.bytes, given.trailers), "{direction:?}: short, and looks whole");
    }

    fn given(&self, direction: Direction) -> Given {
        self.0.borrow().given.get(&direction).copied().unwrap_or_default()
    }
}

/// Told apart by direction and place.
fn byte((stream, towards_origin): Direction, at: u64) -> u8 {
    let mixed = (u64::from(stream) * 2 + u64::from(towards_origin)).wrapping_mul(0x9e37_79b9)
        ^ at.wrapping_mul(0x85eb_ca6b);
    (mixed >> 7).to_le_bytes()[0]
}

impl Seen {
    pub(super) fn check(&self) {
        let Self { whole, raw_ends, broken, cancelled, stopped, refused_kinds, deaths, closes, datagrams } =
            *self;
        for met in [whole, raw_ends, broken, cancelled, stopped, refused_kinds, deaths, closes, datagrams] {
            assert!(met > 100, "too seldom to prove anything: {self:?}");
        }
    }
}

impl AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.whole += other.whole;
        self.raw_ends += other.raw_ends;
        self.broken += other.broken;
        self.cancelled += other.cancelled;
        self.stopped += other.stopped;
        self.refused_kinds += other.refused_kinds;
        self.deaths += other.deaths;
        self.closes += other.closes;
        self.datagrams += other.datagrams;
    }
}

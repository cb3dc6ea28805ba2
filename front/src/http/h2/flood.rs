//! Watches the cheap ways to keep an HTTP/2 server busy: frames that cost the visitor nothing (hazard 73), and
//! requests that are reset as soon as they are made (hazard 70). Pure: bytes, counts and the time come in.

use std::time::{Duration, Instant};

/// Counts frames in the visitor's byte stream. Useful traffic earns tokens, cheap frames spend them.
#[derive(Debug)]
pub struct FrameBudget {
    /// Of the client preface or of the current frame's payload: what has not passed yet.
    skip: usize,
    header: [u8; FRAME_HEADER_BYTES],
    filled: usize,
    /// The flags of a DATA frame whose next byte says how much of it is padding.
    padded: Option<u8>,
    tokens: u64,
    /// What earned less than a token so far.
    earned_bytes: u64,
    refilled: Instant,
}

/// The visitor spent more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many frames that carry nothing")]
pub struct Flood;

const PREFACE_BYTES: usize = 24;
const FRAME_HEADER_BYTES: usize = 9;
/// At the start, and at most: Envoy allows 1,000 control frames outstanding.
const MAX_TOKENS: u64 = 2_000;
/// Keep-alive pings and window updates of slow streams come at a few a second.
const TOKENS_PER_SECOND: u64 = 100;
/// A window update is due for each part of a response, a ping for each part measured.
const BYTES_PER_TOKEN: u64 = 512;
/// A new stream brings a priority, a reset and two window updates.
const TOKENS_PER_STREAM: u64 = 4;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

impl FrameBudget {
    pub fn new(now: Instant) -> Self {
        Self {
            skip: PREFACE_BYTES,
            header: [0; FRAME_HEADER_BYTES],
            filled: 0,
            padded: None,
            tokens: MAX_TOKENS,
            earned_bytes: 0,
            refilled: now,
        }
    }

    /// Bytes from the visitor, in order.
    ///
    /// # Errors
    /// When they hold more cheap frames than was earned.
    pub fn received(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        self.refill(now);
        loop {
            if let (Some(flags), [padding, ..]) = (self.padded, bytes) {
                self.padded = None;
                self.data(self.skip.saturating_sub(1 + usize::from(*padding)), flags)?;
            }
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return Ok(());
            }
            let taken = (FRAME_HEADER_BYTES - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == FRAME_HEADER_BYTES {
                self.filled = 0;
                self.frame()?;
            }
        }
    }

    /// Response bytes that the visitor took.
    pub fn sent(&mut self, bytes: usize) {
        self.earn(bytes);
    }

    fn frame(&mut self) -> Result<(), Flood> {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.skip = length;
        match kind {
            DATA if length > 0 && flags & PADDED != 0 => self.padded = Some(flags),
            DATA => self.data(length, flags)?,
            HEADERS if length > 0 => self.tokens = (self.tokens + TOKENS_PER_STREAM).min(MAX_TOKENS),
            _ => self.tokens = self.tokens.checked_sub(1).ok_or(Flood)?,
        }
        Ok(())
    }

    /// A DATA frame of `length` bytes without its padding. An empty one that ends the stream is how many bodies end.
    fn data(&mut self, length: usize, flags: u8) -> Result<(), Flood> {
        if length == 0 && flags & END_STREAM == 0 {
            self.tokens = self.tokens.checked_sub(1).ok_or(Flood)?;
        }
        self.earn(length);
        Ok(())
    }

    fn earn(&mut self, bytes: usize) {
        self.earned_bytes += bytes as u64;
        self.tokens = (self.tokens + self.earned_bytes / BYTES_PER_TOKEN).min(MAX_TOKENS);
        self.earned_bytes %= BYTES_PER_TOKEN;
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs();
        if elapsed > 0 {
            self.tokens =
                self.tokens.saturating_add(elapsed.saturating_mul(TOKENS_PER_SECOND)).min(MAX_TOKENS);
            self.refilled += Duration::from_secs(elapsed);
        }
    }
}

/// Counts requests that the visitor reset soon after it made them.
#[derive(Debug)]
pub struct ResetBudget {
    streams: u64,
    premature: u64,
    /// The current second, and resets in it.
    second: Instant,
    in_second: u64,
}

/// A reset that comes later is a visitor that changed its mind.
const PREMATURE: Duration = Duration::from_secs(1);
const CHECKED_FROM: u64 = 500;
const MAX_RESETS_PER_SECOND: u64 = 200;

impl ResetBudget {
    pub fn new(now: Instant) -> Self {
        Self { streams: 0, premature: 0, second: now, in_second: 0 }
    }

    pub fn opened(&mut self) {
        self.streams += 1;
    }

    pub fn streams(&self) -> u64 {
        self.streams
    }

    /// A stream was reset by the visitor, `age` after it began.
    ///
    /// # Errors
    /// When there were too many.
    pub fn reset(&mut self, age: Duration, now: Instant) -> Result<(), Flood> {
        if age >= PREMATURE {
            return Ok(());
        }
        self.premature += 1;
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.in_second) = (now, 0);
        }
        self.in_second += 1;
        let is_half = self.streams >= CHECKED_FROM && self.premature * 2 > self.streams;
        if is_half || self.in_second > MAX_RESETS_PER_SECOND { Err(Flood) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    fn after_preface(now: Instant) -> FrameBudget {
        let mut budget = FrameBudget::new(now);
        budget.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", now).unwrap();
        budget
    }

    #[test]
    fn a_frame_of_padding_alone_is_an_empty_one() {
        let now = Instant::now();
        // The first byte says that the other 255 are padding.
        let padding = frame(DATA, PADDED, &[&[255][..], &[0; 255]].concat());
        let mut budget = after_preface(now);
        let bytewise =
            |budget: &mut FrameBudget| padding.chunks(1).try_for_each(|byte| budget.received(byte, now));
        let mut sent = 0;
        while bytewise(&mut budget).is_ok() {
            sent += 1;
            assert!(sent <= MAX_TOKENS, "it earned what it cost");
        }
        let mut budget = after_preface(now);
        let useful = frame(DATA, PADDED, &[&[3][..], b"one", &[0; 3]].concat());
        for _ in 0..3 * MAX_TOKENS {
            budget.received(&useful, now).unwrap();
        }
    }

    #[test]
    fn hazard_073_each_kind_of_empty_frame_is_bounded() {
        for kind in [0, 2, 3, 4, 6, 7, 8, 9, 0x42] {
            let now = Instant::now();
            let mut budget = after_preface(now);
            let mut sent = 0u64;
            while budget.received(&frame(kind, 0, b""), now).is_ok() {
                sent += 1;
                assert!(sent <= MAX_TOKENS, "frames of type {kind} are not bounded");
            }
        }
    }

    #[test]
    fn a_download_may_update_its_windows_for_ever() {
        let now = Instant::now();
        let mut budget = after_preface(now);
        for _ in 0..100_000 {
            budget.sent(16 * 1024);
            budget.received(&frame(8, 0, &[0, 0, 64, 0]), now).unwrap();
            budget.received(&frame(8, 0, &[0, 0, 64, 0]), now).unwrap();
        }
    }

    #[test]
    fn requests_and_slow_pings_never_run_out() {
        let mut now = Instant::now();
        let mut budget = after_preface(now);
        for _ in 0..10_000 {
            budget.received(&frame(1, 5, b"head"), now).unwrap();
            budget.received(&frame(8, 0, &[0, 0, 64, 0]), now).unwrap();
            now += Duration::from_millis(100);
            budget.received(&frame(6, 0, &[0; 8]), now).unwrap();
        }
    }

    #[test]
    fn hazard_070_rapid_resets_are_a_flood_and_a_few_are_not() {
        let mut now = Instant::now();
        let mut budget = ResetBudget::new(now);
        for index in 0..10_000u64 {
            budget.opened();
            now += Duration::from_millis(20);
            if index % 3 == 0 {
                budget.reset(Duration::from_millis(5), now).unwrap();
            }
            budget.reset(Duration::from_secs(2), now).unwrap();
        }
        let mut budget = ResetBudget::new(now);
        let survived = (0..1_000).take_while(|_| {
            budget.opened();
            budget.reset(Duration::ZERO, now).is_ok()
        });
        assert_eq!(survived.count() as u64, MAX_RESETS_PER_SECOND);
        let mut budget = ResetBudget::new(now);
        let slowly = (0..10_000).take_while(|_| {
            budget.opened();
            now += Duration::from_millis(10);
            budget.reset(Duration::ZERO, now).is_ok()
        });
        assert_eq!(slowly.count() as u64, CHECKED_FROM - 1);
    }

    proptest! {
        #[test]
        fn any_split_counts_the_same(bytes in prop::collection::vec(any::<u8>(), 0..4000), cut in 1usize..64) {
            let now = Instant::now();
            let (mut whole, mut split) = (after_preface(now), after_preface(now));
            let at_once = whole.received(&bytes, now);
            let in_parts = bytes.chunks(cut).try_for_each(|part| split.received(part, now));
            assert_eq!((at_once, whole.tokens), (in_parts, split.tokens));
        }
    }
}

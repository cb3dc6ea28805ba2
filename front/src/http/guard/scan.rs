//! Follows a visitor's byte stream through HTTP/1.1 messages without owning it: where heads begin and end, how long
//! bodies are, and where the stream stops being HTTP. Strict: what is ambiguous is refused (hazards 1-34).
//!
//! ```text
//!          ┌───────────────────────── next message ────────────────────────┐
//!  Head ───┴─▶ Length(n) ─┬─ keeps alive ──────────────────────────────────┘
//!          ├─▶ Chunked ───┴─ closes ─▶ Ended
//!          └─▶ Upgrade (nothing is read until the answer is known) ─▶ Raw
//! ```
//! The result depends on the bytes alone, never on how they were split into reads (hazard 34).

use super::super::refusal::Refusal;
use super::chunk::Chunks;
use super::head::{Framing, Head, HeadScan};

/// What the bytes at the front of the input are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Not enough to say. The same bytes are shown again with more behind them.
    More,
    /// An empty line of `skip` bytes that must not be passed on, then a whole valid head of `len` bytes.
    Head { skip: usize, len: usize, head: Head },
    /// `len` bytes of the current body (or raw bytes) may pass. `end`: the message is complete with them.
    Body { len: usize, end: bool },
    /// Nothing may pass any more.
    Refuse(Refusal),
}

/// The position in the stream.
#[derive(Debug)]
pub struct Scanner {
    phase: Phase,
    /// The current message is the last one of this connection.
    last: bool,
}

#[derive(Debug)]
enum Phase {
    Head(HeadScan),
    Length(u64),
    Chunked(Chunks),
    Upgrade,
    Raw,
    Ended,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    pub fn new() -> Self {
        Self { phase: Phase::Head(HeadScan::new()), last: false }
    }

    /// Looks at `input`: the bytes that have not passed yet, beginning where the last step ended. A head is judged
    /// as it comes, so a step may refuse what a complete head would not mend.
    pub fn step(&mut self, input: &[u8]) -> Step {
        match &mut self.phase {
            Phase::Head(scan) => match scan.advance(input) {
                Ok(None) => Step::More,
                Ok(Some(head)) => {
                    let (skip, len) = (scan.skipped(), scan.len());
                    self.enter(&head);
                    Step::Head { skip, len, head }
                }
                Err(refusal) => self.refuse(refusal),
            },
            Phase::Length(remaining) => {
                if input.is_empty() {
                    return Step::More;
                }
                let len =
                    usize::try_from(*remaining).map_or(input.len(), |remaining| remaining.min(input.len()));
                *remaining -= len as u64;
                let end = *remaining == 0;
                if end {
                    self.next();
                }
                Step::Body { len, end }
            }
            Phase::Chunked(chunks) => {
                if input.is_empty() {
                    return Step::More;
                }
                match chunks.feed(input) {
                    Ok(fed) => {
                        if fed.end {
                            self.next();
                        }
                        Step::Body { len: fed.len, end: fed.end }
                    }
                    Err(refusal) => self.refuse(refusal),
                }
            }
            Phase::Raw if !input.is_empty() => Step::Body { len: input.len(), end: false },
            Phase::Upgrade | Phase::Raw | Phase::Ended => Step::More,
        }
    }

    fn enter(&mut self, head: &Head) {
        self.last = head.closes;
        self.phase = match head.framing {
            _ if head.websocket => Phase::Upgrade,
            Framing::Length(0) | Framing::None => {
                self.next();
                return;
            }
            Framing::Length(length) => Phase::Length(length),
            Framing::Chunked => Phase::Chunked(Chunks::new()),
        };
    }

    fn next(&mut self) {
        self.phase = if self.last { Phase::Ended } else { Phase::Head(HeadScan::new()) };
    }

    fn refuse(&mut self, refusal: Refusal) -> Step {
        self.phase = Phase::Ended;
        Step::Refuse(refusal)
    }

    /// The answer was 101: from here on every byte passes.
    pub fn upgraded(&mut self) {
        self.phase = Phase::Raw;
    }

    /// Nothing that follows is a message of this connection.
    pub fn end(&mut self) {
        self.phase = Phase::Ended;
    }

    /// Whether the next byte belongs to a body, and how many follow at most before the message ends, if that is
    /// known: what may be read directly to its consumer.
    pub fn body_ahead(&self) -> Option<u64> {
        match self.phase {
            Phase::Length(remaining) => Some(remaining),
            Phase::Chunked(_) | Phase::Raw => Some(u64::MAX),
            _ => None,
        }
    }

    pub fn is_raw(&self) -> bool {
        matches!(self.phase, Phase::Raw)
    }

    /// A WebSocket was asked for: nothing passes until the answer is known.
    pub fn awaits_upgrade(&self) -> bool {
        matches!(self.phase, Phase::Upgrade)
    }

    /// Whether a body is under way whose end has not been seen.
    pub fn is_mid_body(&self) -> bool {
        matches!(self.phase, Phase::Length(_) | Phase::Chunked(_))
    }

    pub fn is_at_head(&self) -> bool {
        matches!(self.phase, Phase::Head(_))
    }
}

#[cfg(test)]
mod tests;

//! The receiving direction of a stream: grants more as it is read.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::budget::Held;
use super::session::Flow;
use super::strand::Strand;
use super::window::{Exceeded, Pace, Window};
use crate::carrier::{Ended, RecvHalf};
use crate::code::AbortCode;

pub(crate) struct Inlet {
    half: RecvHalf,
    strand: Arc<Strand>,
    flow: Arc<Flow>,
    window: Window,
    /// What the window has of the budget, beyond where all begin.
    held: Option<Held>,
    /// It was granted anew.
    is_grown_up: bool,
}

/// Why nothing more can be read.
#[derive(Debug)]
pub(crate) enum Broken {
    Ended(Ended),
    /// The peer sent more than it was granted.
    Exceeded,
}

impl Inlet {
    /// `size` is what the peer may send before it hears more, `held` what of it is beyond where all begin.
    pub(crate) fn new(
        half: RecvHalf,
        strand: Arc<Strand>,
        flow: Arc<Flow>,
        (size, held): (u64, Option<Held>),
    ) -> Self {
        Self { half, strand, flow, window: Window::new(size), held, is_grown_up: false }
    }

    /// What the opener said that it takes of our answer.
    pub(crate) fn may_answer(&self, window: u64) {
        self.strand.grant(window);
    }

    /// Which route the stream serves.
    pub(crate) fn set_route(&self, route: u32) {
        self.strand.set_route(route);
    }

    /// A body of this length is to come: what this session's streams reached lately is granted for it at once.
    pub(crate) fn expect(&mut self, length: u64) {
        if self.held.is_none() && length > self.window.size() {
            let (size, held) = self.flow.first_window(length);
            self.held = held;
            self.grant_up_to(size);
        }
    }

    /// Takes what has arrived, in order and in pieces of any size; `Ok(false)` is the end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnMut(Bytes),
    ) -> Poll<Result<bool, Broken>> {
        // Only now is what was read before on its way, and what follows is wanted.
        if self.window.is_due() {
            self.grant();
        }
        let (mut take, mut count) = (take, 0);
        let read = self.half.poll_read(cx, |bytes| {
            count += bytes.len() as u64;
            take(bytes);
        });
        if count > 0 && (self.window.took(count, || self.flow.now()) == Err(Exceeded) || self.is_beyond()) {
            self.half.stop(AbortCode::Protocol);
            return Poll::Ready(Err(Broken::Exceeded));
        }
        read.map_err(Broken::Ended)
    }

    /// Takes the end, behind which nothing is wanted.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) {
        let _ = self.half.poll_read(cx, |_| {});
    }

    pub(crate) fn stop(&mut self, code: AbortCode) {
        self.half.stop(code);
    }

    /// What may come, or has come, while nobody reads.
    pub(crate) fn outstanding(&self) -> u64 {
        self.window.outstanding()
    }

    /// What of it the budget knows already.
    pub(crate) fn held(&self) -> usize {
        self.held.as_ref().map_or(0, Held::bytes)
    }

    fn grant(&mut self) {
        let size = self.window.size();
        let wanted = match self.window.pace(self.flow.now(), self.flow.round_trip()) {
            Pace::Faster => size * 2,
            Pace::Same => size,
            Pace::Slower => size / 2,
        };
        self.resize(wanted);
        self.is_grown_up = true;
        if self.window.size() > size {
            self.flow.grew(self.window.size());
        }
    }

    /// Whether the peer sent what it cannot know yet that it may: of what lay here it is not told apart otherwise, since more
    /// is granted as that is read.
    fn is_beyond(&mut self) -> bool {
        if !self.window.is_beyond() {
            return false;
        }
        if self.flow.post.has(self.strand.number) {
            return true;
        }
        self.window.is_heard();
        false
    }

    fn resize(&mut self, wanted: u64) {
        if !self.flow.post.has(self.strand.number) {
            self.window.is_heard();
        }
        let size = self.flow.window(wanted, &mut self.held);
        self.grant_up_to(size);
    }

    fn grant_up_to(&mut self, size: u64) {
        if let Some(limit) = self.window.grant(size, self.flow.now()) {
            self.flow.post.put(self.strand.number, limit);
        }
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        if self.is_grown_up {
            self.flow.ended(self.window.size());
        }
        self.flow.half_went();
    }
}

impl fmt::Debug for Inlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inlet")
            .field("half", &self.half)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

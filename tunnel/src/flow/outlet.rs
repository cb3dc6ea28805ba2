//! The sending direction of a stream: hands to the carrier what the peer lets it.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};

use super::session::Flow;
use super::strand::Strand;
use super::turns::{Load, Place, Rank, Try};
use crate::carrier::{Ended, SendHalf};
use crate::code::AbortCode;

pub(crate) struct Outlet {
    half: SendHalf,
    strand: Arc<Strand>,
    flow: Arc<Flow>,
    /// Handed to the carrier.
    sent: u64,
    /// The limit as it was last seen.
    limit: u64,
    /// Of `sent`, what was there when the carrier was last full.
    at_last_wait: u64,
    /// Grants find it. Others are not sent any before it is.
    is_listed: bool,
    load: Load,
    /// Where it waits for its turn, since the carrier is full.
    place: Option<Place>,
    /// Its turn, as long as it has not written: the others wait for it.
    turn: Option<Try>,
}

/// Less at once is no bulk, and is not worth a look at the clock.
const WEIGHED_FROM: u64 = 1024;
/// Small messages never come so far into their window, and cost no entry in any table. The peer grants nothing before the half, or of
/// a wide window a little earlier: what is missed then the next grant says again.
const LISTED_FROM: u64 = 4;

impl Outlet {
    pub(crate) fn new(half: SendHalf, strand: Arc<Strand>, flow: Arc<Flow>) -> Self {
        let load = Load::new(flow.now());
        Self {
            half,
            strand,
            flow,
            sent: 0,
            limit: 0,
            at_last_wait: 0,
            is_listed: false,
            load,
            place: None,
            turn: None,
        }
    }

    /// Which route the stream serves.
    pub(crate) fn set_route(&self, route: u32) {
        self.strand.set_route(route);
    }

    /// More than the usual is to come: the peer may grant for it at once.
    pub(crate) fn expect_much(&mut self) {
        self.list();
    }

    /// Waits until something may be written, so that what is to be written need not be held meanwhile. Ready, it is written or
    /// [`Outlet::pass`] is called soon.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        if self.sent == self.limit {
            self.list();
            match self.strand.poll_limit(cx, self.limit) {
                Poll::Ready(limit) => self.limit = limit,
                Poll::Pending => {
                    self.flow.turns.leave(&mut self.place);
                    return self.half.poll_broken(cx).map(Err);
                }
            }
        }
        match self.poll_turn(cx) {
            Poll::Ready(turn) => {
                self.turn = turn;
                Poll::Ready(Ok(()))
            }
            Poll::Pending => self.half.poll_broken(cx).map(Err),
        }
    }

    /// There is nothing to write yet.
    pub(crate) fn pass(&mut self) {
        if self.turn.take().is_some() {
            self.flow.turns.is_done(self.rank(), 0);
        }
    }

    /// Writes chunks in order and takes from their fronts what was written; ready when all of it was.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<(), Ended>> {
        loop {
            let waiting = length(chunks);
            if waiting == 0 {
                return Poll::Ready(Ok(()));
            }
            if self.sent + waiting > self.limit {
                self.limit = self.strand.limit();
            }
            if self.sent + waiting > self.limit / LISTED_FROM {
                self.list();
            }
            if self.sent == self.limit {
                match self.strand.poll_limit(cx, self.limit) {
                    Poll::Ready(limit) => self.limit = limit,
                    Poll::Pending => {
                        // Whoever waits for a reader has no turn: the others would wait for it.
                        self.pass();
                        self.flow.turns.leave(&mut self.place);
                        return self.half.poll_broken(cx).map(Err);
                    }
                }
                continue;
            }
            let Poll::Ready(attempt) = self.poll_turn(cx) else {
                return self.half.poll_broken(cx).map(Err);
            };
            let room = self.limit - self.sent;
            let (half, flow) = (&mut self.half, &self.flow);
            let written = if waiting <= room {
                flow.with_turns(cx, |cx| half.poll_write(cx, chunks))
            } else {
                flow.with_turns(cx, |cx| write_part(half, cx, chunks, room))
            };
            let count = waiting - length(chunks);
            self.sent += count;
            self.wrote(cx, count, written.is_pending(), attempt);
            match written {
                Poll::Ready(Ok(())) => {}
                Poll::Pending => {
                    self.flow.is_full(self.sent - self.at_last_wait);
                    self.at_last_wait = self.sent;
                    return self.half.poll_broken(cx).map(Err);
                }
                Poll::Ready(Err(ended)) => return Poll::Ready(Err(ended)),
            }
        }
    }

    /// Streams that wait each for its own room take no turns.
    fn poll_turn(&mut self, cx: &Context<'_>) -> Poll<Option<Try>> {
        if self.turn.is_some() || !self.flow.shares_room {
            return Poll::Ready(self.turn.take());
        }
        let rank = self.rank();
        self.flow.turns.poll_turn(cx, &mut self.place, rank).map(Some)
    }

    fn rank(&self) -> Rank {
        self.load.rank(|| self.strand.route())
    }

    fn wrote(&mut self, cx: &Context<'_>, count: u64, is_full: bool, attempt: Option<Try>) {
        if count >= WEIGHED_FROM
            && let Some(class) = self.load.add(self.flow.now(), count)
        {
            self.half.set_class(class);
        }
        let Some(attempt) = attempt else { return };
        let rank = self.rank();
        if is_full {
            let stream = self.strand.number;
            self.place = Some(self.flow.turns.is_full(cx, stream, rank, count, attempt));
        } else {
            self.flow.turns.is_done(rank, count);
        }
    }

    pub(crate) fn finish(&mut self) {
        self.half.finish();
        self.is_over();
    }

    pub(crate) fn reset(&mut self, code: AbortCode) {
        self.half.reset(code);
        self.is_over();
    }

    pub(crate) fn stopped(&self) -> impl Future<Output = Option<AbortCode>> + Send + 'static {
        self.half.stopped()
    }

    fn list(&mut self) {
        if !self.is_listed {
            self.is_listed = true;
            self.flow.list(&self.strand);
        }
    }

    fn is_over(&mut self) {
        self.unlist();
        self.pass();
        self.flow.turns.leave(&mut self.place);
        self.flow.turns.over(self.strand.number);
    }

    fn unlist(&mut self) {
        if std::mem::take(&mut self.is_listed) {
            self.flow.unlist(self.strand.number);
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.is_over();
        self.flow.half_went();
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("half", &self.half).field("sent", &self.sent).finish_non_exhaustive()
    }
}

/// As [`SendHalf::poll_write`], but for so many bytes only.
fn write_part(
    half: &mut SendHalf,
    cx: &mut Context<'_>,
    chunks: &mut [Bytes],
    mut room: u64,
) -> Poll<Result<(), Ended>> {
    for chunk in chunks {
        if room == 0 {
            break;
        }
        let length = usize::try_from(room).unwrap_or(usize::MAX).min(chunk.len());
        let mut part = [chunk.slice(..length)];
        let written = half.poll_write(cx, &mut part);
        let taken = length - part[0].len();
        chunk.advance(taken);
        room -= taken as u64;
        if !matches!(written, Poll::Ready(Ok(()))) {
            return written;
        }
    }
    Poll::Ready(Ok(()))
}

fn length(chunks: &[Bytes]) -> u64 {
    chunks.iter().map(|chunk| chunk.len() as u64).sum()
}

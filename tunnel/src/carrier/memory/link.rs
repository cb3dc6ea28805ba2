//! Both ends of one connection, the packets between them, and the time: a state machine without I/O, as QUIC behaves.
//!
//! Streams are numbered by their opener; a packet of a stream that the other end has not seen yet opens it, and all below it.
//! Every packet arrives at last, in any order, but for datagrams; a reset may overtake what was sent before it.

mod end;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Line;
use super::stream::{Receiving, RecvStage, SendStage};
use crate::carrier::{Closed, DatagramError, Ended, Exporter, Traffic};
use crate::code::{AbortCode, CloseCode};
use crate::limits::{DATAGRAM_BUFFER_BYTES, IDLE_TIMEOUT, KEEP_ALIVE};
use end::End;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Dialler,
    Listener,
}

impl Party {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Listener,
            Self::Listener => Self::Dialler,
        }
    }

    /// Told apart in the addresses that are shown.
    pub(super) fn port(self) -> u16 {
        self as u16 + 1
    }
}

/// What is on its way to one end.
#[derive(Debug)]
enum Packet {
    Data {
        stream: u64,
        at: u64,
        bytes: Bytes,
    },
    /// The stream ends behind so many bytes.
    End {
        stream: u64,
        at: u64,
    },
    Reset {
        stream: u64,
        code: AbortCode,
    },
    Stop {
        stream: u64,
        code: AbortCode,
    },
    /// The stream may have so many bytes in all.
    Allow {
        stream: u64,
        total: u64,
    },
    /// Everything of the stream has come.
    Received {
        stream: u64,
    },
    AllowStreams(u32),
    Datagram(Bytes),
    Close(CloseCode, String),
    /// Nothing was heard for too long.
    Silence,
}

#[derive(Debug)]
pub(crate) struct Link {
    line: Line,
    rng: StdRng,
    exporter: Exporter,
    ends: [End; 2],
    /// By the time of arrival; of those that arrive together the first that was sent.
    under_way: BinaryHeap<Reverse<Arrival>>,
    sent: u64,
    /// Since the link began.
    now: Duration,
    /// Nothing arrives any more.
    is_cut: bool,
    began: Instant,
    /// Since when nothing arrives, for now or for ever; and for how long that was so before.
    still_since: Option<Duration>,
    stood_still: Duration,
    /// Tokio's clock since the link began, and who moves the link along by it; else the time is what [`Link::advance`] says.
    clock: Option<(Instant, Arc<Notify>)>,
}

#[derive(Debug)]
struct Arrival {
    at: Duration,
    number: u64,
    to: Party,
    packet: Packet,
}

impl Link {
    /// `streams` is how many each end may have open at first: the dialler's, the listener's.
    pub(crate) fn new(line: Line, streams: (u32, u32)) -> Self {
        let mut rng = StdRng::seed_from_u64(line.seed);
        Self {
            exporter: rng.random(),
            rng,
            ends: [End::new(streams.0), End::new(streams.1)],
            under_way: BinaryHeap::new(),
            sent: 0,
            now: Duration::ZERO,
            is_cut: false,
            began: Instant::now(),
            still_since: None,
            stood_still: Duration::ZERO,
            clock: None,
            line,
        }
    }

    /// Goes by tokio's clock, and says when it has sent something.
    pub(super) fn by_clock(self, began: Instant, sent: Arc<Notify>) -> Self {
        Self { began, clock: Some((began, sent)), ..self }
    }

    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    pub(super) fn exporter(&self) -> Exporter {
        self.exporter
    }

    pub(super) fn closed(&self, party: Party) -> Option<&Closed> {
        self.end(party).closed.as_ref()
    }

    pub(super) fn traffic(&self, party: Party) -> Traffic {
        self.end(party).traffic
    }

    /// What came, and the answers to keep-alives that would have come: nothing is put on the line for them.
    pub(super) fn arrivals(&self, party: Party) -> u64 {
        let now = self.now();
        let stood_still = self.stood_still + self.still_since.map_or(Duration::ZERO, |since| now - since);
        let answers = now.saturating_sub(stood_still).as_secs() / KEEP_ALIVE.as_secs();
        self.traffic(party).datagrams_received + answers
    }

    /// When the next packet arrives.
    pub(crate) fn next_arrival(&self) -> Option<Duration> {
        if self.still_since.is_some() && !self.is_cut {
            return None;
        }
        self.under_way.peek().map(|Reverse(next)| next.at)
    }

    /// Hands over everything that arrives until `now`.
    pub(crate) fn advance(&mut self, now: Duration) {
        while self.next_arrival().is_some_and(|at| at <= now) {
            let Some(Reverse(arrival)) = self.under_way.pop() else { break };
            self.now = self.now.max(arrival.at);
            self.arrived(arrival.to, arrival.packet);
        }
        self.now = self.now.max(now);
    }

    /// From now on nothing arrives: each end notices by the silence.
    pub(crate) fn cut(&mut self) {
        self.is_cut = true;
        let now = self.now();
        self.still_since.get_or_insert(now);
        self.under_way.clear();
        for to in [Party::Dialler, Party::Listener] {
            self.push(self.now() + IDLE_TIMEOUT, to, Packet::Silence);
        }
    }

    /// From now on nothing arrives until [`Link::move_on`]. Nobody gives it up, however long that is.
    pub(super) fn stand_still(&mut self) {
        let now = self.now();
        self.still_since.get_or_insert(now);
    }

    pub(super) fn move_on(&mut self) {
        if let Some(since) = self.still_since.take_if(|_| !self.is_cut) {
            self.stood_still += self.now() - since;
            if let Some((_, sent)) = &self.clock {
                sent.notify_one();
            }
        }
    }

    pub(super) fn poll_open(&mut self, party: Party, cx: &mut Context<'_>) -> Poll<Result<u64, Closed>> {
        let window = self.line.stream_window_bytes;
        let end = self.end_mut(party);
        if let Some(closed) = &end.closed {
            return Poll::Ready(Err(closed.clone()));
        }
        if end.opened_and_open >= end.may_open {
            end.openers.push(cx.waker().clone());
            return Poll::Pending;
        }
        let stream = end.next * 2 + party as u64;
        end.next += 1;
        end.opened_and_open += 1;
        end.add(stream, window);
        Poll::Ready(Ok(stream))
    }

    pub(super) fn poll_accept(&mut self, party: Party, cx: &mut Context<'_>) -> Poll<Result<u64, Closed>> {
        let end = self.end_mut(party);
        if let Some(stream) = end.incoming.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        if let Some(closed) = &end.closed {
            return Poll::Ready(Err(closed.clone()));
        }
        end.acceptors.push(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn allow_streams(&mut self, party: Party, count: u32) {
        self.send(party, Packet::AllowStreams(count));
    }

    pub(super) fn send_datagram(&mut self, party: Party, bytes: Bytes) -> Result<(), DatagramError> {
        if let Some(closed) = self.closed(party) {
            return Err(DatagramError::Lost(closed.clone()));
        }
        if bytes.len() > self.line.packet_bytes {
            return Err(DatagramError::TooLong);
        }
        self.send(party, Packet::Datagram(bytes));
        Ok(())
    }

    pub(super) fn poll_datagram(
        &mut self,
        party: Party,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Bytes, Closed>> {
        let end = self.end_mut(party);
        if let Some(bytes) = end.datagrams.pop_front() {
            return Poll::Ready(Ok(bytes));
        }
        if let Some(closed) = &end.closed {
            return Poll::Ready(Err(closed.clone()));
        }
        end.datagram_readers.push(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn close(&mut self, party: Party, code: CloseCode, reason: &str) {
        if self.closed(party).is_none() {
            self.send(party, Packet::Close(code, reason.to_owned()));
            self.end_mut(party).close(Closed::ByUs);
        }
    }

    pub(super) fn poll_closed(&mut self, party: Party, cx: &mut Context<'_>) -> Poll<Closed> {
        let end = self.end_mut(party);
        if let Some(closed) = &end.closed {
            return Poll::Ready(closed.clone());
        }
        end.mourners.push(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn poll_write(
        &mut self,
        party: Party,
        stream: u64,
        cx: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<(), Ended>> {
        if let Some(closed) = self.closed(party) {
            return Poll::Ready(Err(Ended::Lost(closed.clone())));
        }
        let packet_bytes = self.line.packet_bytes as u64;
        for chunk in chunks {
            while !chunk.is_empty() {
                let sending = self.end_mut(party).sending(stream);
                match sending.stage {
                    SendStage::Open => {}
                    SendStage::Stopped(code) => return Poll::Ready(Err(Ended::Aborted(code))),
                    _ => return Poll::Ready(Err(Ended::Aborted(AbortCode::Cancelled))),
                }
                let room = (sending.allowed - sending.sent).min(packet_bytes);
                if room == 0 {
                    sending.writer = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                let length = usize::try_from(room).unwrap_or(usize::MAX).min(chunk.len());
                let (at, bytes) = (sending.sent, chunk.split_to(length));
                sending.sent += length as u64;
                self.send(party, Packet::Data { stream, at, bytes });
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn finish(&mut self, party: Party, stream: u64) {
        let sending = self.end_mut(party).sending(stream);
        if sending.stage == SendStage::Open {
            sending.stage = SendStage::Finished;
            let at = sending.sent;
            self.send(party, Packet::End { stream, at });
        }
    }

    pub(super) fn reset(&mut self, party: Party, stream: u64, code: AbortCode) {
        let sending = self.end_mut(party).sending(stream);
        if !matches!(sending.stage, SendStage::Received | SendStage::Reset) {
            sending.stage = SendStage::Reset;
            sending.wake();
            self.send(party, Packet::Reset { stream, code });
        }
    }

    pub(super) fn poll_stopped(
        &mut self,
        party: Party,
        stream: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<AbortCode>> {
        let end = self.end_mut(party);
        let Some(sending) = end.sendings.get_mut(&stream) else { return Poll::Ready(None) };
        match sending.stage {
            SendStage::Stopped(code) => return Poll::Ready(Some(code)),
            SendStage::Received => return Poll::Ready(None),
            SendStage::Open | SendStage::Finished | SendStage::Reset => {}
        }
        if end.closed.is_some() {
            return Poll::Ready(Some(AbortCode::Cancelled));
        }
        sending.watchers.push(cx.waker().clone());
        Poll::Pending
    }

    /// As [`Link::poll_stopped`], before the end was sent; a lost connection is told apart.
    pub(super) fn poll_broken(&mut self, party: Party, stream: u64, cx: &mut Context<'_>) -> Poll<Ended> {
        if let Some(closed) = self.closed(party) {
            return Poll::Ready(Ended::Lost(closed.clone()));
        }
        self.poll_stopped(party, stream, cx).map(|code| Ended::Aborted(code.unwrap_or(AbortCode::Cancelled)))
    }

    pub(super) fn poll_read(
        &mut self,
        party: Party,
        stream: u64,
        cx: &mut Context<'_>,
        mut take: impl FnMut(Bytes),
    ) -> Poll<Result<bool, Ended>> {
        let window = self.line.stream_window_bytes;
        let end = self.end_mut(party);
        let closed = end.closed.clone();
        let receiving = end.receiving(stream);
        match (receiving.stage, receiving.reset) {
            (RecvStage::Stopped, _) => return Poll::Ready(Err(Ended::Aborted(AbortCode::Cancelled))),
            (RecvStage::Over, None) => return Poll::Ready(Ok(false)),
            (RecvStage::Over | RecvStage::Open, Some(code)) => {
                receiving.stage = RecvStage::Over;
                return Poll::Ready(Err(Ended::Aborted(code)));
            }
            (RecvStage::Open, None) => {}
        }
        let before = receiving.read();
        while let Some(piece) = receiving.next() {
            take(piece);
        }
        if receiving.read() > before {
            let total = receiving.read() + window;
            self.send(party, Packet::Allow { stream, total });
            return Poll::Ready(Ok(true));
        }
        if receiving.is_at_end() {
            receiving.stage = RecvStage::Over;
            return Poll::Ready(Ok(false));
        }
        if let Some(closed) = closed {
            return Poll::Ready(Err(Ended::Lost(closed)));
        }
        receiving.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn stop(&mut self, party: Party, stream: u64, code: AbortCode) {
        let receiving = self.end_mut(party).receiving(stream);
        if receiving.stage == RecvStage::Open {
            receiving.stage = RecvStage::Stopped;
            receiving.forget();
            if receiving.reset.is_none() {
                self.send(party, Packet::Stop { stream, code });
            }
        }
    }

    pub(super) fn let_go_of_sending(&mut self, party: Party, stream: u64) {
        self.end_mut(party).sending(stream).is_let_go = true;
        self.end_mut(party).clear_away(stream, party);
    }

    pub(super) fn let_go_of_receiving(&mut self, party: Party, stream: u64) {
        self.end_mut(party).receiving(stream).is_let_go = true;
        self.end_mut(party).clear_away(stream, party);
    }

    /// How many streams this end still knows.
    #[cfg(test)]
    pub(crate) fn streams(&self, party: Party) -> usize {
        self.end(party).sendings.len()
    }

    fn arrived(&mut self, to: Party, packet: Packet) {
        let window = self.line.stream_window_bytes;
        let end = self.end_mut(to);
        if end.closed.is_some() {
            return;
        }
        end.traffic.datagrams_received += 1;
        match packet {
            Packet::Data { stream, at, bytes } => {
                if let Some(receiving) = end.seen(stream, to, window) {
                    receiving.arrived(at, bytes);
                    receiving.wake();
                }
                self.tell_received(to, stream);
            }
            Packet::End { stream, at } => {
                if let Some(receiving) = end.seen(stream, to, window) {
                    receiving.ends_at(at);
                    receiving.wake();
                }
                self.tell_received(to, stream);
            }
            Packet::Reset { stream, code } => {
                if let Some(receiving) =
                    end.seen(stream, to, window).filter(|receiving| !receiving.is_whole())
                {
                    receiving.reset = Some(code);
                    receiving.forget();
                    receiving.wake();
                }
                end.clear_away(stream, to);
            }
            Packet::Stop { stream, code } => {
                end.seen(stream, to, window);
                if let Some(sending) = end.sendings.get_mut(&stream)
                    && matches!(sending.stage, SendStage::Open | SendStage::Finished)
                {
                    sending.stage = SendStage::Stopped(code);
                    sending.wake();
                }
                end.clear_away(stream, to);
            }
            Packet::Allow { stream, total } => {
                if let Some(sending) = end.sendings.get_mut(&stream) {
                    sending.allowed = sending.allowed.max(total);
                    sending.writer.take().into_iter().for_each(Waker::wake);
                }
            }
            Packet::Received { stream } => {
                if let Some(sending) = end.sendings.get_mut(&stream)
                    && sending.stage == SendStage::Finished
                {
                    sending.stage = SendStage::Received;
                    sending.wake();
                }
                end.clear_away(stream, to);
            }
            Packet::AllowStreams(count) => {
                end.may_open = end.may_open.max(count);
                end.openers.drain(..).for_each(Waker::wake);
            }
            Packet::Datagram(bytes) => {
                while end.datagrams.iter().map(Bytes::len).sum::<usize>() + bytes.len()
                    > DATAGRAM_BUFFER_BYTES
                {
                    end.datagrams.pop_front();
                }
                end.datagrams.push_back(bytes);
                end.datagram_readers.drain(..).for_each(Waker::wake);
            }
            Packet::Close(code, reason) => end.close(Closed::ByPeer(code, reason)),
            Packet::Silence => end.close(Closed::Silent),
        }
    }

    fn tell_received(&mut self, party: Party, stream: u64) {
        let is_whole = self.end(party).receivings.get(&stream).is_some_and(Receiving::is_whole);
        if is_whole {
            self.send(party, Packet::Received { stream });
            self.end_mut(party).clear_away(stream, party);
        }
    }

    /// Puts a packet on the line, unless this end is closed.
    fn send(&mut self, from: Party, packet: Packet) {
        if self.end(from).closed.is_some() || self.is_cut {
            return;
        }
        let jitter = u64::try_from(self.line.jitter.as_nanos()).unwrap_or(u64::MAX);
        let mut at = self.now() + self.line.delay + Duration::from_nanos(self.rng.random_range(0..=jitter));
        self.end_mut(from).traffic.datagrams_sent += 1;
        self.end_mut(from).traffic.sends += 1;
        while self.rng.random_range(0..1000) < self.line.loss_permille {
            self.end_mut(from).traffic.packets_lost += 1;
            if matches!(packet, Packet::Datagram(_)) {
                return;
            }
            at += self.line.delay * 2 + self.line.jitter;
        }
        self.push(at, from.other(), packet);
    }

    fn push(&mut self, at: Duration, to: Party, packet: Packet) {
        self.sent += 1;
        self.under_way.push(Reverse(Arrival { at, number: self.sent, to, packet }));
        if let Some((_, sent)) = &self.clock {
            sent.notify_one();
        }
    }

    pub(super) fn instant(&self) -> Instant {
        self.began + self.now()
    }

    fn now(&self) -> Duration {
        self.clock.as_ref().map_or(self.now, |(began, _)| began.elapsed())
    }

    fn end(&self, party: Party) -> &End {
        &self.ends[party as usize]
    }

    fn end_mut(&mut self, party: Party) -> &mut End {
        &mut self.ends[party as usize]
    }
}

impl PartialEq for Arrival {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Arrival {}

impl PartialOrd for Arrival {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Arrival {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

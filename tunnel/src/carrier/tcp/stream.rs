//! One stream: a request of HTTP/2 whose two directions are streams of bytes with ends of their own.
//!
//! ```text
//! SendHalf ─ pieces ─→ h2 ⇒          ⇒ h2 ─ the connection's task (pump) ─→ inbox ─→ RecvHalf
//!      ▲ stopped ←────────────────────────────── STOP ┘
//! ```
//! What comes is taken from the library as it comes, read or not, so that STOP and RESET are seen behind what nobody reads; the
//! connection's window is given back only as it is read. END_STREAM is sent when nothing can follow: behind our end, once the
//! peer's was seen. So it also says that the peer has everything.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::{Bytes, BytesMut};
use h2::client::ResponseFuture;
use parking_lot::Mutex;

use super::bells::Bells;
use super::records::{Decoder, HEAD_BYTES, Malformed, Record, put_data_head};
use super::room::{Piece, Room};
use crate::carrier::{Closed, Ended};
use crate::code::AbortCode;

/// Pieces of what is small, each of them a frame: others wait for a whole one.
const PIECE_BYTES: usize = 16 * 1024 - HEAD_BYTES;
/// Of bulk: fewer system calls.
const BULK_PIECE_BYTES: usize = super::settings::FRAME_BYTES as usize - HEAD_BYTES;
/// Up to it chunks are joined by a copy: each would cost as much as a frame.
const JOINED_BYTES: usize = 1024;

/// What the control stream and the credit stream may hand over although the room is full.
const URGENT_BYTES: usize = 64 * 1024;

/// What the two halves and the connection's task share.
pub(super) struct Stream {
    bells: Arc<Bells>,
    room: Arc<Room>,
    /// Its number for those who open and grant.
    pub(super) number: u64,
    state: Mutex<State>,
}

struct State {
    incoming: Incoming,
    /// None: END_STREAM was sent.
    outgoing: Option<h2::SendStream<Piece>>,
    decoder: Decoder,
    /// Came, and was not read.
    inbox: VecDeque<Bytes>,
    /// How the peer's direction ended.
    end: Option<End>,
    /// Our reader has given up, and what comes is thrown away.
    is_unread: bool,
    /// FIN or RESET was sent.
    is_over: bool,
    has_said_stop: bool,
    /// The peer reads no more.
    stopped: Option<AbortCode>,
    lost: Option<Closed>,
    is_bulk: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Who waits for the peer to stop, or to have everything.
    watchers: Vec<Waker>,
}

pub(super) enum Incoming {
    /// The head of the answer is still to come.
    Asked(ResponseFuture),
    Body(h2::RecvStream),
    /// END_STREAM was seen. What lies in the inbox is still to be given back.
    Whole(h2::RecvStream),
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Fin,
    Reset(AbortCode),
}

/// What the connection's task has to know of a pump.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pumped {
    /// Something of the stream came.
    pub(super) has_come: bool,
    /// Nothing more will, and nothing more is sent.
    pub(super) is_over: bool,
}

impl Stream {
    pub(super) fn asked(
        connection: (&Arc<Bells>, &Arc<Room>),
        answer: ResponseFuture,
        outgoing: h2::SendStream<Piece>,
    ) -> Arc<Self> {
        let id = outgoing.stream_id().as_u32();
        Self::new(connection, id, Incoming::Asked(answer), outgoing)
    }

    pub(super) fn answered(
        connection: (&Arc<Bells>, &Arc<Room>),
        body: h2::RecvStream,
        outgoing: h2::SendStream<Piece>,
    ) -> Arc<Self> {
        let id = outgoing.stream_id().as_u32();
        Self::new(connection, id, Incoming::Body(body), outgoing)
    }

    fn new(
        (bells, room): (&Arc<Bells>, &Arc<Room>),
        id: u32,
        incoming: Incoming,
        outgoing: h2::SendStream<Piece>,
    ) -> Arc<Self> {
        let state = State {
            incoming,
            outgoing: Some(outgoing),
            decoder: Decoder::default(),
            inbox: VecDeque::new(),
            end: None,
            is_unread: false,
            is_over: false,
            has_said_stop: false,
            stopped: None,
            lost: None,
            is_bulk: false,
            reader: None,
            writer: None,
            watchers: Vec::new(),
        };
        // The edge's are odd.
        let number = u64::from(id / 2);
        let (bells, room) = (Arc::clone(bells), Arc::clone(room));
        Arc::new(Self { bells, room, number, state: Mutex::new(state) })
    }

    /// Takes all that has come. The connection's task calls it when the library rang, and once at first.
    ///
    /// # Errors
    /// When the peer broke the carrier's protocol.
    pub(super) fn pump(self: &Arc<Self>) -> Result<Pumped, Malformed> {
        let bell = Waker::from(Arc::clone(self));
        let mut state = self.state.lock();
        state.pump(&mut Context::from_waker(&bell))
    }

    /// The connection has ended.
    pub(super) fn lose(&self, closed: &Closed) {
        let mut state = self.state.lock();
        state.lost.get_or_insert_with(|| closed.clone());
        state.inbox.clear();
        state.reader.take().into_iter().for_each(Waker::wake);
        state.wake_writers();
    }

    /// Behind [`Stream::lose`]: lets go of the library, which resets what was open.
    pub(super) fn let_go(&self) {
        let mut state = self.state.lock();
        let held = (std::mem::replace(&mut state.incoming, Incoming::Over), state.outgoing.take());
        drop(state);
        drop(held);
    }

    pub(super) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        chunks: &mut [Bytes],
        is_urgent: bool,
    ) -> Poll<Result<(), Ended>> {
        loop {
            let mut state = self.state.lock();
            if let Some(broken) = state.broken() {
                return Poll::Ready(Err(broken));
            }
            if chunks.iter().all(Bytes::is_empty) {
                return Poll::Ready(Ok(()));
            }
            let more = if is_urgent { URGENT_BYTES } else { 0 };
            if self.room().poll_free(cx, more).is_pending() {
                state.watch(cx);
                return Poll::Pending;
            }
            let (front, body) = cut(chunks, if state.is_bulk { BULK_PIECE_BYTES } else { PIECE_BYTES });
            let piece = Piece::new(front, body, self.room());
            state.send(piece, false);
        }
    }

    pub(super) fn poll_broken(&self, cx: &Context<'_>) -> Poll<Ended> {
        let mut state = self.state.lock();
        match state.broken() {
            Some(broken) => Poll::Ready(broken),
            None if state.has_all() => Poll::Ready(Ended::Aborted(AbortCode::Cancelled)),
            None => {
                state.writer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn poll_stopped(&self, cx: &Context<'_>) -> Poll<Option<AbortCode>> {
        let mut state = self.state.lock();
        if let Some(code) = state.stopped {
            return Poll::Ready(Some(code));
        }
        if state.lost.is_some() {
            return Poll::Ready(Some(AbortCode::Cancelled));
        }
        if state.has_all() {
            return Poll::Ready(None);
        }
        state.watch(cx);
        Poll::Pending
    }

    pub(super) fn set_bulk(&self, is_bulk: bool) {
        self.state.lock().is_bulk = is_bulk;
    }

    /// FIN, or RESET with a code.
    pub(super) fn end(&self, reset: Option<AbortCode>) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.is_over, true) {
            return;
        }
        let record = reset.map_or(Record::Fin, |code| Record::Reset(code.to_u32()));
        state.say(&record, self.room());
        let is_done = state.is_done();
        drop(state);
        if is_done {
            self.bells.ring(self.number);
        }
    }

    pub(super) fn poll_read(
        &self,
        cx: &Context<'_>,
        mut take: impl FnMut(Bytes),
    ) -> Poll<Result<bool, Ended>> {
        let mut state = self.state.lock();
        if let Some(closed) = &state.lost {
            return Poll::Ready(Err(Ended::Lost(closed.clone())));
        }
        if !state.inbox.is_empty() {
            let mut count = 0;
            while let Some(bytes) = state.inbox.pop_front() {
                count += bytes.len();
                take(bytes);
            }
            state.release(count);
            return Poll::Ready(Ok(true));
        }
        match state.end {
            Some(End::Fin) => Poll::Ready(Ok(false)),
            Some(End::Reset(code)) => Poll::Ready(Err(Ended::Aborted(code))),
            None if state.is_unread => Poll::Ready(Err(Ended::Aborted(AbortCode::Cancelled))),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn stop(&self, code: AbortCode) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.is_unread, true) {
            return;
        }
        state.discard();
        if state.end.is_none() && !std::mem::replace(&mut state.has_said_stop, true) {
            state.say(&Record::Stop(code.to_u32()), self.room());
        }
    }

    /// Whether both directions have ended for the library, too.
    pub(super) fn is_done(&self) -> bool {
        self.state.lock().is_done()
    }

    fn room(&self) -> &Arc<Room> {
        &self.room
    }
}

/// The library has something of the stream.
impl Wake for Stream {
    fn wake(self: Arc<Self>) {
        self.bells.ring(self.number);
    }
}

impl State {
    fn pump(&mut self, cx: &mut Context<'_>) -> Result<Pumped, Malformed> {
        let mut has_come = false;
        while let Poll::Ready(came) = self.incoming.poll(cx) {
            match came {
                Came::Bytes(bytes) => {
                    has_come = true;
                    self.take(bytes)?;
                }
                Came::End => {
                    self.came_to_an_end();
                    break;
                }
            }
        }
        self.end_both();
        Ok(Pumped { has_come, is_over: self.is_done() })
    }

    fn take(&mut self, bytes: Bytes) -> Result<(), Malformed> {
        let mut unread = bytes.len();
        self.decoder.feed(bytes);
        let before = self.inbox.len();
        while let Some(record) = self.decoder.next_record()? {
            match record {
                Record::Data(bytes) if !self.is_unread => {
                    unread -= bytes.len();
                    self.inbox.push_back(bytes);
                }
                Record::Data(_) => {}
                Record::Fin => self.ended(End::Fin),
                Record::Reset(code) => {
                    self.discard();
                    self.ended(End::Reset(AbortCode::from_u64(code.into())));
                }
                Record::Stop(code) => {
                    let code = AbortCode::from_u64(code.into());
                    self.stopped.get_or_insert(code);
                    self.wake_writers();
                }
            }
        }
        self.release(unread);
        if self.inbox.len() > before {
            self.reader.take().into_iter().for_each(Waker::wake);
        }
        Ok(())
    }

    /// END_STREAM, or a reset of HTTP/2's own, which breaks off both directions.
    fn came_to_an_end(&mut self) {
        if self.end.is_none() {
            self.discard();
            self.ended(End::Reset(AbortCode::Cancelled));
            self.stopped.get_or_insert(AbortCode::Cancelled);
            self.outgoing = None;
        }
        self.wake_writers();
    }

    fn ended(&mut self, end: End) {
        self.end = Some(end);
        self.reader.take().into_iter().for_each(Waker::wake);
    }

    /// Sends END_STREAM once nothing can follow.
    fn end_both(&mut self) {
        if self.is_over
            && self.end.is_some()
            && let Some(mut outgoing) = self.outgoing.take()
        {
            // An error means that the peer has broken it off.
            let _ = outgoing.send_data(Piece::none(), true);
        }
    }

    fn say(&mut self, record: &Record, room: &Arc<Room>) {
        let mut out = BytesMut::with_capacity(HEAD_BYTES);
        record.encode(&mut out);
        let is_last = self.is_over && self.end.is_some();
        self.send(Piece::new(out.freeze(), Bytes::new(), room), is_last);
        if is_last {
            self.outgoing = None;
        }
    }

    fn send(&mut self, piece: Piece, is_last: bool) {
        if let Some(outgoing) = &mut self.outgoing {
            // An error means that the peer has broken it off, which is heard where it is read.
            let _ = outgoing.send_data(piece, is_last);
        }
    }

    fn broken(&self) -> Option<Ended> {
        match (&self.lost, self.stopped) {
            (Some(closed), _) => Some(Ended::Lost(closed.clone())),
            (None, Some(code)) => Some(Ended::Aborted(code)),
            (None, None) if self.is_over => Some(Ended::Aborted(AbortCode::Cancelled)),
            (None, None) => None,
        }
    }

    fn has_all(&self) -> bool {
        self.is_over && matches!(self.incoming, Incoming::Whole(_) | Incoming::Over)
    }

    fn is_done(&self) -> bool {
        self.outgoing.is_none() && matches!(self.incoming, Incoming::Whole(_) | Incoming::Over)
    }

    fn discard(&mut self) {
        let count = self.inbox.drain(..).map(|bytes| bytes.len()).sum();
        self.release(count);
    }

    fn release(&mut self, count: usize) {
        if count > 0 {
            self.incoming.release(count);
        }
    }

    fn watch(&mut self, cx: &Context<'_>) {
        if !self.watchers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.watchers.push(cx.waker().clone());
        }
    }

    fn wake_writers(&mut self) {
        self.writer.take().into_iter().chain(self.watchers.drain(..)).for_each(Waker::wake);
    }
}

pub(super) enum Came {
    Bytes(Bytes),
    End,
}

impl Incoming {
    /// Gives so much of the connection's window back.
    pub(super) fn release(&mut self, count: usize) {
        if let Self::Body(body) | Self::Whole(body) = self {
            // More than came is never released.
            let _ = body.flow_control().release_capacity(count);
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Came> {
        loop {
            match self {
                Self::Asked(answer) => match ready!(std::pin::Pin::new(answer).poll(cx)) {
                    Ok(answer) => *self = Self::Body(answer.into_body()),
                    Err(_) => *self = Self::Over,
                },
                Self::Body(body) => {
                    return Poll::Ready(match ready!(body.poll_data(cx)) {
                        Some(Ok(bytes)) => Came::Bytes(bytes),
                        Some(Err(_)) => {
                            *self = Self::Over;
                            Came::End
                        }
                        None => {
                            let Self::Body(body) = std::mem::replace(self, Self::Over) else { continue };
                            *self = Self::Whole(body);
                            Came::End
                        }
                    });
                }
                Self::Whole(_) | Self::Over => return Poll::Ready(Came::End),
            }
        }
    }
}

/// Takes at most so many bytes from the fronts of chunks: a DATA record's head and what is small of them, and what follows
/// uncopied.
fn cut(chunks: &mut [Bytes], most: usize) -> (Bytes, Bytes) {
    let mut joined = BytesMut::new();
    let mut body = Bytes::new();
    let mut left = most;
    for chunk in chunks {
        if chunk.len() <= JOINED_BYTES.min(left) {
            left -= chunk.len();
            joined.extend_from_slice(&std::mem::take(chunk));
        } else {
            body = chunk.split_to(chunk.len().min(left));
            break;
        }
    }
    let mut front = BytesMut::with_capacity(HEAD_BYTES + joined.len());
    put_data_head(&mut front, joined.len() + body.len());
    front.extend_from_slice(&joined);
    (front.freeze(), body)
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({})", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_chunks_are_joined_and_large_ones_are_cut_without_a_copy() {
        let large = Bytes::from(vec![7; 40_000]);
        let mut chunks = [Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c"), large.clone()];
        let (front, body) = cut(&mut chunks, 16_000);
        assert_eq!(&front[..], &[0, 0, 0, 0x3e, 0x80, b'a', b'b', b'c']);
        assert_eq!((body.len(), body.as_ptr()), (15_997, large.as_ptr()));
        let mut count = 0;
        while chunks.iter().any(|chunk| !chunk.is_empty()) {
            let (front, body) = cut(&mut chunks, 16_000);
            count += front.len() - HEAD_BYTES + body.len();
        }
        assert_eq!(count, 40_000 - 15_997);
    }
}

//! The task of one connection: moves it along, hands out what came, keeps it alive, and ends it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::client::ResponseFuture;
use tokio::time::{Instant, Sleep, sleep_until};

use super::notes::{Decoder, Note};
use super::records::Malformed;
use super::room::{Piece, Room};
use super::shared::{Purpose, Shared};
use super::stream::{Came, Incoming, Stream};
use super::tls::Tls;
use crate::carrier::Closed;
use crate::code::CloseCode;
use crate::limits::IDLE_TIMEOUT;

/// What a peer that was told of the end may take to go.
const FAREWELL: Duration = Duration::from_secs(1);
/// Notes that the peer does not take: more pings of his are not answered.
const NOTES_BYTES: usize = 1024;
/// The edge asks for the round trip each time that it was asked so often itself.
const ASKED_BACK: u32 = 8;
/// Of a ping that is asked while an earlier one is not answered: it has the peer show that it lives.
const NOT_MEASURED: u32 = 0;

/// The library's end of a connection.
pub(super) enum Mux {
    Edge(Box<h2::client::Connection<Tls, Piece>>),
    Connector(Box<h2::server::Connection<Tls, Piece>>),
}

pub(super) struct Task {
    mux: Mux,
    shared: Arc<Shared>,
    /// There from the beginning at the edge, and at the connector from the first request on.
    notes: Option<Notes>,
    room_of_notes: Arc<Room>,
    /// At the connector: how often the peer is to answer.
    keep_alive: Option<Duration>,
    ping: Ping,
    /// At the edge: not used by the connector yet, and those that it uses.
    spare: Option<Arc<Stream>>,
    reversed: Vec<Arc<Stream>>,
    /// Told of the end, the peer has until then.
    until: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

/// The stream of the notes.
pub(super) struct Notes {
    incoming: Incoming,
    outgoing: h2::SendStream<Piece>,
    decoder: Decoder,
}

/// The last that was asked.
struct Ping {
    number: u32,
    asked: Option<Instant>,
    next: Instant,
    /// How often the peer has asked.
    heard: u32,
    has_measured: bool,
}

impl Notes {
    pub(super) fn asked(answer: ResponseFuture, outgoing: h2::SendStream<Piece>) -> Self {
        Self { incoming: Incoming::Asked(answer), outgoing, decoder: Decoder::default() }
    }

    fn say(&mut self, note: &Note, room: &Arc<Room>) {
        let piece = Piece::new(note.encode(), bytes::Bytes::new(), room);
        // An error means that the connection is lost.
        let _ = self.outgoing.send_data(piece, false);
    }
}

impl Task {
    pub(super) fn new(
        mux: Mux,
        shared: Arc<Shared>,
        notes: Option<Notes>,
        keep_alive: Option<Duration>,
    ) -> Self {
        let now = Instant::now();
        Self {
            mux,
            shared,
            notes,
            room_of_notes: Room::new(NOTES_BYTES),
            keep_alive,
            ping: Ping { number: 0, asked: None, next: now, heard: 0, has_measured: false },
            spare: None,
            reversed: Vec::new(),
            until: None,
            timer: Box::pin(sleep_until(now)),
        }
    }

    /// To the connection's end.
    pub(super) async fn run(mut self) {
        let closed = poll_fn(|cx| self.poll(cx)).await;
        self.shared.lose(closed);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        loop {
            let mut rung = self.shared.rung();
            self.say_farewell();
            if let Some(window) = self.shared.window() {
                self.mux.set_window(window);
            }
            self.keep_spare(cx);
            if let Poll::Ready(closed) = self.poll_mux(cx) {
                return Poll::Ready(closed);
            }
            rung.append(&mut self.shared.rung());
            if let Err(malformed) = self.pump(rung) {
                self.shared.close(CloseCode::Protocol, malformed.0);
            }
            match self.read_notes(cx) {
                Ok(None) => {}
                Ok(Some(closed)) => return Poll::Ready(closed),
                Err(malformed) => self.shared.close(CloseCode::Protocol, malformed.0),
            }
            if let Some(closed) = self.look_at_clock(cx) {
                return Poll::Ready(closed);
            }
            if self.shared.bells.is_quiet(cx) {
                return Poll::Pending;
            }
        }
    }

    fn poll_mux(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        let connection = match &mut self.mux {
            Mux::Edge(connection) => return Pin::new(connection).poll(cx).map(|end| ended(end.err())),
            Mux::Connector(connection) => connection,
        };
        while let Poll::Ready(asked) = connection.poll_accept(cx) {
            let (request, mut respond) = match asked {
                Some(Ok(asked)) => asked,
                Some(Err(error)) => return Poll::Ready(ended(Some(error))),
                None => return Poll::Ready(ended(None)),
            };
            // An error means that the peer has broken it off.
            let Ok(outgoing) = respond.send_response(http::Response::new(()), false) else { continue };
            let purpose = Purpose::of(request.uri().path());
            let body = request.into_body();
            match purpose {
                Some(Purpose::Notes) if self.notes.is_none() => {
                    let (incoming, decoder) = (Incoming::Body(body), Decoder::default());
                    self.notes = Some(Notes { incoming, outgoing, decoder });
                }
                Some(purpose @ (Purpose::Stream | Purpose::Reverse)) => {
                    let stream = Stream::answered((&self.shared.bells, &self.shared.room), body, outgoing);
                    let number = stream.number;
                    self.shared.asked(purpose, stream);
                    self.shared.bells.ring(number);
                }
                _ => self.shared.close(CloseCode::Protocol, "a request for nothing"),
            }
        }
        Poll::Pending
    }

    fn pump(&mut self, rung: Vec<Arc<Stream>>) -> Result<(), Malformed> {
        for stream in rung {
            let pumped = stream.pump()?;
            if pumped.has_come && self.spare.as_ref().is_some_and(|spare| Arc::ptr_eq(spare, &stream)) {
                self.spare = None;
                self.reversed.push(Arc::clone(&stream));
                self.shared.opened(Arc::clone(&stream));
            }
            if pumped.is_over {
                self.shared.forget(stream.number);
            }
        }
        Ok(())
    }

    /// At the edge: there is always one more stream for the connector to open, as far as it may.
    fn keep_spare(&mut self, cx: &mut Context<'_>) {
        let before = self.reversed.len();
        self.reversed.retain(|stream| !stream.is_done());
        for _ in self.reversed.len()..before {
            self.shared.spare_is_over();
        }
        if self.spare.is_none()
            && let Some(spare) = self.shared.poll_spare(cx)
        {
            self.shared.bells.ring(spare.number);
            self.spare = Some(spare);
        }
    }

    fn read_notes(&mut self, cx: &mut Context<'_>) -> Result<Option<Closed>, Malformed> {
        let Some(notes) = &mut self.notes else { return Ok(None) };
        while let Poll::Ready(came) = notes.incoming.poll(cx) {
            let Came::Bytes(bytes) = came else {
                // It lives as long as its connection.
                return Ok(Some(Closed::Broken("the peer ended the stream of its notes".to_owned())));
            };
            notes.incoming.release(bytes.len());
            notes.decoder.feed(&bytes);
            while let Some(note) = notes.decoder.next_note()? {
                match note {
                    Note::Ping(number) => {
                        self.ping.heard = self.ping.heard.wrapping_add(1);
                        if self.room_of_notes.is_free() {
                            notes.say(&Note::Pong(number), &self.room_of_notes);
                            if self.keep_alive.is_none() && self.ping.heard % ASKED_BACK == 1 {
                                notes.say(&self.ping.ask(), &self.room_of_notes);
                            }
                        }
                    }
                    Note::Pong(number) => {
                        if let Some(sample) = self.ping.answered(number) {
                            let smooth = match self.ping.has_measured {
                                true => (self.shared.round_trip() * 7 + sample) / 8,
                                false => sample,
                            };
                            self.ping.has_measured = true;
                            self.shared.set_round_trip(smooth);
                        }
                    }
                    Note::Close(code, reason) => {
                        return Ok(Some(Closed::ByPeer(CloseCode::from_u64(code.into()), reason)));
                    }
                }
            }
        }
        Ok(None)
    }

    fn say_farewell(&mut self) {
        if self.until.is_some() {
            return;
        }
        if let Some((code, reason)) = self.shared.farewell() {
            if let Some(notes) = &mut self.notes {
                notes.say(&Note::Close(code.to_u32(), reason), &self.room_of_notes);
            }
            self.shared.let_go();
            self.spare = None;
            self.reversed.clear();
            self.until = Some(Instant::now() + FAREWELL);
        }
    }

    /// Asks when it is time to, and gives up when it is.
    fn look_at_clock(&mut self, cx: &mut Context<'_>) -> Option<Closed> {
        loop {
            let now = Instant::now();
            if self.until.is_some_and(|until| until <= now) {
                return Some(Closed::ByUs);
            }
            let silent = self.shared.meter.heard() + IDLE_TIMEOUT;
            if silent <= now {
                return Some(Closed::Silent);
            }
            let mut next = self.until.unwrap_or(silent).min(silent);
            if let (Some(keep_alive), Some(notes)) = (self.keep_alive, &mut self.notes) {
                if self.ping.next <= now {
                    self.ping.next = now + keep_alive;
                    if self.room_of_notes.is_free() {
                        notes.say(&self.ping.ask(), &self.room_of_notes);
                    }
                }
                next = next.min(self.ping.next);
            }
            // One that is too early is looked at again: setting it each time that something comes would cost more.
            if self.timer.is_elapsed() || next < self.timer.deadline() {
                self.timer.as_mut().reset(next);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return None;
            }
        }
    }
}

impl Ping {
    fn ask(&mut self) -> Note {
        if self.asked.is_some() {
            return Note::Ping(NOT_MEASURED);
        }
        self.number = self.number.wrapping_add(1);
        self.asked = Some(Instant::now());
        Note::Ping(self.number)
    }

    fn answered(&mut self, number: u32) -> Option<Duration> {
        if number != self.number || number == NOT_MEASURED {
            return None;
        }
        self.asked.take().map(|asked| asked.elapsed())
    }
}

impl Mux {
    fn set_window(&mut self, bytes: u32) {
        match self {
            Self::Edge(connection) => connection.set_target_window_size(bytes),
            Self::Connector(connection) => connection.set_target_window_size(bytes),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.shared.lose(Closed::Broken("its task ended".to_owned()));
        self.shared.let_go();
        self.shared.settle();
    }
}

fn ended(error: Option<h2::Error>) -> Closed {
    let Some(error) = error else {
        return Closed::Broken("the peer closed the connection without a word".to_owned());
    };
    match error.get_io() {
        Some(io) if io.kind() == std::io::ErrorKind::TimedOut => Closed::Silent,
        _ => Closed::Broken(error.to_string()),
    }
}

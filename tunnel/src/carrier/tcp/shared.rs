//! What a connection's handles, its streams and its task share.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use h2::client::SendRequest;
use http::{Method, Request, Version};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::bells::Bells;
use super::room::{Piece, Room};
use super::settings::MAX_WINDOW_BYTES;
use super::socket::Meter;
use super::stream::Stream;
use crate::carrier::Closed;
use crate::code::CloseCode;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) room: Arc<Room>,
    pub(super) meter: Arc<Meter>,
    /// Nanoseconds.
    round_trip: AtomicU64,
    /// What the connection's window is to be; 0: what it is.
    window: AtomicU32,
    pub(super) bells: Arc<Bells>,
    /// Those that the library still has.
    streams: Mutex<HashMap<u64, Arc<Stream>>>,
    state: Mutex<State>,
    /// It was closed, or its task has gone.
    ended: Notify,
}

#[derive(Debug)]
struct State {
    closed: Option<Closed>,
    /// What the peer is still to be told.
    farewell: Option<(CloseCode, String)>,
    /// The task is gone.
    is_settled: bool,
    /// At the edge.
    opener: Option<SendRequest<Piece>>,
    /// At the edge: how many streams the connector may have opened at once, and how many it has.
    allowed: u32,
    reversed: u32,
    /// What the peer opened, for whoever accepts.
    opened: VecDeque<Arc<Stream>>,
    /// At the connector: what the edge has opened for it to use.
    spares: VecDeque<Arc<Stream>>,
    accepting: Vec<Waker>,
    opening: Vec<Waker>,
}

/// What a request is for: its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// What the two ends tell each other of the connection.
    Notes,
    /// A stream that the edge opens.
    Stream,
    /// One that the connector may use as its own.
    Reverse,
}

impl Purpose {
    const ALL: [Self; 3] = [Self::Notes, Self::Stream, Self::Reverse];

    fn path(self) -> &'static str {
        match self {
            Self::Notes => "/n",
            Self::Stream => "/s",
            Self::Reverse => "/r",
        }
    }

    pub(super) fn of(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.path() == path)
    }

    pub(super) fn request(self) -> Request<()> {
        // Somebody has to be named; the peer is known by its key.
        let uri = http::Uri::builder().scheme("https").authority("c").path_and_query(self.path());
        let request = Request::builder().version(Version::HTTP_2).method(Method::POST);
        let uri = uri.build().expect("a path of two letters");
        request.uri(uri).body(()).expect("it has no fields")
    }
}

impl Shared {
    pub(super) fn new(
        opener: Option<SendRequest<Piece>>,
        room: Arc<Room>,
        meter: Arc<Meter>,
        round_trip: Duration,
    ) -> Arc<Self> {
        let shared = Self {
            room,
            meter,
            round_trip: AtomicU64::new(0),
            window: AtomicU32::new(0),
            bells: Arc::default(),
            streams: Mutex::default(),
            state: Mutex::new(State {
                closed: None,
                farewell: None,
                is_settled: false,
                opener,
                allowed: 1,
                reversed: 0,
                opened: VecDeque::new(),
                spares: VecDeque::new(),
                accepting: Vec::new(),
                opening: Vec::new(),
            }),
            ended: Notify::new(),
        };
        shared.set_round_trip(round_trip);
        Arc::new(shared)
    }

    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_nanos(self.round_trip.load(Ordering::Relaxed))
    }

    pub(super) fn set_round_trip(&self, round_trip: Duration) {
        let nanos = u64::try_from(round_trip.as_nanos()).unwrap_or(u64::MAX);
        self.round_trip.store(nanos, Ordering::Relaxed);
    }

    pub(super) fn set_receive_window(&self, bytes: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(MAX_WINDOW_BYTES).clamp(1, MAX_WINDOW_BYTES);
        self.window.store(bytes, Ordering::Relaxed);
        self.bells.nudge();
    }

    pub(super) fn allow_streams(&self, count: u32) {
        let mut state = self.state.lock();
        if count > state.allowed {
            state.allowed = count;
            drop(state);
            self.bells.nudge();
        }
    }

    pub(super) fn poll_open(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<Result<Arc<Stream>, Closed>> {
        let mut state = self.state.lock();
        if let Some(closed) = &state.closed {
            return Poll::Ready(Err(closed.clone()));
        }
        if state.opener.is_some() {
            let Poll::Ready(opened) = state.poll_ask(self, Purpose::Stream, cx) else {
                wait(&mut state.opening, cx);
                return Poll::Pending;
            };
            // The library wakes one of those who wait.
            state.opening.drain(..).for_each(Waker::wake);
            drop(state);
            let stream = opened?;
            self.look_at(&stream);
            return Poll::Ready(Ok(stream));
        }
        match state.spares.pop_front() {
            Some(stream) => Poll::Ready(Ok(stream)),
            None => {
                wait(&mut state.opening, cx);
                Poll::Pending
            }
        }
    }

    pub(super) fn poll_accept(&self, cx: &Context<'_>) -> Poll<Result<Arc<Stream>, Closed>> {
        let mut state = self.state.lock();
        if let Some(closed) = &state.closed {
            return Poll::Ready(Err(closed.clone()));
        }
        if let Some(stream) = state.opened.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        wait(&mut state.accepting, cx);
        Poll::Pending
    }

    pub(super) async fn closed(&self) -> Closed {
        self.until(|state| state.closed.clone()).await
    }

    /// Waits until its task is gone.
    pub(super) async fn settled(&self) {
        self.until(|state| state.is_settled.then_some(())).await;
    }

    async fn until<T>(&self, look: impl Fn(&State) -> Option<T>) -> T {
        loop {
            let changed = self.ended.notified();
            if let Some(found) = look(&self.state.lock()) {
                return found;
            }
            changed.await;
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.lock().closed.is_none()
    }

    /// Ends it from this side.
    pub(super) fn close(&self, code: CloseCode, reason: &str) {
        if self.lose(Closed::ByUs) {
            self.state.lock().farewell = Some((code, reason.to_owned()));
            self.bells.nudge();
        }
    }

    /// It has ended. False: it had before.
    pub(super) fn lose(&self, closed: Closed) -> bool {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return false;
        }
        state.closed = Some(closed.clone());
        let unused = (std::mem::take(&mut state.opened), std::mem::take(&mut state.spares));
        let waiting = (std::mem::take(&mut state.accepting), std::mem::take(&mut state.opening));
        drop(state);
        drop(unused);
        waiting.0.into_iter().chain(waiting.1).for_each(Waker::wake);
        self.ended.notify_waiters();
        self.all().iter().for_each(|stream| stream.lose(&closed));
        true
    }

    /// Behind [`Shared::lose`]: the library may forget the streams.
    pub(super) fn let_go(&self) {
        let opener = self.state.lock().opener.take();
        drop(opener);
        self.all().iter().for_each(|stream| stream.let_go());
        self.streams.lock().clear();
    }

    pub(super) fn settle(&self) {
        self.state.lock().is_settled = true;
        self.ended.notify_waiters();
    }

    fn all(&self) -> Vec<Arc<Stream>> {
        self.streams.lock().values().cloned().collect()
    }

    pub(super) fn forget(&self, stream: u64) {
        let gone = self.streams.lock().remove(&stream);
        drop(gone);
    }

    // What follows is the task's.

    pub(super) fn farewell(&self) -> Option<(CloseCode, String)> {
        self.state.lock().farewell.take()
    }

    pub(super) fn window(&self) -> Option<u32> {
        Some(self.window.swap(0, Ordering::Relaxed)).filter(|window| *window > 0)
    }

    /// At the edge: one more stream for the connector to open, if it may have one more.
    pub(super) fn poll_spare(self: &Arc<Self>, cx: &mut Context<'_>) -> Option<Arc<Stream>> {
        let mut state = self.state.lock();
        if state.closed.is_some() || state.opener.is_none() || state.reversed >= state.allowed {
            return None;
        }
        let Poll::Ready(Ok(stream)) = state.poll_ask(self, Purpose::Reverse, cx) else { return None };
        state.reversed += 1;
        Some(stream)
    }

    /// At the edge: one of those is over.
    pub(super) fn spare_is_over(&self) {
        self.state.lock().reversed -= 1;
    }

    /// The peer has opened it.
    pub(super) fn opened(&self, stream: Arc<Stream>) {
        let mut state = self.state.lock();
        if state.closed.is_none() {
            state.opened.push_back(stream);
            state.accepting.drain(..).for_each(Waker::wake);
        }
    }

    /// At the connector: what the edge asked for.
    pub(super) fn asked(&self, purpose: Purpose, stream: Arc<Stream>) {
        if let Some(closed) = &self.state.lock().closed {
            stream.lose(closed);
            return stream.let_go();
        }
        self.streams.lock().insert(stream.number, Arc::clone(&stream));
        if purpose == Purpose::Stream {
            return self.opened(stream);
        }
        let mut state = self.state.lock();
        state.spares.push_back(stream);
        state.opening.drain(..).for_each(Waker::wake);
    }

    /// Those that the task is to look at.
    pub(super) fn rung(&self) -> Vec<Arc<Stream>> {
        let rung = self.bells.rung();
        let streams = self.streams.lock();
        rung.iter().filter_map(|number| streams.get(number).cloned()).collect()
    }

    fn look_at(&self, stream: &Arc<Stream>) {
        // Nothing can have come yet that breaks the protocol.
        let _ = stream.pump();
    }
}

impl State {
    fn poll_ask(
        &mut self,
        shared: &Arc<Shared>,
        purpose: Purpose,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Arc<Stream>, Closed>> {
        let Some(opener) = &mut self.opener else { return Poll::Pending };
        let broken = |error: h2::Error| Closed::Broken(error.to_string());
        ready!(opener.poll_ready(cx)).map_err(broken)?;
        let (answer, outgoing) = opener.send_request(purpose.request(), false).map_err(broken)?;
        let stream = Stream::asked((&shared.bells, &shared.room), answer, outgoing);
        shared.streams.lock().insert(stream.number, Arc::clone(&stream));
        Poll::Ready(Ok(stream))
    }
}

fn wait(waiting: &mut Vec<Waker>, cx: &Context<'_>) {
    if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
        waiting.push(cx.waker().clone());
    }
}

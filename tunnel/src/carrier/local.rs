//! A carrier without a line: two ends in one process, where what is written is there at once. For a program that serves
//! visitors of its own by the same streams as those of its peers.
//!
//! Nothing of it can be lost, so an end that is closed takes and gives no new streams, and those that are open live on.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Closed, Ended, Exporter};
use crate::code::{AbortCode, CloseCode};

/// One end.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    both: Arc<Both>,
    side: Side,
}

#[derive(Debug)]
struct Both {
    state: Mutex<State>,
    exporter: Exporter,
    opened: AtomicU64,
    arrivals: [AtomicU64; 2],
}

#[derive(Debug, Default)]
struct State {
    /// Streams that the other end opened, by whose they are to accept.
    waiting: [VecDeque<(SendHalf, RecvHalf)>; 2],
    closed: Option<(Side, CloseCode, String)>,
    wakers: Vec<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    One,
    Other,
}

/// One direction of a stream.
#[derive(Debug, Default)]
struct Pipe {
    ready: VecDeque<Bytes>,
    stage: Stage,
    reader: Option<Waker>,
    /// Who waits for the reader to stop, or to have everything.
    watchers: Vec<Waker>,
}

/// How far a direction is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// Its end was written.
    Finished,
    /// Its end was read.
    Received,
    Reset(AbortCode),
    Stopped(AbortCode),
}

#[derive(Debug)]
pub(crate) struct SendHalf {
    pipe: Arc<Mutex<Pipe>>,
    both: Arc<Both>,
    to: Side,
    number: u64,
}

#[derive(Debug)]
pub(crate) struct RecvHalf(Arc<Mutex<Pipe>>);

/// Below it the time that a task waits for its turn is longer.
const ROUND_TRIP: Duration = Duration::from_micros(10);

/// Two ends that are joined.
pub(crate) fn pair() -> (Connection, Connection) {
    let both = Arc::new(Both {
        state: Mutex::default(),
        exporter: rand::random(),
        opened: AtomicU64::new(0),
        arrivals: Default::default(),
    });
    let end = |side| Connection { both: Arc::clone(&both), side };
    (end(Side::One), end(Side::Other))
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::One => Self::Other,
            Self::Other => Self::One,
        }
    }
}

impl Connection {
    pub(crate) fn open(&self) -> Result<(SendHalf, RecvHalf), Closed> {
        let number = self.both.opened.fetch_add(1, Ordering::Relaxed);
        let (there, back) = (Arc::<Mutex<Pipe>>::default(), Arc::<Mutex<Pipe>>::default());
        let send = |pipe: &Arc<Mutex<Pipe>>, to| SendHalf {
            pipe: Arc::clone(pipe),
            both: Arc::clone(&self.both),
            to,
            number,
        };
        let ours = (send(&there, self.side.other()), RecvHalf(Arc::clone(&back)));
        let theirs = (send(&back, self.side), RecvHalf(there));
        let mut state = self.both.state.lock();
        if let Some(closed) = state.closed(self.side) {
            drop(state);
            return Err(closed);
        }
        state.waiting[self.side.other() as usize].push_back(theirs);
        state.wake();
        Ok(ours)
    }

    /// What the other end has opened already.
    pub(crate) fn take(&self) -> Option<(SendHalf, RecvHalf)> {
        self.both.state.lock().waiting[self.side as usize].pop_front()
    }

    pub(super) async fn accept(&self) -> Result<(SendHalf, RecvHalf), Closed> {
        std::future::poll_fn(|cx| {
            let mut state = self.both.state.lock();
            if let Some(stream) = state.waiting[self.side as usize].pop_front() {
                return Poll::Ready(Ok(stream));
            }
            state.closed(self.side).map_or_else(|| state.wait(cx), |closed| Poll::Ready(Err(closed)))
        })
        .await
    }

    /// Ends it for both. What was opened and not taken up is dropped.
    pub(super) fn close(&self, code: CloseCode, reason: &str) {
        let mut state = self.both.state.lock();
        state.closed.get_or_insert_with(|| (self.side, code, reason.to_owned()));
        let left = std::mem::take(&mut state.waiting);
        state.wake();
        drop(state);
        drop(left);
    }

    pub(super) async fn closed(&self) -> Closed {
        std::future::poll_fn(|cx| {
            let mut state = self.both.state.lock();
            state.closed(self.side).map_or_else(|| state.wait(cx), Poll::Ready)
        })
        .await
    }

    pub(super) fn is_open(&self) -> bool {
        self.both.state.lock().closed.is_none()
    }

    pub(super) fn exporter(&self) -> Exporter {
        self.both.exporter
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.side.other() as u16 + 1).into()
    }

    pub(super) fn rtt(&self) -> Duration {
        ROUND_TRIP
    }

    pub(super) fn arrivals(&self) -> u64 {
        self.both.arrivals[self.side as usize].load(Ordering::Relaxed)
    }
}

impl State {
    fn closed(&self, side: Side) -> Option<Closed> {
        let (by, code, reason) = self.closed.as_ref()?;
        Some(if *by == side { Closed::ByUs } else { Closed::ByPeer(*code, reason.clone()) })
    }

    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        if !self.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

impl Pipe {
    /// Leaves the stage that it is in, unless that is its last.
    fn enter(&mut self, stage: Stage) {
        match (self.stage, stage) {
            (Stage::Open, _) | (Stage::Finished, Stage::Received | Stage::Reset(_) | Stage::Stopped(_)) => {
                self.stage = stage;
            }
            _ => return,
        }
        if matches!(stage, Stage::Reset(_) | Stage::Stopped(_)) {
            self.ready.clear();
        }
        self.reader.take().into_iter().chain(self.watchers.drain(..)).for_each(Waker::wake);
    }

    fn poll_stopped(&mut self, cx: &Context<'_>) -> Poll<Option<AbortCode>> {
        match self.stage {
            Stage::Stopped(code) => Poll::Ready(Some(code)),
            Stage::Received => Poll::Ready(None),
            Stage::Open | Stage::Finished | Stage::Reset(_) => {
                if !self.watchers.iter().any(|waker| waker.will_wake(cx.waker())) {
                    self.watchers.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl SendHalf {
    pub(super) fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), Ended> {
        let mut pipe = self.pipe.lock();
        match pipe.stage {
            Stage::Open => {}
            Stage::Stopped(code) => return Err(Ended::Aborted(code)),
            _ => return Err(Ended::Aborted(AbortCode::Cancelled)),
        }
        let before = pipe.ready.len();
        pipe.ready.extend(chunks.iter_mut().map(std::mem::take).filter(|chunk| !chunk.is_empty()));
        if pipe.ready.len() == before {
            // Two ends that wake each other for nothing would do so for ever.
            return Ok(());
        }
        self.both.arrivals[self.to as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) {
        self.pipe.lock().enter(Stage::Finished);
    }

    pub(super) fn reset(&mut self, code: AbortCode) {
        self.pipe.lock().enter(Stage::Reset(code));
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn poll_broken(&self, cx: &Context<'_>) -> Poll<Ended> {
        let stopped = self.pipe.lock().poll_stopped(cx);
        stopped.map(|code| Ended::Aborted(code.unwrap_or(AbortCode::Cancelled)))
    }

    pub(super) fn stopped(&self) -> impl Future<Output = Option<AbortCode>> + Send + 'static {
        let pipe = Arc::clone(&self.pipe);
        std::future::poll_fn(move |cx| pipe.lock().poll_stopped(cx))
    }
}

impl RecvHalf {
    pub(super) fn poll_read(
        &mut self,
        cx: &Context<'_>,
        take: impl FnMut(Bytes),
    ) -> Poll<Result<bool, Ended>> {
        let mut pipe = self.0.lock();
        if !pipe.ready.is_empty() {
            pipe.ready.drain(..).for_each(take);
            return Poll::Ready(Ok(true));
        }
        match pipe.stage {
            Stage::Open => {
                pipe.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Stage::Finished | Stage::Received => {
                pipe.enter(Stage::Received);
                Poll::Ready(Ok(false))
            }
            Stage::Reset(code) | Stage::Stopped(code) => Poll::Ready(Err(Ended::Aborted(code))),
        }
    }

    pub(super) fn stop(&mut self, code: AbortCode) {
        self.0.lock().enter(Stage::Stopped(code));
    }
}

/// As the other carriers': whoever owns it has to reset it when a clean end would be a lie.
impl Drop for SendHalf {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        self.stop(AbortCode::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn read(recv: &mut RecvHalf) -> Result<Option<Vec<u8>>, Ended> {
        let mut bytes = Vec::new();
        let more = poll_fn(|cx| recv.poll_read(cx, |chunk| bytes.extend_from_slice(&chunk))).await?;
        Ok(more.then_some(bytes))
    }

    fn write(send: &mut SendHalf, text: &'static str) -> Result<(), Ended> {
        send.write(&mut [Bytes::from_static(text.as_bytes())])
    }

    #[tokio::test]
    async fn what_is_written_is_there_in_both_directions_up_to_a_clean_end() {
        let (one, other) = pair();
        let (mut send, mut recv) = one.open().unwrap();
        write(&mut send, "ab").unwrap();
        write(&mut send, "c").unwrap();
        send.finish();
        let (mut back, mut there) = other.accept().await.unwrap();
        assert_eq!(read(&mut there).await, Ok(Some(b"abc".to_vec())));
        assert_eq!([read(&mut there).await, read(&mut there).await], [Ok(None), Ok(None)]);
        assert_eq!(send.stopped().await, None, "all of it was read");
        write(&mut back, "d").unwrap();
        drop(back);
        assert_eq!(read(&mut recv).await, Ok(Some(b"d".to_vec())));
        assert_eq!(read(&mut recv).await, Ok(None));
    }

    #[derive(Default)]
    struct Woken(AtomicU64);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_write_of_nothing_wakes_nobody() {
        let (one, other) = pair();
        let (mut send, _recv) = one.open().unwrap();
        let (_back, mut there) = other.take().unwrap();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(there.poll_read(&Context::from_waker(&waker), |_| ()).is_pending());
        send.write(&mut [Bytes::new()]).unwrap();
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        write(&mut send, "a").unwrap();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_reset_and_a_stop_carry_their_codes_and_never_look_like_an_end() {
        let (one, other) = pair();
        let (mut send, recv) = one.open().unwrap();
        write(&mut send, "ab").unwrap();
        let (mut back, mut there) = other.accept().await.unwrap();
        send.reset(AbortCode::Timeout);
        send.finish();
        assert_eq!(read(&mut there).await, Err(Ended::Aborted(AbortCode::Timeout)));
        drop(recv);
        assert_eq!(back.stopped().await, Some(AbortCode::Cancelled));
        assert_eq!(write(&mut back, "x"), Err(Ended::Aborted(AbortCode::Cancelled)));
    }

    #[tokio::test]
    async fn a_closed_end_takes_no_new_streams_and_says_who_closed_it() {
        let (one, other) = pair();
        one.open().unwrap();
        other.close(CloseCode::Done, "over");
        assert_eq!(one.closed().await, Closed::ByPeer(CloseCode::Done, "over".to_owned()));
        assert_eq!(other.accept().await.unwrap_err(), Closed::ByUs);
        assert!(one.open().is_err() && !one.is_open());
    }
}

//! Keeps the windows of a connection's uploads as wide as its path: measures rounds, and tells h2 what follows from them.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use causeway_tunnel::flow::{Budget, Held, Pressure};
use h2::server::Connection;
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

use super::uploads::{Told, Uploads};
use super::windows::{Round, Sizes, Windows};

pub(super) struct Tuner {
    uploads: Arc<Uploads>,
    windows: Windows,
    /// What the visitor was told that a stream may have.
    told: usize,
    /// Up to so much may the visitor have under way and unread, as of when [`Uploads`] had counted so many bytes.
    granted: usize,
    counted: u64,
    /// What the process has set aside for that, beyond the small window that each connection has.
    wide: Held,
    /// From the first upload of some size on.
    pings: Option<PingPong>,
    is_probing: bool,
    /// Runs while windows are wide.
    rest: Option<Pin<Box<Sleep>>>,
    moved: Option<Instant>,
    /// Between two rounds; longer when they show nothing new.
    pause: Duration,
}

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Probe,
    Pong,
    Crowded,
    Rest,
}

/// Rounds follow each other while windows grow, but not faster than this: near visitors do not need it.
const MIN_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Without a round for so long nothing moves.
const REST: Duration = Duration::from_secs(4);

impl Tuner {
    pub(super) fn new(uploads: &Arc<Uploads>, budget: &Budget) -> Self {
        Self {
            uploads: Arc::clone(uploads),
            windows: Windows::new(),
            told: Sizes::SMALL.stream,
            granted: SMALL,
            counted: 0,
            wide: budget.none(),
            pings: None,
            is_probing: false,
            rest: None,
            moved: None,
            pause: MIN_PAUSE,
        }
    }

    /// Waits for something to do. Cancel safe: nothing is taken.
    pub(super) async fn step(&mut self) -> Step {
        let (pings, rest) = (&mut self.pings, &mut self.rest);
        let is_probing = self.is_probing;
        let pong = poll_fn(|cx| match pings {
            // An error is the connection's end, which others see.
            Some(pings) if is_probing => pings.poll_pong(cx),
            _ => Poll::Pending,
        });
        let rested = async {
            match rest {
                Some(timer) => timer.await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            Ok(_) = pong => Step::Pong,
            told = self.uploads.told() => match told {
                Told::Moving => Step::Probe,
                Told::Crowded => Step::Crowded,
            },
            () = rested => Step::Rest,
        }
    }

    /// Does it. True: the connection should leave, since the process needs back what was granted to it and it does not
    /// use.
    pub(super) fn take<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        step: Step,
        connection: &mut Connection<T, Bytes>,
    ) -> bool {
        let now = Instant::now();
        let is_moving = self.moved.is_some_and(|moved| now < moved + REST);
        let wide = &mut self.wide;
        let grant = |wanted: usize| SMALL + wide.resize(wanted.saturating_sub(SMALL));
        match step {
            Step::Probe => {
                self.uploads.begin_round(now);
                self.pings = self.pings.take().or_else(|| connection.ping_pong());
                let sent = self.pings.as_mut().map(|pings| pings.send_ping(Ping::opaque()));
                self.is_probing = sent.is_some_and(|sent| sent.is_ok());
                return false;
            }
            Step::Pong => {
                self.is_probing = false;
                let was = self.windows.now();
                let pause = self.pause;
                let next = |round: &Round| now + pause.saturating_sub(round.took);
                let Some(round) = self.uploads.end_round(now, next) else { return false };
                self.moved = Some(now);
                let is_new = self.windows.round(round, grant) != was;
                self.pause = if is_new { MIN_PAUSE } else { (pause * 2).min(MAX_PAUSE) };
            }
            // Widened only for those who move: a connection on which everything stands keeps its small window.
            Step::Crowded if is_moving => self.windows.crowd(self.uploads.held(), grant),
            Step::Rest if is_moving => {}
            Step::Crowded | Step::Rest => self.windows = Windows::new(),
        }
        self.apply(connection);
        matches!(step, Step::Rest) && self.wide.bytes() > 0 && self.wide.budget().pressure() > Pressure::Low
    }

    fn apply<T: AsyncRead + AsyncWrite + Unpin>(&mut self, connection: &mut Connection<T, Bytes>) {
        let Sizes { stream, connection: all } = self.windows.now();
        connection.set_target_window_size(window(all));
        // Refused while the visitor has not acknowledged the last change: the next step says it again.
        if stream != self.told && connection.set_initial_window_size(window(stream)).is_ok() {
            self.told = stream;
        }
        // A window that was granted cannot be called back. It narrows as what comes by it is handed on.
        let moved = self.uploads.widened(all);
        let used = usize::try_from(moved.wrapping_sub(self.counted)).unwrap_or(usize::MAX);
        (self.granted, self.counted) = (self.granted.saturating_sub(used).max(all), moved);
        self.wide = self.wide.budget().hold(self.granted - SMALL);
        let is_wide = self.told != Sizes::SMALL.stream || self.wide.bytes() > 0;
        self.rest = is_wide.then(|| Box::pin(sleep_until(Instant::now() + REST)));
    }
}

const SMALL: usize = Sizes::SMALL.connection;

/// As the frames have it.
pub(super) fn window(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).min(i32::MAX.unsigned_abs())
}

//! What moves of a connection's uploads, and what stands: counted by their tasks, looked at by the connection's.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::limits::{CONNECTION_WINDOW_BYTES, PROBE_BYTES, STREAM_WINDOW_BYTES};
use super::windows::Round;

#[derive(Debug)]
pub(super) struct Uploads {
    state: Mutex<State>,
    /// Told when one of [`Told`] comes true.
    told: Notify,
}

#[derive(Debug)]
struct State {
    round: u32,
    /// Handed on in this round: of the upload that moved most, and of all.
    most: usize,
    all: usize,
    /// Handed on or thrown away since the connection began.
    total: u64,
    /// Come and not handed on.
    held: usize,
    /// From here on it is said that it is much.
    crowd: usize,
    probe: Probe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// Wanted once enough has moved, but not before.
    NotBefore(Instant),
    Wanted,
    Running(Instant),
}

/// Why the connection's task is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Enough moves: a round should begin.
    Moving,
    /// So much is held that those who move may be held up.
    Crowded,
}

/// One upload's part.
#[derive(Debug)]
pub(super) struct Lane {
    uploads: Arc<Uploads>,
    round: u32,
    /// Handed on in that round.
    moved: usize,
    held: usize,
}

impl Uploads {
    /// Waits until there is something to do, which is said until it is done. Cancel safe.
    pub(super) async fn told(&self) -> Told {
        loop {
            if let Some(told) = self.state.lock().told() {
                return told;
            }
            self.told.notified().await;
        }
    }

    pub(super) fn begin_round(&self, now: Instant) {
        let mut state = self.state.lock();
        state.next_round();
        state.probe = Probe::Running(now);
    }

    /// The answer is here. `next` says from the round's length when another one may begin. None: no round has begun.
    pub(super) fn end_round(&self, now: Instant, next: impl FnOnce(&Round) -> Instant) -> Option<Round> {
        let mut state = self.state.lock();
        let Probe::Running(since) = state.probe else { return None };
        let took = now.saturating_duration_since(since);
        let round = Round { took, most: state.most, all: state.all, held: state.held };
        state.next_round();
        state.probe = Probe::NotBefore(next(&round));
        Some(round)
    }

    pub(super) fn held(&self) -> usize {
        self.state.lock().held
    }

    /// The connection's window has this size now. Says what was handed on so far, from its beginning.
    pub(super) fn widened(&self, window: usize) -> u64 {
        let mut state = self.state.lock();
        state.crowd = (window / 2).max(state.held + STREAM_WINDOW_BYTES);
        state.total
    }
}

impl Default for Uploads {
    fn default() -> Self {
        let probe = Probe::NotBefore(Instant::now());
        let state =
            State { round: 0, most: 0, all: 0, total: 0, held: 0, crowd: CONNECTION_WINDOW_BYTES / 2, probe };
        Self { state: Mutex::new(state), told: Notify::new() }
    }
}

impl State {
    fn told(&self) -> Option<Told> {
        match self.probe {
            Probe::Wanted => Some(Told::Moving),
            _ if self.held > self.crowd => Some(Told::Crowded),
            _ => None,
        }
    }

    fn left(&mut self, bytes: usize) {
        self.held -= bytes;
        self.total = self.total.wrapping_add(bytes as u64);
    }

    fn next_round(&mut self) {
        (self.round, self.most, self.all) = (self.round.wrapping_add(1), 0, 0);
    }
}

impl Lane {
    pub(super) fn new(uploads: &Arc<Uploads>) -> Self {
        Self { uploads: Arc::clone(uploads), round: 0, moved: 0, held: 0 }
    }

    /// So much has come.
    pub(super) fn came(&mut self, bytes: usize) {
        self.held += bytes;
        let mut state = self.uploads.state.lock();
        state.held += bytes;
        if state.held > state.crowd {
            self.uploads.told.notify_one();
        }
    }

    /// So much was handed on.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.held -= bytes;
        let mut state = self.uploads.state.lock();
        state.left(bytes);
        if self.round != state.round {
            (self.round, self.moved) = (state.round, 0);
        }
        self.moved += bytes;
        state.all += bytes;
        state.most = state.most.max(self.moved);
        if let Probe::NotBefore(at) = state.probe
            && state.all >= PROBE_BYTES
            && Instant::now() >= at
        {
            state.probe = Probe::Wanted;
            self.uploads.told.notify_one();
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.uploads.state.lock().left(self.held);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_round_counts_the_upload_that_moves_most_and_all() {
        let uploads = Arc::<Uploads>::default();
        let told = || uploads.told().now_or_never();
        let (mut one, mut two) = (Lane::new(&uploads), Lane::new(&uploads));
        one.came(100_000);
        one.moved(1000);
        assert_eq!(told(), None, "too little to ask for");
        one.moved(PROBE_BYTES);
        assert_eq!(told(), Some(Told::Moving));
        uploads.begin_round(Instant::now());
        assert_eq!(told(), None);
        two.came(5000);
        two.moved(3000);
        one.moved(2000);
        one.moved(2000);
        tokio::time::advance(Duration::from_millis(80)).await;
        let next = Instant::now() + Duration::from_secs(1);
        let round = uploads.end_round(Instant::now(), |_| next).unwrap();
        assert_eq!((round.most, round.all, round.took), (4000, 7000, Duration::from_millis(80)));
        assert_eq!(round.held, 100_000 - 1000 - PROBE_BYTES - 4000 + 2000);
        one.moved(PROBE_BYTES);
        assert_eq!(told(), None, "not so soon");
        tokio::time::advance(Duration::from_secs(1)).await;
        two.moved(1000);
        assert_eq!(told(), Some(Told::Moving));
        drop((one, two));
        assert_eq!(uploads.held(), 0);
    }

    #[test]
    fn it_is_said_once_that_more_is_held_than_was_provided_for() {
        let uploads = Arc::<Uploads>::default();
        let told = || uploads.told().now_or_never();
        let mut lane = Lane::new(&uploads);
        lane.came(CONNECTION_WINDOW_BYTES / 2);
        assert_eq!(told(), None);
        lane.came(1);
        assert_eq!(told(), Some(Told::Crowded));
        uploads.widened(CONNECTION_WINDOW_BYTES);
        assert_eq!(told(), None);
        lane.came(STREAM_WINDOW_BYTES + 1);
        assert_eq!(told(), Some(Told::Crowded));
    }
}

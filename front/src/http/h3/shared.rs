//! What an HTTP/3 connection and its streams tell each other: who runs, who was reset too often, what broke the protocol.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::h2::flood::ResetBudget;
use super::code::{self, Fault};
use super::tokens::Tokens;

pub(super) struct Shared {
    state: Mutex<State>,
    /// The longest head that the visitor takes, as it counts them.
    max_head_bytes: AtomicU64,
    /// Told of a fault, of the end of the last request, and of the first upload.
    told: Notify,
}

struct State {
    resets: ResetBudget,
    tokens: Tokens,
    running: usize,
    /// Since when nothing runs.
    since: Instant,
    /// Why the connection must end.
    fault: Option<Fault>,
    /// The visitor's streams of which there may be only one.
    claimed: HashSet<u64>,
    /// Uploads, and since when each has something that nobody takes.
    uploads: HashMap<u64, Option<Instant>>,
}

const FLOOD: Fault = Fault::new(code::EXCESSIVE_LOAD, "too much that carries nothing");

impl Shared {
    pub(super) fn new() -> Self {
        let now = std::time::Instant::now();
        let state = State {
            resets: ResetBudget::new(now),
            tokens: Tokens::new(now),
            running: 0,
            since: Instant::now(),
            fault: None,
            claimed: HashSet::new(),
            uploads: HashMap::new(),
        };
        Self { state: Mutex::new(state), max_head_bytes: AtomicU64::new(u64::MAX), told: Notify::new() }
    }

    /// Something broke the protocol so that the connection must end. The first that did is the reason.
    pub(super) fn fail(&self, fault: Fault) {
        self.state.lock().fault.get_or_insert(fault);
        self.told.notify_one();
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.state.lock().fault
    }

    /// Waits until there is something to look at. Cancel safe.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }

    /// Something came that costs the visitor nothing.
    pub(super) fn cheap(&self) {
        let is_borne = self.state.lock().tokens.spend(std::time::Instant::now());
        if !is_borne {
            self.fail(FLOOD);
        }
    }

    /// Bytes of bodies moved.
    pub(super) fn moved(&self, bytes: usize) {
        self.state.lock().tokens.moved(bytes);
    }

    /// A stream was refused. Somebody who never hears of it is a flood like one of resets.
    pub(super) fn refused(&self) {
        let now = std::time::Instant::now();
        let mut state = self.state.lock();
        state.resets.opened();
        let flood = state.resets.reset(std::time::Duration::ZERO, now);
        drop(state);
        if flood.is_err() {
            self.fail(FLOOD);
        }
    }

    /// How many requests there were.
    pub(super) fn requests(&self) -> u64 {
        self.state.lock().resets.streams()
    }

    /// Since when there is nothing to do. None: a request runs.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        (state.running == 0).then_some(state.since)
    }

    /// The visitor opened a stream of a kind that there is once.
    pub(super) fn claim(&self, kind: u64) -> Result<(), Fault> {
        match self.state.lock().claimed.insert(kind) {
            true => Ok(()),
            false => {
                Err(Fault::new(code::STREAM_CREATION_ERROR, "a second stream of a kind that there is once"))
            }
        }
    }

    pub(super) fn set_max_head_bytes(&self, bytes: u64) {
        self.max_head_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn takes_head_of(&self, bytes: usize) -> bool {
        bytes as u64 <= self.max_head_bytes.load(Ordering::Relaxed)
    }

    /// An upload's piece was handed on, or it waits for its visitor.
    pub(super) fn upload(&self, stream: u64, handed: Option<Instant>) {
        let mut state = self.state.lock();
        let is_first = state.uploads.is_empty();
        state.uploads.insert(stream, handed);
        drop(state);
        if is_first {
            self.told.notify_one();
        }
    }

    pub(super) fn upload_over(&self, stream: u64) {
        self.state.lock().uploads.remove(&stream);
    }

    pub(super) fn has_uploads(&self) -> bool {
        !self.state.lock().uploads.is_empty()
    }

    /// Uploads of which nobody has taken anything since then.
    pub(super) fn standing_since(&self, then: Instant) -> usize {
        let state = self.state.lock();
        state.uploads.values().filter(|handed| handed.is_some_and(|handed| handed <= then)).count()
    }
}

/// Counts one running request, however it ends.
pub(super) struct Running {
    shared: Arc<Shared>,
    began: Instant,
}

impl Running {
    pub(super) fn begin(shared: &Arc<Shared>) -> Self {
        let mut state = shared.state.lock();
        state.resets.opened();
        state.tokens.requested();
        state.running += 1;
        drop(state);
        Self { shared: Arc::clone(shared), began: Instant::now() }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// How many its connection has at work, this one included.
    pub(super) fn count(&self) -> usize {
        self.shared.state.lock().running
    }

    /// The visitor gave the request up, or made us do so. Too many of them end the connection.
    pub(super) fn reset(&self) {
        let flood = self.shared.state.lock().resets.reset(self.began.elapsed(), std::time::Instant::now());
        if flood.is_err() {
            self.shared.fail(FLOOD);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.running -= 1;
        state.since = Instant::now();
        if state.running == 0 {
            self.shared.told.notify_one();
        }
    }
}

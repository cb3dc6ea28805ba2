//! Who is silent is suspected, and not yet dead: whether a session is, and who notices.
//!
//! ```text
//! heard ── nothing for a keep-alive and the margin ──→ suspected ── nothing for IDLE_TIMEOUT ──→ given up by its carrier
//!  ▲ │                                                   ▲ │ a probe every PROBE_INTERVAL
//!  │ └ doubted, for another session's silence or ────────┘ │
//!  │   after a burst: a probe every PROBE_INTERVAL         │
//!  └──────────────── anything at all ──────────────────────┘
//! ```
//! A line may be dead in one direction alone. Who hears nothing says so with its probes, and the other end, to which these come, suspects
//! the session too until it is told otherwise.
//!
//! Who asks early is told early that the other end was started anew: by then the carrier's own questions have become rare.
//!
//! Nothing tells when a packet comes: a look at a counter does, at moments that all sessions of a process share, so that an idle
//! one costs a thread no waking of its own.

use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::{Role, Session};
use crate::limits::{MAX_SUSPECT_MARGIN, PROBE_INTERVAL, SUSPECT_MARGIN};

/// How often a session that is heard is looked at, and one in reserve.
const LOOK: Duration = Duration::from_millis(250);
const STANDBY_LOOK: Duration = Duration::from_secs(1);
/// How often a session is probed after it was heard again.
const SETTLING_PROBES: u32 = 4;
/// A look that comes so late says nothing: this process stood still, and what came meanwhile waits to be read.
const TOO_LATE: Duration = Duration::from_millis(500);
/// So many arrivals between two looks are no keep-alive and no probe's answer.
const BURST: u64 = 6;

/// What all looks of this process are counted from.
static EPOCH: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);

#[derive(Debug, Default)]
pub(super) struct Silence {
    is_suspected: AtomicBool,
    /// Nothing has come for too long, whatever the other end says.
    hears_nothing: AtomicBool,
    /// The other end says that it hears nothing: what comes is no sign that anything arrives.
    is_unheard: AtomicBool,
    /// Milliseconds from the session's beginning to the look that last found something new.
    heard: AtomicU64,
    changed: Notify,
    doubted: Notify,
}

impl Silence {
    pub(super) fn is_suspected(&self) -> bool {
        self.is_suspected.load(Ordering::Relaxed)
    }

    pub(super) fn heard(&self) -> Duration {
        Duration::from_millis(self.heard.load(Ordering::Relaxed))
    }

    pub(super) async fn until(&self, is_suspected: bool) {
        loop {
            let changed = self.changed.notified();
            if self.is_suspected() == is_suspected {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn hears_nothing(&self) -> bool {
        self.hears_nothing.load(Ordering::Relaxed)
    }

    pub(super) fn set_unheard(&self, is_unheard: bool) {
        self.is_unheard.store(is_unheard, Ordering::Relaxed);
    }

    pub(super) fn doubt(&self) {
        self.doubted.notify_one();
    }

    fn set(&self, is_suspected: bool) {
        self.is_suspected.store(is_suspected, Ordering::Relaxed);
        self.changed.notify_waiters();
    }
}

/// What a [`Watch`] noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It may be silent, as another session is, or its traffic has stopped all at once: to be probed, so that it shows.
    Doubted,
    /// Nothing came for too long: the session is suspected from now on. To be probed.
    Suspected,
    /// Still nothing. To be probed again.
    Silent,
    /// Something came: it is suspected no more. To be probed all the same: what this end sent may lie unanswered behind a window
    /// that is full, and only an answer opens that.
    Heard,
    /// It was heard again a moment ago: as [`Sign::Heard`].
    Settling,
}

/// Looks after one session's silence.
pub struct Watch {
    session: Session,
    /// What had come at the last look.
    arrivals: u64,
    /// How much of it since the look before.
    lately: u64,
    heard: Instant,
    /// Since when an answer is waited for, however rarely it would come unasked.
    doubted: Option<Instant>,
    /// Looks at which it is still probed though it is heard again.
    settling: u32,
    next: Instant,
}

impl Watch {
    pub(super) fn new(session: Session) -> Self {
        let now = Instant::now();
        let arrivals = session.0.connection.arrivals();
        let (lately, doubted, settling) = (0, None, 0);
        let mut watch = Self { session, arrivals, lately, heard: now, doubted, settling, next: now };
        watch.next = watch.after(now);
        watch
    }

    /// Waits for the next sign. Cancel safe. A session that has ended gives none.
    pub async fn next(&mut self) -> Sign {
        loop {
            tokio::select! {
                () = sleep_until(self.next) => {}
                () = self.session.0.silence.doubted.notified() => {
                    if self.doubted.is_none() && !self.session.is_suspected() {
                        let now = Instant::now();
                        self.arrivals = self.session.0.connection.arrivals();
                        self.doubted = Some(now);
                        self.next = self.after(now);
                        return Sign::Doubted;
                    }
                    continue;
                }
            }
            if !self.session.is_alive() {
                return std::future::pending().await;
            }
            let now = Instant::now();
            let sign = self.look(now);
            self.next = self.after(now);
            if let Some(sign) = sign {
                return sign;
            }
        }
    }

    /// Before what is written to have the other end answer: it passes a window that is full.
    pub fn allow_probe(&self) {
        self.session.0.connection.allow_probe();
    }

    fn look(&mut self, now: Instant) -> Option<Sign> {
        let silence = &self.session.0.silence;
        let was_suspected = silence.is_suspected();
        let arrivals = self.session.0.connection.arrivals();
        let is_late = now.duration_since(self.next) > TOO_LATE && !was_suspected;
        let came = arrivals.wrapping_sub(std::mem::replace(&mut self.arrivals, arrivals));
        let before = std::mem::replace(&mut self.lately, if is_late { 0 } else { came });
        let is_unheard = silence.is_unheard.load(Ordering::Relaxed);
        if came > 0 {
            silence.hears_nothing.store(false, Ordering::Relaxed);
        }
        if (came > 0 && !is_unheard) || is_late {
            self.heard = now;
            self.doubted = None;
            let heard = now.into_std().saturating_duration_since(self.session.info().since);
            silence.heard.store(u64::try_from(heard.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            if was_suspected {
                silence.set(false);
                self.settling = SETTLING_PROBES;
                return Some(Sign::Heard);
            }
        }
        if was_suspected {
            return Some(Sign::Silent);
        }
        if self.settling > 0 {
            self.settling -= 1;
            return Some(Sign::Settling);
        }
        let silent = now.duration_since(self.heard);
        let is_too_long = |silent, role| {
            silent >= allowance(role, Duration::ZERO) && silent >= allowance(role, self.session.rtt())
        };
        let doubted = self.doubted.is_some_and(|since| is_too_long(now.duration_since(since), Role::Primary));
        let is_silent = doubted || is_too_long(silent, self.session.info().role);
        if is_unheard || is_silent {
            silence.hears_nothing.store(is_silent, Ordering::Relaxed);
            silence.set(true);
            return Some(Sign::Suspected);
        }
        if came == 0 && before >= BURST {
            self.doubted.get_or_insert(now);
        }
        self.doubted.map(|_| Sign::Doubted)
    }

    /// The next of the moments that are looked at.
    fn after(&self, now: Instant) -> Instant {
        let is_quiet = !self.session.is_suspected() && self.doubted.is_none() && self.settling == 0;
        let every = match self.session.info().role {
            _ if !is_quiet => PROBE_INTERVAL,
            Role::Primary => LOOK,
            Role::Standby => STANDBY_LOOK,
        };
        let gone = now.into_std().saturating_duration_since(*EPOCH).as_nanos() % every.as_nanos();
        now + every - Duration::from_nanos(u64::try_from(gone).unwrap_or(0))
    }
}

/// How long a living peer may be silent: an answer to a keep-alive comes after a round trip, and a lost one after some more.
fn allowance(role: Role, rtt: Duration) -> Duration {
    role.keep_alive() + (rtt * 4).clamp(SUSPECT_MARGIN, MAX_SUSPECT_MARGIN)
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.session).finish()
    }
}

//! Waiting for an origin: ends when the visitor went away or the origin has been silent for too long.
//!
//! Most answers come within milliseconds, so that nothing but one timer is set up at first.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use causeway_tunnel::{AbortCode, SendStream};
use tokio::time::{Instant, Sleep, sleep};

/// The state of all waits of one request.
pub(crate) struct Patience {
    sleep: Option<Pin<Box<Sleep>>>,
    gone: Gone,
    /// Silence allowed; zero is no limit.
    limit: Duration,
    /// Ticks of `limit / TICKS` without progress.
    quiet: u32,
}

/// Why a wait ended before what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// The visitor (or the edge) wants no answer any more.
    Gone(AbortCode),
    /// The origin was silent for the whole limit.
    Silent,
}

enum Gone {
    NotWatched,
    Watched(Pin<Box<dyn Future<Output = Option<AbortCode>> + Send>>),
    /// The peer has received everything: it cannot go away any more.
    Never,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { sleep: None, gone: Gone::NotWatched, limit, quiet: 0 }
    }

    /// Another limit from now on.
    pub(crate) fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
        self.quiet = 0;
        if let (Some(sleep), Gone::Watched(_) | Gone::Never) = (&mut self.sleep, &self.gone) {
            let next = Instant::now() + tick(limit);
            if next < sleep.deadline() {
                sleep.as_mut().reset(next);
            }
        }
    }

    /// Something came: the wait begins anew.
    pub(crate) fn progress(&mut self) {
        self.quiet = 0;
    }

    /// To be polled while what is waited for is pending.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, send: &SendStream) -> Poll<Interrupt> {
        loop {
            if let Gone::Watched(gone) = &mut self.gone
                && let Poll::Ready(gone) = gone.as_mut().poll(cx)
            {
                match gone {
                    Some(code) => return Poll::Ready(Interrupt::Gone(code)),
                    None => self.gone = Gone::Never,
                }
            }
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(SOON)));
            ready!(sleep.as_mut().poll(cx));
            if matches!(self.gone, Gone::NotWatched) {
                self.gone = Gone::Watched(Box::pin(send.stopped()));
            } else {
                self.quiet += 1;
                if !self.limit.is_zero() && self.quiet >= TICKS {
                    return Poll::Ready(Interrupt::Silent);
                }
            }
            sleep.as_mut().reset(Instant::now() + tick(self.limit));
        }
    }
}

fn tick(limit: Duration) -> Duration {
    if limit.is_zero() { FOR_EVER } else { (limit / TICKS).max(Duration::from_millis(1)) }
}

/// An origin that answers sooner is never watched for its visitor's going away.
const SOON: Duration = Duration::from_millis(10);
/// A limit is noticed to be over within a quarter more than itself.
const TICKS: u32 = 4;
/// Without a limit the timer is only a formality.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

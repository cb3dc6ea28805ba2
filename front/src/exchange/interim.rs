//! Informational responses (100, 103) to the visitor, before the final head, and the gate of a body that waits for 100.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::{HeaderMap, StatusCode};
use tokio::time::{Instant, Sleep};

use crate::http::headers;

/// How many informational responses one request may get (hazard 145); the rest are dropped.
pub(super) const MAX_INTERIM: u8 = 16;

/// Where informational responses go.
pub trait InterimSink: Send + Sync {
    /// Sends one at once. The fields are cleaned already.
    fn interim(&self, status: StatusCode, headers: HeaderMap);
}

/// Sends informational responses to the visitor. Cheap to clone; does nothing once the final head was sent, for
/// HTTP/1.0 visitors, and for 101.
#[derive(Clone)]
pub struct Interim {
    /// None: this visitor cannot take any.
    to: Option<Arc<dyn InterimSink>>,
    gate: Option<Arc<ContinueGate>>,
    sent: Arc<AtomicU8>,
}

impl Interim {
    /// A handle that drops everything.
    pub fn none() -> Self {
        Self { to: None, gate: None, sent: Arc::default() }
    }

    pub fn new(to: Option<Arc<dyn InterimSink>>, gate: Option<Arc<ContinueGate>>) -> Self {
        Self { to, gate, sent: Arc::default() }
    }

    /// Sends `status` now. 100 means: the body may come.
    pub fn send(&self, status: StatusCode, headers: &HeaderMap) {
        if status == StatusCode::CONTINUE {
            // The body's reader says 100 when it is let through, so that it is said once.
            if let Some(gate) = &self.gate {
                gate.open();
            }
            return;
        }
        let Some(to) = &self.to else { return };
        let is_forwarded = status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS;
        if !is_forwarded || self.sent.fetch_add(1, Ordering::Relaxed) >= MAX_INTERIM {
            self.sent.fetch_min(MAX_INTERIM, Ordering::Relaxed);
            return;
        }
        let mut headers = headers.clone();
        headers::clean_response(&mut headers);
        headers.remove(http::header::CONTENT_LENGTH);
        to.interim(status, headers);
    }
}

impl std::fmt::Debug for Interim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interim").field("sent", &self.sent).finish_non_exhaustive()
    }
}

/// Holds a body back that waits for 100, until 100 was sent or patience ends.
#[derive(Debug, Default)]
pub struct ContinueGate {
    open: AtomicBool,
    waiting: AtomicWaker,
}

impl ContinueGate {
    /// How long the origin may take to say 100 before we say it (hazard 33).
    pub const PATIENCE: Duration = Duration::from_secs(1);

    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.waiting.wake();
    }

    pub(super) fn poll_open(&self, patience: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
        self.waiting.register(cx.waker());
        if self.open.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let sleep = patience
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + Self::PATIENCE)));
        sleep.as_mut().poll(cx)
    }
}

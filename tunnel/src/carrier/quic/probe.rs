//! A congestion controller around another one, that lets a few packets more out than its window when it is told to.
//!
//! A sender whose window is full when its line goes dead hears nothing more, and therefore says nothing more: not even what it
//! has to acknowledge, and its transport's own probes come ever more rarely. Two ends with full windows would find the line again
//! only after as long as it was dead.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

/// What one [`allow`] lets out beyond what is under way, in packets: the one that is to be answered, and room to fit it.
const PACKETS: u64 = 3;

#[derive(Debug)]
pub(super) struct Factory<F>(Arc<F>);

impl<F: ControllerFactory> Factory<F> {
    pub(super) fn around(inner: F) -> Arc<Self> {
        Arc::new(Self(Arc::new(inner)))
    }
}

impl<F: ControllerFactory> ControllerFactory for Factory<F> {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let inner = Arc::clone(&self.0).build(now, current_mtu);
        let line = Arc::new(Line { mtu: AtomicU64::new(current_mtu.into()), ..Line::default() });
        Box::new(Probing { inner, line })
    }
}

struct Probing {
    inner: Box<dyn Controller>,
    /// Shared by all copies: who allows a probe has one of them.
    line: Arc<Line>,
}

#[derive(Debug, Default)]
struct Line {
    /// Bytes under way.
    in_flight: AtomicU64,
    mtu: AtomicU64,
    /// Until the next answer the window is at least so much.
    allowed: AtomicU64,
}

/// Lets a probe of this connection pass a window that is full.
pub(super) fn allow(connection: &quinn::Connection) {
    if let Ok(probing) = connection.congestion_state().into_any().downcast::<Probing>() {
        probing.line.allow();
    }
}

impl Line {
    fn allow(&self) {
        let room = PACKETS * self.mtu.load(Ordering::Relaxed);
        self.allowed.store(self.in_flight.load(Ordering::Relaxed) + room, Ordering::Relaxed);
    }
}

impl Controller for Probing {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.line.in_flight.fetch_add(bytes, Ordering::Relaxed);
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.line.in_flight.store(in_flight, Ordering::Relaxed);
        self.line.allowed.store(0, Ordering::Relaxed);
        self.inner.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.inner.on_congestion_event(now, sent, is_persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.line.mtu.store(new_mtu.into(), Ordering::Relaxed);
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.inner.window().max(self.line.allowed.load(Ordering::Relaxed))
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), line: Arc::clone(&self.line) })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl fmt::Debug for Probing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probing").field("line", &self.line).finish_non_exhaustive()
    }
}

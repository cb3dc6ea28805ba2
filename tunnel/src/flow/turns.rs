//! Whose bytes go next when a session's send window is full: routes share it evenly, and what is small goes before bulk.
//!
//! A stream is *bulk* while it has sent much of late. Bulk gives way twice: its carrier sends it after what is not
//! ([`Load`]), and its writers take turns, the route first that had least ([`Turns`]). Small writers never queue: what they
//! have fits into what the next acknowledgement frees. Without turns a carrier may serve first who came last (quinn does).

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::carrier::Class;

/// What a stream sent of late; half of it is forgotten in [`HALF_LIFE`].
#[derive(Debug)]
pub(super) struct Load {
    lately: f64,
    counted: Instant,
    class: Class,
}

const HALF_LIFE: Duration = Duration::from_millis(500);
/// A video call of 1.4 Mbit/s stays below it for ever, and so does every page and small picture.
const BULK_BYTES: f64 = 128.0 * 1024.0;
const HUGE_BYTES: f64 = 1024.0 * 1024.0;

/// The bulk writers of one session that wait for its carrier.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Routes that wrote of late, and how much: those that wait are served in this order.
    routes: Vec<(u32, u64)>,
}

#[derive(Debug)]
struct Waiting {
    stream: u64,
    route: u32,
    writer: Waker,
}

/// More routes are not told apart: the oldest begins anew.
const MAX_ROUTES: usize = 64;

impl Load {
    pub(super) fn new(now: Instant) -> Self {
        Self { lately: 0.0, counted: now, class: Class::Small }
    }

    pub(super) fn class(&self) -> Class {
        self.class
    }

    /// Counts what is to be sent; says which class it makes, when that is another one than before.
    pub(super) fn add(&mut self, now: Instant, bytes: u64) -> Option<Class> {
        let age = now.saturating_duration_since(self.counted).as_secs_f64() / HALF_LIFE.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a body's piece")]
        let bytes = bytes as f64;
        self.lately = self.lately * (-age).exp2() + bytes;
        self.counted = now;
        let class = match self.lately {
            lately if lately > HUGE_BYTES => Class::Huge,
            lately if lately > BULK_BYTES => Class::Bulk,
            _ => Class::Small,
        };
        (std::mem::replace(&mut self.class, class) != class).then_some(class)
    }
}

impl Turns {
    /// Whether this bulk stream may write now. Whoever is before it is woken first; who then does not write, since its task
    /// has something else to do, has had its turn: so nobody can hold up the others.
    pub(super) fn poll_turn(
        &self,
        cx: &Context<'_>,
        stream: u64,
        route: u32,
        has_yielded: &mut bool,
    ) -> Poll<()> {
        let mut queue = self.0.lock();
        let Some(first) = queue.first().filter(|first| first.stream != stream) else {
            return Poll::Ready(());
        };
        if std::mem::replace(has_yielded, true) {
            return Poll::Ready(());
        }
        first.writer.wake_by_ref();
        queue.wait(cx, stream, route);
        drop(queue);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// It wrote so much, and has to wait for the carrier.
    pub(super) fn is_full(&self, cx: &Context<'_>, stream: u64, route: u32, written: u64) {
        let mut queue = self.0.lock();
        queue.served(route, written);
        queue.wait(cx, stream, route);
    }

    /// It wrote so much, and has nothing more now.
    pub(super) fn is_done(&self, stream: u64, route: u32, written: u64) {
        let mut queue = self.0.lock();
        queue.served(route, written);
        queue.leave(stream);
    }

    /// It writes no more.
    pub(super) fn leave(&self, stream: u64) {
        self.0.lock().leave(stream);
    }
}

impl Queue {
    /// Of the route that had least; of its streams the one that waits longest.
    fn first(&self) -> Option<&Waiting> {
        self.waiting.iter().min_by_key(|waiting| self.had(waiting.route))
    }

    fn had(&self, route: u32) -> u64 {
        self.routes.iter().find(|(known, _)| *known == route).map_or(0, |(_, bytes)| *bytes)
    }

    fn served(&mut self, route: u32, bytes: u64) {
        if let Some((_, had)) = self.routes.iter_mut().find(|(known, _)| *known == route) {
            *had += bytes;
            return;
        }
        if self.routes.len() == MAX_ROUTES {
            self.routes.remove(0);
        }
        // Who was away has saved up nothing.
        let least = self.waiting.iter().map(|waiting| self.had(waiting.route)).min();
        self.routes.push((route, least.unwrap_or(0) + bytes));
    }

    fn wait(&mut self, cx: &Context<'_>, stream: u64, route: u32) {
        let writer = cx.waker().clone();
        match self.waiting.iter_mut().find(|waiting| waiting.stream == stream) {
            Some(waiting) => waiting.writer = writer,
            None => self.waiting.push(Waiting { stream, route, writer }),
        }
    }

    fn leave(&mut self, stream: u64) {
        let Some(at) = self.waiting.iter().position(|waiting| waiting.stream == stream) else { return };
        self.waiting.remove(at);
        match self.first() {
            Some(first) => first.writer.wake_by_ref(),
            // Nobody waits: nobody is owed anything.
            None => self.routes.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_stays_small_and_a_download_becomes_huge_and_small_again() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut call = Load::new(start);
        for frame in 0..600 {
            assert_eq!(call.add(at(frame * 16), 2500), None, "frame {frame}");
        }
        let mut download = Load::new(start);
        let classes: Vec<_> = (0..40).filter_map(|piece| download.add(at(piece * 10), 64 * 1024)).collect();
        assert_eq!(classes, [Class::Bulk, Class::Huge]);
        assert_eq!(download.add(at(10_000), 100), Some(Class::Small));
    }

    #[test]
    fn the_route_that_had_least_is_first_and_who_does_not_write_is_passed() {
        let turns = Turns::default();
        let cx = &Context::from_waker(Waker::noop());
        let (mut eight, mut one) = (false, false);
        assert!(turns.poll_turn(cx, 1, 8, &mut eight).is_ready());
        turns.is_full(cx, 1, 8, 64_000);
        turns.is_full(cx, 2, 8, 64_000);
        // Who comes late begins where the others are.
        turns.is_full(cx, 9, 1, 1000);
        assert!(turns.poll_turn(cx, 1, 8, &mut eight).is_ready());
        turns.is_full(cx, 1, 8, 64_000);
        // Route 8 had more: its streams wait for route 1's, once.
        assert!(turns.poll_turn(cx, 1, 8, &mut eight).is_pending());
        assert!(turns.poll_turn(cx, 9, 1, &mut one).is_ready());
        assert!(turns.poll_turn(cx, 1, 8, &mut eight).is_ready(), "nobody can hold it up");
        turns.leave(9);
        eight = false;
        assert!(turns.poll_turn(cx, 2, 8, &mut eight).is_pending(), "stream 1 waits longer");
        turns.leave(1);
        turns.leave(2);
        assert!(turns.0.lock().routes.is_empty());
    }
}

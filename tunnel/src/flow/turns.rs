//! Whose bytes go next when a session's send window is full: routes share it evenly, and what is small goes before bulk.
//!
//! A stream is *bulk* while it has sent much of late. Its carrier sends it after what is not ([`Load`]), and all writers that find
//! the carrier full take turns ([`Turns`]): small ones first, of these who had least; then the route that had least. The carrier
//! wakes nobody but the turns, and these call one writer, who calls the next: an acknowledgement costs as many looks as it lets
//! bytes out, also when thousands wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
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

/// The writers of one session that wait for its carrier. The carrier wakes it when it has room again.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queue: Mutex<Queue>,
    /// What may be read without the queue's lock, and is written under it.
    is_full: AtomicBool,
    has_waiting: AtomicBool,
    /// How often the carrier had room again.
    openings: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    small: BTreeMap<(u64, u64), Waker>,
    /// By route, those that wait longest first.
    bulk: BTreeMap<u32, BTreeMap<u64, Waker>>,
    /// Routes that wrote of late, and how much: those that wait are served in this order.
    routes: Vec<(u32, u64)>,
    /// The last number that was given out.
    last: u64,
    /// Whose writing filled the carrier: it is woken for this stream's sake, so for nobody's when the stream is gone.
    filler: Option<u64>,
}

/// In which order a writer is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// Which sent so much of late.
    Small(u64),
    /// Of this route.
    Bulk(u32),
}

/// One that waits, or has just been called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    rank: Rank,
    number: u64,
}

/// A try to write: which opening of the carrier it was in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Try(u64);

/// More routes are not told apart: the oldest begins anew.
const MAX_ROUTES: usize = 64;

impl Load {
    pub(super) fn new(now: Instant) -> Self {
        Self { lately: 0.0, counted: now, class: Class::Small }
    }

    /// The order of a stream of this route.
    pub(super) fn rank(&self, route: impl FnOnce() -> u32) -> Rank {
        match self.class {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below BULK_BYTES")]
            Class::Small => Rank::Small(self.lately as u64),
            Class::Bulk | Class::Huge => Rank::Bulk(route()),
        }
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
    /// Whether a writer may try now. If not it waits in `place` until it is called; whoever has a place writes or leaves in the end.
    pub(super) fn poll_turn(&self, cx: &Context<'_>, place: &mut Option<Place>, rank: Rank) -> Poll<Try> {
        let may_try = || Poll::Ready(Try(self.openings.load(Ordering::Acquire)));
        // Bulk that comes while others wait would take what they were called for.
        let is_held_up = |waiting| self.is_full.load(Ordering::Relaxed) || waiting && rank.is_bulk();
        if place.is_none() && !is_held_up(self.has_waiting.load(Ordering::Relaxed)) {
            return may_try();
        }
        let mut queue = self.queue.lock();
        match place {
            Some(waiting) => match queue.writer(*waiting) {
                Some(writer) => writer.clone_from(cx.waker()),
                None => {
                    *place = None;
                    return may_try();
                }
            },
            None if !is_held_up(!queue.is_empty()) => return may_try(),
            None => {
                *place = Some(self.wait(&mut queue, cx, rank, 0));
                // Somebody is called already, or should have been.
                if !self.is_full.load(Ordering::Relaxed) {
                    self.call(&mut queue);
                }
            }
        }
        Poll::Pending
    }

    /// It wrote so much in that try, and has to wait for the carrier, which will wake these turns.
    pub(super) fn is_full(
        &self,
        cx: &Context<'_>,
        stream: u64,
        rank: Rank,
        written: u64,
        Try(opening): Try,
    ) -> Place {
        let mut queue = self.queue.lock();
        let place = self.wait(&mut queue, cx, rank, written);
        if self.openings.load(Ordering::Acquire) == opening {
            self.is_full.store(true, Ordering::Relaxed);
            queue.filler = Some(stream);
        } else {
            self.call(&mut queue);
        }
        place
    }

    /// It wrote so much, and has nothing more now.
    pub(super) fn is_done(&self, rank: Rank, written: u64) {
        if !self.has_waiting.load(Ordering::Relaxed) {
            return;
        }
        let mut queue = self.queue.lock();
        queue.served(rank, written);
        self.call_next(&mut queue);
    }

    /// It writes no more for now.
    pub(super) fn leave(&self, place: &mut Option<Place>) {
        let Some(place) = place.take() else { return };
        let mut queue = self.queue.lock();
        let was_called = queue.take(place).is_none();
        self.note(&queue);
        if was_called {
            self.call_next(&mut queue);
        }
    }

    /// This stream writes no more for ever.
    pub(super) fn over(&self, stream: u64) {
        if self.is_full.load(Ordering::Relaxed) {
            let mut queue = self.queue.lock();
            if queue.filler == Some(stream) {
                self.has_room(&mut queue);
            }
        }
    }

    fn has_room(&self, queue: &mut Queue) {
        queue.filler = None;
        self.is_full.store(false, Ordering::Relaxed);
        self.call(queue);
    }

    fn call_next(&self, queue: &mut Queue) {
        if !self.is_full.load(Ordering::Relaxed) {
            self.call(queue);
        }
    }

    fn call(&self, queue: &mut Queue) {
        if let Some(writer) = queue.pop() {
            writer.wake();
            self.note(queue);
        }
    }

    fn wait(&self, queue: &mut Queue, cx: &Context<'_>, rank: Rank, written: u64) -> Place {
        if queue.is_empty() {
            // Nobody waited: nobody is owed anything, and who was away has saved up nothing.
            queue.routes.clear();
        }
        queue.served(rank, written);
        let place = queue.wait(cx, rank);
        self.note(queue);
        place
    }

    fn note(&self, queue: &Queue) {
        self.has_waiting.store(!queue.is_empty(), Ordering::Relaxed);
    }
}

impl Wake for Turns {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// The carrier says it once for each stream that ever filled it: only the first time calls somebody.
    fn wake_by_ref(self: &Arc<Self>) {
        let mut queue = self.queue.lock();
        self.openings.fetch_add(1, Ordering::Release);
        if self.is_full.load(Ordering::Relaxed) {
            self.has_room(&mut queue);
        }
    }
}

impl Rank {
    fn is_bulk(self) -> bool {
        matches!(self, Self::Bulk(_))
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.small.is_empty() && self.bulk.is_empty()
    }

    fn wait(&mut self, cx: &Context<'_>, rank: Rank) -> Place {
        self.last += 1;
        let place = Place { rank, number: self.last };
        let writer = cx.waker().clone();
        match rank {
            Rank::Small(lately) => self.small.insert((lately, place.number), writer),
            Rank::Bulk(route) => self.bulk.entry(route).or_default().insert(place.number, writer),
        };
        place
    }

    /// None: it was called.
    fn writer(&mut self, Place { rank, number }: Place) -> Option<&mut Waker> {
        match rank {
            Rank::Small(lately) => self.small.get_mut(&(lately, number)),
            Rank::Bulk(route) => self.bulk.get_mut(&route)?.get_mut(&number),
        }
    }

    fn take(&mut self, Place { rank, number }: Place) -> Option<Waker> {
        let route = match rank {
            Rank::Small(lately) => return self.small.remove(&(lately, number)),
            Rank::Bulk(route) => route,
        };
        let writers = self.bulk.get_mut(&route)?;
        let writer = writers.remove(&number);
        if writers.is_empty() {
            self.bulk.remove(&route);
        }
        writer
    }

    /// Who is first of all.
    fn pop(&mut self) -> Option<Waker> {
        if let Some((_, writer)) = self.small.pop_first() {
            return Some(writer);
        }
        let route = self.bulk.keys().copied().min_by_key(|route| self.had(*route))?;
        let number = *self.bulk.get(&route)?.keys().next()?;
        self.take(Place { rank: Rank::Bulk(route), number })
    }

    fn had(&self, route: u32) -> u64 {
        self.routes.iter().find(|(known, _)| *known == route).map_or(0, |(_, bytes)| *bytes)
    }

    fn served(&mut self, rank: Rank, bytes: u64) {
        let Rank::Bulk(route) = rank else { return };
        if let Some((_, had)) = self.routes.iter_mut().find(|(known, _)| *known == route) {
            *had += bytes;
            return;
        }
        if self.routes.len() == MAX_ROUTES {
            self.routes.remove(0);
        }
        // Who was away has saved up nothing.
        let least = self.bulk.keys().map(|waiting| self.had(*waiting)).min();
        self.routes.push((route, least.unwrap_or(0) + bytes));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

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

    /// One who waits, and sees whether it was called.
    struct Writer {
        called: Arc<Called>,
        waker: Waker,
        stream: u64,
        rank: Rank,
        place: Option<Place>,
    }

    #[derive(Default)]
    struct Called(AtomicBool);

    impl Wake for Called {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    impl Writer {
        fn new(stream: u64, rank: Rank) -> Self {
            let called = Arc::<Called>::default();
            Self { waker: Waker::from(Arc::clone(&called)), called, stream, rank, place: None }
        }

        fn was_called(&self) -> bool {
            self.called.0.swap(false, Ordering::Relaxed)
        }

        fn turn(&mut self, turns: &Turns) -> Option<Try> {
            match turns.poll_turn(&Context::from_waker(&self.waker), &mut self.place, self.rank) {
                Poll::Ready(attempt) => Some(attempt),
                Poll::Pending => None,
            }
        }

        fn fills(&mut self, turns: &Turns, written: u64) {
            let attempt = self.turn(turns).expect("its turn");
            let cx = &Context::from_waker(&self.waker);
            self.place = Some(turns.is_full(cx, self.stream, self.rank, written, attempt));
        }
    }

    #[test]
    fn an_opening_calls_one_writer_and_each_calls_the_next() {
        let turns = Arc::<Turns>::default();
        let mut first = Writer::new(1, Rank::Small(0));
        first.fills(&turns, 100);
        let mut others: Vec<_> = (2..5).map(|stream| Writer::new(stream, Rank::Small(0))).collect();
        for other in &mut others {
            assert!(other.turn(&turns).is_none());
        }
        for _ in 0..4 {
            turns.wake_by_ref();
            assert!(others.iter().all(|other| !other.was_called()));
        }
        assert!(first.was_called());
        assert!(first.turn(&turns).is_some());
        turns.is_done(first.rank, 100);
        assert_eq!(others.iter().map(Writer::was_called).collect::<Vec<_>>(), [true, false, false]);
        // Who was called and goes passes it on.
        turns.leave(&mut others[0].place);
        assert!(others[1].was_called() && !others[2].was_called());
        others[1].fills(&turns, 100);
        assert!(!others[2].was_called());
        // Nobody would be woken for a stream that is gone.
        turns.over(others[1].stream);
        assert!(others[2].was_called());
    }

    #[test]
    fn small_goes_before_bulk_and_who_had_least_first() {
        let turns = Arc::<Turns>::default();
        let mut filler = Writer::new(1, Rank::Bulk(8));
        filler.fills(&turns, 64_000);
        let mut bulk = Writer::new(2, Rank::Bulk(1));
        let mut call = Writer::new(3, Rank::Small(50_000));
        let mut page = Writer::new(4, Rank::Small(0));
        for waits in [&mut bulk, &mut call, &mut page] {
            assert!(waits.turn(&turns).is_none());
        }
        for first in [&mut page, &mut call, &mut bulk] {
            turns.wake_by_ref();
            assert!(first.was_called());
            first.fills(&turns, 1000);
            turns.leave(&mut first.place);
        }
        turns.wake_by_ref();
        assert!(filler.was_called());
    }

    #[test]
    fn room_that_comes_during_a_write_is_not_missed() {
        let turns = Arc::<Turns>::default();
        let mut writer = Writer::new(1, Rank::Small(0));
        let attempt = writer.turn(&turns).unwrap();
        turns.wake_by_ref();
        let cx = &Context::from_waker(&writer.waker);
        writer.place = Some(turns.is_full(cx, 1, writer.rank, 10, attempt));
        assert!(writer.was_called());
        assert!(writer.turn(&turns).is_some());
    }

    #[test]
    fn bulk_of_two_routes_shares_evenly() {
        let turns = Arc::<Turns>::default();
        let mut writers: Vec<_> = (0..5).map(|at| Writer::new(at, Rank::Bulk(u32::from(at > 0)))).collect();
        let mut had = [0, 0];
        writers[0].fills(&turns, 0);
        for writer in &mut writers[1..] {
            assert!(writer.turn(&turns).is_none());
        }
        for _ in 0..1000 {
            turns.wake_by_ref();
            let called: Vec<_> = (0..5).filter(|at| writers[*at].was_called()).collect();
            let [at] = called[..] else { panic!("one is called: {called:?}") };
            writers[at].fills(&turns, 10);
            had[usize::from(at > 0)] += 10;
        }
        assert_eq!(had, [5000, 5000]);
    }

    #[test]
    fn a_route_that_was_away_has_saved_up_nothing() {
        let turns = Arc::<Turns>::default();
        let mut steady = Writer::new(1, Rank::Bulk(1));
        let mut guest = Writer::new(2, Rank::Bulk(2));
        guest.fills(&turns, 10);
        turns.leave(&mut guest.place);
        turns.over(guest.stream);
        // For a long time only one of them sends.
        for _ in 0..1000 {
            steady.fills(&turns, 10);
            turns.wake_by_ref();
            assert!(steady.was_called());
        }
        steady.fills(&turns, 10);
        assert!(guest.turn(&turns).is_none());
        let mut had = 0;
        for _ in 0..100 {
            turns.wake_by_ref();
            if guest.was_called() {
                guest.fills(&turns, 10);
            } else {
                assert!(steady.was_called());
                steady.fills(&turns, 10);
                had += 1;
            }
        }
        assert!((45..=55).contains(&had), "{had} turns of a hundred");
    }
}

//! How many connections one origin may have. Each takes a file and a local port, and a port range that is nearly full
//! makes `connect` search for so long that everything else on its thread waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Held by a connection for as long as it is open.
#[derive(Debug)]
pub(crate) struct Permit {
    held: OwnedSemaphorePermit,
    limit: usize,
}

/// So many connections of one origin may each read as much ahead as they like.
const MANY: usize = 256;

/// The connections of one origin in this process, and the requests that wait for one.
#[derive(Debug)]
pub(super) struct Room {
    free: Arc<Semaphore>,
    limit: usize,
    /// One a shard: a connection lives and dies on its own.
    queues: Box<[Queue]>,
    /// Requests in all queues.
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: AtomicUsize,
    returned: Notify,
}

/// What a request waited for.
#[derive(Debug)]
pub(super) enum Found {
    /// It may connect.
    Room(Permit),
    /// A connection was put on its shard's shelf.
    Returned,
}

/// What is to become of a connection that a request gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenBack {
    /// To the shelf.
    Keep,
    /// Closed: it makes room for a request of another shard.
    Close,
}

impl Room {
    pub(super) fn new(limit: usize, shards: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(limit)),
            limit,
            queues: (0..shards).map(|_| Queue::default()).collect(),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn try_enter(&self) -> Option<Permit> {
        Arc::clone(&self.free).try_acquire_owned().ok().map(|held| self.permit(held))
    }

    fn permit(&self, held: OwnedSemaphorePermit) -> Permit {
        Permit { held, limit: self.limit }
    }

    /// Waits for room or a connection, first come first served. `None` when neither came in time. Cancel safe.
    pub(super) async fn wait(&self, shard: usize, patience: Duration) -> Option<Found> {
        let queue = &self.queues[shard];
        let _counted = (Counted::new(&queue.waiting), Counted::new(&self.waiting));
        tokio::select! {
            biased;
            permit = Arc::clone(&self.free).acquire_owned() => permit.ok().map(|held| Found::Room(self.permit(held))),
            () = queue.returned.notified() => Some(Found::Returned),
            () = tokio::time::sleep(patience) => None,
        }
    }

    /// To be asked before a connection is put on the shelf of `shard`, and followed.
    pub(super) fn give_back(&self, shard: usize) -> GivenBack {
        let queue = &self.queues[shard];
        if queue.waiting.load(Ordering::Relaxed) > 0 {
            queue.returned.notify_one();
            return GivenBack::Keep;
        }
        if self.waiting.load(Ordering::Relaxed) > 0 { GivenBack::Close } else { GivenBack::Keep }
    }
}

impl Permit {
    /// Whether so many are open that what each reads ahead counts.
    pub(super) fn is_one_of_many(&self) -> bool {
        self.limit - self.held.semaphore().available_permits() > MANY
    }
}

/// Counts one request while it waits, however that ends.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_request_over_the_limit_waits_for_room_and_no_longer_than_its_patience() {
        let room = Room::new(1, 1);
        let first = room.try_enter().unwrap();
        assert!(room.try_enter().is_none());
        assert!(room.wait(0, Duration::from_millis(20)).await.is_none());
        let mut second = std::pin::pin!(room.wait(0, LONG));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        assert!(matches!(second.await, Some(Found::Room(_))));
        assert_eq!(room.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_returned_connection_goes_to_who_waits_on_its_shard_and_makes_room_for_others() {
        let room = Room::new(0, 2);
        assert_eq!(room.give_back(0), GivenBack::Keep);
        let mut waits = std::pin::pin!(room.wait(0, LONG));
        assert!(futures_util::poll!(waits.as_mut()).is_pending());
        assert_eq!(room.give_back(1), GivenBack::Close);
        assert_eq!(room.give_back(0), GivenBack::Keep);
        assert!(matches!(waits.await, Some(Found::Returned)));
    }
}

//! How many visitors' connections there may be, how full the house is, and each connection's place in it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use crate::household::{Household, Households};
use crate::overload::{Overload, Step};

/// How many connections there may be. Shared by all listeners of the process.
#[derive(Debug)]
pub struct Room {
    total: Arc<Semaphore>,
    pub pressure: Arc<Pressure>,
    pub households: Arc<Households>,
}

/// One connection's stay. Dropped, its place is free again.
#[derive(Debug)]
pub struct Stay {
    room: Arc<Room>,
    pub household: Arc<Household>,
    open: Gauge,
    _permit: OwnedSemaphorePermit,
}

/// How full the process is with connections.
#[derive(Debug)]
pub struct Pressure {
    open: AtomicUsize,
    max: usize,
    pub overload: Arc<Overload>,
}

/// The idle time above 80 % of all connections (hazard 109).
const IDLE_UNDER_PRESSURE: Duration = Duration::from_secs(5);
/// Who idles already sees within this time that it has become crowded.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Whether there is memory again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Room {
    pub fn new(max: usize, households: Arc<Households>) -> Arc<Self> {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            total: Arc::new(Semaphore::new(max)),
            pressure: Arc::new(Pressure { open: AtomicUsize::new(0), max, overload: Arc::default() }),
            households,
        })
    }

    /// Waits until there is room for one more. Cancel safe.
    ///
    /// # Errors
    /// Never, as long as nobody closes the house.
    pub async fn wait(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        let permit = Arc::clone(&self.total).acquire_owned().await;
        while self.pressure.overload.step() == Step::Full {
            sleep(LOOK_AGAIN).await;
        }
        permit
    }

    /// A place for one who is here already. None: the house or the memory is full, or his household has as many as it may
    /// have.
    pub fn enter(self: &Arc<Self>, ip: IpAddr, open: &Gauge) -> Option<Stay> {
        if self.pressure.overload.step() == Step::Full {
            return None;
        }
        let permit = Arc::clone(&self.total).try_acquire_owned().ok()?;
        self.take(ip, permit, open)
    }

    /// A place for a visitor from this address. None: his household has as many as it may have.
    pub fn take(self: &Arc<Self>, ip: IpAddr, permit: OwnedSemaphorePermit, open: &Gauge) -> Option<Stay> {
        let household = self.households.enter(ip)?;
        if !household.connected() {
            return None;
        }
        self.pressure.open.fetch_add(1, Ordering::Relaxed);
        open.inc();
        Some(Stay { room: Arc::clone(self), household, open: open.clone(), _permit: permit })
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.room.pressure.open.fetch_sub(1, Ordering::Relaxed);
        self.open.dec();
        self.household.disconnected();
    }
}

impl Pressure {
    /// What is not needed has to go.
    pub fn is_tight(&self) -> bool {
        self.overload.step() >= Step::Tight
    }

    /// No new request is taken on.
    pub fn refuses(&self) -> bool {
        self.overload.step() >= Step::Refusing
    }

    /// How long a connection may idle that may do so for `calm` when there is room.
    pub fn idle(&self, calm: Duration) -> Duration {
        let is_high = self.is_tight() || self.open.load(Ordering::Relaxed) > self.max / 5 * 4;
        if is_high { calm.min(IDLE_UNDER_PRESSURE) } else { calm }
    }

    /// When to look at a connection that may idle until then.
    pub fn look(&self, until: Instant) -> Instant {
        until.min(Instant::now() + LOOK_EVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::household::Bounds;
    use crate::metrics::Visitors;

    fn room(max: usize, connections: usize) -> Arc<Room> {
        let bounds = Bounds { connections, requests: 2, ..Bounds::default() };
        Room::new(
            max,
            Households::new(
                bounds,
                Arc::new([]),
                Visitors::default(),
                causeway_tunnel::flow::Budget::default(),
            ),
        )
    }

    fn take(room: &Arc<Room>, ip: &str, open: &Gauge) -> Option<Stay> {
        let permit = Arc::clone(&room.total).try_acquire_owned().unwrap();
        room.take(ip.parse().unwrap(), permit, open)
    }

    #[test]
    fn hazard_110_one_household_cannot_take_the_whole_house() {
        let (room, open) = (room(10, 2), Gauge::default());
        let take = |ip: &str| take(&room, ip, &open);
        let first = take("2001:db8:0:1::1");
        let second = take("2001:db8:0:1:ffff::2");
        assert!(first.is_some() && second.is_some());
        assert!(take("2001:db8:0:1::3").is_none());
        assert!(take("2001:db8:0:2::3").is_some());
        assert!(take("192.0.2.1").is_some() && take("::ffff:192.0.2.1").is_some());
        drop(first);
        assert!(take("2001:db8:0:1::3").is_some());
        drop(second);
        assert!(room.households.is_empty() && open.get() == 0);
        assert_eq!(room.total.available_permits(), 10);
    }

    #[test]
    fn hazard_109_idle_connections_go_sooner_when_it_is_crowded() {
        let (room, open, calm) = (room(10, 10), Gauge::default(), Duration::from_secs(75));
        assert_eq!(room.pressure.idle(calm), calm);
        let mut stays: Vec<_> = (0..9).map(|_| take(&room, "192.0.2.1", &open).unwrap()).collect();
        assert_eq!(room.pressure.idle(calm), IDLE_UNDER_PRESSURE);
        stays.pop();
        assert_eq!(room.pressure.idle(calm), calm);
    }

    #[test]
    fn hazard_112_without_memory_nobody_who_is_here_already_is_let_in_either() {
        let (room, open) = (room(10, 10), Gauge::default());
        let enter = || room.enter("192.0.2.1".parse().unwrap(), &open);
        assert!(enter().is_some());
        room.pressure.overload.set(Step::Full);
        assert!(enter().is_none());
        room.pressure.overload.set(Step::Refusing);
        assert!(enter().is_some());
        assert_eq!((room.total.available_permits(), open.get()), (10, 0));
    }
}

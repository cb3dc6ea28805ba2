//! A line between two namespaces: the thread that carries its packets, and the handle that changes it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::shape::{MTU, Mode, Shape};
use super::tun::Tun;
use super::way::{Counters, Way};
use crate::netns::Namespace;

/// While packets come, the thread looks so often: a wake-up for each packet would cost more than carrying it.
const TICK: Duration = Duration::from_micros(200);
/// Packets taken from one end before the other end has its turn.
const BATCH: usize = 512;
/// What an end holds while the line stands still: a second of 60 Mbit/s.
const SENDER_QUEUE: usize = 5000;

/// Which end a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    First,
    Second,
}

/// A running line. Dropping it takes its devices away.
#[derive(Debug)]
pub struct Line {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    shape: Mutex<Shape>,
    counters: Mutex<[Counters; 2]>,
    ends: AtomicBool,
    wake: OwnedFd,
}

/// One end: where the device is, its name and its address.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub namespace: &'a Namespace,
    pub device: &'a str,
    pub addr: std::net::Ipv4Addr,
}

impl Line {
    /// Lays a line between two places; `seed` decides which packets are lost.
    pub fn between(first: Place<'_>, second: Place<'_>, shape: Shape, seed: u64) -> Result<Self> {
        let ends = [first.device(second)?, second.device(first)?];
        let shared = Arc::new(Shared {
            shape: Mutex::new(shape),
            counters: Mutex::default(),
            ends: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let carrier = Carrier {
            ends,
            ways: [Way::new(seed), Way::new(!seed)],
            since: Instant::now(),
            shared: shared.clone(),
        };
        let thread = std::thread::Builder::new().name("line".into()).spawn(move || carrier.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub fn shape(&self) -> Shape {
        *self.shared.shape.lock()
    }

    /// Changes the line from the next packet on.
    pub fn change(&self, change: impl FnOnce(&mut Shape)) {
        change(&mut self.shared.shape.lock());
        self.shared.wake();
    }

    /// Changes whether the line carries anything.
    pub fn turn(&self, mode: Mode) {
        self.change(|shape| shape.mode = mode);
    }

    pub fn counters(&self, towards: Towards) -> Counters {
        self.shared.counters.lock()[usize::from(towards == Towards::First)]
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.ends.store(true, Relaxed);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

impl Place<'_> {
    fn device(self, peer: Place<'_>) -> Result<Tun> {
        let Place { namespace, device, addr } = self;
        let tun = namespace.enter(|| Tun::open(device)).context("cannot make a TUN device")?;
        namespace.ip(&format!(
            "addr add {addr} peer {} dev {device}\nlink set {device} mtu {MTU} txqueuelen {SENDER_QUEUE} up\n",
            peer.addr
        ))?;
        Ok(tun)
    }
}

/// The thread's own: packets from `ends[n]` go by `ways[n]` to the other end.
struct Carrier {
    ends: [Tun; 2],
    ways: [Way; 2],
    since: Instant,
    shared: Arc<Shared>,
}

impl Carrier {
    fn run(mut self) {
        let mut buffer = vec![0; 2 * MTU];
        while !self.shared.ends.load(Relaxed) {
            let shape = *self.shared.shape.lock();
            if shape.mode == Mode::StandsStill {
                self.stand_still();
                continue;
            }
            let took = self.take(&mut buffer, &shape);
            self.give(&shape);
            *self.shared.counters.lock() = [self.ways[0].counters, self.ways[1].counters];
            self.wait(took);
        }
    }

    fn take(&mut self, buffer: &mut [u8], shape: &Shape) -> bool {
        let now = self.since.elapsed();
        let mut took = false;
        for (end, way) in self.ends.iter().zip(&mut self.ways) {
            for _ in 0..BATCH {
                let Some(packet) = end.read(buffer) else { break };
                way.take(packet, now, shape);
                took = true;
            }
        }
        took
    }

    fn give(&mut self, shape: &Shape) {
        let now = self.since.elapsed();
        let [first, second] = &self.ends;
        for (way, receiver) in self.ways.iter_mut().zip([second, first]) {
            way.give(now, shape, |packet| receiver.write(packet));
        }
    }

    fn wait(&self, took: bool) {
        let now = self.since.elapsed();
        let next = self.ways.iter().filter_map(Way::next).min().map(|due| due.saturating_sub(now));
        let wake = PollFd::new(&self.shared.wake, PollFlags::IN);
        let [first, second] = &self.ends;
        let mut fds = [wake, PollFd::new(first, PollFlags::IN), PollFd::new(second, PollFlags::IN)];
        let (fds, patience) = if took { (&mut fds[..1], Some(TICK)) } else { (&mut fds[..], next) };
        let patience = patience.map(|time| Timespec::try_from(time).expect("less than a century"));
        let _ = poll(fds, patience.as_ref());
        self.woken();
    }

    fn stand_still(&mut self) {
        let since = self.since.elapsed();
        while self.shared.shape.lock().mode == Mode::StandsStill && !self.shared.ends.load(Relaxed) {
            let _ = poll(&mut [PollFd::new(&self.shared.wake, PollFlags::IN)], None);
            self.woken();
        }
        let pause = self.since.elapsed() - since;
        self.ways.iter_mut().for_each(|way| way.shift(pause));
    }

    fn woken(&self) {
        let _ = rustix::io::read(self.shared.wake.as_fd(), &mut [0u8; 8]);
    }
}

//! Two sessions, the tasks at both ends, and the schedule that polls them and moves the time.

use std::cell::RefCell;
use std::collections::HashSet;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::chance::Chance;
use super::ledger::{Ledger, Seen};
use super::{Ties, origin, visitor};
use crate::carrier::memory::{Line, Link, Party};
use crate::carrier::{Connection, memory::pair};
use crate::code::CloseCode;
use crate::flow::{Budget, Courier, Flow, Sizes};
use crate::session::Session;
use crate::tests::session_over;

type Future = Pin<Box<dyn std::future::Future<Output = ()>>>;

struct Task {
    future: Future,
    woken: Arc<Woken>,
    life: Life,
}

/// Whether a task must end by itself, or with its session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Own,
    OfSession,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What ends the connection before its streams have ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    None,
    Cut,
    Close(Party),
}

pub(super) struct Pair {
    seed: u64,
    chance: Chance,
    ledger: Ledger,
    link: Arc<Mutex<Link>>,
    /// Of both ends, so that one is in the other's way.
    budget: Budget,
    ends: [(Connection, Arc<Flow>); 2],
    sessions: [Session; 2],
    tasks: Vec<Task>,
    spawned: Spawned,
    fate: Fate,
    /// Steps until the fate comes.
    until: u32,
    now: Duration,
}

type Spawned = Rc<RefCell<Vec<(Future, Life)>>>;

/// No schedule takes so many steps, unless it turns in a circle.
const MAX_STEPS: u32 = 200_000;

impl Pair {
    pub(super) fn new(seed: u64) -> Self {
        let chance = Chance::new(seed);
        let line = Line {
            delay: Duration::from_millis(chance.below(50).into()),
            jitter: Duration::from_millis(chance.below(30).into()),
            loss_permille: chance.below(2) * chance.below(200),
            // Small enough for a head to wait in its middle, now and then, and narrower than what is granted.
            stream_window_bytes: if chance.one_in(4) {
                4 + chance.below(60)
            } else {
                64 + chance.below(3000)
            }
            .into(),
            packet_bytes: 16 + chance.below(1200) as usize,
            seed,
        };
        // The edge, which listens, opens the streams.
        let (connector, edge, link) = pair(Link::new(line, (1, 2 + chance.below(8))));
        let fate = match chance.below(8) {
            0 => Fate::Cut,
            1 => Fate::Close(Party::Dialler),
            2 => Fate::Close(Party::Listener),
            _ => Fate::None,
        };
        let (budget, sizes) = windows(&chance);
        let ends = [connector, edge].map(|end| {
            let connection = Connection::Memory(end);
            (connection.clone(), Flow::new(connection, budget.clone(), sizes))
        });
        let sessions =
            ends.each_ref().map(|(connection, flow)| session_over(connection.clone(), Arc::clone(flow)));
        let mut pair = Self {
            seed,
            ledger: Ledger::default(),
            link,
            budget,
            ends,
            sessions,
            tasks: Vec::new(),
            spawned: Rc::default(),
            fate,
            until: chance.below(400),
            now: Duration::ZERO,
            chance,
        };
        pair.begin();
        pair
    }

    fn begin(&mut self) {
        let [connector, edge] = &self.sessions;
        let ties = |session: &Session| Ties {
            chance: self.chance.clone(),
            ledger: self.ledger.clone(),
            session: session.clone(),
        };
        for number in 0..self.chance.below(8) {
            self.spawn(Life::Own, visitor::visit(ties(edge), number));
        }
        // Opened before any other: nothing is in its way.
        let [at_dialler, (connection, flow)] = &self.ends;
        let opened = pin!(Courier::open(connection, flow)).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Ok(courier)) = opened else { panic!("the credit stream waits") };
        self.spawn(Life::OfSession, courier.run());
        let (at_connector, spawned) = (ties(connector), Rc::clone(&self.spawned));
        let (connection, flow) = at_dialler.clone();
        self.spawn(Life::OfSession, async move {
            let Ties { chance, session, .. } = &at_connector;
            let Ok(courier) = Courier::accept(&connection, &flow).await else { return };
            drop((connection, flow));
            spawned.borrow_mut().push((Box::pin(courier.run()), Life::OfSession));
            while let Some((send, recv)) = chance.again(async || session.accept().await).await {
                let serve = origin::serve(at_connector.clone(), send, recv);
                spawned.borrow_mut().push((Box::pin(serve), Life::Own));
            }
        });
        let sent = self.chance.below(6);
        for number in 0..sent {
            // The session may have ended.
            let _ = edge.send_datagram(Bytes::copy_from_slice(&number.to_be_bytes()));
        }
        self.spawn(Life::OfSession, recv_datagrams(ties(connector), sent));
    }

    fn spawn(&self, life: Life, future: impl std::future::Future<Output = ()> + 'static) {
        self.spawned.borrow_mut().push((Box::pin(future), life));
    }

    /// Until nothing is left to do and nothing is under way.
    pub(super) fn run(&mut self) {
        for _ in 0..MAX_STEPS {
            if self.until == 0 {
                self.meet_fate();
            }
            self.until = self.until.saturating_sub(1);
            let new = self.spawned.take();
            self.tasks.extend(new.into_iter().map(|(future, life)| Task {
                future,
                woken: Arc::new(Woken(AtomicBool::new(true))),
                life,
            }));
            let ready: Vec<usize> =
                (0..self.tasks.len()).filter(|&at| self.tasks[at].woken.0.load(Ordering::Relaxed)).collect();
            let next = self.link.lock().next_arrival();
            match (ready.len(), next) {
                (0, None) if self.fate == Fate::None || self.until > 0 => return,
                (0, None) => {}
                (0, Some(at)) => self.advance(at),
                (_, Some(at)) if self.chance.one_in(3) => self.advance(at),
                // Who is polled for nothing must bear it.
                (_, _) if self.chance.one_in(30) => self.poll(self.chance.index(self.tasks.len())),
                (count, _) => self.poll(ready[self.chance.index(count)]),
            }
        }
        panic!("seed {}: turns in a circle", self.seed);
    }

    fn advance(&mut self, at: Duration) {
        self.now = self.now.max(at);
        self.link.lock().advance(self.now);
    }

    fn poll(&mut self, at: usize) {
        let task = &mut self.tasks[at];
        task.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&task.woken));
        if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            drop(self.tasks.swap_remove(at));
        }
    }

    fn meet_fate(&mut self) {
        match std::mem::replace(&mut self.fate, Fate::None) {
            Fate::None => return,
            Fate::Cut => {
                self.ledger.saw(|seen| seen.deaths += 1);
                self.link.lock().cut();
            }
            Fate::Close(side) => {
                self.ledger.saw(|seen| seen.closes += 1);
                self.sessions[side as usize].close(CloseCode::Done, "fate");
            }
        }
        self.ledger.die();
    }

    /// What must hold once all is quiet.
    pub(super) fn end(mut self) -> Seen {
        let stuck = self.tasks.iter().filter(|task| task.life == Life::Own).count();
        assert_eq!(stuck, 0, "seed {}: tasks that wait for ever", self.seed);
        let [connector, edge] = self.sessions.clone();
        if edge.is_alive() && connector.is_alive() {
            let link = self.link.lock();
            let left = (link.streams(Party::Dialler), link.streams(Party::Listener));
            // The credit stream lives as long as its session.
            assert_eq!(left, (1, 1), "seed {}: streams that nobody has are not over", self.seed);
        }
        edge.close(CloseCode::Done, "over");
        self.run();
        assert!(self.tasks.is_empty(), "seed {}: tasks that outlive their session", self.seed);
        assert_eq!(
            (edge.in_flight(), connector.in_flight()),
            (0, 0),
            "seed {}: streams that are counted for ever",
            self.seed
        );
        assert_eq!(self.budget.held(), 0, "seed {}: bytes that nobody holds", self.seed);
        self.ledger.seen()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the schedule of CAUSEWAY_SIM_SEED={} CAUSEWAY_SIM_RUNS=1", self.seed);
        }
    }
}

/// Small enough for everything to wait for credit now and then, and a budget that they may come to the end of.
pub(super) fn windows(chance: &Chance) -> (Budget, Sizes) {
    let first = u64::from(1 + if chance.one_in(4) { chance.below(60) } else { chance.below(3000) });
    let small = 1 + u64::from(chance.below(3000)) % first;
    let largest = first * u64::from(1 + chance.below(16));
    (Budget::new(chance.below(100_000) as usize), Sizes { first, small, largest })
}

async fn recv_datagrams(ties: Ties, sent: u32) {
    let Ties { chance, ledger, session } = &ties;
    let mut seen = HashSet::new();
    while let Some(datagram) = chance.again(async || session.recv_datagram().await).await {
        let number = u32::from_be_bytes(datagram.as_ref().try_into().expect("four bytes"));
        assert!(number < sent && seen.insert(number), "a datagram that was not sent, or came twice");
        ledger.saw(|seen| seen.datagrams += 1);
    }
}

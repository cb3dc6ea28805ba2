//! Dialling and listening inside one process, and the clock that moves its links along.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::{Connection, Line, Link, Party, Shared, pair};
use crate::carrier::Closed;
use crate::code::CloseCode;
use crate::limits::FIRST_STREAMS;

/// Where the connectors of one process find an edge of the same process. Clones share it.
#[derive(Clone, Debug)]
pub struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    line: Line,
    began: Instant,
    links: Mutex<Vec<Shared>>,
    /// Asked for, not taken yet; `None` while nobody listens.
    asked: Mutex<Option<VecDeque<Connection>>>,
    /// Something was asked for, or the listener is gone.
    heard: Notify,
    /// Something was sent.
    sent: Arc<Notify>,
}

/// The listening end of a [`Network`].
#[derive(Debug)]
pub(crate) struct Endpoint(Network);

#[derive(Debug)]
pub(crate) struct Attempt(Option<Connection>);

impl Network {
    /// Must be called within a tokio runtime. Nothing moves but while [`Network::run`] runs.
    pub fn new(line: Line) -> Self {
        Self(Arc::new(Inner {
            line,
            began: Instant::now(),
            links: Mutex::default(),
            asked: Mutex::default(),
            heard: Notify::new(),
            sent: Arc::default(),
        }))
    }

    /// Carries the packets of all its links, for ever.
    pub async fn run(self) {
        loop {
            let now = self.0.began.elapsed();
            let next = self
                .links()
                .iter()
                .filter_map(|link| {
                    let mut link = link.lock();
                    link.advance(now);
                    link.next_arrival()
                })
                .min();
            let arrival = async {
                match next {
                    Some(next) => sleep_until(self.0.began + next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = arrival => {}
                () = self.0.sent.notified() => {}
            }
        }
    }

    /// The line goes dead without a word, for all that is connected now.
    pub fn cut(&self) {
        self.links().iter().for_each(|link| link.lock().cut());
    }

    /// The line of all that is connected now stands still: what is on its way arrives once it moves again.
    pub fn stand_still(&self) {
        self.links().iter().for_each(|link| link.lock().stand_still());
    }

    /// It moves again.
    pub fn move_on(&self) {
        self.links().iter().for_each(|link| link.lock().move_on());
    }

    pub(crate) fn listen(&self) -> Endpoint {
        *self.0.asked.lock() = Some(VecDeque::new());
        Endpoint(self.clone())
    }

    pub(crate) fn connect(&self) -> Result<Connection, Closed> {
        let mut line = self.0.line;
        let mut links = self.0.links.lock();
        line.seed = line.seed.wrapping_add(links.len() as u64);
        // As over QUIC: the listener takes one stream, the control stream, and opens all others, the credit stream first.
        let link = Link::new(line, (1, FIRST_STREAMS + 1)).by_clock(self.0.began, Arc::clone(&self.0.sent));
        let (dialler, listener, link) = pair(link);
        self.0.asked.lock().as_mut().ok_or(Closed::Silent)?.push_back(listener);
        self.0.heard.notify_one();
        links.push(link);
        Ok(dialler)
    }

    fn links(&self) -> Vec<Shared> {
        self.0.links.lock().clone()
    }
}

impl Endpoint {
    pub(crate) async fn accept(&self) -> Option<Attempt> {
        loop {
            if let Some(connection) = self.0.0.asked.lock().as_mut()?.pop_front() {
                return Some(Attempt(Some(connection)));
            }
            self.0.0.heard.notified().await;
        }
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, Party::Listener.port()).into()
    }

    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        *self.0.0.asked.lock() = None;
        self.0.0.heard.notify_one();
        self.0.links().iter().for_each(|link| link.lock().close(Party::Listener, code, reason));
    }
}

impl Attempt {
    pub(crate) fn remote(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, Party::Dialler.port()).into()
    }

    pub(crate) fn connect(mut self) -> Connection {
        self.0.take().expect("there until it is taken, once")
    }

    pub(crate) fn refuse(self) {}
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.close(CloseCode::Refused, "refused");
        }
    }
}

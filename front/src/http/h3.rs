//! HTTP/3 (RFC 9114): the life of one connection. Its requests are tasks of their own, in [`stream`].
//!
//! ```text
//!   guest ─ accept ─────→ stream: intake (frames → head, qpack) → entry → core → sending (responder) → settled
//!         ─ one way ────→ control: the visitor's settings; the streams of a field table that we do not have
//!         ← our control stream: SETTINGS, signs of life, GOAWAY
//! ```
//! The layer is ours: the released h3 crate takes a body that was cut off for a whole one, or panics on it, has no limit
//! on a head, and lets pseudo-fields come twice; nor does it know WebSockets. What breaks the protocol ends its stream or
//! the connection as RFC 9114 says; floods, age, and how a connection ends are here as for HTTP/2.

mod body;
pub mod code;
mod control;
pub mod frames;
mod head;
mod intake;
pub mod limits;
pub mod qpack;
mod responder;
mod sending;
mod shared;
mod stream;
mod tokens;
mod upgraded;
mod varint;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use causeway_tunnel::guest::{Broken, Guest, Sender};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::entry::{Peer, Service};
use super::sizes::MAX_REQUESTS;
use crate::exchange::Handler;
use code::Fault;
use shared::{Running, Shared};

/// The protocol's name (ALPN).
pub const ALPN: &[u8] = b"h3";

/// Serves one connection until it ends.
pub(crate) async fn serve<H: Handler>(guest: Guest, peer: Peer, service: Arc<Service<H>>) {
    let Ok(sender) = guest.open_one_way().await else { return };
    let mut connection = Connection {
        guest,
        peer: Arc::new(peer),
        shared: Arc::new(Shared::new()),
        ours: Ours { sender, waiting: vec![Bytes::from_static(&[CONTROL_STREAM]), our_settings()] },
        leaving: None,
        next_stream: 0,
        alive: Instant::now(),
        service,
    };
    let end = connection.run().await;
    if let Err(Fault { code, reason }) = end {
        if code != code::NO_ERROR {
            tracing::debug!(code, reason, "HTTP/3 connection closed");
        }
        connection.guest.close(code, reason);
    }
}

const CONTROL_STREAM: u8 = 0x0;
const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;

/// That of a dynamic field table are its defaults: none.
fn our_settings() -> Bytes {
    frames::settings(&[
        (MAX_FIELD_SECTION_SIZE, frames::MAX_SECTION_BYTES as u64),
        (ENABLE_CONNECT_PROTOCOL, 1),
    ])
}

struct Connection<H> {
    guest: Guest,
    peer: Arc<Peer>,
    service: Arc<Service<H>>,
    shared: Arc<Shared>,
    ours: Ours,
    leaving: Option<Leaving>,
    /// Behind the last stream that was taken.
    next_stream: u64,
    /// When the visitor was last made to say that it lives.
    alive: Instant,
}

/// Our control stream.
struct Ours {
    sender: Sender,
    waiting: Vec<Bytes>,
}

/// How a connection leaves that was told to: a GOAWAY that names no stream, and when what was under way has come, one that
/// names the first which is not served.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    Until(Instant),
    From(u64),
}

/// Streams are numbered in fours: this kind has those that 4 divides.
const STRIDE: u64 = 4;
/// Of GOAWAY: whatever comes next.
const NO_STREAM: u64 = varint::MAX & !(STRIDE - 1);
const DONE: Fault = Fault::new(code::NO_ERROR, "");
/// Shorter than this no round trip is believed to be.
const LEAST_LEAVING: Duration = Duration::from_millis(100);

impl<H: Handler> Connection<H> {
    /// An error is what the connection is to be closed with; else it is gone.
    async fn run(&mut self) -> Result<(), Fault> {
        let mut retires = pin!(sleep_until(Instant::now() + self.service.limits.lifetime()));
        let mut timer = pin!(sleep_until(Instant::now()));
        let mut one_way = JoinSet::new();
        let service = Arc::clone(&self.service);
        loop {
            timer.as_mut().reset(self.look(Instant::now())?);
            let mut leave = false;
            tokio::select! {
                // What breaks the protocol ends everything; streams go before timers, which are seldom ready.
                biased;
                () = self.shared.told() => {}
                ended = self.ours.ended() => return ended,
                came = self.guest.accept() => match came {
                    Err(_) => return Ok(()),
                    Ok(stream) => leave = self.take(stream),
                },
                came = self.guest.accept_one_way() => match came {
                    Err(_) => return Ok(()),
                    Ok(receiver) => drop(one_way.spawn(control::follow(receiver, Arc::clone(&self.shared)))),
                },
                Some(_) = one_way.join_next() => {}
                () = service.drain.draining(), if self.leaving.is_none() => leave = true,
                () = &mut retires, if self.leaving.is_none() => leave = true,
                () = &mut timer => {}
            }
            if leave {
                self.leave();
            }
        }
    }

    /// Does what is due. Says when to look again.
    fn look(&mut self, now: Instant) -> Result<Instant, Fault> {
        if let Some(fault) = self.shared.fault() {
            return Err(fault);
        }
        let idle_since = self.shared.idle_since();
        if let Some(since) = idle_since
            && self.leaving.is_none()
            && now >= since + self.service.pressure.idle(self.service.limits.idle)
        {
            self.leave();
        }
        match self.leaving {
            Some(Leaving::Until(until)) if now >= until => {
                self.leaving = Some(Leaving::From(self.next_stream));
                self.ours.waiting.push(frames::go_away(self.next_stream));
            }
            Some(Leaving::From(_)) if idle_since.is_some() => return Err(DONE),
            _ => {}
        }
        if idle_since.is_some() {
            self.guest.rest();
        } else if now >= self.alive + limits::SIGN_OF_LIFE {
            // The carrier takes silence for death, and some requests are silent for long.
            self.alive = now;
            self.ours.waiting.push(frames::reserved());
        }
        let has_uploads = self.shared.has_uploads();
        self.guest
            .set_standing(self.shared.standing_since(now.checked_sub(limits::LOOK_EVERY).unwrap_or(now)));
        Ok(match (self.leaving, idle_since) {
            (Some(Leaving::Until(until)), _) => until,
            _ if has_uploads => now + limits::LOOK_EVERY,
            (_, Some(since)) => {
                let pressure = &self.service.pressure;
                pressure.look(since + pressure.idle(self.service.limits.idle))
            }
            (_, None) => self.alive + limits::SIGN_OF_LIFE,
        })
    }

    /// Takes one more stream. True: the connection has served enough.
    fn take(&mut self, (mut sender, mut receiver): (Sender, causeway_tunnel::guest::Receiver)) -> bool {
        if let Some(Leaving::From(first)) = self.leaving
            && sender.id() >= first
        {
            sender.reset(code::REQUEST_REJECTED);
            receiver.stop(code::REQUEST_REJECTED);
            self.shared.refused();
            return false;
        }
        self.next_stream = self.next_stream.max(sender.id() + STRIDE);
        let running = Running::begin(&self.shared);
        let unproved = receiver.is_early().then(|| self.guest.clone());
        let (service, peer) = (Arc::clone(&self.service), Arc::clone(&self.peer));
        let answer = stream::serve(service, peer, running, unproved, (sender, receiver));
        drop(self.service.drain.spawn("http/3 request", answer));
        self.shared.requests() >= MAX_REQUESTS
    }

    fn leave(&mut self) {
        if self.leaving.is_some() {
            return;
        }
        let patience = (self.guest.rtt() * 3).clamp(LEAST_LEAVING, limits::LEAVING);
        self.leaving = Some(Leaving::Until(Instant::now() + patience));
        self.ours.waiting.push(frames::go_away(NO_STREAM));
    }
}

impl Ours {
    /// Sends what waits. Ends when the visitor stops reading, which it may not, or is gone. Cancel safe.
    async fn ended(&mut self) -> Result<(), Fault> {
        let broken = poll_fn(|cx| {
            if !self.waiting.is_empty()
                && let Poll::Ready(written) = self.sender.poll_write(cx, &mut self.waiting)
            {
                self.waiting.clear();
                if let Err(broken) = written {
                    return Poll::Ready(broken);
                }
            }
            self.sender.poll_broken(cx)
        });
        match broken.await {
            Broken::ByPeer => Err(Fault::new(code::CLOSED_CRITICAL_STREAM, "our control stream is not read")),
            Broken::Lost => Ok(()),
        }
    }
}

//! An upgrade in place: the next process of this edge takes over, and no visitor notices.
//!
//! ```text
//!   successor                             predecessor
//!   Hello ──────────────────────────────▶ serves on
//!         ◀─ lock, listeners, sockets ───
//!   opens the store, binds what is new
//!   TakeSessions ───────────────────────▶ reads UDP no more, sends connectors to the same address
//!         ◀────────────────────── Given
//!   reads UDP, has sessions, accepts
//!   TakeVisitors ───────────────────────▶ accepts no more; what it has ends at its own pace
//!         ◀─────────────────────── Gone
//! ```
//! Listening sockets are never closed: both processes hold them, so that nobody in an accept queue is reset. A successor that fails
//! before the end leaves everything to its predecessor.

mod predecessor;
mod upgrade;
mod wire;

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use causeway_daemon::drain::Drain;
use causeway_daemon::unix_listener::{self, SocketFile};
use causeway_tunnel::listen::{Given, Listener};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::registry::Registry;
pub(crate) use predecessor::{Legacy, Predecessor, find};
pub(crate) use upgrade::{Upgrade, detach};
pub(crate) use wire::Kind;
use wire::{Said, VERSION, Wire};

/// In the data folder.
pub(crate) fn socket(data: &Path) -> PathBuf {
    data.join("hand-over.sock")
}

/// Whether the next process has the sessions: who comes to this one is sent there.
#[derive(Clone, Debug)]
pub(crate) struct Successor(Arc<watch::Sender<bool>>);

impl Successor {
    pub(crate) fn none() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn is_there(&self) -> bool {
        *self.0.borrow()
    }

    /// Cancel safe.
    pub(crate) async fn came(&self) {
        // The sender is ours.
        let _ = self.0.subscribe().wait_for(|is_there| *is_there).await;
    }
}

/// What a process has to hand over.
#[derive(Debug)]
pub(crate) struct Estate {
    pub(crate) lock: File,
    pub(crate) admin: TcpListener,
    /// Whoever accepts on it; ended once another process does.
    pub(crate) admin_task: AbortHandle,
    pub(crate) tcp: Vec<(Kind, u16, TcpListener)>,
    pub(crate) listeners: Vec<(u16, Arc<Listener>)>,
    pub(crate) shards: u16,
    pub(crate) registry: Arc<Registry>,
    pub(crate) successor: Successor,
    pub(crate) drain: Drain,
}

/// Where a successor comes to.
#[derive(Debug)]
pub(crate) struct Office {
    listener: UnixListener,
    _file: SocketFile,
}

impl Office {
    /// # Errors
    /// When the folder refuses the socket.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let (listener, file) = unix_listener::replace(path)?;
        Ok(Self { listener, _file: file })
    }

    /// Until the drain: what stops does not hand over, and lets go of its listeners at once.
    pub(crate) async fn run(self, estate: Estate) {
        let drain = estate.drain.clone();
        let estate = Arc::new(estate);
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.draining() => return,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot hear who wants to take over");
                    tokio::time::sleep(causeway_daemon::admin::ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let estate = Arc::clone(&estate);
            // A thread of its own: it waits for the other process.
            match tokio::task::spawn_blocking(move || estate.attend(stream)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!("the hand-over failed ({error}): this process serves on"),
                Err(error) => tracing::error!("the hand-over failed ({error}): this process serves on"),
            }
        }
    }
}

impl Estate {
    fn attend(&self, stream: UnixStream) -> io::Result<()> {
        let heir =
            rustix::net::sockopt::socket_peercred(&stream).map(|peer| peer.pid.as_raw_nonzero().get())?;
        let mut wire = Wire::new(stream)?;
        let (Said::Hello { version, software }, _) = wire.hear()? else { return Err(out_of_turn()) };
        if version != VERSION {
            let ours = env!("CARGO_PKG_VERSION");
            let reason =
                format!("it is version {ours} and hands over in another way: stop it and start this one");
            return wire.say(&Said::Refused { reason }, &[]);
        }
        tracing::info!(pid = heir, software, "another process of this edge wants to take over");
        let given = self.show(&mut wire)?;
        let (Said::TakeSessions, _) = wire.hear()? else { return Err(out_of_turn()) };
        for ((_, listener), given) in self.quic().zip(given) {
            listener.give(given);
        }
        self.successor.0.send_replace(true);
        let visitors = wire.say(&Said::Given, &[]).and_then(|()| wire.hear());
        if !matches!(visitors, Ok((Said::TakeVisitors, _))) {
            self.successor.0.send_replace(false);
            for (_, listener) in self.quic() {
                listener.take_back();
            }
            return Err(visitors.err().unwrap_or_else(out_of_turn));
        }
        causeway_daemon::systemd::main_pid(heir);
        self.admin_task.abort();
        self.drain.start_at_leisure();
        tracing::info!(
            pid = heir,
            "another process has taken over: what is under way here ends at its own pace"
        );
        // Who hears it no more knows already.
        let _ = wire.say(&Said::Gone, &[]);
        Ok(())
    }

    /// Everything, for the other process to hold beside us.
    fn show(&self, wire: &mut Wire) -> io::Result<Vec<Given>> {
        wire.say(&Said::Lock, &[self.lock.as_fd()])?;
        wire.say(&Said::Admin, &[self.admin.as_fd()])?;
        for (kind, shard, listener) in &self.tcp {
            wire.say(&Said::Tcp { kind: *kind, shard: *shard }, &[listener.as_fd()])?;
        }
        let mut all = Vec::new();
        for (shard, listener) in self.quic() {
            let Some((inherited, given)) = listener.to_hand_over()? else { continue };
            let marks = inherited.elders.iter().map(|elder| elder.mark.0).collect();
            let ways = inherited.elders.iter().map(|elder| elder.way.as_fd());
            let descriptors: Vec<BorrowedFd<'_>> =
                std::iter::once(inherited.socket.as_fd()).chain(ways).collect();
            wire.say(&Said::Udp { shard: *shard, marks }, &descriptors)?;
            all.push(given);
        }
        // Those by TCP come when that is the other's too.
        let tunnels = self.registry.served_by_quic();
        wire.say(&Said::All { shards: self.shards, tunnels }, &[])?;
        Ok(all)
    }

    fn quic(&self) -> impl Iterator<Item = &(u16, Arc<Listener>)> {
        self.listeners.iter().filter(|(_, listener)| listener.has_socket())
    }
}

fn out_of_turn() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a word out of turn")
}

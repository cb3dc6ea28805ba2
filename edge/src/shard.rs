//! One shard: a thread with its own runtime, its own sockets and its own sessions. A request lives and dies on one.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use causeway_daemon::drain::Drain;
use causeway_daemon::pulse::Pulse;
use causeway_daemon::tls::provider;
use causeway_tunnel::listen::{self, Listener};
use causeway_tunnel::{Certificates, CloseCode, EdgeIdentity};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::bind::Sockets;
use crate::forward::Patience;
use crate::front::Front;
use crate::keeper::{KeeperHandle, Note};
use crate::registry::Registry;
use crate::session::{self, Doorman};

/// A connector hears of the end in one round trip; one that does not answer notices by itself.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the tasks of one shard share. Nothing in it is written by other shards while a request is carried, but for the
/// snapshots.
#[derive(Debug)]
pub struct Shard {
    pub index: u16,
    pub registry: Arc<Registry>,
    /// A child of the program's: counts this shard's tasks alone.
    pub drain: Drain,
    pub patience: Patience,
    pub sessions_per_tunnel: usize,
    pub(crate) doorman: Doorman,
    pub(crate) keeper: KeeperHandle,
    pub(crate) pulse: Pulse,
}

impl Shard {
    /// Tells the store's keeper; dropped when he is behind, since it is in the log too.
    pub(crate) fn note(&self, note: Note) {
        let _ = self.keeper.notes.try_send(note);
    }
}

/// A running shard. Dropped without [`Thread::stop`], its thread ends as well.
#[derive(Debug)]
pub(crate) struct Thread {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Thread {
    /// Starts the thread; returns when it serves.
    pub(crate) async fn start(
        shard: Arc<Shard>,
        count: u16,
        sockets: Sockets,
        identity: Arc<EdgeIdentity>,
        front: Front,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let thread = thread::Builder::new().name(format!("shard-{}", shard.index)).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => {
                    runtime.block_on(serve(shard, count, sockets, identity, front, ready, stopped))
                }
                // Whoever waits for it is told; if nobody does, nobody is left to tell.
                Err(error) => drop(ready.send(Err(error))),
            }
        })?;
        let gone = || std::io::Error::other("the shard's thread ended at once");
        is_ready.await.unwrap_or_else(|_| Err(gone()))?;
        Ok(Self { stop, thread })
    }

    /// To be called once the drain has finished: closes the sessions and ends the thread.
    pub(crate) fn stop(self) -> JoinHandle<()> {
        // An error means that it has ended already.
        let _ = self.stop.send(());
        self.thread
    }
}

async fn serve(
    shard: Arc<Shard>,
    count: u16,
    sockets: Sockets,
    identity: Arc<EdgeIdentity>,
    front: Front,
    ready: oneshot::Sender<std::io::Result<()>>,
    stopped: oneshot::Receiver<()>,
) {
    let listeners = match listen(&shard, count, sockets, &identity, &front) {
        Ok(listeners) => listeners,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let _ = ready.send(Ok(()));
    // An error means that the program let go of us: the same.
    let _ = stopped.await;
    for listener in listeners {
        let _ = timeout(CLOSE_TIMEOUT, listener.close(CloseCode::Done, "the edge stopped")).await;
    }
}

fn listen(
    shard: &Arc<Shard>,
    count: u16,
    sockets: Sockets,
    identity: &EdgeIdentity,
    front: &Front,
) -> std::io::Result<Vec<Arc<Listener>>> {
    drop(shard.drain.spawn_service("beat", shard.pulse.beat(format!("shard {}", shard.index))));
    let mut listeners = Vec::new();
    let place = listen::Shard { index: u32::from(shard.index), count: u32::from(count) };
    for socket in sockets.tunnel {
        let listener = Arc::new(Listener::new(socket, Certificates::of(identity), provider(), place)?);
        drop(
            shard
                .drain
                .spawn_service("tunnel listener", session::serve(Arc::clone(shard), Arc::clone(&listener))),
        );
        listeners.push(listener);
    }
    front.listen(shard, sockets.https, sockets.http)?;
    Ok(listeners)
}

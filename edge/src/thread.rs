//! The thread of one shard: its runtime, its sockets' listeners, and its end.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use causeway_tunnel::EdgeIdentity;
use causeway_tunnel::listen::{self, Listener};
use tokio::sync::oneshot;

use crate::bind::Sockets;
use crate::front::{Doors, Front};
use crate::shard::Shard;
use crate::tunnels::Tunnels;

/// A running shard. Dropped without [`Thread::stop`], its thread ends as well.
#[derive(Debug)]
pub(crate) struct Thread {
    stop: oneshot::Sender<()>,
    /// Where it takes connectors.
    pub(crate) listeners: Vec<Arc<Listener>>,
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
        doors: Doors,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let thread = thread::Builder::new().name(format!("shard-{}", shard.index)).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(serve(
                    || listen(&shard, count, sockets, &identity, &front, &doors),
                    ready,
                    stopped,
                )),
                // Whoever waits for it is told; if nobody does, nobody is left to tell.
                Err(error) => drop(ready.send(Err(error))),
            }
        })?;
        let gone = || std::io::Error::other("the shard's thread ended at once");
        let listeners = is_ready.await.unwrap_or_else(|_| Err(gone()))?;
        Ok(Self { stop, listeners, thread })
    }

    /// To be called once the drain has finished: closes the sessions and ends the thread.
    pub(crate) fn stop(self) -> JoinHandle<()> {
        // An error means that it has ended already.
        let _ = self.stop.send(());
        self.thread
    }
}

async fn serve(
    listen: impl FnOnce() -> std::io::Result<Tunnels>,
    ready: oneshot::Sender<std::io::Result<Vec<Arc<Listener>>>>,
    stopped: oneshot::Receiver<()>,
) {
    let tunnels = match listen() {
        Ok(tunnels) => tunnels,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let _ = ready.send(Ok(tunnels.listeners()));
    // An error means that the program let go of us: the same.
    let _ = stopped.await;
    tunnels.close().await;
}

fn listen(
    shard: &Arc<Shard>,
    count: u16,
    sockets: Sockets,
    identity: &EdgeIdentity,
    front: &Front,
    doors: &Doors,
) -> std::io::Result<Tunnels> {
    drop(shard.drain.spawn_service("beat", shard.pulse.beat(format!("shard {}", shard.index))));
    let of = listen::Shard { index: u32::from(shard.index), count: u32::from(count) };
    let service = front.service(shard);
    let guests = front.guests(&service);
    let (tunnels, doorway) = Tunnels::open(shard, sockets.tunnel, sockets.within, identity, of, guests)?;
    front.listen(shard, &service, sockets.public, &doorway, doors)?;
    Ok(tunnels)
}

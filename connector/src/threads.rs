//! The shards' threads: each has a runtime of its own, so that a request never leaves its core.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use causeway_daemon::pulse::Pulse;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::origin::SWEEP_EVERY;
use crate::proxy::{From, serve};
use crate::shard::Shard;

/// A running shard.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) shard: Arc<Shard>,
    handle: Handle,
    stop: oneshot::Sender<()>,
    join: JoinHandle<()>,
}

impl Thread {
    /// `make` is called within the runtime that carries the shard.
    pub(crate) fn start(index: usize, make: impl FnOnce() -> Shard, pulse: &Pulse) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let shard = {
            let _inside = handle.enter();
            Arc::new(make())
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let join = Builder::new().name(format!("shard-{index}")).spawn(move || {
            // Dropped or sent: either ends it.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        let thread = Self { shard, handle, stop, join };
        thread.spawn_service("beat", pulse.beat(format!("shard {index}")));
        let shard = Arc::clone(&thread.shard);
        thread.spawn_service("sweep", async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                for origin in shard.rules.load_full().origins() {
                    origin.sweep(shard.index);
                }
            }
        });
        let shard = Arc::clone(&thread.shard);
        thread.spawn_service("requests at home", async move {
            while let Some((send, recv)) = shard.home.requests.accept().await {
                drop(shard.drain.spawn("request", serve(Arc::clone(&shard), From::Home, send, recv)));
            }
        });
        Ok(thread)
    }

    /// To spawn on this shard's thread from another one.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    fn spawn_service<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let _inside = self.handle.enter();
        drop(self.shard.drain.spawn_service(name, future));
    }

    /// Ends the thread, whose tasks have ended before.
    pub(crate) fn stop(self) -> JoinHandle<()> {
        let _ = self.stop.send(());
        self.join
    }
}

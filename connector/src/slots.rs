//! The slots of an edge: one for each of its shards and one in reserve, spread over our own shards.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::edges::Edge;
use crate::session::{STANDBY, Slot, Ties};
use crate::shard::Shard;
use crate::slot::keep;
use crate::threads::Thread;

/// What the managers need of a shard's thread.
#[derive(Clone, Debug)]
pub(crate) struct ShardThread {
    shard: Arc<Shard>,
    handle: tokio::runtime::Handle,
}

impl ShardThread {
    pub(crate) fn of(thread: &Thread) -> Self {
        Self { shard: Arc::clone(&thread.shard), handle: thread.handle() }
    }

    fn spawn(&self, ties: Arc<Ties>, slot: Slot) -> JoinHandle<Option<()>> {
        let _inside = self.handle.enter();
        self.shard.drain.spawn("session slot", keep(Arc::clone(&self.shard), ties, slot))
    }
}

/// Keeps them up. `index` is the edge's place among the edges, so that not all begin at the same shard of ours.
pub(crate) async fn manage(edge: Arc<Edge>, index: usize, ties: Arc<Ties>, threads: Arc<[ShardThread]>) {
    let mut shards = edge.shards.subscribe();
    let mut slots: HashMap<usize, JoinHandle<Option<()>>> = HashMap::new();
    loop {
        let wanted = *shards.borrow_and_update() as usize;
        for (turn, number) in (0..wanted).chain([STANDBY]).enumerate() {
            if slots.get(&number).is_none_or(JoinHandle::is_finished) {
                let slot = Slot { edge: Arc::clone(&edge), number };
                let thread = &threads[(index + turn) % threads.len()];
                slots.insert(number, thread.spawn(Arc::clone(&ties), slot));
            }
        }
        if shards.changed().await.is_err() {
            return;
        }
    }
}

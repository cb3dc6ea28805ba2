//! The edges that we keep sessions with: those that we were given, and their fellows, of which they tell.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::carriers::Carriers;
use crate::dial::EdgeName;
use crate::forward_proxy::Proxy;

/// One edge and the standing of our slots with it.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) name: EdgeName,
    /// How many shards the edge said it has.
    pub(crate) shards: watch::Sender<u32>,
    /// Which of its shards a primary slot of ours has, with how many sessions.
    claims: Mutex<HashMap<u32, (usize, usize)>>,
}

/// Keeps one shard of an edge for a slot.
#[derive(Debug)]
pub(crate) struct Claim {
    edge: Arc<Edge>,
    shard: u32,
}

/// Shared by who is told of edges, who keeps sessions with them, and who shows them.
#[derive(Debug)]
pub(crate) struct Edges {
    known: Mutex<Vec<Arc<Edge>>>,
    make: Make,
    /// Whether what edges tell counts: not where a person has named the edges.
    follows: bool,
    more: Notify,
}

/// Makes one of its `host:port`.
pub(crate) struct Make(pub(crate) Box<dyn Fn(String) -> Arc<Edge> + Send + Sync>);

/// With those that we were given.
const MAX_EDGES: usize = 32;

impl Edge {
    pub(crate) fn new(name: String, carriers: Carriers, proxy: Option<Arc<Proxy>>) -> Self {
        let name = EdgeName::new(name, carriers, proxy);
        Self { name, shards: watch::Sender::new(1), claims: Mutex::default() }
    }

    /// Whether a primary slot may keep a session to this shard of the edge.
    pub(crate) fn claim(self: &Arc<Self>, shard: u32, slot: usize) -> Option<Claim> {
        let mut claims = self.claims.lock();
        let (holder, sessions) = claims.entry(shard).or_insert((slot, 0));
        (*holder == slot).then(|| {
            *sessions += 1;
            Claim { edge: Arc::clone(self), shard }
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = self.edge.claims.lock();
        if let Some((_, sessions)) = claims.get_mut(&self.shard) {
            *sessions -= 1;
            if *sessions == 0 {
                claims.remove(&self.shard);
            }
        }
    }
}

impl Edges {
    pub(crate) fn new(given: Vec<String>, follows: bool, make: Make) -> Self {
        let known = given.into_iter().map(&make.0).collect();
        Self { known: Mutex::new(known), make, follows, more: Notify::new() }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Edge>> {
        self.known.lock().clone()
    }

    /// An edge tells of its fellows, `host:port` each.
    pub(crate) fn told(&self, fellows: &[String]) {
        if !self.follows {
            return;
        }
        let mut known = self.known.lock();
        for name in fellows {
            if known.len() < MAX_EDGES && known.iter().all(|edge| edge.name.name != *name) {
                tracing::info!(edge = name, "an edge tells of this one: keeping sessions with it as well");
                known.push((self.make.0)(name.clone()));
                self.more.notify_one();
            }
        }
    }

    /// Calls `keep` with each and its place among them, now and whenever there are more, for ever.
    pub(crate) async fn keep(self: Arc<Self>, mut keep: impl FnMut(usize, Arc<Edge>)) {
        let mut kept = 0;
        loop {
            for (index, edge) in self.all().into_iter().enumerate().skip(kept) {
                keep(index, edge);
                kept = index + 1;
            }
            self.more.notified().await;
        }
    }
}

impl std::fmt::Debug for Make {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Make")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(follows: bool) -> Edges {
        let make = |name| Arc::new(Edge::new(name, Carriers::default(), None));
        Edges::new(vec!["one.example:443".to_owned()], follows, Make(Box::new(make)))
    }

    fn names(edges: &Edges) -> Vec<String> {
        edges.all().iter().map(|edge| edge.name.name.clone()).collect()
    }

    #[test]
    fn fellows_are_known_once_and_not_without_end() {
        let edges = edges(true);
        let told = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        edges.told(&told("two.example:443 one.example:443"));
        edges.told(&told("two.example:443"));
        assert_eq!(names(&edges), ["one.example:443", "two.example:443"]);
        edges.told(&(0..100).map(|n| format!("e{n}.example:443")).collect::<Vec<_>>());
        assert_eq!(edges.all().len(), MAX_EDGES);
    }

    #[test]
    fn who_has_named_the_edges_is_not_led_elsewhere() {
        let edges = edges(false);
        edges.told(&["two.example:443".to_owned()]);
        assert_eq!(names(&edges), ["one.example:443"]);
    }
}

//! The origins behind the rules, one a protocol, and what they saw of the current case.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::tags::{self, Tag};
use crate::{Case, origin_h1, origin_h2};

/// A request as the origin understood it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Request line and fields, as text.
    pub head: String,
    /// All its bytes: head, body, trailers.
    pub bytes: Vec<u8>,
    /// It came whole, and the origin did not refuse it.
    pub executed: bool,
}

impl Seen {
    /// Who the head says it is from.
    pub fn tag(&self) -> Option<Tag> {
        tags::find(self.head.as_bytes()).next()
    }
}

/// What the connections of both origins share.
#[derive(Debug, Default)]
pub struct Shared {
    pub h1: VecDeque<origin_h1::Act>,
    pub h2: VecDeque<origin_h2::Act>,
    pub seen: Vec<Seen>,
}

pub type State = Arc<Mutex<Shared>>;

pub struct Origins {
    pub h1: SocketAddr,
    pub h2: SocketAddr,
    state: State,
    /// Connections that live; ended with each case, so that one case does not see another's.
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl Origins {
    pub async fn start() -> Self {
        let (state, connections) = (State::default(), Arc::<Mutex<JoinSet<()>>>::default());
        let (first, second) = (listen().await, listen().await);
        let addr = |listener: &TcpListener| listener.local_addr().expect("it is bound");
        let origins = Self { h1: addr(&first), h2: addr(&second), state, connections };
        let (state, connections) = (origins.state.clone(), origins.connections.clone());
        tokio::spawn(async move {
            loop {
                let (stream, is_h2) = tokio::select! {
                    accepted = first.accept() => (accepted, false),
                    accepted = second.accept() => (accepted, true),
                };
                let Ok((stream, _)) = stream else { continue };
                let _ = stream.set_nodelay(true);
                let state = state.clone();
                let mut connections = connections.lock().expect("nobody panicked");
                if is_h2 {
                    connections.spawn(origin_h2::serve(stream, state));
                } else {
                    connections.spawn(origin_h1::serve(stream, state));
                }
            }
        });
        origins
    }

    pub fn begin(&self, case: &Case) {
        let mut shared = self.state.lock().expect("nobody panicked");
        shared.h1 = case.h1.0.iter().cloned().collect();
        shared.h2 = case.h2.0.iter().cloned().collect();
        shared.seen.clear();
    }

    /// Ends all connections and gives back what was seen.
    pub async fn end(&self) -> Vec<Seen> {
        let mut ended = std::mem::take(&mut *self.connections.lock().expect("nobody panicked"));
        ended.shutdown().await;
        std::mem::take(&mut self.state.lock().expect("nobody panicked").seen)
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

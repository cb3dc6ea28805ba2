//! The origins behind the rules, one a protocol, and what they saw of the current case.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::account::{Account, Seen};
use crate::{Case, origin_h1, origin_h2};

pub struct Origins {
    pub h1: SocketAddr,
    pub h2: SocketAddr,
    accounts: (Account<origin_h1::Act>, Account<origin_h2::Act>),
    /// Connections that live; ended with each case, so that one case does not see another's.
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl Origins {
    pub async fn start() -> Self {
        let connections = Arc::<Mutex<JoinSet<()>>>::default();
        let (first, second) = (listen().await, listen().await);
        let addr = |listener: &TcpListener| listener.local_addr().expect("it is bound");
        let origins = Self { h1: addr(&first), h2: addr(&second), accounts: Default::default(), connections };
        let (accounts, connections) = (origins.accounts.clone(), origins.connections.clone());
        tokio::spawn(async move {
            loop {
                let (stream, is_h2) = tokio::select! {
                    accepted = first.accept() => (accepted, false),
                    accepted = second.accept() => (accepted, true),
                };
                let Ok((stream, _)) = stream else { continue };
                let _ = stream.set_nodelay(true);
                let mut connections = connections.lock().expect("nobody panicked");
                if is_h2 {
                    connections.spawn(origin_h2::serve(stream, accounts.1.clone()));
                } else {
                    connections.spawn(origin_h1::serve(stream, accounts.0.clone()));
                }
            }
        });
        origins
    }

    pub fn begin(&self, case: &Case) {
        self.accounts.0.begin(case.h1.0.iter().cloned());
        self.accounts.1.begin(case.h2.0.iter().cloned());
    }

    /// Ends all connections and gives back what was seen.
    pub async fn end(&self) -> Vec<Seen> {
        let mut ended = std::mem::take(&mut *self.connections.lock().expect("nobody panicked"));
        ended.shutdown().await;
        [self.accounts.0.end(), self.accounts.1.end()].concat()
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

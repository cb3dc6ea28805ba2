//! What the edge answers on its control socket and admin port: status, the nudge to look at the store, and certificates.

mod certificates;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use causeway_daemon::admin::{Admin, Reply, get, post};
use causeway_daemon::readiness::Readiness;
use causeway_tunnel::flow::Budget;
use http::StatusCode;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::certified::Certified;
use crate::config::Address;
use crate::issuing::Issuing;
use crate::keeper::KeeperHandle;
use crate::registry::{Registry, ago};
use crate::status::{Buffers, FileCertificate, Listening, Status, tunnels};

pub(crate) use certificates::with_certificates;

/// The store answers in milliseconds, or waits for another process's lock.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(8);

/// What `status` is made of.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) registry: Arc<Registry>,
    pub(crate) readiness: Readiness,
    pub(crate) listening: Listening,
    /// Known only once it is bound, and what it answers tells it.
    pub(crate) admin: OnceLock<SocketAddr>,
    pub(crate) address: Vec<Address>,
    pub(crate) shards: u16,
    pub(crate) budget: Budget,
    pub(crate) certified: Certified,
    pub(crate) issuing: Issuing,
    pub(crate) keeper: KeeperHandle,
    pub(crate) started: Instant,
}

impl Source {
    pub(crate) fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            ready: self.readiness.is_ready(),
            pending: self.readiness.pending().into_iter().map(str::to_owned).collect(),
            uptime_seconds: ago(self.started),
            shards: self.shards,
            buffers: Buffers { held_bytes: self.budget.held(), limit_bytes: self.budget.bytes() },
            store_error: self.keeper.trouble(),
            listening: self.listening(),
            address: self.token_addresses(),
            tunnels: tunnels(&self.registry, &self.certified, self.shards),
            certificates: self
                .issuing
                .handle()
                .map(|handle| handle.overview().names.clone())
                .unwrap_or_default(),
            certificate_files: self
                .certified
                .files()
                .into_iter()
                .map(|(name, not_after)| FileCertificate { name, not_after })
                .collect(),
        }
    }

    pub(crate) fn listening(&self) -> Listening {
        Listening { admin: self.admin.get().copied(), ..self.listening.clone() }
    }

    /// What tokens carry: the configured addresses, else the tunnel listener where that is one plain address.
    fn token_addresses(&self) -> Vec<String> {
        if !self.address.is_empty() {
            return self.address.iter().map(Address::to_string).collect();
        }
        let plain = self.listening.tunnel.iter().filter(|address| !address.ip().is_unspecified());
        plain.map(ToString::to_string).collect()
    }
}

/// `GET /status`.
pub(crate) fn with_status(admin: Admin, source: Arc<Source>) -> Admin {
    let status = async move || match serde_json::to_vec(&source.status()) {
        Ok(json) => Reply::json(StatusCode::OK, json),
        Err(error) => Reply::plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    admin.route("/status", get(status))
}

/// `POST /refresh`: look at the store now; answers when the change is in force.
pub(crate) fn with_refresh(admin: Admin, keeper: KeeperHandle) -> Admin {
    admin.route("/refresh", post(async move || refresh(&keeper).await))
}

async fn refresh(keeper: &KeeperHandle) -> Reply {
    let (done, result) = oneshot::channel();
    let asked = keeper.refreshes.send(done);
    let answer = timeout(REFRESH_TIMEOUT, async {
        asked.await.map_err(|_| "the edge is stopping".to_owned())?;
        result.await.unwrap_or_else(|_| Err("the edge is stopping".to_owned()))
    });
    match answer.await {
        Ok(Ok(())) => Reply::plain(StatusCode::OK, "ok\n"),
        Ok(Err(reason)) => Reply::plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{reason}\n")),
        Err(_) => Reply::plain(StatusCode::GATEWAY_TIMEOUT, "the store does not answer\n"),
    }
}

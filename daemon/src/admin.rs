//! The admin server: health, readiness, metrics, log level and a program's own pages, on loopback or a unix socket.
//!
//! | request | answer |
//! |---|---|
//! | `GET /live` | 200, or 503 and the names of threads that are stuck (see [`Admin::watch`]) |
//! | `GET /ready` | 200, or 503 and what is waited for, as JSON |
//! | `GET /metrics` | OpenMetrics text |
//! | `GET /log`, `PUT /log` | the log level in force; sets it to the body |
//! | what the program adds | [`Admin::route`] |
//!
//! A program's pages are axum's: handlers with path parameters, a body, and any answer that is a response, a stream
//! too. What holds for all of them is in [`rules`]. A stream ends with its connection, which lives for about a minute:
//! whoever follows one asks again.

mod reply;
mod rules;
mod serve;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use http::StatusCode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::pulse::Pulse;
use crate::readiness::Readiness;
use crate::telemetry::Levels;
use crate::unix_listener;
use rules::Caller;
use serve::Routers;

pub use axum::routing::{MethodRouter, get, post};
pub use reply::Reply;
pub use serve::{ACCEPT_PAUSE, BoundAdmin};

/// What the server answers; bind it with [`Admin::bind`] or [`Admin::bind_unix`], or both by cloning.
#[derive(Clone)]
pub struct Admin {
    readiness: Readiness,
    routes: BTreeMap<&'static str, MethodRouter>,
}

impl Admin {
    /// Without `levels` there is no `/log`.
    pub fn new(registry: Arc<Registry>, readiness: Readiness, levels: Option<Levels>) -> Self {
        let admin = Self { readiness: readiness.clone(), routes: BTreeMap::new() };
        let admin = admin
            .route("/live", get(async || live(&[])))
            .route("/ready", get(async move || ready(&readiness)))
            .route("/metrics", get(async move || metrics(&registry)));
        let Some(levels) = levels else { return admin };
        let current = levels.clone();
        let level = get(async move || Reply::plain(StatusCode::OK, format!("{}\n", current.current())));
        admin.route("/log", level.put(async move |body: Bytes| set_level(&levels, &body)))
    }

    /// Lets `/live` answer for these threads too, not only for the one that serves it.
    #[must_use]
    pub fn watch(self, pulse: Pulse) -> Self {
        self.route("/live", get(async move || live(&pulse.stuck())))
    }

    /// Adds a path such as `/status` or `/tunnels/{name}`, and what its methods do. A later one of the same path
    /// replaces an earlier one.
    #[must_use]
    pub fn route(mut self, path: &'static str, methods: MethodRouter) -> Self {
        self.routes.insert(path, methods);
        self
    }

    /// Listens on a TCP address; port 0 takes a free one. What changes something is answered to loopback peers only.
    ///
    /// # Errors
    /// When the address cannot be had; the text names it.
    pub async fn bind(self, addr: SocketAddr) -> io::Result<BoundAdmin> {
        let listener = TcpListener::bind(addr).await.map_err(|error| {
            let mend = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    ": another process listens there; stop it or choose another address"
                }
                io::ErrorKind::PermissionDenied => {
                    ": ports below 1024 need CAP_NET_BIND_SERVICE; choose another"
                }
                io::ErrorKind::AddrNotAvailable => ": this machine does not have that address",
                _ => "",
            };
            io::Error::new(error.kind(), format!("cannot listen on the admin address {addr}: {error}{mend}"))
        })?;
        if !addr.ip().is_loopback() {
            tracing::warn!(%addr, "the admin port is open to other machines: bind it to 127.0.0.1 unless a firewall guards it");
        }
        BoundAdmin::tcp(self.routers(), listener)
    }

    /// Listens on what is bound already.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn on(self, listener: std::net::TcpListener) -> io::Result<BoundAdmin> {
        BoundAdmin::tcp(self.routers(), TcpListener::from_std(listener)?)
    }

    /// Listens on a unix socket that its owner alone may use. A file left behind by a dead process is replaced.
    ///
    /// # Errors
    /// When a live process answers on the socket, something else has the name, or the folder refuses it.
    pub fn bind_unix(self, path: &Path) -> io::Result<BoundAdmin> {
        let (listener, file) = unix_listener::bind(path)?;
        Ok(BoundAdmin::unix(self.routers(), listener, file))
    }

    /// The same in the place of a process that hands over: whoever connects from now on comes to us.
    ///
    /// # Errors
    /// When something else has the name, or the folder refuses it.
    pub fn replace_unix(self, path: &Path) -> io::Result<BoundAdmin> {
        let (listener, file) = unix_listener::replace(path)?;
        Ok(BoundAdmin::unix(self.routers(), listener, file))
    }

    fn routers(&self) -> Routers {
        Routers { local: self.router(Caller::Local), remote: self.router(Caller::Remote) }
    }

    /// All of it, for callers of one kind.
    fn router(&self, caller: Caller) -> Router {
        let known: Vec<&str> = self.routes.keys().copied().collect();
        let known = format!("there is {}\n", known.join(", "));
        let mut router = Router::new();
        for (path, methods) in &self.routes {
            router = router.route(path, rules::guarded(methods.clone(), caller));
        }
        let nothing = async move || Reply::plain(StatusCode::NOT_FOUND, known);
        rules::finished(router.fallback(nothing))
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.routes.keys().collect();
        f.debug_struct("Admin")
            .field("readiness", &self.readiness)
            .field("routes", &paths)
            .finish_non_exhaustive()
    }
}

fn live(stuck: &[String]) -> Reply {
    if stuck.is_empty() {
        return Reply::plain(StatusCode::OK, Bytes::from_static(b"live\n"));
    }
    let text = format!("stuck, and serving nobody: {}; restart this process\n", stuck.join(", "));
    Reply::plain(StatusCode::SERVICE_UNAVAILABLE, text)
}

fn ready(readiness: &Readiness) -> Reply {
    let pending = readiness.pending();
    let status = if pending.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({ "ready": pending.is_empty(), "pending": pending });
    Reply::json(status, format!("{body}\n"))
}

fn metrics(registry: &Registry) -> Reply {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => Reply::open_metrics(text),
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics");
            let text = Bytes::from_static(b"cannot write the metrics: see the log\n");
            Reply::plain(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}

fn set_level(levels: &Levels, body: &[u8]) -> Reply {
    let set = str::from_utf8(body).map_err(|_| "the level is not text".to_owned());
    match set.and_then(|directive| levels.set(directive).map_err(|error| error.to_string())) {
        Ok(()) => {
            let level = levels.current();
            tracing::info!(level, "the log level was changed");
            Reply::plain(StatusCode::OK, format!("{level}\n"))
        }
        Err(reason) => Reply::plain(StatusCode::BAD_REQUEST, format!("{reason}\n")),
    }
}

#[cfg(test)]
mod tests;

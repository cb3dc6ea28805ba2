//! The admin server: health, readiness, metrics, log level and a program's own pages, on loopback or a unix socket.
//!
//! | request | answer |
//! |---|---|
//! | `GET /live` | 200, or 503 and the names of threads that are stuck (see [`Admin::watch`]) |
//! | `GET /ready` | 200, or 503 and what is waited for, as JSON |
//! | `GET /metrics` | OpenMetrics text |
//! | `GET /log`, `PUT /log` | the log level in force; sets it to the body |
//! | what the program adds | [`Admin::route`], [`Admin::action`] |

mod serve;
mod socket;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Method, StatusCode};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::pulse::Pulse;
use crate::readiness::Readiness;
use crate::telemetry::Levels;

pub use serve::BoundAdmin;

/// Status, content type and body of an answer.
pub type Reply = (StatusCode, &'static str, Bytes);

/// Makes the answer of a `GET`.
pub type Handler = Arc<dyn Fn() -> BoxFuture<'static, Reply> + Send + Sync>;

/// Makes the answer of a request with a body.
pub type Action = Arc<dyn Fn(Bytes) -> BoxFuture<'static, Reply> + Send + Sync>;

pub const TEXT: &str = "text/plain; charset=utf-8";
pub const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the server answers; bind it with [`Admin::bind`] or [`Admin::bind_unix`], or both by cloning.
#[derive(Clone)]
pub struct Admin {
    registry: Arc<Registry>,
    readiness: Readiness,
    levels: Option<Levels>,
    /// By path, then by method. A `GET` has an action that takes no notice of the body.
    routes: BTreeMap<&'static str, Vec<(Method, Action)>>,
}

impl Admin {
    /// Without `levels` there is no `/log`.
    pub fn new(registry: Arc<Registry>, readiness: Readiness, levels: Option<Levels>) -> Self {
        let mut admin = Self { registry, readiness, levels, routes: BTreeMap::new() };
        let (registry, readiness) = (Arc::clone(&admin.registry), admin.readiness.clone());
        admin = admin
            .answer("/live", || live(&[]))
            .answer("/ready", move || ready(&readiness))
            .answer("/metrics", move || metrics(&registry));
        if let Some(levels) = admin.levels.clone() {
            let current = levels.clone();
            admin = admin
                .answer("/log", move || (StatusCode::OK, TEXT, format!("{}\n", current.current()).into()))
                .action(
                    Method::PUT,
                    "/log",
                    Arc::new(move |body| futures_util::future::ready(set_level(&levels, &body)).boxed()),
                );
        }
        admin
    }

    /// Lets `/live` answer for these threads too, not only for the one that serves it.
    #[must_use]
    pub fn watch(self, pulse: Pulse) -> Self {
        self.answer("/live", move || live(&pulse.stuck()))
    }

    /// Adds a page for `GET`, such as `/status`. A later one of the same path replaces an earlier one.
    #[must_use]
    pub fn route(self, path: &'static str, handler: Handler) -> Self {
        self.action(Method::GET, path, Arc::new(move |_| handler()))
    }

    /// Adds what a request with another method does.
    #[must_use]
    pub fn action(mut self, method: Method, path: &'static str, action: Action) -> Self {
        let methods = self.routes.entry(path).or_default();
        methods.retain(|(known, _)| *known != method);
        methods.push((method, action));
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
        BoundAdmin::tcp(self, listener)
    }

    /// Listens on a unix socket that its owner alone may use. A file left behind by a dead process is replaced.
    ///
    /// # Errors
    /// When a live process answers on the socket, something else has the name, or the folder refuses it.
    pub fn bind_unix(self, path: &Path) -> io::Result<BoundAdmin> {
        let (listener, file) = socket::bind(path)?;
        Ok(BoundAdmin::unix(self, listener, file))
    }

    fn answer(self, path: &'static str, reply: impl Fn() -> Reply + Send + Sync + 'static) -> Self {
        self.action(Method::GET, path, Arc::new(move |_| futures_util::future::ready(reply()).boxed()))
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
        return (StatusCode::OK, TEXT, Bytes::from_static(b"live\n"));
    }
    let text = format!("stuck, and serving nobody: {}; restart this process\n", stuck.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, TEXT, text.into())
}

fn ready(readiness: &Readiness) -> Reply {
    let pending = readiness.pending();
    let status = if pending.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({ "ready": pending.is_empty(), "pending": pending });
    (status, JSON, format!("{body}\n").into())
}

fn metrics(registry: &Registry) -> Reply {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => (StatusCode::OK, OPEN_METRICS, text.into()),
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                TEXT,
                Bytes::from_static(b"cannot write the metrics: see the log\n"),
            )
        }
    }
}

fn set_level(levels: &Levels, body: &[u8]) -> Reply {
    let set = str::from_utf8(body).map_err(|_| "the level is not text".to_owned());
    match set.and_then(|directive| levels.set(directive).map_err(|error| error.to_string())) {
        Ok(()) => {
            let level = levels.current();
            tracing::info!(level, "the log level was changed");
            (StatusCode::OK, TEXT, format!("{level}\n").into())
        }
        Err(reason) => (StatusCode::BAD_REQUEST, TEXT, format!("{reason}\n").into()),
    }
}

#[cfg(test)]
mod tests;

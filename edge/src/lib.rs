//! Causeway edge.

pub mod access;
pub mod app;
pub mod balance;
pub mod bind;
pub mod certified;
pub mod cli;
pub mod config;
mod control;
mod door;
mod doorman;
pub mod exchange;
pub mod forward;
mod front;
mod gate;
pub mod household;
pub mod http;
mod keeper;
mod listen;
pub mod metrics;
pub mod observe;
mod reception;
pub mod record;
pub mod registry;
pub mod room;
pub mod route;
pub mod session;
pub mod shard;
pub mod status;
pub mod store;
mod thread;
pub mod tls;

/// The wall clock in Unix seconds, for what is kept in the store.
pub(crate) fn unix_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

//! Causeway edge. Outsiders start an [`app::App`], and measure, fuzz and prepare the parts that are public; all else is its own.

mod access;
pub mod app;
pub mod balance;
mod bind;
mod certified;
mod challenge;
pub mod cli;
pub mod config;
mod control;
mod door;
mod doorman;
mod exchange;
mod forward;
mod front;
mod gate;
mod household;
pub mod http;
mod issuing;
mod keeper;
mod listen;
mod metrics;
mod observe;
mod overload;
mod reception;
mod record;
mod registry;
mod room;
pub mod route;
mod session;
mod shard;
mod silence;
pub mod status;
pub mod store;
mod thread;
mod tls;

/// The wall clock in Unix seconds, for what is kept in the store.
pub(crate) fn unix_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

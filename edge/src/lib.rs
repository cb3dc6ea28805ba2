//! Causeway edge. Outsiders start an [`app::App`], and measure, fuzz and prepare the parts that are public; all else is its own.

pub mod app;
pub mod balance;
mod bind;
mod certified;
pub mod cli;
pub mod config;
mod control;
mod declared;
mod doctor;
mod doorman;
mod forward;
mod front;
mod gate;
mod handover;
mod issuing;
mod keeper;
mod metrics;
mod reception;
mod registry;
pub mod route;
mod shard;
mod silence;
pub mod status;
pub mod store;
mod thread;
mod tunnels;

/// The wall clock in Unix seconds, for what is kept in the store.
pub(crate) fn unix_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

//! What each long-running process of Causeway needs around its own work: configuration, telemetry, staged
//! shutdown, signals, readiness, the admin server, the TLS provider and backoff.
//!
//! Nothing here is a global: [`telemetry::init`] sets the process's subscriber and every other part is a value
//! handed to whoever needs it, so that several programs can be built in one process.

pub mod admin;
pub mod backoff;
pub mod buffers;
pub mod config;
pub mod doctor;
pub mod drain;
pub mod limits;
pub mod output;
pub mod pulse;
pub mod readiness;
pub mod signals;
pub mod systemd;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod unix_client;
pub mod unix_listener;
pub mod watch;

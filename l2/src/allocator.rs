//! The allocator: watches, an index that decides, and writers; one of several replicas leads.
//!
//! ```text
//! inputs ───Update──► run ──► Index (synchronous, holds the Table) ──► pending writes ──► writer ──► API server
//!                      ▲                                                                   │
//!                      └──────────────── outcome of each write ◄───────────────────────────┘
//! ```
//! Standbys keep the same index, so that taking over costs one pass over it. What Services hold is derived from
//! their status: nothing else is stored anywhere, and every step may be repeated.

mod app;
mod cluster;
pub mod command;
mod events;
mod forget;
mod gateways;
mod index;
mod inputs;
mod load;
mod metrics;
mod names;
mod observe;
mod options;
mod patch;
mod run;
mod writer;

pub use app::App;
pub(crate) use index::advertisement_errors;
pub use index::{Index, Settings};
pub(crate) use load::load;
pub use metrics::Metrics;
pub use observe::{Observed, Unclear};
pub use options::Options;

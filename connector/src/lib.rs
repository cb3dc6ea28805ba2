//! The connector: dials out to edges and carries each public request to the origin that its rules name.
//!
//! A request's way through the files, one call in one task, forward only:
//! ```text
//! session → proxy → rules (ingress) → exchange → origin → VIP
//! ```

pub mod app;
pub mod cli;
pub mod config;
pub mod ingress;
pub mod path;
pub mod reload;
pub mod status;
pub mod visits;

mod builtin;
mod carriers;
mod dial;
mod disk;
mod doctor;
mod edges;
mod exchange;
mod explain;
mod failure;
mod forward_proxy;
mod headers;
mod home;
mod kubernetes;
mod listing;
mod metrics;
mod origin;
mod passing;
mod patience;
mod proxy;
mod proxy_protocol;
mod report;
mod rules;
mod service;
mod session;
mod shard;
mod silence;
mod slot;
mod slots;
mod stalled;
mod threads;
mod upgrade;
mod upload;
mod wait;

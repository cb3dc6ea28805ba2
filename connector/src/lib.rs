//! The connector: dials out to edges and carries each public request to the origin that its rules name.
//!
//! A request's way through the files, one call in one task, forward only:
//! ```text
//! session → proxy → rules (ingress) → exchange → origin → VIP
//! ```

pub mod config;
pub mod hostname;
pub mod ingress;
pub mod metrics;
pub mod origin;
pub mod rules;
pub mod service;

mod builtin;
mod exchange;
mod failure;
mod headers;
mod patience;
mod proxy;
mod upgrade;
mod upload;

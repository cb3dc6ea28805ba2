//! The public HTTP front ends: from bytes on a visitor's connection to a validated [`crate::exchange::Exchange`],
//! and from its answer back to bytes.

pub mod guard;
pub mod headers;
pub mod host;
pub mod page;

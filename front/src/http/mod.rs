//! The public HTTP front ends: from bytes on a visitor's connection to a validated [`crate::exchange::Exchange`],
//! and from its answer back to bytes.

pub mod entry;
pub mod forwarding;
pub mod guard;
pub mod h1;
pub mod h2;
pub mod h3;
pub mod headers;
pub mod hsts;
pub mod offer;
pub mod page;
pub mod refusal;
pub mod sizes;
#[cfg(test)]
pub(crate) mod testing;
pub mod timing;
mod validate;

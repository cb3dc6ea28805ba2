//! The public HTTP front ends: from bytes on a visitor's connection to a validated [`crate::exchange::Exchange`],
//! and from its answer back to bytes.

pub(crate) mod entry;
pub(crate) mod forwarding;
pub mod guard;
pub(crate) mod h1;
pub(crate) mod h2;
pub mod h3;
pub(crate) mod headers;
pub(crate) mod offer;
pub(crate) mod page;
pub mod refusal;
pub(crate) mod sizes;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod timing;
mod validate;

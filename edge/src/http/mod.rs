//! The public HTTP front ends: from bytes on a visitor's connection to a validated [`crate::exchange::Exchange`],
//! and from its answer back to bytes.

pub mod entry;
pub mod forwarding;
pub mod guard;
pub(crate) mod h1;
pub mod h2;
pub(crate) mod headers;
pub mod page;
pub mod refusal;
pub(crate) mod sizes;
#[cfg(test)]
mod testing;
pub mod timing;
mod validate;

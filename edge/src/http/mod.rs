//! The public HTTP front ends: from bytes on a visitor's connection to a validated [`crate::exchange::Exchange`],
//! and from its answer back to bytes.

pub mod entry;
pub mod guard;
pub(crate) mod h1;
pub mod h2;
pub mod headers;
pub(crate) mod limits;
pub mod page;
#[cfg(test)]
mod testing;
mod validate;

//! Which addresses each Service holds: a stable, incremental function of Services, pools and what is held. Pure.
//!
//! ```text
//! Request ──► Table::decide ──► Decision { holding, change, trouble }
//!               │  keep        what is held stays, while the configuration allows it
//!               │  search      otherwise a new place, in MetalLB's order of pools and addresses
//!               └► swap        the old place is left only when the new one is taken
//! ```
//! The state of the [`Table`] is what Services hold; time comes in as an argument. One decision costs no more than
//! the pools that the Service may use: nothing walks over all Services or over all addresses of a pool.

mod decide;
mod failure;
mod request;
mod search;
mod table;

pub use decide::{Change, Decision, Trouble};
pub use failure::{Failure, Reason};
pub use request::{Families, Port, Protocol, Request, ServiceKey, Sharing};
pub use table::{Holding, Table, Usage};

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

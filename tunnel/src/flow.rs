//! Who may send how much: windows that follow the path, under one budget a process, the same over every carrier.
//!
//! ```text
//! sender      Outlet ─ sends up to its limit ─→ carrier ─→ Inlet      receiver
//!                ▲ Strand: the limit, and who waits         │ Window: what was read, and how fast
//!                │                                          ▼ Budget: what may be granted
//!             Courier ←─ record: stream, new limit ─── Post, Courier
//! ```
//! A sender may have handed so many bytes of a stream's direction to the carrier in all: its *limit*. The first limit is fixed
//! for what the opener sends, and said in the opening for what is answered. The receiver grants more as it reads; its
//! grants travel as records on a stream of their own, the *credit stream* ([`courier`]). The carrier's own windows are wide and
//! stop only a peer that does not keep to this.
//!
//! The window grows while it is read as fast as it comes, to what the path carries in five round trips, and shrinks when it is
//! not, or when the [`Budget`] is near its end. What a session's streams reached is where its next one begins.

pub mod records;

mod budget;
mod courier;
mod inlet;
mod memory;
mod outlet;
mod post;
mod sending;
mod session;
mod strand;
mod turns;
mod window;

pub use budget::{Budget, Held, Pressure};
pub use memory::available as available_memory;

pub(crate) use courier::{Courier, NoCredit};
pub(crate) use inlet::{Broken, Inlet};
pub(crate) use outlet::Outlet;
pub(crate) use sending::Sending;
pub(crate) use session::{Flow, Sizes};

#[cfg(test)]
mod tests;

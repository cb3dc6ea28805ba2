//! One stream of a session: frames over the bytes of any carrier. What is sent and in which order it may come is decided
//! without I/O ([`outgoing`], [`incoming`]); the two halves that move it ([`send`], [`recv`]) only wait and wake.
//!
//! ```text
//! head, fields ─ wire        layouts of what frames hold
//! outgoing ────→ send ─→ carrier::SendHalf
//! incoming ←──── recv ←─ carrier::RecvHalf      (frame cuts the bytes)
//! raw: both halves after an accepted upgrade
//! ```

pub mod frame;
pub mod head;

mod error;
mod fields;
mod incoming;
mod outgoing;
mod raw;
mod recv;
mod send;
pub(crate) mod wire;

#[cfg(test)]
mod sim;

pub use error::StreamError;
pub use incoming::ResponseEvent;
pub use outgoing::First;
pub use raw::{RawRecv, RawSend};
pub use recv::RecvStream;
pub use send::SendStream;

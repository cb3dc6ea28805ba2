//! The QUIC carrier: how a session is listened for ([`Listener`]) and dialled ([`Dialer`]).

mod dialer;
mod listener;
mod socket;
mod transport;

pub use dialer::{DialError, Dialer};
pub use listener::{HandshakeError, Knock, Listener, Shard};
pub use socket::{Reuse, UdpReport, bind};

#[cfg(test)]
mod tests;

//! The public side, wherever TLS of a name ends: at the edge, or at home in the connector. From a visitor's first byte to a request
//! on its way in a session, and back.
//!
//! ```text
//! listen → door ─ tls → http (h1, h2, h3) → Handler (whose it is) → forward::Attempt → session
//! ```
//! It knows no store, no tunnel and no rule: the program that uses it says which names it has certificates for and implements
//! [`exchange::Handler`].

pub mod access;
pub mod challenge;
pub mod doctor;
pub mod door;
pub mod exchange;
pub mod forward;
pub mod household;
pub mod http;
pub mod listen;
pub mod metrics;
pub mod observe;
pub mod overload;
pub mod record;
pub mod room;
pub mod session;
pub mod tls;

/// The wall clock in Unix seconds.
pub(crate) fn unix_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

//! Certificates by themselves: asks certificate authorities (RFC 8555) for what is wanted, proves whose the names are, and
//! renews in time.
//!
//! ```text
//!   names wanted ─→ manager ─ schedule (when) ─→ authority ─ client ─ http ⇒ the authority
//!                      │                            └ answers ⇐ its questions (HTTP-01, TLS-ALPN-01), dns ⇒ DNS-01
//!                      ├─→ ledger ─→ Storage   (survives a restart)
//!                      └─→ Shelf               (what visitors are shown)
//! ```
//! Whoever uses it brings the [`Storage`], the [`Shelf`] and the two ports on which [`Answers`] are given. What is there is
//! served whatever becomes of the authority: nothing here takes a certificate away before another has come.

mod answers;
mod authority;
mod certificate;
mod claim;
mod client;
pub mod config;
pub mod dns;
mod entry;
mod failure;
mod handle;
mod http;
mod issuer;
mod ledger;
mod look;
mod manager;
mod proof;
mod schedule;
mod settings;
mod storage;
mod view;

pub use answers::Answers;
pub use certificate::{Certificate, Unusable};
pub use failure::Failure;
pub use handle::{CommandError, Handle};
pub use manager::{IsAllowed, Manager, Shelf};
pub use settings::{
    Challenge, Directory, Eab, LETS_ENCRYPT, LETS_ENCRYPT_STAGING, Settings, TLS_ALPN_PROTOCOL,
};
pub use storage::{CLAIM, Contents, NameRecord, Posted, Shared, Storage, StorageError};
pub use view::{Overview, State, View};

/// The wall clock in Unix seconds.
pub(crate) fn unix_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

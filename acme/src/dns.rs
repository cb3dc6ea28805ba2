//! Records for DNS challenges: one TXT value put into a zone and taken out again, by whichever way reaches the zone.
//!
//! ```text
//! DnsSolver ─ update    RFC 2136: place (which zone) → key (TSIG) → exchange → answer → refusal
//!           └ hook      a program of the operator's
//!             both, at the end: shown (each nameserver of the zone has it) → nameservers → lookup → exchange, answer
//! persist               a record that people put there once: what it says, and whether it is there
//! ```

pub mod answer;
mod config;
mod exchange;
mod hook;
pub mod key;
mod lookup;
mod nameservers;
pub mod persist;
mod place;
mod refusal;
mod server;
mod shown;
mod update;

use futures_util::future::BoxFuture;
use hickory_proto::rr::Name;

pub use self::config::{DnsConfig, KeyConfig, SolverError, UpdateConfig, Zone};
pub use self::exchange::ExchangeError;
pub use self::hook::{Hook, HookError};
pub use self::lookup::{LookupError, Resolvers};
pub use self::place::PlaceError;
pub use self::refusal::Refusal;
pub use self::server::Server;
pub use self::shown::NotShown;
pub use self::update::{Clock, Update, UpdateError};

/// Puts TXT values into DNS and takes them out again; other values of the same name are left alone.
///
/// `name` is the whole name of the record (`_acme-challenge.example.dev`), `value` what it says. Both calls may be repeated.
pub trait DnsSolver: Send + Sync + std::fmt::Debug {
    /// Returns when the certificate authority can see the record.
    fn present<'a>(&'a self, name: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), DnsError>>;

    fn remove<'a>(&'a self, name: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), DnsError>>;
}

/// Why a record could not be put there, or taken away.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error("{0:?} is not a name for a DNS record")]
    Name(String),
    #[error(transparent)]
    Update(#[from] UpdateError),
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error(transparent)]
    NotShown(#[from] NotShown),
}

/// Where the answer to a DNS-01 challenge for a name stands (RFC 8555 §8.4); a wildcard's stands at the name below its star.
pub fn challenge_name(host: &str) -> String {
    format!("_acme-challenge.{}", host.strip_prefix("*.").unwrap_or(host))
}

/// The name of a record, which always counts from the root.
fn record_name(text: &str) -> Result<Name, DnsError> {
    let refuse = || DnsError::Name(text.chars().take(MAX_SHOWN).collect());
    let mut name = Name::from_ascii(text).map_err(|_| refuse())?;
    name.set_fqdn(true);
    if name.is_root() { Err(refuse()) } else { Ok(name) }
}

/// The longest name that DNS knows.
const MAX_SHOWN: usize = 253;

#[cfg(test)]
mod tests {
    use super::{challenge_name, record_name};

    #[test]
    fn a_wildcard_is_proved_at_the_name_below_its_star() {
        assert_eq!(challenge_name("*.example.dev"), "_acme-challenge.example.dev");
        assert_eq!(challenge_name("www.example.dev"), "_acme-challenge.www.example.dev");
    }

    #[test]
    fn a_record_has_a_name() {
        assert_eq!(
            record_name("_acme-challenge.example.dev").unwrap().to_ascii(),
            "_acme-challenge.example.dev."
        );
        for wrong in ["", ".", "a..b", &"a".repeat(64), &"a.".repeat(200)] {
            assert!(record_name(wrong).is_err(), "{wrong:?}");
        }
    }
}

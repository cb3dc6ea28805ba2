//! Proof by a DNS record (DNS-01): who can set it for a name.

use futures_util::future::BoxFuture;

/// Sets and removes TXT records.
pub trait DnsSolver: Send + Sync + std::fmt::Debug {
    /// Makes `value` one of the TXT values at `name`, the full record name (`_acme-challenge.example.dev`), and waits until
    /// the zone's servers show it. Other values there stay.
    fn present<'a>(&'a self, name: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), DnsError>>;

    /// Takes that one value away again.
    fn remove<'a>(&'a self, name: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), DnsError>>;
}

/// Why a record could not be set or removed; says the mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DnsError(pub String);

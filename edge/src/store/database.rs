//! What a database does for the store, whatever it is: nine calls for tunnels, five for certificates.

use std::fmt;
use std::time::Duration;

use causeway_acme::{Certificate, NameRecord};
use causeway_daemon::config::Secret;
use causeway_tunnel::TunnelId;
use futures_util::future::BoxFuture;

use super::error::StoreError;
use super::record::{AuditEntry, CertificateRows, NewKey, TunnelRecord};

pub(super) type Call<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// What a database does for the store. Each call is one transaction; what changes tunnels bumps the revision in it and
/// leaves a note in the audit log.
pub(super) trait Database: Certificates + fmt::Debug + Send + Sync {
    fn revision(&self) -> Call<'_, i64>;
    /// Fails when the name or a pattern is taken, with nothing done.
    fn create<'a>(&'a self, tunnel: NewTunnel<'a>, by: By<'a>) -> Call<'a, ()>;
    /// Adds a key; those before it end after `overlap` at the latest.
    fn rotate<'a>(&'a self, name: &'a str, key: NewKey, overlap: Duration, by: By<'a>) -> Call<'a, TunnelId>;
    /// Frees the tunnel's name and patterns, and keeps the rest.
    fn revoke<'a>(&'a self, name: &'a str, by: By<'a>) -> Call<'a, TunnelId>;
    fn tunnels(&self) -> Call<'_, Vec<TunnelRecord>>;
    fn seen(&self, tunnel: TunnelId, now: i64) -> Call<'_, ()>;
    fn audit<'a>(&'a self, entry: &'a AuditEntry) -> Call<'a, ()>;
    fn audit_log(&self, limit: u32) -> Call<'_, Vec<AuditEntry>>;
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Certificates that the edge orders by itself. Only the edge writes them, so no call bumps the revision.
pub(super) trait Certificates {
    fn certificates(&self) -> Call<'_, CertificateRows>;
    fn put_account<'a>(&'a self, directory: &'a str, credentials: &'a Secret) -> Call<'a, ()>;
    fn put_certificate<'a>(&'a self, certificate: &'a Certificate) -> Call<'a, ()>;
    fn put_order<'a>(&'a self, record: &'a NameRecord) -> Call<'a, ()>;
    /// The certificate and how its orders fared.
    fn forget_certificate<'a>(&'a self, name: &'a str) -> Call<'a, ()>;
}

/// A tunnel to be: its name is one, and its patterns are some, sorted, each once.
pub(super) struct NewTunnel<'a> {
    pub(super) id: TunnelId,
    pub(super) name: &'a str,
    pub(super) patterns: Vec<String>,
    pub(super) key: NewKey,
}

/// Who makes a change, and when, for the audit log.
#[derive(Clone, Copy)]
pub(super) struct By<'a> {
    pub(super) actor: &'a str,
    pub(super) at: i64,
}

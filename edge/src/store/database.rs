//! What a database does for the store, whatever it is: ten calls for tunnels, ten for certificates, two for all at once.

use std::fmt;
use std::time::Duration;

use causeway_acme::{Certificate, NameRecord};
use causeway_daemon::config::Secret;
use causeway_tunnel::TunnelId;
use futures_util::future::BoxFuture;

use super::error::{Place, StoreError};
use super::record::{AuditEntry, CertificateRows, NewKey, PostedRow, TunnelRecord};
use super::transfer::Transfer;

pub(super) type Call<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// What a database does for the store. Each call is one transaction; what changes tunnels bumps the revision in it and
/// leaves a note in the audit log.
pub(super) trait Database: Certificates + Transfers + fmt::Debug + Send + Sync {
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
    /// Where it is.
    fn place(&self) -> &Place;
    /// The pin of the fleet's edges, which is `own` if there was none.
    fn join<'a>(&'a self, own: &'a str) -> Call<'a, String>;
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Certificates that edges order by themselves. What changes them bumps a revision of its own.
pub(super) trait Certificates {
    fn certificates(&self) -> Call<'_, CertificateRows>;
    fn put_account<'a>(&'a self, directory: &'a str, credentials: &'a Secret) -> Call<'a, ()>;
    fn put_certificate<'a>(&'a self, certificate: &'a Certificate) -> Call<'a, ()>;
    fn put_order<'a>(&'a self, record: &'a NameRecord) -> Call<'a, ()>;
    /// The certificate and how its orders fared.
    fn forget_certificate<'a>(&'a self, name: &'a str) -> Call<'a, ()>;

    fn certificates_revision(&self) -> Call<'_, i64>;
    /// Whether the order is ours from `now` on, up to `until`.
    fn claim<'a>(&'a self, name: &'a str, now: i64, until: i64) -> Call<'a, bool>;
    fn release<'a>(&'a self, name: &'a str) -> Call<'a, ()>;
    /// Whether the claim is still ours.
    fn post<'a>(&'a self, name: &'a str, token: Option<&'a str>, answer: &'a str) -> Call<'a, bool>;
    /// Of others, whose claims last: name, token, answer.
    fn posted(&self, now: i64) -> Call<'_, Vec<PostedRow>>;
}

/// Everything, from one database into another.
pub(super) trait Transfers {
    fn export(&self) -> Call<'_, Transfer>;
    /// Fails when anything of it is there already, or the fleet has another pin, with nothing done.
    fn import<'a>(&'a self, transfer: &'a Transfer, pin: &'a str) -> Call<'a, ()>;
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

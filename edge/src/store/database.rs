//! What a database does for the store: nine calls, whatever it is.

use std::fmt;
use std::time::Duration;

use causeway_tunnel::TunnelId;
use futures_util::future::BoxFuture;

use super::error::StoreError;
use super::record::{AuditEntry, NewKey, TunnelRecord};

pub(super) type Call<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// What a database does for the store. Each call is one transaction; what changes tunnels bumps the revision in it and
/// leaves a note in the audit log.
pub(super) trait Database: fmt::Debug + Send + Sync {
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

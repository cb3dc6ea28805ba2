//! What outlives the process: tunnels, their hostnames and public keys, automatic certificates, and the audit log, in one
//! SQL database.
//!
//! [`Store`] is all that the edge knows of it; a [`Database`] stands behind, an embedded SQLite file by default. Every
//! [`statement`] is valid on PostgreSQL too, so that several edges can share one database later: another file beside
//! [`sqlite`]. A change and the `revision` it bumps are one transaction; a running edge polls the revision.

mod certificates;
mod database;
mod error;
mod record;
mod sqlite;
mod statement;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use causeway_tunnel::TunnelId;

use crate::route::Pattern;
use database::{By, Database, NewTunnel};
use sqlite::Sqlite;

pub use error::{Fault, StoreError};
pub use record::{AuditEntry, KeyRecord, NewKey, TunnelRecord};
pub use sqlite::FILE_NAME;

/// A handle on the database; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    database: Arc<dyn Database>,
}

impl Store {
    /// Opens the database in `folder`, making or upgrading it as needed.
    ///
    /// # Errors
    /// When the file cannot be opened, is damaged, or was written by a later version.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self { database: Arc::new(Sqlite::open(folder).await?) })
    }

    /// Grows with every change that a running edge must hear of.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        self.database.revision().await
    }

    /// # Errors
    /// When the name or a hostname is taken, or the database fails.
    pub async fn create(
        &self,
        id: TunnelId,
        name: &str,
        hostnames: &[Pattern],
        key: NewKey,
        actor: &str,
        now: i64,
    ) -> Result<(), StoreError> {
        if !is_tunnel_name(name) {
            return Err(StoreError::BadName(name.to_owned()));
        }
        if hostnames.is_empty() {
            return Err(StoreError::NoHostname);
        }
        let mut patterns: Vec<String> = hostnames.iter().map(Pattern::to_string).collect();
        patterns.sort_unstable();
        patterns.dedup();
        self.database.create(NewTunnel { id, name, patterns, key }, By { actor, at: now }).await
    }

    /// Adds a key; the keys before it stay valid for `overlap`.
    ///
    /// # Errors
    /// When there is no such tunnel, or the database fails.
    pub async fn rotate(
        &self,
        name: &str,
        key: NewKey,
        overlap: Duration,
        actor: &str,
        now: i64,
    ) -> Result<TunnelId, StoreError> {
        self.database.rotate(name, key, overlap, By { actor, at: now }).await
    }

    /// Ends a tunnel for good; its name and hostnames are free again.
    ///
    /// # Errors
    /// When there is no such tunnel, or the database fails.
    pub async fn revoke(&self, name: &str, actor: &str, now: i64) -> Result<TunnelId, StoreError> {
        self.database.revoke(name, By { actor, at: now }).await
    }

    /// Every tunnel, revoked ones too, by name.
    ///
    /// # Errors
    /// When the database fails or holds what this version cannot read.
    pub async fn tunnels(&self) -> Result<Vec<TunnelRecord>, StoreError> {
        self.database.tunnels().await
    }

    /// The tunnel that bears this name now.
    ///
    /// # Errors
    /// When there is none, or the database fails.
    pub async fn tunnel(&self, name: &str) -> Result<TunnelRecord, StoreError> {
        let mut all = self.tunnels().await?;
        let latest = all.iter().rposition(|t| t.name == name && t.revoked_at.is_none());
        let latest = latest.or_else(|| all.iter().rposition(|t| t.name == name));
        latest.map(|at| all.swap_remove(at)).ok_or_else(|| StoreError::NoSuchTunnel(name.to_owned()))
    }

    /// Notes that the tunnel had a session at `now`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn seen(&self, tunnel: TunnelId, now: i64) -> Result<(), StoreError> {
        self.database.seen(tunnel, now).await
    }

    /// # Errors
    /// When the database fails.
    pub async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        self.database.audit(entry).await
    }

    /// The latest entries, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_log(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.database.audit_log(limit).await
    }

    pub async fn close(&self) {
        self.database.close().await;
    }
}

pub(crate) fn is_tunnel_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests;

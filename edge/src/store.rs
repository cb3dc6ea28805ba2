//! What outlives the process: tunnels, their hostnames and public keys, automatic certificates, and the audit log, in one
//! SQL database.
//!
//! [`Store`] is all that the edge knows of it; a [`Database`] stands behind: an embedded SQLite file by default, or a
//! PostgreSQL server that several edges share. Every [`statement`] is valid on both, so that [`sql`] is written once;
//! [`sqlite`] and [`postgres`] open it. A change and the `revision` it bumps are one transaction; a running edge polls the
//! revision.

mod certificates;
mod database;
mod error;
mod postgres;
mod record;
mod sql;
mod sqlite;
mod statement;
mod transfer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use causeway_daemon::config::Secret;
use causeway_tunnel::{Pin, TunnelId};

use crate::config::{Backend, Config, check_tunnel_name};
use crate::route::Pattern;
use database::{By, Database, NewTunnel};

pub use error::{Fault, Place, StoreError};
pub use record::{AuditEntry, KeyRecord, NewKey, TunnelRecord};
pub use sqlite::FILE_NAME;
pub(crate) use transfer::Transfer;

/// A handle on the database; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    database: Arc<dyn Database>,
}

impl Store {
    /// Opens the database that is configured, making or upgrading it as needed.
    ///
    /// # Errors
    /// When it cannot be opened, is damaged, or was written by a later version.
    pub async fn open(config: &Config) -> Result<Self, StoreError> {
        let Backend::Postgres(server) = &config.store else { return Self::in_folder(&config.data).await };
        let password = config.store_password_file.as_deref().map(Secret::from_file).transpose()?;
        Ok(Self { database: Arc::new(postgres::open(server, password.as_ref()).await?) })
    }

    /// Opens the SQLite file in `folder`.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn in_folder(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self { database: Arc::new(sqlite::open(folder).await?) })
    }

    /// Whether there is something to open: a file that is not there is no fault of the store's.
    pub(crate) fn is_made(config: &Config) -> bool {
        config.store != Backend::Sqlite || config.data.join(FILE_NAME).exists()
    }

    /// Where it is, for messages.
    pub(crate) fn place(config: &Config) -> Place {
        match &config.store {
            Backend::Sqlite => Place::File(config.data.join(FILE_NAME)),
            Backend::Postgres(server) => Place::Server(server.to_string()),
        }
    }

    /// Whether other edges may use it too.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.database.place(), Place::Server(_))
    }

    /// Takes part in the fleet, where the store is one's: its tokens pin one key, which every edge of it must have.
    ///
    /// # Errors
    /// When this edge has another, or the database fails.
    pub async fn join(&self, own: Pin) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        let own = own.to_string();
        let fleet = self.database.join(&own).await?;
        if fleet == own {
            return Ok(());
        }
        Err(StoreError::OtherIdentity { place: self.database.place().clone(), fleet, own })
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
        check_tunnel_name(name)?;
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

    /// All that it keeps: secrets, too.
    pub(crate) async fn export(&self) -> Result<Transfer, StoreError> {
        self.database.export().await
    }

    /// Takes in what another store kept, all of it or nothing.
    pub(crate) async fn import(&self, transfer: &Transfer, pin: Pin) -> Result<(), StoreError> {
        self.database.import(transfer, &pin.to_string()).await
    }

    pub async fn close(&self) {
        self.database.close().await;
    }
}

#[cfg(test)]
mod tests;

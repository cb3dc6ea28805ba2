//! What outlives the process: tunnels, their hostnames and public keys, and the audit log, in one SQL database.
//!
//! An embedded SQLite file by default. Every statement here is valid on PostgreSQL too, so that several edges can share
//! one database later. A change and the `revision` it bumps are one transaction; a running edge polls the revision.

mod error;
mod tunnels;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

pub use error::{Fault, StoreError};
pub use tunnels::{AuditEntry, KeyRecord, NewKey, TunnelRecord};

/// The database's name in the data folder.
pub const FILE_NAME: &str = "causeway.db";
/// Another process (the command line beside a running edge) holds the write lock for milliseconds only.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A handle on the database; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
    path: PathBuf,
}

impl Store {
    /// Opens the database in `folder`, making or upgrading it as needed.
    ///
    /// # Errors
    /// When the file cannot be opened, is damaged, or was written by a later version.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE_NAME);
        let fail = |error: sqlx::Error| StoreError::from_sqlx(&path, error);
        create_private(&path).map_err(|source| StoreError::from_sqlx(&path, sqlx::Error::Io(source)))?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(BUSY_TIMEOUT * 2)
            .connect_with(options)
            .await
            .map_err(fail)?;
        // A damaged page may lie where today's statements do not look: better to hear of it at start.
        let (verdict,): (String,) =
            sqlx::query_as("PRAGMA quick_check(1)").fetch_one(&pool).await.map_err(fail)?;
        if verdict != "ok" {
            return Err(StoreError::fault(&path, Fault::Corrupt, sqlx::Error::Protocol(verdict)));
        }
        sqlx::migrate!("./migrations")
            .run(&pool)
            .await
            .map_err(|error| StoreError::from_migration(&path, error))?;
        Ok(Self { pool, path })
    }

    /// Grows with every change that a running edge must hear of.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        let row: (i64,) = sqlx::query_as("SELECT revision FROM state WHERE one = 1")
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.fail(error))?;
        Ok(row.0)
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }

    fn fail(&self, error: sqlx::Error) -> StoreError {
        StoreError::from_sqlx(&self.path, error)
    }
}

/// The store holds no secret, but who may serve which name is nobody else's business.
fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;

//! The store in an embedded SQLite file.

pub(super) mod result_code;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use sqlx::Connection;
use sqlx::any::{AnyPoolOptions, install_default_drivers};

use super::error::{Fault, Place, StoreError};
use super::sql::Sql;

/// The database's name in the data folder.
pub const FILE_NAME: &str = "causeway.db";
/// Another process (the command line beside a running edge) holds the write lock for milliseconds only. SQLite itself waits
/// for half of it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// A disk that is slow is waited for: nobody else has the file.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens the database in `folder`, making or upgrading it as needed.
pub(super) async fn open(folder: &Path) -> Result<Sql, StoreError> {
    let path = folder.join(FILE_NAME);
    let place = Place::File(path.clone());
    let fail = |error: sqlx::Error| StoreError::from_sqlx(place.clone(), error);
    create_private(&path).map_err(|source| fail(sqlx::Error::Io(source)))?;
    install_default_drivers();
    let pool = AnyPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(BUSY_TIMEOUT)
        // SQLite ends a transaction by itself when the disk is full. The driver counts it on, and takes what follows for parts of it, which
        // nobody ever commits: such a connection is closed. A roll-back that is under way is over when the ping is.
        .after_release(|connection, _| {
            Box::pin(async move {
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        })
        .connect(&url(&path))
        .await
        .map_err(fail)?;
    // The file keeps it. All else that we want is what a connection has by itself: foreign keys, waiting for a lock, and a write that is
    // on the disk when it is done.
    sqlx::query("PRAGMA journal_mode = WAL").execute(&pool).await.map_err(fail)?;
    // A damaged page may lie where today's statements do not look: better to hear of it at start.
    let (verdict,): (String,) =
        sqlx::query_as("PRAGMA quick_check(1)").fetch_one(&pool).await.map_err(fail)?;
    if verdict != "ok" {
        return Err(StoreError::fault(place, Fault::Corrupt, sqlx::Error::Protocol(verdict)));
    }
    let migrated = sqlx::migrate!("./migrations/sqlite").run(&pool).await;
    migrated.map_err(|error| StoreError::from_migration(place.clone(), error))?;
    Ok(Sql::new(pool, place, None, PATIENCE))
}

/// The path with all in it escaped that means something in a URL.
fn url(path: &Path) -> String {
    let mut url = "sqlite://".to_owned();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' => url.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => url.push(char::from(byte)),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

/// The store holds keys of certificates: it is for its owner alone (hazard 133). What SQLite puts beside it has the same mode.
fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_may_have_any_name() {
        assert_eq!(url(Path::new("/a b/50%?#é/c.db")), "sqlite:///a%20b/50%25%3F%23%C3%A9/c.db");
    }

    #[tokio::test]
    async fn what_is_written_behind_a_transaction_that_sqlite_ended_by_itself_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await.unwrap();
        // As on a full disk: the driver's own roll-back fails, and the next one leaves a transaction open.
        for statement in ["ROLLBACK", "SELECT 1"] {
            let mut tx = store.pool.begin().await.unwrap();
            sqlx::query(statement).execute(&mut *tx).await.unwrap();
        }
        sqlx::query("INSERT INTO fleet (one, pin) VALUES (1, 'x')").execute(&store.pool).await.unwrap();
        let (pin,): (String,) = sqlx::query_as("SELECT pin FROM fleet")
            .fetch_one(&open(folder.path()).await.unwrap().pool)
            .await
            .unwrap();
        assert_eq!(pin, "x");
    }
}

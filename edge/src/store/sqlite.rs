//! The store in an embedded SQLite file.

mod certificates;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use causeway_tunnel::TunnelId;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite as Driver, Transaction};
use uuid::Uuid;

use super::database::{By, Call, Database, NewTunnel};
use super::error::{Fault, StoreError};
use super::record::{AuditEntry, NewKey, Rows, TunnelRecord};
use super::statement;

/// The database's name in the data folder.
pub const FILE_NAME: &str = "causeway.db";
/// Another process (the command line beside a running edge) holds the write lock for milliseconds only.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Sqlite {
    pub(super) pool: SqlitePool,
    path: PathBuf,
}

impl Sqlite {
    /// Opens the database in `folder`, making or upgrading it as needed.
    pub(super) async fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE_NAME);
        let fail = |error: sqlx::Error| failed(&path, error);
        create_private(&path).map_err(|source| fail(sqlx::Error::Io(source)))?;
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
            return Err(StoreError::fault(place(&path), Fault::Corrupt, sqlx::Error::Protocol(verdict)));
        }
        sqlx::migrate!("./migrations").run(&pool).await.map_err(|error| not_migrated(&path, error))?;
        Ok(Self { pool, path })
    }

    /// The tunnels' rows, in one transaction: a tunnel is never seen without its keys.
    async fn rows(&self) -> sqlx::Result<Rows> {
        let mut tx = self.pool.begin().await?;
        let tunnels = sqlx::query_as(statement::TUNNELS).fetch_all(&mut *tx).await?;
        let hostnames = sqlx::query_as(statement::HOSTNAMES).fetch_all(&mut *tx).await?;
        let keys = sqlx::query_as(statement::KEYS).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        Ok(Rows { tunnels, hostnames, keys })
    }

    async fn change(&self) -> Result<Change<'_>, StoreError> {
        let mut tx = self.pool.begin().await.map_err(|error| self.fail(error))?;
        sqlx::query(statement::CHANGE).execute(&mut *tx).await.map_err(|error| self.fail(error))?;
        Ok(Change { tx, store: self })
    }

    fn fail(&self, error: sqlx::Error) -> StoreError {
        failed(&self.path, error)
    }

    fn unreadable(&self, what: &str) -> StoreError {
        let source = sqlx::Error::Protocol(format!("unreadable {what}"));
        StoreError::fault(place(&self.path), Fault::Corrupt, source)
    }
}

impl Database for Sqlite {
    fn revision(&self) -> Call<'_, i64> {
        Box::pin(async {
            let row = sqlx::query_as(statement::REVISION).fetch_one(&self.pool).await;
            row.map(|(revision,)| revision).map_err(|error| self.fail(error))
        })
    }

    fn create<'a>(&'a self, tunnel: NewTunnel<'a>, by: By<'a>) -> Call<'a, ()> {
        Box::pin(async move {
            let NewTunnel { id, name, patterns, key } = tunnel;
            let mut change = self.change().await?;
            if change.active(name).await?.is_some() {
                return Err(StoreError::NameTaken(name.to_owned()));
            }
            let add = sqlx::query(statement::ADD_TUNNEL).bind(id.to_string()).bind(name).bind(by.at);
            change.run(add).await?;
            for pattern in &patterns {
                change.grant(id, pattern).await?;
            }
            change.add_key(id, key, by.at).await?;
            change.note(by, "create", name, &patterns.join(" ")).await?;
            change.commit().await
        })
    }

    fn rotate<'a>(&'a self, name: &'a str, key: NewKey, overlap: Duration, by: By<'a>) -> Call<'a, TunnelId> {
        Box::pin(async move {
            let mut change = self.change().await?;
            let id = change.existing(name).await?;
            let end = by.at.saturating_add_unsigned(overlap.as_secs());
            change.run(sqlx::query(statement::RETIRE_KEYS).bind(end).bind(id.to_string())).await?;
            change.add_key(id, key, by.at).await?;
            change.note(by, "rotate", name, &format!("overlap {}s", overlap.as_secs())).await?;
            change.commit().await.map(|()| id)
        })
    }

    fn revoke<'a>(&'a self, name: &'a str, by: By<'a>) -> Call<'a, TunnelId> {
        Box::pin(async move {
            let mut change = self.change().await?;
            let id = change.existing(name).await?;
            change.run(sqlx::query(statement::FREE_HOSTNAMES).bind(id.to_string())).await?;
            change.run(sqlx::query(statement::REVOKE).bind(by.at).bind(id.to_string())).await?;
            change.note(by, "revoke", name, "").await?;
            change.commit().await.map(|()| id)
        })
    }

    fn tunnels(&self) -> Call<'_, Vec<TunnelRecord>> {
        Box::pin(async {
            let rows = self.rows().await.map_err(|error| self.fail(error))?;
            rows.read().map_err(|unreadable| self.unreadable(unreadable.0))
        })
    }

    fn seen(&self, tunnel: TunnelId, now: i64) -> Call<'_, ()> {
        Box::pin(async move {
            let seen = sqlx::query(statement::SEEN).bind(now).bind(tunnel.to_string());
            seen.execute(&self.pool).await.map(|_| ()).map_err(|error| self.fail(error))
        })
    }

    fn audit<'a>(&'a self, entry: &'a AuditEntry) -> Call<'a, ()> {
        Box::pin(async move {
            let note = note(entry.at, &entry.actor, &entry.action, &entry.tunnel, &entry.detail);
            note.execute(&self.pool).await.map(|_| ()).map_err(|error| self.fail(error))
        })
    }

    fn audit_log(&self, limit: u32) -> Call<'_, Vec<AuditEntry>> {
        type Row = (i64, String, String, String, String);
        Box::pin(async move {
            let log = sqlx::query_as(statement::AUDIT_LOG).bind(i64::from(limit));
            let rows: Vec<Row> = log.fetch_all(&self.pool).await.map_err(|error| self.fail(error))?;
            let entry =
                |(at, actor, action, tunnel, detail)| AuditEntry { at, actor, action, tunnel, detail };
            Ok(rows.into_iter().map(entry).collect())
        })
    }

    fn close(&self) -> futures_util::future::BoxFuture<'_, ()> {
        Box::pin(self.pool.close())
    }
}

/// One change that a running edge must hear of: all of it or nothing.
struct Change<'a> {
    tx: Transaction<'static, Driver>,
    store: &'a Sqlite,
}

type Query<'q> = sqlx::query::Query<'q, Driver, sqlx::sqlite::SqliteArguments>;

impl Change<'_> {
    async fn run(&mut self, query: Query<'_>) -> Result<(), StoreError> {
        query.execute(&mut *self.tx).await.map(|_| ()).map_err(|error| self.store.fail(error))
    }

    async fn text(&mut self, statement: &'static str, key: &str) -> Result<Option<String>, StoreError> {
        let row = sqlx::query_as(statement).bind(key).fetch_optional(&mut *self.tx).await;
        row.map(|row| row.map(|(text,)| text)).map_err(|error| self.store.fail(error))
    }

    async fn active(&mut self, name: &str) -> Result<Option<TunnelId>, StoreError> {
        let id = self.text(statement::ACTIVE, name).await?;
        id.map(|id| id.parse().map_err(|_| self.store.unreadable("tunnel id"))).transpose()
    }

    async fn existing(&mut self, name: &str) -> Result<TunnelId, StoreError> {
        self.active(name).await?.ok_or_else(|| StoreError::NoSuchTunnel(name.to_owned()))
    }

    async fn grant(&mut self, id: TunnelId, pattern: &str) -> Result<(), StoreError> {
        if let Some(owner) = self.text(statement::OWNER, pattern).await? {
            return Err(StoreError::HostnameTaken { pattern: pattern.to_owned(), owner });
        }
        self.run(sqlx::query(statement::GRANT).bind(pattern).bind(id.to_string())).await
    }

    async fn add_key(&mut self, tunnel: TunnelId, key: NewKey, now: i64) -> Result<(), StoreError> {
        let add = sqlx::query(statement::ADD_KEY)
            .bind(key.id.to_string())
            .bind(tunnel.to_string())
            .bind(key.text())
            .bind(now);
        self.run(add).await
    }

    async fn note(&mut self, by: By<'_>, action: &str, tunnel: &str, detail: &str) -> Result<(), StoreError> {
        self.run(note(by.at, by.actor, action, tunnel, detail)).await
    }

    async fn commit(self) -> Result<(), StoreError> {
        self.tx.commit().await.map_err(|error| self.store.fail(error))
    }
}

fn note<'q>(at: i64, actor: &'q str, action: &'q str, tunnel: &'q str, detail: &'q str) -> Query<'q> {
    sqlx::query(statement::NOTE)
        .bind(Uuid::new_v4().to_string())
        .bind(at)
        .bind(actor)
        .bind(action)
        .bind(tunnel)
        .bind(detail)
}

fn failed(path: &Path, error: sqlx::Error) -> StoreError {
    let sqlstate = match &error {
        sqlx::Error::Database(error) => error.code().and_then(|code| sqlstate(code.parse().ok()?)),
        _ => None,
    };
    StoreError::from_sqlx(place(path), sqlstate, error)
}

fn not_migrated(path: &Path, error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => failed(path, error),
        other => StoreError::from_migration(place(path), other),
    }
}

/// The SQLSTATE that says what one of SQLite's result codes says. The low byte is the primary code, the rest only refines
/// it.
fn sqlstate(code: u32) -> Option<&'static str> {
    match code & 0xff {
        11 | 26 => Some("XX001"),
        13 => Some("53100"),
        8 => Some("25006"),
        3 | 14 | 23 => Some("08001"),
        5 | 6 => Some("55P03"),
        _ => None,
    }
}

fn place(path: &Path) -> String {
    path.display().to_string()
}

/// The store holds keys of certificates: it is for its owner alone (hazard 133). What SQLite puts beside it has the same mode.
fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

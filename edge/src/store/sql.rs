//! The store in an SQL database: one set of statements for all of them.

mod certificates;
mod transfer;

use std::future::Future;
use std::time::Duration;

use causeway_tunnel::TunnelId;
use sqlx::any::AnyArguments;
use sqlx::{Any, AnyPool, Transaction};
use tokio::time::timeout;
use uuid::Uuid;

use super::database::{By, Call, Database, NewTunnel};
use super::error::{Fault, Place, StoreError};
use super::record::{AuditEntry, NewKey, Rows, TunnelRecord};
use super::statement;

/// A database that is open, and migrated.
#[derive(Debug)]
pub(super) struct Sql {
    pub(super) pool: AnyPool,
    place: Place,
    /// Who claims orders: a process, not a machine, since one that starts again knows nothing of the last one's orders.
    holder: String,
    /// Begins a transaction that sees one moment of the database, where not every transaction does.
    snapshot: Option<&'static str>,
    /// What one call may take: a server that does not answer must not hold up whoever asks.
    patience: Duration,
}

impl Sql {
    pub(super) fn new(
        pool: AnyPool,
        place: Place,
        snapshot: Option<&'static str>,
        patience: Duration,
    ) -> Self {
        Self { pool, place, holder: Uuid::new_v4().to_string(), snapshot, patience }
    }

    async fn snapshot(&self) -> sqlx::Result<Transaction<'static, Any>> {
        match self.snapshot {
            Some(begin) => self.pool.begin_with(begin).await,
            None => self.pool.begin().await,
        }
    }

    /// The tunnels' rows, in one transaction: a tunnel is never seen without its keys.
    async fn rows(&self) -> sqlx::Result<Rows> {
        let mut tx = self.snapshot().await?;
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

    /// One call of the store.
    fn call<'a, T: 'a>(
        &'a self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> Call<'a, T> {
        Box::pin(async {
            let done = timeout(self.patience, work).await;
            done.unwrap_or_else(|_| Err(self.fail(sqlx::Error::PoolTimedOut)))
        })
    }

    fn fail(&self, error: sqlx::Error) -> StoreError {
        StoreError::from_sqlx(self.place.clone(), error)
    }

    fn unreadable(&self, what: &str) -> StoreError {
        let source = sqlx::Error::Protocol(format!("unreadable {what}"));
        StoreError::fault(self.place.clone(), Fault::Corrupt, source)
    }
}

impl Database for Sql {
    fn revision(&self) -> Call<'_, i64> {
        self.call(async {
            let row = sqlx::query_as(statement::REVISION).fetch_one(&self.pool).await;
            row.map(|(revision,)| revision).map_err(|error| self.fail(error))
        })
    }

    fn create<'a>(&'a self, tunnel: NewTunnel<'a>, by: By<'a>) -> Call<'a, ()> {
        self.call(async move {
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
        self.call(async move {
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
        self.call(async move {
            let mut change = self.change().await?;
            let id = change.existing(name).await?;
            change.run(sqlx::query(statement::FREE_HOSTNAMES).bind(id.to_string())).await?;
            change.run(sqlx::query(statement::REVOKE).bind(by.at).bind(id.to_string())).await?;
            change.note(by, "revoke", name, "").await?;
            change.commit().await.map(|()| id)
        })
    }

    fn tunnels(&self) -> Call<'_, Vec<TunnelRecord>> {
        self.call(async {
            let rows = self.rows().await.map_err(|error| self.fail(error))?;
            rows.read().map_err(|unreadable| self.unreadable(unreadable.0))
        })
    }

    fn seen(&self, tunnel: TunnelId, now: i64) -> Call<'_, ()> {
        self.call(async move {
            let seen = sqlx::query(statement::SEEN).bind(now).bind(tunnel.to_string());
            seen.execute(&self.pool).await.map(|_| ()).map_err(|error| self.fail(error))
        })
    }

    fn audit<'a>(&'a self, entry: &'a AuditEntry) -> Call<'a, ()> {
        self.call(async move {
            let id = Uuid::new_v4().to_string();
            let note = note(&id, entry.at, &entry.actor, &entry.action, &entry.tunnel, &entry.detail);
            note.execute(&self.pool).await.map(|_| ()).map_err(|error| self.fail(error))
        })
    }

    fn audit_log(&self, limit: u32) -> Call<'_, Vec<AuditEntry>> {
        type Row = (i64, String, String, String, String);
        self.call(async move {
            let log = sqlx::query_as(statement::AUDIT_LOG).bind(i64::from(limit));
            let rows: Vec<Row> = log.fetch_all(&self.pool).await.map_err(|error| self.fail(error))?;
            let entry =
                |(at, actor, action, tunnel, detail)| AuditEntry { at, actor, action, tunnel, detail };
            Ok(rows.into_iter().map(entry).collect())
        })
    }

    fn place(&self) -> &Place {
        &self.place
    }

    fn join<'a>(&'a self, own: &'a str) -> Call<'a, String> {
        self.call(async move {
            let fail = |error| self.fail(error);
            sqlx::query(statement::JOIN_FLEET).bind(own).execute(&self.pool).await.map_err(fail)?;
            let row = sqlx::query_as(statement::FLEET_PIN).fetch_one(&self.pool).await;
            row.map(|(pin,)| pin).map_err(fail)
        })
    }

    fn close(&self) -> futures_util::future::BoxFuture<'_, ()> {
        Box::pin(self.pool.close())
    }
}

/// One change that a running edge must hear of: all of it or nothing.
struct Change<'a> {
    tx: Transaction<'static, Any>,
    store: &'a Sql,
}

type Query<'q> = sqlx::query::Query<'q, Any, AnyArguments>;

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
        let id = Uuid::new_v4().to_string();
        self.run(note(&id, by.at, by.actor, action, tunnel, detail)).await
    }

    async fn commit(self) -> Result<(), StoreError> {
        self.tx.commit().await.map_err(|error| self.store.fail(error))
    }
}

fn note<'q>(
    id: &'q str,
    at: i64,
    actor: &'q str,
    action: &'q str,
    tunnel: &'q str,
    detail: &'q str,
) -> Query<'q> {
    let note = sqlx::query(statement::NOTE).bind(id).bind(at).bind(actor);
    note.bind(action).bind(tunnel).bind(detail)
}

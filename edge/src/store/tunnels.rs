//! Tunnels in the store: create, list, rotate, revoke; each change is one transaction with its audit entry.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use causeway_tunnel::{KeyId, TunnelId};
use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::route::Pattern;

/// A tunnel as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelRecord {
    pub id: TunnelId,
    pub name: String,
    /// Unix seconds, as all times here.
    pub created_at: i64,
    pub revoked_at: Option<i64>,
    /// When a session was last seen; written rarely.
    pub last_seen_at: Option<i64>,
    /// Sorted. Empty once revoked.
    pub hostnames: Vec<Pattern>,
    /// Oldest first.
    pub keys: Vec<KeyRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    pub id: KeyId,
    pub public_key: [u8; 32],
    pub created_at: i64,
    /// The end of its overlap, when it was rotated.
    pub not_after: Option<i64>,
}

impl KeyRecord {
    pub fn is_valid(&self, now: i64) -> bool {
        self.not_after.is_none_or(|end| now < end)
    }
}

/// The public half of a key to add.
#[derive(Clone, Copy, Debug)]
pub struct NewKey {
    pub id: KeyId,
    pub public_key: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    pub at: i64,
    pub actor: String,
    pub action: String,
    pub tunnel: String,
    pub detail: String,
}

impl Store {
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
        let mut tx = self.change().await?;
        if self.active_id(&mut tx, name).await?.is_some() {
            return Err(StoreError::NameTaken(name.to_owned()));
        }
        let fail = |error| self.fail(error);
        sqlx::query("INSERT INTO tunnels (id, name, created_at) VALUES ($1, $2, $3)")
            .bind(id.to_string())
            .bind(name)
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(fail)?;
        let mut patterns: Vec<String> = hostnames.iter().map(Pattern::to_string).collect();
        patterns.sort_unstable();
        patterns.dedup();
        for pattern in &patterns {
            self.grant(&mut tx, id, pattern).await?;
        }
        self.insert_key(&mut tx, id, key, now).await?;
        self.note(&mut tx, now, actor, "create", name, &patterns.join(" ")).await?;
        tx.commit().await.map_err(fail)
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
        let mut tx = self.change().await?;
        let id =
            self.active_id(&mut tx, name).await?.ok_or_else(|| StoreError::NoSuchTunnel(name.to_owned()))?;
        let end = now.saturating_add_unsigned(overlap.as_secs());
        let fail = |error| self.fail(error);
        sqlx::query("UPDATE tunnel_keys SET not_after = $1 WHERE tunnel_id = $2 AND (not_after IS NULL OR not_after > $1)")
            .bind(end)
            .bind(id.to_string())
            .execute(&mut *tx)
            .await
            .map_err(fail)?;
        self.insert_key(&mut tx, id, key, now).await?;
        self.note(&mut tx, now, actor, "rotate", name, &format!("overlap {}s", overlap.as_secs())).await?;
        tx.commit().await.map_err(fail)?;
        Ok(id)
    }

    /// Ends a tunnel for good; its name and hostnames are free again.
    ///
    /// # Errors
    /// When there is no such tunnel, or the database fails.
    pub async fn revoke(&self, name: &str, actor: &str, now: i64) -> Result<TunnelId, StoreError> {
        let mut tx = self.change().await?;
        let id =
            self.active_id(&mut tx, name).await?.ok_or_else(|| StoreError::NoSuchTunnel(name.to_owned()))?;
        let fail = |error| self.fail(error);
        sqlx::query("DELETE FROM hostnames WHERE tunnel_id = $1")
            .bind(id.to_string())
            .execute(&mut *tx)
            .await
            .map_err(fail)?;
        sqlx::query("UPDATE tunnels SET revoked_at = $1 WHERE id = $2")
            .bind(now)
            .bind(id.to_string())
            .execute(&mut *tx)
            .await
            .map_err(fail)?;
        self.note(&mut tx, now, actor, "revoke", name, "").await?;
        tx.commit().await.map_err(fail)?;
        Ok(id)
    }

    /// Every tunnel, revoked ones too, by name.
    ///
    /// # Errors
    /// When the database fails or holds what this version cannot read.
    pub async fn tunnels(&self) -> Result<Vec<TunnelRecord>, StoreError> {
        let fail = |error| self.fail(error);
        type Row = (String, String, i64, Option<i64>, Option<i64>);
        // One transaction: a tunnel is never seen without its keys.
        let mut tx = self.pool.begin().await.map_err(fail)?;
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, name, created_at, revoked_at, last_seen_at FROM tunnels ORDER BY name, created_at",
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(fail)?;
        let names: Vec<(String, String)> =
            sqlx::query_as("SELECT tunnel_id, pattern FROM hostnames ORDER BY pattern")
                .fetch_all(&mut *tx)
                .await
                .map_err(fail)?;
        type Key = (String, String, String, i64, Option<i64>);
        let keys: Vec<Key> = sqlx::query_as(
            "SELECT tunnel_id, id, public_key, created_at, not_after FROM tunnel_keys ORDER BY created_at, id",
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(fail)?;
        tx.commit().await.map_err(fail)?;

        let mut tunnels = Vec::with_capacity(rows.len());
        let mut index = std::collections::HashMap::with_capacity(rows.len());
        for (id, name, created_at, revoked_at, last_seen_at) in rows {
            let parsed = id.parse().map_err(|_| self.unreadable("tunnel id"))?;
            index.insert(id, tunnels.len());
            let (hostnames, keys) = (Vec::new(), Vec::new());
            tunnels.push(TunnelRecord {
                id: parsed,
                name,
                created_at,
                revoked_at,
                last_seen_at,
                hostnames,
                keys,
            });
        }
        for (tunnel, pattern) in names {
            let Some(&at) = index.get(&tunnel) else { continue };
            match Pattern::parse(&pattern) {
                Ok(pattern) => tunnels[at].hostnames.push(pattern),
                // Granted by an older version, and never to be visited: no reason to serve nobody.
                Err(error) => {
                    tracing::warn!(%error, tunnel = tunnels[at].name, "a granted name cannot be served")
                }
            }
        }
        for (tunnel, id, public_key, created_at, not_after) in keys {
            let Some(&at) = index.get(&tunnel) else { continue };
            let id = id.parse().map_err(|_| self.unreadable("key id"))?;
            let bytes = BASE64.decode(public_key).unwrap_or_default();
            let public_key = bytes.try_into().map_err(|_| self.unreadable("public key"))?;
            tunnels[at].keys.push(KeyRecord { id, public_key, created_at, not_after });
        }
        Ok(tunnels)
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
        sqlx::query("UPDATE tunnels SET last_seen_at = $1 WHERE id = $2")
            .bind(now)
            .bind(tunnel.to_string())
            .execute(&self.pool)
            .await
            .map_err(|error| self.fail(error))?;
        Ok(())
    }

    /// # Errors
    /// When the database fails.
    pub async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await.map_err(|error| self.fail(error))?;
        self.note(&mut tx, entry.at, &entry.actor, &entry.action, &entry.tunnel, &entry.detail).await?;
        tx.commit().await.map_err(|error| self.fail(error))
    }

    /// The latest entries, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_log(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        type Row = (i64, String, String, String, String);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT at, actor, action, tunnel, detail FROM audit ORDER BY at DESC, id LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fail(error))?;
        let entry = |(at, actor, action, tunnel, detail)| AuditEntry { at, actor, action, tunnel, detail };
        Ok(rows.into_iter().map(entry).collect())
    }

    /// A transaction whose first statement takes the write lock, so that checks made in it stay true until it commits.
    async fn change(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        let mut tx = self.pool.begin().await.map_err(|error| self.fail(error))?;
        sqlx::query("UPDATE state SET revision = revision + 1 WHERE one = 1")
            .execute(&mut *tx)
            .await
            .map_err(|error| self.fail(error))?;
        Ok(tx)
    }

    async fn active_id(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        name: &str,
    ) -> Result<Option<TunnelId>, StoreError> {
        let row: Option<(String,)> =
            sqlx::query_as("SELECT id FROM tunnels WHERE name = $1 AND revoked_at IS NULL")
                .bind(name)
                .fetch_optional(&mut **tx)
                .await
                .map_err(|error| self.fail(error))?;
        row.map(|(id,)| id.parse().map_err(|_| self.unreadable("tunnel id"))).transpose()
    }

    async fn grant(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        id: TunnelId,
        pattern: &str,
    ) -> Result<(), StoreError> {
        let owner: Option<(String,)> = sqlx::query_as(
            "SELECT t.name FROM hostnames h JOIN tunnels t ON t.id = h.tunnel_id WHERE h.pattern = $1",
        )
        .bind(pattern)
        .fetch_optional(&mut **tx)
        .await
        .map_err(|error| self.fail(error))?;
        if let Some((owner,)) = owner {
            return Err(StoreError::HostnameTaken { pattern: pattern.to_owned(), owner });
        }
        sqlx::query("INSERT INTO hostnames (pattern, tunnel_id) VALUES ($1, $2)")
            .bind(pattern)
            .bind(id.to_string())
            .execute(&mut **tx)
            .await
            .map_err(|error| self.fail(error))?;
        Ok(())
    }

    async fn insert_key(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        tunnel: TunnelId,
        key: NewKey,
        now: i64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO tunnel_keys (id, tunnel_id, public_key, created_at) VALUES ($1, $2, $3, $4)",
        )
        .bind(key.id.to_string())
        .bind(tunnel.to_string())
        .bind(BASE64.encode(key.public_key))
        .bind(now)
        .execute(&mut **tx)
        .await
        .map_err(|error| self.fail(error))?;
        Ok(())
    }

    async fn note(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        at: i64,
        actor: &str,
        action: &str,
        tunnel: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO audit (id, at, actor, action, tunnel, detail) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(Uuid::new_v4().to_string())
        .bind(at)
        .bind(actor)
        .bind(action)
        .bind(tunnel)
        .bind(detail)
        .execute(&mut **tx)
        .await
        .map_err(|error| self.fail(error))?;
        Ok(())
    }

    fn unreadable(&self, what: &str) -> StoreError {
        StoreError::fault(
            &self.path,
            super::Fault::Corrupt,
            sqlx::Error::Protocol(format!("unreadable {what}")),
        )
    }
}

fn is_tunnel_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

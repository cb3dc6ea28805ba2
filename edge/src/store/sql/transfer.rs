//! Everything out of an SQL database, and into one.

use super::{Query, Sql, note};
use crate::store::database::{Call, Transfers};
use crate::store::error::StoreError;
use crate::store::statement;
use crate::store::transfer::Transfer;

impl Sql {
    async fn transfer(&self) -> sqlx::Result<Transfer> {
        let mut tx = self.snapshot().await?;
        let transfer = Transfer {
            tunnels: sqlx::query_as(statement::TUNNELS).fetch_all(&mut *tx).await?,
            hostnames: sqlx::query_as(statement::HOSTNAMES).fetch_all(&mut *tx).await?,
            keys: sqlx::query_as(statement::KEYS).fetch_all(&mut *tx).await?,
            accounts: sqlx::query_as(statement::ACCOUNTS).fetch_all(&mut *tx).await?,
            certificates: sqlx::query_as(statement::CERTIFICATES).fetch_all(&mut *tx).await?,
            orders: sqlx::query_as(statement::ORDERS).fetch_all(&mut *tx).await?,
            audit: sqlx::query_as(statement::AUDIT).fetch_all(&mut *tx).await?,
        };
        tx.commit().await?;
        Ok(transfer)
    }

    async fn fill(&self, transfer: &Transfer, pin: &str) -> Result<(), StoreError> {
        let mut change = self.change().await?;
        change.run(sqlx::query(statement::CHANGE_CERTIFICATES)).await?;
        for (what, query) in inserts(transfer) {
            let done = query.execute(&mut *change.tx).await;
            done.map_err(|error| {
                let clashes = error.as_database_error().is_some_and(|error| error.is_unique_violation());
                if clashes { StoreError::Clash(what) } else { self.fail(error) }
            })?;
        }
        change.run(sqlx::query(statement::JOIN_FLEET).bind(pin)).await?;
        let row = sqlx::query_as(statement::FLEET_PIN).fetch_one(&mut *change.tx).await;
        let (fleet,): (String,) = row.map_err(|error| self.fail(error))?;
        if fleet != pin {
            let (place, own) = (self.place.clone(), pin.to_owned());
            return Err(StoreError::OtherIdentity { place, fleet, own });
        }
        change.commit().await
    }
}

impl Transfers for Sql {
    fn export(&self) -> Call<'_, Transfer> {
        // As much as there is: it may take longer than a call's patience.
        Box::pin(async { self.transfer().await.map_err(|error| self.fail(error)) })
    }

    fn import<'a>(&'a self, transfer: &'a Transfer, pin: &'a str) -> Call<'a, ()> {
        Box::pin(self.fill(transfer, pin))
    }
}

/// Each with what it adds, in an order in which nothing is named before it is there.
fn inserts(transfer: &Transfer) -> impl Iterator<Item = (String, Query<'_>)> {
    let tunnels = transfer.tunnels.iter().map(|one| {
        let add = sqlx::query(statement::IMPORT_TUNNEL).bind(&one.id).bind(&one.name).bind(one.created_at);
        (format!("the tunnel `{}`", one.name), add.bind(one.revoked_at).bind(one.last_seen_at))
    });
    let hostnames = transfer.hostnames.iter().map(|one| {
        let add = sqlx::query(statement::GRANT).bind(&one.pattern).bind(&one.tunnel_id);
        (format!("the hostname `{}`", one.pattern), add)
    });
    let keys = transfer.keys.iter().map(|one| {
        let add = sqlx::query(statement::IMPORT_KEY).bind(&one.id).bind(&one.tunnel_id);
        let add = add.bind(&one.public_key).bind(one.created_at).bind(one.not_after);
        (format!("the key {}", one.id), add)
    });
    let accounts = transfer.accounts.iter().map(|one| {
        let add = sqlx::query(statement::IMPORT_ACCOUNT).bind(&one.directory).bind(&one.credentials);
        (format!("an account at {}", one.directory), add)
    });
    let certificates = transfer.certificates.iter().map(|one| {
        let add = sqlx::query(statement::IMPORT_CERTIFICATE).bind(&one.name).bind(&one.directory);
        let add = add.bind(&one.chain).bind(&one.private_key).bind(one.issued_at);
        (format!("the certificate of `{}`", one.name), add)
    });
    let orders = transfer.orders.iter().map(|one| {
        let add = sqlx::query(statement::IMPORT_ORDER).bind(&one.name).bind(one.added).bind(one.failures);
        (format!("the orders of `{}`", one.name), add.bind(one.next_try).bind(one.last_error.as_deref()))
    });
    let audit = transfer.audit.iter().map(|one| {
        let add = note(&one.id, one.at, &one.actor, &one.action, &one.tunnel, &one.detail);
        (format!("the event {}", one.id), add)
    });
    tunnels.chain(hostnames).chain(keys).chain(accounts).chain(certificates).chain(orders).chain(audit)
}

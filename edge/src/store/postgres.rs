//! The store on a PostgreSQL server, which the edges of a fleet share.

use std::time::Duration;

use causeway_daemon::config::Secret;
use sqlx::ConnectOptions;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers};

use super::error::{Place, StoreError};
use super::sql::Sql;
use crate::config::Server;

/// One for the keeper, one for certificates, one to spare; each edge of a fleet has as many.
const CONNECTIONS: u32 = 3;
/// How long a connection is waited for. A revocation has to be known at every edge within 5 s of the server's return, too.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens the database, making or upgrading its tables as needed. Of several edges that do so at once one does it and the
/// others wait: the migration holds a lock of the server's.
pub(super) async fn open(server: &Server, password: Option<&Secret>) -> Result<Sql, StoreError> {
    let place = Place::Server(server.to_string());
    let fail = |error: sqlx::Error| StoreError::from_sqlx(place.clone(), error);
    install_default_drivers();
    let options = AnyConnectOptions::from_url(&server.connect_url(password)).map_err(fail)?;
    let pool = AnyPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(CONNECT_TIMEOUT)
        .connect_with(options)
        .await
        .map_err(fail)?;
    let migrated = sqlx::migrate!("./migrations/postgres").run(&pool).await;
    migrated.map_err(|error| StoreError::from_migration(place.clone(), error))?;
    Ok(Sql::new(pool, place, Some(SNAPSHOT), PATIENCE))
}

//! Automatic certificates in an SQL database.

use causeway_acme::{Certificate, NameRecord};
use causeway_daemon::config::Secret;

use super::{Query, Sql};
use crate::store::database::{Call, Certificates};
use crate::store::error::StoreError;
use crate::store::record::{CertificateRows, PostedRow};
use crate::store::statement;

impl Sql {
    async fn certificate_rows(&self) -> sqlx::Result<CertificateRows> {
        let mut tx = self.snapshot().await?;
        let accounts = sqlx::query_as(statement::ACCOUNTS).fetch_all(&mut *tx).await?;
        let certificates = sqlx::query_as(statement::CERTIFICATES).fetch_all(&mut *tx).await?;
        let orders = sqlx::query_as(statement::ORDERS).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        Ok(CertificateRows { accounts, certificates, orders })
    }

    /// Changes what other edges must hear of.
    async fn put(&self, queries: impl IntoIterator<Item = Query<'_>>) -> Result<(), StoreError> {
        let fail = |error| self.fail(error);
        let mut tx = self.pool.begin().await.map_err(fail)?;
        sqlx::query(statement::CHANGE_CERTIFICATES).execute(&mut *tx).await.map_err(fail)?;
        for query in queries {
            query.execute(&mut *tx).await.map_err(fail)?;
        }
        tx.commit().await.map_err(fail)
    }

    /// How many rows it changed.
    async fn count(&self, query: Query<'_>) -> Result<u64, StoreError> {
        let done = query.execute(&self.pool).await;
        done.map(|done| done.rows_affected()).map_err(|error| self.fail(error))
    }
}

impl Certificates for Sql {
    fn certificates(&self) -> Call<'_, CertificateRows> {
        self.call(async { self.certificate_rows().await.map_err(|error| self.fail(error)) })
    }

    fn put_account<'a>(&'a self, directory: &'a str, credentials: &'a Secret) -> Call<'a, ()> {
        let put = sqlx::query(statement::PUT_ACCOUNT).bind(directory).bind(credentials.expose());
        self.call(self.put([put]))
    }

    fn put_certificate<'a>(&'a self, certificate: &'a Certificate) -> Call<'a, ()> {
        let put = sqlx::query(statement::PUT_CERTIFICATE)
            .bind(&certificate.name)
            .bind(&certificate.directory)
            .bind(&certificate.chain)
            .bind(certificate.key.expose())
            .bind(certificate.issued_at);
        self.call(self.put([put]))
    }

    fn put_order<'a>(&'a self, record: &'a NameRecord) -> Call<'a, ()> {
        let put = sqlx::query(statement::PUT_ORDER)
            .bind(&record.name)
            .bind(i64::from(record.is_added))
            .bind(i64::from(record.failures))
            .bind(record.next_try)
            .bind(record.last_error.as_deref());
        self.call(self.put([put]))
    }

    fn forget_certificate<'a>(&'a self, name: &'a str) -> Call<'a, ()> {
        let both = [statement::REMOVE_CERTIFICATE, statement::REMOVE_ORDER];
        self.call(self.put(both.map(|remove| sqlx::query(remove).bind(name))))
    }

    fn certificates_revision(&self) -> Call<'_, i64> {
        self.call(async {
            let row = sqlx::query_as(statement::CERTIFICATES_REVISION).fetch_one(&self.pool).await;
            row.map(|(revision,)| revision).map_err(|error| self.fail(error))
        })
    }

    fn claim<'a>(&'a self, name: &'a str, now: i64, until: i64) -> Call<'a, bool> {
        let claim = sqlx::query(statement::CLAIM).bind(name).bind(&self.holder).bind(until).bind(now);
        self.call(async { Ok(self.count(claim).await? > 0) })
    }

    fn release<'a>(&'a self, name: &'a str) -> Call<'a, ()> {
        let release = sqlx::query(statement::RELEASE).bind(name).bind(&self.holder);
        self.call(async { self.count(release).await.map(|_| ()) })
    }

    fn post<'a>(&'a self, name: &'a str, token: Option<&'a str>, answer: &'a str) -> Call<'a, bool> {
        let post = sqlx::query(statement::POST).bind(token).bind(answer).bind(name).bind(&self.holder);
        self.call(async { Ok(self.count(post).await? > 0) })
    }

    fn posted(&self, now: i64) -> Call<'_, Vec<PostedRow>> {
        self.call(async move {
            let posted = sqlx::query_as(statement::POSTED).bind(&self.holder).bind(now);
            posted.fetch_all(&self.pool).await.map_err(|error| self.fail(error))
        })
    }
}

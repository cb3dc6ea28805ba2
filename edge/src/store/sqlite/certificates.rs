//! Automatic certificates in the SQLite file.

use causeway_acme::{Certificate, NameRecord};
use causeway_daemon::config::Secret;

use super::{Query, Sqlite};
use crate::store::database::{Call, Certificates};
use crate::store::error::StoreError;
use crate::store::record::CertificateRows;
use crate::store::statement;

impl Sqlite {
    async fn certificate_rows(&self) -> sqlx::Result<CertificateRows> {
        let mut tx = self.pool.begin().await?;
        let accounts = sqlx::query_as(statement::ACCOUNTS).fetch_all(&mut *tx).await?;
        let certificates = sqlx::query_as(statement::CERTIFICATES).fetch_all(&mut *tx).await?;
        let orders = sqlx::query_as(statement::ORDERS).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        Ok(CertificateRows { accounts, certificates, orders })
    }

    async fn put(&self, query: Query<'_>) -> Result<(), StoreError> {
        query.execute(&self.pool).await.map(|_| ()).map_err(|error| self.fail(error))
    }
}

impl Certificates for Sqlite {
    fn certificates(&self) -> Call<'_, CertificateRows> {
        Box::pin(async { self.certificate_rows().await.map_err(|error| self.fail(error)) })
    }

    fn put_account<'a>(&'a self, directory: &'a str, credentials: &'a Secret) -> Call<'a, ()> {
        let put = sqlx::query(statement::PUT_ACCOUNT).bind(directory).bind(credentials.expose());
        Box::pin(self.put(put))
    }

    fn put_certificate<'a>(&'a self, certificate: &'a Certificate) -> Call<'a, ()> {
        let put = sqlx::query(statement::PUT_CERTIFICATE)
            .bind(&certificate.name)
            .bind(&certificate.directory)
            .bind(&certificate.chain)
            .bind(certificate.key.expose())
            .bind(certificate.issued_at);
        Box::pin(self.put(put))
    }

    fn put_order<'a>(&'a self, record: &'a NameRecord) -> Call<'a, ()> {
        let put = sqlx::query(statement::PUT_ORDER)
            .bind(&record.name)
            .bind(i64::from(record.is_added))
            .bind(i64::from(record.failures))
            .bind(record.next_try)
            .bind(record.last_error.as_deref());
        Box::pin(self.put(put))
    }

    fn forget_certificate<'a>(&'a self, name: &'a str) -> Call<'a, ()> {
        Box::pin(async move {
            let fail = |error| self.fail(error);
            let mut tx = self.pool.begin().await.map_err(fail)?;
            for statement in [statement::REMOVE_CERTIFICATE, statement::REMOVE_ORDER] {
                sqlx::query(statement).bind(name).execute(&mut *tx).await.map_err(fail)?;
            }
            tx.commit().await.map_err(fail)
        })
    }
}

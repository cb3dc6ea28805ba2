//! The store as a keeper of automatic certificates.

use causeway_acme::{Certificate, Contents, NameRecord, Storage, StorageError};
use causeway_daemon::config::Secret;
use futures_util::future::BoxFuture;

use super::{Store, StoreError};

type Call<'a, T> = BoxFuture<'a, Result<T, StorageError>>;

impl Storage for Store {
    fn load(&self) -> Call<'_, Contents> {
        Box::pin(async { Ok(self.database.certificates().await.map_err(told)?.read()) })
    }

    fn put_account<'a>(&'a self, directory: &'a str, credentials: &'a Secret) -> Call<'a, ()> {
        Box::pin(async move { self.database.put_account(directory, credentials).await.map_err(told) })
    }

    fn put_certificate<'a>(&'a self, certificate: &'a Certificate) -> Call<'a, ()> {
        Box::pin(async move { self.database.put_certificate(certificate).await.map_err(told) })
    }

    fn put_name<'a>(&'a self, record: &'a NameRecord) -> Call<'a, ()> {
        Box::pin(async move { self.database.put_order(record).await.map_err(told) })
    }

    fn remove<'a>(&'a self, name: &'a str) -> Call<'a, ()> {
        Box::pin(async move { self.database.forget_certificate(name).await.map_err(told) })
    }
}

fn told(error: StoreError) -> StorageError {
    let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
    StorageError(format!("{error}{cause}"))
}

//! The store as a keeper of automatic certificates.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use causeway_acme::{CLAIM, Certificate, Contents, NameRecord, Posted, Shared, Storage, StorageError};
use causeway_daemon::config::Secret;
use futures_util::future::BoxFuture;

use super::record::PostedRow;
use super::{Store, StoreError};
use crate::unix_now;

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

    fn shared(&self) -> Option<&dyn Shared> {
        self.is_shared().then_some(self)
    }
}

impl Shared for Store {
    fn revision(&self) -> Call<'_, i64> {
        Box::pin(async { self.database.certificates_revision().await.map_err(told) })
    }

    fn claim<'a>(&'a self, name: &'a str) -> Call<'a, bool> {
        let now = unix_now();
        let until = now.saturating_add_unsigned(CLAIM.as_secs());
        Box::pin(async move { self.database.claim(name, now, until).await.map_err(told) })
    }

    fn release<'a>(&'a self, name: &'a str) -> Call<'a, ()> {
        Box::pin(async move { self.database.release(name).await.map_err(told) })
    }

    fn post<'a>(&'a self, answer: &'a Posted) -> Call<'a, bool> {
        Box::pin(async move {
            let posted = match answer {
                Posted::Http { name, token, text } => self.database.post(name, Some(token), text).await,
                Posted::Tls { name, digest } => self.database.post(name, None, &BASE64.encode(digest)).await,
            };
            posted.map_err(told)
        })
    }

    fn posted(&self) -> Call<'_, Vec<Posted>> {
        Box::pin(async {
            let rows = self.database.posted(unix_now()).await.map_err(told)?;
            Ok(rows.into_iter().filter_map(read).collect())
        })
    }
}

/// None of what no version of this program wrote.
fn read((name, token, answer): PostedRow) -> Option<Posted> {
    match token {
        Some(token) => Some(Posted::Http { name, token, text: answer }),
        None => Some(Posted::Tls { name, digest: BASE64.decode(answer).ok()? }),
    }
}

fn told(error: StoreError) -> StorageError {
    let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
    StorageError(format!("{error}{cause}"))
}

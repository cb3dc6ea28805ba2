//! What must survive a restart, and who keeps it: a database at the edge, files at home.

use std::fmt;

use causeway_daemon::config::Secret;
use futures_util::future::BoxFuture;

use crate::certificate::Certificate;

/// Keeps accounts, certificates and the state of orders. Each call is done whole or not at all; keys are for the owner's
/// eyes alone.
pub trait Storage: Send + Sync + fmt::Debug {
    /// All that was kept.
    fn load(&self) -> BoxFuture<'_, Result<Contents, StorageError>>;
    /// The account at an authority, by the authority's URL; replaces an earlier one.
    fn put_account<'a>(&'a self, directory: &'a str, credentials: &'a Secret) -> Call<'a>;
    /// Replaces an earlier certificate of the same name.
    fn put_certificate<'a>(&'a self, certificate: &'a Certificate) -> Call<'a>;
    fn put_name<'a>(&'a self, record: &'a NameRecord) -> Call<'a>;
    /// Forgets a name and its certificate.
    fn remove<'a>(&'a self, name: &'a str) -> Call<'a>;
}

pub(crate) type Call<'a> = BoxFuture<'a, Result<(), StorageError>>;

/// In words that name the mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(pub String);

#[derive(Clone, Debug, Default)]
pub struct Contents {
    pub accounts: Vec<(String, Secret)>,
    pub certificates: Vec<Certificate>,
    pub names: Vec<NameRecord>,
}

/// A name and how its orders fared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameRecord {
    pub name: String,
    /// It was asked for by hand: renewed also while nobody announces it.
    pub is_added: bool,
    /// Attempts that failed since the last success.
    pub failures: u32,
    /// Not before this, in Unix seconds.
    pub next_try: Option<i64>,
    pub last_error: Option<String>,
}

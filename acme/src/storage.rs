//! What must survive a restart, and who keeps it: a database at the edge, files at home.

use std::fmt;
use std::time::Duration;

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
    /// Itself, where other programs use it too.
    fn shared(&self) -> Option<&dyn Shared> {
        None
    }
}

/// A storage that several programs share: each serves all that is kept there, and one of them at a time orders for a name.
pub trait Shared: Send + Sync {
    /// Grows with every change of what is kept.
    fn revision(&self) -> Call<'_, i64>;
    /// Takes the order for a name, or holds it on, for [`CLAIM`]. False: another program has it.
    fn claim<'a>(&'a self, name: &'a str) -> Call<'a, bool>;
    fn release<'a>(&'a self, name: &'a str) -> Call<'a>;
    /// Gives the answer to the others, for as long as the claim on its name is held. False: it is not held any more.
    fn post<'a>(&'a self, answer: &'a Posted) -> Call<'a, bool>;
    /// What the others gave.
    fn posted(&self) -> Call<'_, Vec<Posted>>;
}

/// An answer that an authority may look for at any program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Posted {
    Http { name: String, token: String, text: String },
    Tls { name: String, digest: Vec<u8> },
}

/// How long an order is held by a program that is gone. It leaves room for clocks that do not agree.
pub const CLAIM: Duration = Duration::from_secs(120);
/// How often a claim is held on.
pub(crate) const CLAIM_PAUSE: Duration = Duration::from_secs(30);
/// How often each program looks at what the others did.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

type Call<'a, T = ()> = BoxFuture<'a, Result<T, StorageError>>;

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

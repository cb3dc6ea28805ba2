//! What others ask of the manager while it runs.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::dns::persist::Persist;
use crate::failure::Failure;
use crate::issuer::Issuer;
use crate::view::{Overview, View};

/// Cheap to clone; clones speak with the same manager.
#[derive(Clone)]
pub struct Handle {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) wanted: watch::Sender<Arc<BTreeSet<String>>>,
    pub(crate) overview: watch::Receiver<Arc<Overview>>,
    pub(crate) issuer: Arc<Issuer>,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("`{0}` is granted to no tunnel: `causeway-edge tunnel create NEW --hostname {0}` first")]
    NotGranted(String),
    #[error("{0}")]
    NoWay(String),
    #[error(
        "there is no automatic certificate for `{0}`, and none was asked for; `cert list` shows what there is"
    )]
    Unknown(String),
    #[error("there are {0} names already, which is all that one edge orders for")]
    TooMany(usize),
    #[error("the program is stopping")]
    Stopping,
}

#[derive(Debug)]
pub(crate) enum What {
    Add,
    Renew,
    Remove,
}

/// One command and where its outcome is told.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) what: What,
    pub(crate) name: String,
    pub(crate) done: oneshot::Sender<Result<(), CommandError>>,
}

impl Handle {
    /// These names, and no others, are announced now; in normal form. Cheap when nothing changed.
    pub fn want(&self, names: BTreeSet<String>) {
        self.wanted.send_if_modified(|wanted| {
            let is_new = **wanted != names;
            if is_new {
                *wanted = Arc::new(names);
            }
            is_new
        });
    }

    /// Orders a certificate whether the name is announced or not, and keeps it renewed.
    ///
    /// # Errors
    /// When the name is nobody's, or nothing can prove whose it is.
    pub async fn add(&self, name: &str) -> Result<(), CommandError> {
        self.ask(What::Add, name).await
    }

    /// What is to be put into DNS, once, so that a name is proved by DNS-PERSIST-01 from then on.
    ///
    /// # Errors
    /// When the authority gives us no account.
    pub async fn persist(&self, name: &str) -> Result<Persist, Failure> {
        self.issuer.persist(name).await
    }

    /// Renews at once, whatever the schedule says.
    ///
    /// # Errors
    /// When the name is not known.
    pub async fn renew(&self, name: &str) -> Result<(), CommandError> {
        self.ask(What::Renew, name).await
    }

    /// Forgets the certificate and its key. A name that is announced gets a new one.
    ///
    /// # Errors
    /// When the name is not known.
    pub async fn remove(&self, name: &str) -> Result<(), CommandError> {
        self.ask(What::Remove, name).await
    }

    pub fn overview(&self) -> Arc<Overview> {
        Arc::clone(&self.overview.borrow())
    }

    pub fn view(&self, name: &str) -> Option<View> {
        let overview = self.overview.borrow();
        let at = overview.names.binary_search_by(|view| view.name.as_str().cmp(name)).ok()?;
        Some(overview.names[at].clone())
    }

    async fn ask(&self, what: What, name: &str) -> Result<(), CommandError> {
        let (done, outcome) = oneshot::channel();
        let command = Command { what, name: name.to_owned(), done };
        self.commands.send(command).await.map_err(|_| CommandError::Stopping)?;
        outcome.await.unwrap_or(Err(CommandError::Stopping))
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("names", &self.overview.borrow().names.len()).finish_non_exhaustive()
    }
}

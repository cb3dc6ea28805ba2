//! Why the store could not do something, in words that name the mend.

use std::io;
use std::path::{Path, PathBuf};

/// What is wrong with the database itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Corrupt,
    Full,
    ReadOnly,
    CannotOpen,
    Busy,
    Newer,
    Other,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the store {path} {}", mend(*.fault))]
    Database {
        path: PathBuf,
        fault: Fault,
        #[source]
        source: sqlx::Error,
    },
    #[error("there is already a tunnel `{0}`: choose another name, or revoke it first")]
    NameTaken(String),
    #[error(
        "`{pattern}` is already granted to tunnel `{owner}`: revoke that tunnel first, or choose another hostname"
    )]
    HostnameTaken { pattern: String, owner: String },
    #[error("there is no tunnel `{0}`; `causeway-edge tunnel list` shows those that exist")]
    NoSuchTunnel(String),
    #[error(
        "`{0}` cannot be a tunnel's name: use 1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit"
    )]
    BadName(String),
    #[error("a tunnel needs at least one hostname: add --hostname NAME or --hostname '*.NAME'")]
    NoHostname,
}

impl StoreError {
    pub(super) fn fault(path: &Path, fault: Fault, source: sqlx::Error) -> Self {
        Self::Database { path: path.to_owned(), fault, source }
    }

    pub(super) fn from_sqlx(path: &Path, error: sqlx::Error) -> Self {
        Self::fault(path, classify(&error), error)
    }

    pub(super) fn from_migration(path: &Path, error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError;
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                Self::from_sqlx(path, error)
            }
            newer @ (MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_)) => {
                Self::fault(path, Fault::Newer, sqlx::Error::Migrate(Box::new(newer)))
            }
            other => Self::fault(path, Fault::Other, sqlx::Error::Migrate(Box::new(other))),
        }
    }

    /// What is wrong with the database, when it is that.
    pub fn database_fault(&self) -> Option<Fault> {
        match self {
            Self::Database { fault, .. } => Some(*fault),
            _ => None,
        }
    }
}

fn classify(error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Io(error) => match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::Full,
            io::ErrorKind::ReadOnlyFilesystem => Fault::ReadOnly,
            _ => Fault::CannotOpen,
        },
        sqlx::Error::PoolTimedOut => Fault::Busy,
        // The low byte is SQLite's primary result code, the rest only refines it.
        sqlx::Error::Database(error) => {
            match error.code().and_then(|code| code.parse::<u32>().ok()).map(|c| c & 0xff) {
                Some(11 | 26) => Fault::Corrupt,
                Some(13) => Fault::Full,
                Some(8) => Fault::ReadOnly,
                Some(3 | 14 | 23) => Fault::CannotOpen,
                Some(5 | 6) => Fault::Busy,
                _ => Fault::Other,
            }
        }
        _ => Fault::Other,
    }
}

fn mend(fault: Fault) -> &'static str {
    match fault {
        Fault::Corrupt => {
            "is damaged: restore it from a backup, or move the file away and make the tunnels and their tokens anew"
        }
        Fault::Full => {
            "cannot be written, the disk is full: free some space in the data folder and try again"
        }
        Fault::ReadOnly => {
            "cannot be written: make the data folder writable for this user, or give another with --data"
        }
        Fault::CannotOpen => {
            "cannot be opened: check that the data folder exists and belongs to this user, or give another with --data"
        }
        Fault::Busy => "is locked by another process: end it or try again",
        Fault::Newer => {
            "was written by a later version of Causeway: update this program, or restore an older backup"
        }
        Fault::Other => "could not be used",
    }
}

//! Why the store could not do something, in words that name the mend.

use std::io;

use sqlx::migrate::MigrateError;

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
    #[error("the store {place} {}", mend(*.fault))]
    Database {
        /// A file, or where a server is.
        place: String,
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
    pub(super) fn fault(place: String, fault: Fault, source: sqlx::Error) -> Self {
        Self::Database { place, fault, source }
    }

    /// `sqlstate`: what the database said, in the words that all of them share.
    pub(super) fn from_sqlx(place: String, sqlstate: Option<&str>, error: sqlx::Error) -> Self {
        let fault = sqlstate.map_or_else(|| beside(&error), of_sqlstate);
        Self::fault(place, fault, error)
    }

    /// A migration that could not even be tried.
    pub(super) fn from_migration(place: String, error: MigrateError) -> Self {
        let fault = match &error {
            MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) => Fault::Newer,
            _ => Fault::Other,
        };
        Self::fault(place, fault, sqlx::Error::Migrate(Box::new(error)))
    }

    /// What is wrong with the database, when it is that.
    pub fn database_fault(&self) -> Option<Fault> {
        match self {
            Self::Database { fault, .. } => Some(*fault),
            _ => None,
        }
    }
}

/// By the class of the SQLSTATE, its first two characters; whole codes where a class says too little.
fn of_sqlstate(code: &str) -> Fault {
    match code {
        "53100" => Fault::Full,
        "25006" => Fault::ReadOnly,
        "55P03" => Fault::Busy,
        "XX001" | "XX002" => Fault::Corrupt,
        _ => match code.get(..2) {
            // Connection exception, invalid authorization, invalid catalog, operator intervention, system error.
            Some("08" | "28" | "3D" | "57" | "58") => Fault::CannotOpen,
            // Transaction rollback (deadlock, serialization), too many connections or too little memory.
            Some("40" | "53") => Fault::Busy,
            _ => Fault::Other,
        },
    }
}

/// When it is not the database that speaks.
fn beside(error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Io(error) => match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::Full,
            io::ErrorKind::ReadOnlyFilesystem => Fault::ReadOnly,
            _ => Fault::CannotOpen,
        },
        sqlx::Error::PoolTimedOut => Fault::Busy,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_known_by_the_class_of_its_sqlstate() {
        for (code, fault) in [
            ("53100", Fault::Full),
            ("53300", Fault::Busy),
            ("40001", Fault::Busy),
            ("55P03", Fault::Busy),
            ("25006", Fault::ReadOnly),
            ("08006", Fault::CannotOpen),
            ("28P01", Fault::CannotOpen),
            ("XX001", Fault::Corrupt),
            ("XX000", Fault::Other),
            ("42P01", Fault::Other),
            ("", Fault::Other),
        ] {
            assert_eq!(of_sqlstate(code), fault, "{code}");
        }
    }
}

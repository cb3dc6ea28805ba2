//! Why the store could not do something, in words that name the mend.

use std::fmt;
use std::io;
use std::path::PathBuf;

use causeway_daemon::config::SecretError;
use sqlx::migrate::MigrateError;

use super::sqlite::result_code;
use crate::config::BadName;

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    File(PathBuf),
    /// As a URL, without secrets.
    Server(String),
}

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
    #[error("the store {place} {}", mend(.place, *.fault))]
    Database {
        place: Place,
        fault: Fault,
        #[source]
        source: sqlx::Error,
    },
    #[error("cannot read the store's password, which `storePasswordFile` names")]
    Password(#[from] SecretError),
    #[error(
        "the tokens of the fleet at {place} pin the key {fleet}, and this edge has {own}: put `identity.pem` of another of its edges into the data folder"
    )]
    OtherIdentity { place: Place, fleet: String, own: String },
    #[error("the store has {0} already, and nothing was imported: import into one that is empty")]
    Clash(String),
    #[error("there is already a tunnel `{0}`: choose another name, or revoke it first")]
    NameTaken(String),
    #[error(
        "`{pattern}` is already granted to tunnel `{owner}`: revoke that tunnel first, or choose another hostname"
    )]
    HostnameTaken { pattern: String, owner: String },
    #[error("there is no tunnel `{0}`; `causeway-edge tunnel list` shows those that exist")]
    NoSuchTunnel(String),
    #[error(transparent)]
    BadName(#[from] BadName),
    #[error("a tunnel needs at least one hostname: add --hostname NAME or --hostname '*.NAME'")]
    NoHostname,
}

impl StoreError {
    pub(super) fn fault(place: Place, fault: Fault, source: sqlx::Error) -> Self {
        Self::Database { place, fault, source }
    }

    pub(super) fn from_sqlx(place: Place, error: sqlx::Error) -> Self {
        let fault = match (&place, error.as_database_error().and_then(|error| error.code())) {
            (_, None) => beside(&place, &error),
            (Place::Server(_), Some(code)) => of_sqlstate(&code),
            (Place::File(_), Some(code)) => {
                code.parse().ok().and_then(result_code::sqlstate).map_or(Fault::Other, of_sqlstate)
            }
        };
        Self::fault(place, fault, error)
    }

    pub(super) fn from_migration(place: Place, error: MigrateError) -> Self {
        let fault = match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                return Self::from_sqlx(place, error);
            }
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
        // A standby; a user who may not.
        "25006" | "42501" => Fault::ReadOnly,
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
fn beside(place: &Place, error: &sqlx::Error) -> Fault {
    match (place, error) {
        (Place::Server(_), sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut) => {
            Fault::CannotOpen
        }
        (Place::File(_), sqlx::Error::Io(error)) => match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::Full,
            io::ErrorKind::ReadOnlyFilesystem => Fault::ReadOnly,
            _ => Fault::CannotOpen,
        },
        (_, sqlx::Error::PoolTimedOut) => Fault::Busy,
        _ => Fault::Other,
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(url) => f.write_str(url),
        }
    }
}

fn mend(place: &Place, fault: Fault) -> &'static str {
    match (place, fault) {
        (Place::File(_), Fault::Corrupt) => {
            "is damaged: restore it from a backup, or move the file away and make the tunnels and their tokens anew"
        }
        (Place::File(_), Fault::Full) => {
            "cannot be written, the disk is full: free some space in the data folder and try again"
        }
        (Place::File(_), Fault::ReadOnly) => {
            "cannot be written: make the data folder writable for this user, or give another with --data"
        }
        (Place::File(_), Fault::CannotOpen) => {
            "cannot be opened: check that the data folder exists and belongs to this user, or give another with --data"
        }
        (Place::File(_), Fault::Busy) => "is locked by another process: end it or try again",
        (Place::Server(_), Fault::Corrupt) => "is damaged: restore the database from a backup",
        (Place::Server(_), Fault::Full) => {
            "cannot be written, the server's disk is full: free some space there and try again"
        }
        (Place::Server(_), Fault::ReadOnly) => {
            "cannot be written: name the primary server, as a user to whom the database belongs"
        }
        (Place::Server(_), Fault::CannotOpen) => {
            "cannot be reached: check that the server runs, that `store` names it, its database and a user of it, \
             that `storePasswordFile` has the password, and that `sslrootcert` knows the server's certificate"
        }
        (Place::Server(_), Fault::Busy) => {
            "has no room for this now: try again, or raise the server's limits"
        }
        (_, Fault::Newer) => {
            "was written by a later version of Causeway: update this program, or restore an older backup"
        }
        (_, Fault::Other) => "could not be used",
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
            ("42501", Fault::ReadOnly),
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

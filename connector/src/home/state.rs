//! What must survive a restart of a connector that gets certificates by itself: one file in its `data` folder, written whole
//! or not at all, for its owner's eyes alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use causeway_acme::{Certificate, Contents, NameRecord, Storage, StorageError};
use causeway_daemon::config::Secret;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::disk::{make_folder, write_whole};

/// See the module. Clones are the same file.
#[derive(Clone, Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct State {
    /// Credentials, by the authority's URL.
    accounts: BTreeMap<String, String>,
    certificates: BTreeMap<String, Kept>,
    orders: BTreeMap<String, Order>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    directory: String,
    chain: String,
    key: String,
    issued_at: i64,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Order {
    failures: u32,
    next_try: Option<i64>,
    last_error: Option<String>,
}

const NAME: &str = "certificates.json";

impl StateFile {
    /// Makes the folder if there is none, and reads what is there.
    ///
    /// # Errors
    /// When the folder cannot be used, or the file is not one of ours: it is never written over.
    pub(super) fn open(data: &Path) -> Result<Self, StorageError> {
        let told = |what: &str, error: &dyn std::fmt::Display| {
            StorageError(format!(
                "{what} {}: {error}; `data` must be a folder that the connector may write to",
                data.display()
            ))
        };
        make_folder(data).map_err(|error| told("cannot make the folder", &error))?;
        let path = data.join(NAME);
        let (state, is_new) = match fs::read(&path) {
            Ok(text) => {
                let state = serde_json::from_slice(&text).map_err(|error| {
                    StorageError(format!(
                        "{} is damaged: {error}; take it away to begin anew",
                        path.display()
                    ))
                })?;
                (state, false)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (State::default(), true),
            Err(error) => return Err(told("cannot read what is kept in", &error)),
        };
        let file = Self { path, state: Arc::new(Mutex::new(state)) };
        // What cannot be written is to be said now, not when the first certificate is lost. What is there is served in any case.
        let written = file.write(&file.state.lock()).map_err(|error| told("cannot write to", &error));
        match written {
            Err(error) if !is_new => tracing::error!(%error, "certificates cannot be kept"),
            written => written?,
        }
        Ok(file)
    }

    /// Changes the file, and then what is known of it: or neither.
    fn change<'a>(
        &'a self,
        change: impl FnOnce(&mut State) + Send + 'static,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        let file = self.clone();
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || {
                let mut state = file.state.lock();
                let mut next = state.clone();
                change(&mut next);
                let written = file.write(&next);
                if written.is_ok() {
                    *state = next;
                }
                written.map_err(|error| format!("cannot write {}: {error}", file.path.display()))
            });
            written.await.unwrap_or_else(|error| Err(error.to_string())).map_err(StorageError)
        })
    }

    fn write(&self, state: &State) -> io::Result<()> {
        write_whole(&self.path, &serde_json::to_vec_pretty(state)?)
    }
}

impl Storage for StateFile {
    fn load(&self) -> BoxFuture<'_, Result<Contents, StorageError>> {
        let state = self.state.lock().clone();
        Box::pin(async move {
            let mut certificates = Vec::new();
            for (name, kept) in state.certificates {
                match Certificate::new(
                    &name,
                    &kept.directory,
                    kept.chain,
                    Secret::new(kept.key),
                    kept.issued_at,
                ) {
                    Ok(certificate) => certificates.push(certificate),
                    Err(error) => tracing::error!(name, %error, "a certificate that was kept cannot be used"),
                }
            }
            let names = state.orders.into_iter().map(|(name, order)| NameRecord {
                name,
                is_added: false,
                failures: order.failures,
                next_try: order.next_try,
                last_error: order.last_error,
            });
            let accounts = state.accounts.into_iter().map(|(url, secret)| (url, Secret::new(secret)));
            Ok(Contents { accounts: accounts.collect(), certificates, names: names.collect() })
        })
    }

    fn put_account<'a>(
        &'a self,
        directory: &'a str,
        credentials: &'a Secret,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        let (directory, secret) = (directory.to_owned(), credentials.expose().to_owned());
        self.change(move |state| drop(state.accounts.insert(directory, secret)))
    }

    fn put_certificate<'a>(
        &'a self,
        certificate: &'a Certificate,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        let name = certificate.name.clone();
        let kept = Kept {
            directory: certificate.directory.clone(),
            chain: certificate.chain.clone(),
            key: certificate.key.expose().to_owned(),
            issued_at: certificate.issued_at,
        };
        self.change(move |state| drop(state.certificates.insert(name, kept)))
    }

    fn put_name<'a>(&'a self, record: &'a NameRecord) -> BoxFuture<'a, Result<(), StorageError>> {
        let NameRecord { name, failures, next_try, last_error, .. } = record.clone();
        self.change(move |state| drop(state.orders.insert(name, Order { failures, next_try, last_error })))
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StorageError>> {
        let name = name.to_owned();
        self.change(move |state| {
            state.certificates.remove(&name);
            state.orders.remove(&name);
        })
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("certificates", &self.certificates.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn certificate(name: &str) -> Certificate {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        Certificate::new(
            name,
            "https://ca.example/",
            made.cert.pem(),
            Secret::new(made.signing_key.serialize_pem()),
            7,
        )
        .unwrap()
    }

    #[tokio::test]
    async fn what_is_kept_is_there_after_a_restart_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("deep/data");
        let file = StateFile::open(&data).unwrap();
        let one = certificate("a.example");
        file.put_account("https://ca.example/", &Secret::new("account".to_owned())).await.unwrap();
        file.put_certificate(&one).await.unwrap();
        let record = NameRecord { name: "b.example".to_owned(), failures: 2, ..NameRecord::default() };
        file.put_name(&record).await.unwrap();

        let Contents { accounts, certificates, names } =
            StateFile::open(&data).unwrap().load().await.unwrap();
        assert_eq!(accounts[0].1.expose(), "account");
        assert_eq!((certificates, names), (vec![one], vec![record]));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&data), mode(&data.join(NAME))), (0o700, 0o600));

        file.remove("a.example").await.unwrap();
        assert!(StateFile::open(&data).unwrap().load().await.unwrap().certificates.is_empty());
    }

    #[tokio::test]
    async fn a_damaged_file_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), "{ half").unwrap();
        let error = StateFile::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is damaged") && error.contains("take it away"), "{error}");
        assert_eq!(fs::read(folder.path().join(NAME)).unwrap(), b"{ half");
        let error = StateFile::open(Path::new("/proc/none/data")).unwrap_err().to_string();
        assert!(error.contains("`data` must be a folder"), "{error}");
    }
}

//! One authority as we know it: its account, made at the first need and kept, and what orders come to there.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use causeway_daemon::config::Secret;
use tokio::sync::Mutex;

use crate::certificate::Certificate;
use crate::client::{Account, Trouble, Wanted};
use crate::dns::persist::Persist;
use crate::failure::Failure;
use crate::http::Http;
use crate::proof::Prover;
use crate::settings::{Directory, Eab};

#[derive(Debug)]
pub(crate) struct Authority {
    directory: Directory,
    contact: Vec<String>,
    session: Mutex<Session>,
}

#[derive(Debug, Default)]
struct Session {
    http: Option<Arc<Http>>,
    credentials: Option<Secret>,
    /// Not yet taken by [`Authority::new_account`].
    is_new: bool,
    account: Option<Arc<Account>>,
}

impl Authority {
    pub(crate) fn new(directory: Directory, contact: Vec<String>, credentials: Option<Secret>) -> Self {
        let session = Mutex::new(Session { credentials, ..Session::default() });
        Self { directory, contact, session }
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The account that was made since the last call, to be kept. Never waits: whoever holds the lock may be a future that
    /// the caller drives.
    pub(crate) fn new_account(&self) -> Option<Secret> {
        let mut session = self.session.try_lock().ok()?;
        if std::mem::take(&mut session.is_new) { session.credentials.clone() } else { None }
    }

    /// Takes an account that was made elsewhere, if there is none.
    pub(crate) async fn adopt(&self, credentials: &Secret) {
        self.session.lock().await.credentials.get_or_insert_with(|| credentials.clone());
    }

    pub(crate) async fn has_account(&self) -> bool {
        self.session.lock().await.credentials.is_some()
    }

    /// # Errors
    /// When there is no certificate in the end.
    pub(crate) async fn issue(
        &self,
        name: &str,
        old: Option<&Certificate>,
        prover: &Prover<'_>,
    ) -> Result<Certificate, Failure> {
        let url = &self.directory.url;
        // A certificate of another authority is nothing to this one.
        let replaces = old.filter(|old| old.directory == *url).map(Certificate::leaf);
        let wanted = Wanted { name, profile: self.directory.profile.as_deref(), replaces };
        let mut ordered = self.account().await?.order(wanted, prover).await;
        if matches!(ordered, Err(Trouble::NoAccount)) {
            tracing::warn!(
                directory = url,
                "the authority does not know our account any more: making a new one"
            );
            self.forget_account().await;
            ordered = self.account().await?.order(wanted, prover).await;
        }
        let (chain, key) = match ordered {
            Ok(issued) => issued,
            Err(trouble) => {
                let failure = self.failure(trouble);
                if matches!(failure, Failure::Unreachable { .. }) {
                    // Its directory may have moved: it is read anew with the account.
                    self.session.lock().await.account = None;
                }
                return Err(failure);
            }
        };
        let certificate = Certificate::new(name, url, chain, key, crate::unix_now());
        certificate.map_err(|error| Failure::Refused { directory: url.clone(), reason: error.to_string() })
    }

    /// See [`Account::persist`].
    pub(crate) async fn persist(&self, name: &str) -> Result<Persist, Failure> {
        let found = self.account().await?.persist(name).await;
        found.map_err(|trouble| self.failure(trouble))
    }

    /// See [`Account::advice`].
    pub(crate) async fn advice(&self, certificate: &Certificate) -> (Option<RangeInclusive<i64>>, Duration) {
        match self.account().await {
            Ok(account) => account.advice(certificate.leaf()).await,
            Err(_) => (None, ADVICE_PAUSE),
        }
    }

    async fn account(&self) -> Result<Arc<Account>, Failure> {
        let mut session = self.session.lock().await;
        if let Some(wait) = session.http.as_ref().and_then(|http| http.closed()) {
            let (directory, reason) = (self.directory.url.clone(), "as it said before".to_owned());
            return Err(Failure::Limited { directory, wait, reason });
        }
        if let Some(account) = &session.account {
            return Ok(Arc::clone(account));
        }
        let http = match &session.http {
            Some(http) => Arc::clone(http),
            None => Arc::clone(session.http.insert(Arc::new(self.http().await?))),
        };
        let url = &self.directory.url;
        let account = match &session.credentials {
            Some(credentials) => Account::restore(url, http, credentials).await,
            None => {
                let eab = self.directory.eab.as_ref().map(read_eab).transpose()?;
                let made = Account::create(url, http, &self.contact, eab).await;
                made.map(|(account, credentials)| {
                    tracing::info!(directory = url, "made an account at the authority");
                    session.credentials = Some(credentials);
                    session.is_new = true;
                    account
                })
            }
        };
        let account = Arc::new(account.map_err(|trouble| self.failure(trouble))?);
        Ok(Arc::clone(session.account.insert(account)))
    }

    async fn http(&self) -> Result<Http, Failure> {
        let directory = self.directory.clone();
        // It reads a few hundred roots from files.
        let made = tokio::task::spawn_blocking(move || Http::new(&directory)).await;
        match made {
            Ok(Ok(http)) => Ok(http),
            Ok(Err(error)) => Err(Failure::Impossible(error.to_string())),
            Err(error) => Err(Failure::Impossible(error.to_string())),
        }
    }

    async fn forget_account(&self) {
        let mut session = self.session.lock().await;
        (session.account, session.credentials) = (None, None);
    }

    fn failure(&self, trouble: Trouble) -> Failure {
        match trouble {
            Trouble::Failure(failure) => failure,
            Trouble::NoAccount => Failure::Refused {
                directory: self.directory.url.clone(),
                reason: "it does not know the account that it just made".to_owned(),
            },
        }
    }
}

/// Until advice is asked for again at an authority that cannot be reached.
const ADVICE_PAUSE: Duration = Duration::from_secs(3600);

fn read_eab(eab: &Eab) -> Result<(String, Vec<u8>), Failure> {
    let key = Secret::from_file(&eab.key_file).map_err(|error| Failure::Impossible(error.to_string()))?;
    // Shops hand it out in either alphabet, with padding or without.
    let text = key.expose().trim_end_matches('=');
    let bytes = URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text));
    let bytes = bytes.map_err(|_| {
        Failure::Impossible(format!("the EAB key in {} is not base64url", eab.key_file.display()))
    })?;
    Ok((eab.key_id.clone(), bytes))
}

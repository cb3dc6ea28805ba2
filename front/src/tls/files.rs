//! All certificates from files, by name: read and checked as a whole, so that a bad file never replaces a good one.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use causeway_daemon::tls::provider;
use causeway_daemon::watch::Watch;
use causeway_tunnel::{Host, Pattern};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::folder::{self, Listed};
use super::pem::{CertificateError, PemFiles, PemSources, read_chain, read_key};
use super::{Certificate, Names};

/// All certificates, by name.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    exact: HashMap<String, Arc<Certificate>>,
    wildcards: HashMap<String, Arc<Certificate>>,
    all: Vec<(Arc<Certificate>, PathBuf, i64)>,
}

impl Loaded {
    /// Also a watch of the files and folders, from just before they were read: whatever changes from then on is a change,
    /// of what could not be used too.
    pub(super) fn read(sources: &PemSources) -> (Watch, Result<Self, CertificateError>) {
        let mut listed = Vec::new();
        let mut unlisted = None;
        for folder in &sources.folders {
            match folder::list(folder) {
                Ok(found) => listed.extend(found),
                Err(error) => unlisted = Some(error),
            }
        }
        let named = sources.pairs.iter().flat_map(|pair| [&pair.cert, &pair.key]).chain(&sources.folders);
        let watch = Watch::of(named.chain(listed.iter().flat_map(Listed::paths)).cloned());
        let read = || {
            let mut pairs = sources.pairs.clone();
            for folder in listed {
                pairs.extend(folder.pairs()?);
            }
            Self::of(&pairs)
        };
        (watch, unlisted.map_or_else(read, Err))
    }

    fn of(files: &[PemFiles]) -> Result<Self, CertificateError> {
        let mut loaded = Self::default();
        for pair in files {
            let (certificate, not_after) = read(pair)?;
            loaded.all.push((Arc::new(certificate), pair.cert.clone(), not_after));
        }
        // Where several are good for a name, the one that lasts longest answers.
        let mut by_end = loaded.all.clone();
        by_end.sort_by_key(|(_, _, not_after)| *not_after);
        for (certificate, path, not_after) in by_end {
            if not_after <= crate::unix_now() {
                tracing::warn!(file = %path.display(), "certificate has expired: renew it");
            }
            for name in certificate.names.exact() {
                loaded.exact.insert(name.clone(), Arc::clone(&certificate));
            }
            for suffix in certificate.names.wildcards() {
                loaded.wildcards.insert(suffix.clone(), Arc::clone(&certificate));
            }
        }
        Ok(loaded)
    }

    /// Each name, and when the certificate ends that lasts longest of those that are good for it.
    pub(super) fn ends(&self) -> BTreeMap<String, i64> {
        let mut ends = BTreeMap::new();
        for (certificate, _, not_after) in &self.all {
            let wildcards = certificate.names.wildcards().map(|suffix| format!("*.{suffix}"));
            for name in certificate.names.exact().cloned().chain(wildcards) {
                let end = ends.entry(name).or_insert(*not_after);
                *end = (*end).max(*not_after);
            }
        }
        ends
    }

    /// Exact before wildcard.
    pub(super) fn find(&self, name: &Host) -> Option<Arc<Certificate>> {
        let by_wildcard = || name.split_once('.').and_then(|(_, suffix)| self.wildcards.get(suffix));
        self.exact.get(name.as_str()).or_else(by_wildcard).cloned()
    }

    /// Whether a name has a certificate; of a wildcard, whether one of its names has.
    pub(super) fn covers(&self, pattern: &Pattern) -> bool {
        match pattern {
            Pattern::Any => !self.all.is_empty(),
            Pattern::Exact(name) => Host::name(name).is_ok_and(|name| self.find(&name).is_some()),
            Pattern::Wildcard(suffix) => {
                self.wildcards.contains_key(&**suffix)
                    || self.wildcards.keys().any(|name| is_below(name, suffix))
                    || self.exact.keys().any(|name| name.len() > suffix.len() && is_below(name, suffix))
            }
        }
    }
}

pub(super) fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn read(files: &PemFiles) -> Result<(Certificate, i64), CertificateError> {
    let chain = read_chain(&files.cert)?;
    let leaf = chain.first().ok_or_else(|| CertificateError::NoCertificate(files.cert.clone()))?;
    let (names, not_after) = Names::of(leaf).ok_or_else(|| CertificateError::NotX509(files.cert.clone()))?;
    let key = read_key(&files.key)?;
    warn_if_readable(&files.key);
    // Before all else: an authority that stands first has no names either.
    let owner = |chain: &[CertificateDer<'static>]| {
        chain
            .iter()
            .position(|one| CertifiedKey::from_der(vec![one.clone()], key.clone_key(), &provider()).is_ok())
    };
    if let Some(at @ 1..) = owner(&chain) {
        return Err(CertificateError::Order { path: files.cert.clone(), number: at + 1 });
    }
    if names.is_empty() {
        return Err(CertificateError::NoNames(files.cert.clone()));
    }
    let certificate = certificate(chain, key, names).map_err(|source| match source {
        rustls::Error::InconsistentKeys(_) => {
            CertificateError::Mismatch { key: files.key.clone(), cert: files.cert.clone() }
        }
        source => CertificateError::Key { path: files.key.clone(), source },
    })?;
    Ok((certificate, not_after))
}

/// Makes a certificate ready to use, and checks that the key is its own.
pub(super) fn certificate(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    names: Names,
) -> Result<Certificate, rustls::Error> {
    let key = CertifiedKey::from_der(chain, key, &provider())?;
    Ok(Certificate { key: Arc::new(key), names: Arc::new(names) })
}

#[cfg(unix)]
fn warn_if_readable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let is_open = std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0);
    if is_open {
        tracing::warn!(file = %path.display(), "every user can read this private key: chmod 600 it");
    }
}

#[cfg(not(unix))]
fn warn_if_readable(_path: &Path) {}

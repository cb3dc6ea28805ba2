//! Certificates from PEM files: read and checked as a whole, so that a bad file never replaces a good one.

use std::collections::HashMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use causeway_daemon::tls::provider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};

use super::{Certificate, Names};
use causeway_tunnel::Host;

/// Where a certificate chain (the leaf first) and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Why certificate files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("cannot read {}: {source} (it must be PEM, and readable by the user that runs the edge)", path.display())]
    Read { path: PathBuf, source: pem::Error },
    #[error("{} holds no certificate: it needs the chain in PEM form, the leaf first", .0.display())]
    NoCertificate(PathBuf),
    #[error("{} is no X.509 certificate", .0.display())]
    NotX509(PathBuf),
    #[error("{} is good for no host name: it has no DNS name as subject alternative name", .0.display())]
    NoNames(PathBuf),
    #[error("the key in {} cannot be used: {source} (it must be RSA, ECDSA or Ed25519, without a password)", path.display())]
    Key { path: PathBuf, source: rustls::Error },
    #[error("the key in {} does not belong to the certificate in {}", key.display(), cert.display())]
    Mismatch { key: PathBuf, cert: PathBuf },
}

/// All certificates, by name.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    exact: HashMap<String, Arc<Certificate>>,
    wildcards: HashMap<String, Arc<Certificate>>,
    all: Vec<(Arc<Certificate>, PathBuf, i64)>,
    /// Of the files just before they were read: whatever changes from then on is a change.
    pub(super) seen: Fingerprint,
}

impl Loaded {
    pub(super) fn read(files: &[PemFiles]) -> Result<Self, CertificateError> {
        let mut loaded = Self { seen: Fingerprint::of(files), ..Self::default() };
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

    /// Exact before wildcard.
    pub(super) fn find(&self, name: &Host) -> Option<Arc<Certificate>> {
        let by_wildcard = || name.split_once('.').and_then(|(_, suffix)| self.wildcards.get(suffix));
        self.exact.get(name.as_str()).or_else(by_wildcard).cloned()
    }

    pub(super) fn list(&self) -> Vec<(Vec<String>, PathBuf, i64)> {
        self.all
            .iter()
            .map(|(certificate, path, end)| (certificate.names.list(), path.clone(), *end))
            .collect()
    }
}

fn read(files: &PemFiles) -> Result<(Certificate, i64), CertificateError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| CertificateError::Read { path, source }
    };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(&files.cert).map_err(unreadable(&files.cert))?.collect();
    let chain: Vec<CertificateDer<'static>> = chain.map_err(unreadable(&files.cert))?;
    let leaf = chain.first().ok_or_else(|| CertificateError::NoCertificate(files.cert.clone()))?;
    let (names, not_after) = Names::of(leaf).ok_or_else(|| CertificateError::NotX509(files.cert.clone()))?;
    if names.is_empty() {
        return Err(CertificateError::NoNames(files.cert.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(unreadable(&files.key))?;
    warn_if_readable(&files.key);
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

/// What tells that files have changed: symlinks are followed, so a swapped link counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<Option<(u64, u64, Option<SystemTime>)>>);

impl Fingerprint {
    pub(super) fn of(files: &[PemFiles]) -> Self {
        let paths = files.iter().flat_map(|pair| [&pair.cert, &pair.key]);
        Self(paths.map(|path| std::fs::metadata(path).ok().map(|metadata| print(&metadata))).collect())
    }
}

#[cfg(unix)]
fn print(metadata: &Metadata) -> (u64, u64, Option<SystemTime>) {
    (std::os::unix::fs::MetadataExt::ino(metadata), metadata.len(), metadata.modified().ok())
}

#[cfg(not(unix))]
fn print(metadata: &Metadata) -> (u64, u64, Option<SystemTime>) {
    (0, metadata.len(), metadata.modified().ok())
}

//! Certificates from PEM files: read and checked as a whole, so that a bad file never replaces a good one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use causeway_daemon::tls::provider;
use causeway_daemon::watch::Watch;
use causeway_tunnel::{Host, Pattern};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};

use super::folder::{self, Listed};
use super::{Certificate, Names};

/// Where a certificate chain (the leaf first) and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PemFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Where certificates are: pairs of files, and folders of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PemSources {
    pub pairs: Vec<PemFiles>,
    pub folders: Vec<PathBuf>,
}

impl From<Vec<PemFiles>> for PemSources {
    fn from(pairs: Vec<PemFiles>) -> Self {
        Self { pairs, folders: Vec::new() }
    }
}

/// Why certificate files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("cannot read {}: {source} (it must be PEM, and readable by the user that runs the edge)", path.display())]
    Read { path: PathBuf, source: pem::Error },
    #[error("{} is not PEM but DER or PKCS#12: {}", path.display(), mend)]
    Der { path: PathBuf, mend: &'static str },
    #[error("the key in {} is encrypted with a password, which nobody is there to type: `openssl pkey -in KEY -out NEW` takes it off", .0.display())]
    Encrypted(PathBuf),
    #[error("{} holds no private key: it needs one in PEM form", .0.display())]
    NoKey(PathBuf),
    #[error("no file beside {} holds its key: put it into the same folder", .0.display())]
    NoKeyBeside(PathBuf),
    #[error("the chain in {} is in the wrong order: certificate {number} of it belongs to the key and must come first", path.display())]
    Order { path: PathBuf, number: usize },
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

pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let bytes = read_pem(
        path,
        "`openssl x509 -inform der -in FILE` (or `openssl pkcs12 -in FILE -nokeys`) writes PEM",
    )?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    chain.map_err(|source| CertificateError::Read { path: path.to_owned(), source })
}

pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let bytes = read_pem(
        path,
        "`openssl pkey -inform der -in FILE` (or `openssl pkcs12 -in FILE -nocerts -nodes`) writes PEM",
    )?;
    let has = |text: &str| memchr::memmem::find(&bytes, text.as_bytes()).is_some();
    // The two forms of PKCS#8 and of the older PEM.
    if has("-----BEGIN ENCRYPTED PRIVATE KEY-----") || has("Proc-Type: 4,ENCRYPTED") {
        return Err(CertificateError::Encrypted(path.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|source| match source {
        pem::Error::NoItemsFound => CertificateError::NoKey(path.to_owned()),
        source => CertificateError::Read { path: path.to_owned(), source },
    })
}

fn read_pem(path: &Path, mend: &'static str) -> Result<Vec<u8>, CertificateError> {
    let unreadable = |error| CertificateError::Read { path: path.to_owned(), source: pem::Error::Io(error) };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    // DER begins with a SEQUENCE of a length that takes two bytes: nothing of ours is shorter.
    let is_der = matches!(bytes.as_slice(), [0x30, 0x81..=0x84, ..]);
    if is_der { Err(CertificateError::Der { path: path.to_owned(), mend }) } else { Ok(bytes) }
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

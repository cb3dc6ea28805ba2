//! PEM files: where they are, what is in them, and what is wrong with them.

use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};

/// Where a certificate chain (the leaf first) and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Where certificates are: pairs of files, and folders of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PemSources {
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
pub enum CertificateError {
    #[error("cannot read {}: {source} (it must be PEM, and readable by the user that runs this program)", path.display())]
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

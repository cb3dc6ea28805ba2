//! The edge's long-lived identity: a key made at first start, and the pin by which connectors know it.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// SHA-256 of the edge's SubjectPublicKeyInfo.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin(pub [u8; 32]);

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Pin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = BASE64.decode(text).map_err(|_| "not base64url")?;
        bytes.try_into().map(Self).map_err(|_| "not 32 bytes")
    }
}

/// The edge's key and the self-signed certificate that shows it.
pub struct EdgeIdentity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    pin: Pin,
}

/// The identity could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "cannot {action} the edge's identity key {path}: check that the folder exists, is writable and has space"
    )]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the edge's identity key {path} is damaged ({reason}); restore it from a backup, or remove it to make a new one: every token must then be made anew"
    )]
    Damaged { path: PathBuf, reason: String },
}

const FILE_NAME: &str = "identity.pem";

impl EdgeIdentity {
    /// Reads `identity.pem` in `folder`, or makes it (mode 0600, written whole or not at all).
    ///
    /// # Errors
    /// When the file cannot be read or written, or does not hold a key.
    pub fn load_or_create(folder: &Path) -> Result<Self, IdentityError> {
        let path = folder.join(FILE_NAME);
        match fs::read_to_string(&path) {
            Ok(pem) => Self::from_pem(&pem, &path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let pair = KeyPair::generate().expect("P-256 keys can be made");
                write_secret(&path, pair.serialize_pem().as_bytes()).map_err(|source| IdentityError::Io {
                    action: "write",
                    path,
                    source,
                })?;
                Ok(Self::from_pair(&pair).expect("a fresh key can sign"))
            }
            Err(source) => Err(IdentityError::Io { action: "read", path, source }),
        }
    }

    /// The key itself, as `identity.pem` in `folder` has it: a secret.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn pem(folder: &Path) -> Result<Zeroizing<String>, IdentityError> {
        let path = folder.join(FILE_NAME);
        let pem = fs::read_to_string(&path);
        pem.map(Zeroizing::new).map_err(|source| IdentityError::Io { action: "read", path, source })
    }

    /// That of another edge, as [`EdgeIdentity::pem`] gave it; `from` is where it stands now.
    ///
    /// # Errors
    /// When it is no key.
    pub fn from_pem(pem: &str, from: &Path) -> Result<Self, IdentityError> {
        let damaged = |reason: String| IdentityError::Damaged { path: from.to_owned(), reason };
        let pair = KeyPair::from_pem(pem).map_err(|error| damaged(error.to_string()))?;
        Self::from_pair(&pair).map_err(|error| damaged(error.to_string()))
    }

    /// Whether `folder` has one.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FILE_NAME).exists()
    }

    /// Makes the key that of the edge of `folder`, in the place of one that is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(folder: &Path, pem: &str) -> Result<(), IdentityError> {
        let path = folder.join(FILE_NAME);
        write_secret(&path, pem.as_bytes()).map_err(|source| IdentityError::Io {
            action: "write",
            path,
            source,
        })
    }

    /// One that lives in memory only.
    pub fn ephemeral() -> Self {
        Self::from_pair(&KeyPair::generate().expect("P-256 keys can be made")).expect("a fresh key can sign")
    }

    /// What tokens carry.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// Something that only who has the key knows.
    pub(crate) fn secret(&self) -> Secret {
        Secret(hmac::Key::new(hmac::HMAC_SHA256, self.key.secret_der()))
    }

    fn from_pair(pair: &KeyPair) -> Result<Self, rcgen::Error> {
        let certificate = CertificateParams::new(vec![SERVER_NAME.to_owned()])?.self_signed(pair)?;
        let certificate = certificate.der().clone();
        let pin = pin_of(&certificate).expect("our own certificate parses");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        Ok(Self { certificate, key, pin })
    }
}

impl fmt::Debug for EdgeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EdgeIdentity({})", self.pin)
    }
}

/// What keys of other purposes are made of.
#[derive(Clone)]
pub(crate) struct Secret(hmac::Key);

impl Secret {
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        let made = hmac::sign(&self.0, purpose.as_bytes());
        made.as_ref().try_into().expect("a SHA-256 has 32 bytes")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Accepts exactly the certificate whose key has the pin; names and dates play no part.
#[derive(Debug)]
pub(crate) struct PinVerifier {
    pub(crate) pin: Pin,
    pub(crate) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pin =
            pin_of(end_entity).ok_or(rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if bool::from(pin.0.ct_eq(&self.pin.0)) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn pin_of(certificate: &CertificateDer<'_>) -> Option<Pin> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let sum = digest(&SHA256, parsed.tbs_certificate.subject_pki.raw);
    Some(Pin(sum.as_ref().try_into().expect("a SHA-256 has 32 bytes")))
}

/// Mode 0600 from the first byte; renamed into place, so that a full disk leaves no half file (hazards 133, 166).
fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let result = (|| {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// SNI of the tunnel: never looked up, never shown to the world.
pub(crate) const SERVER_NAME: &str = "edge.causeway.internal";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_identity_stays_the_same_over_restarts_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = EdgeIdentity::load_or_create(folder.path()).unwrap();
        let second = EdgeIdentity::load_or_create(folder.path()).unwrap();
        assert_eq!(first.pin(), second.pin());
        assert_eq!(Pin::from_str(&first.pin().to_string()), Ok(first.pin()));
        let mode = fs::metadata(folder.path().join("identity.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_identity_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("identity.pem"), "rubbish").unwrap();
        let error = EdgeIdentity::load_or_create(folder.path()).unwrap_err();
        assert!(error.to_string().contains("restore it from a backup"), "{error}");
        assert_eq!(fs::read_to_string(folder.path().join("identity.pem")).unwrap(), "rubbish");
    }
}

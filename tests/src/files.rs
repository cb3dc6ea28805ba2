//! Temporary folders, and the certificates that tests put into them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;

/// A folder that goes away with its owner.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Default for Folder {
    fn default() -> Self {
        Self(tempfile::Builder::new().prefix("causeway-").tempdir().expect("a temporary folder can be made"))
    }
}

impl Folder {
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file whole, by rename, as editors and orchestrators do.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.join(name);
        let temporary =
            path.with_file_name(format!(".{}.new", path.file_name().unwrap_or_default().display()));
        std::fs::write(&temporary, content).expect("a temporary file can be written");
        std::fs::rename(&temporary, &path).expect("a temporary file can be renamed");
        path
    }
}

/// A self-signed certificate with its key.
pub struct Certificate {
    pub cert_pem: String,
    pub key_pem: String,
    cert: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    public: Vec<u8>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate")
    }
}

impl Certificate {
    /// # Panics
    /// When the names are no DNS names.
    pub fn for_names(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate can be made");
        let key = made.signing_key.serialize_der();
        Self {
            cert_pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
            cert: made.cert.der().clone(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)),
            public: rcgen::PublicKeyData::subject_public_key_info(&made.signing_key),
        }
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.cert.clone()
    }

    /// The public key as browsers are told to trust it: the SHA-256 of its SPKI, in Base64.
    pub fn pin(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.public);
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest)
    }

    /// A server's configuration that offers these protocols by ALPN.
    ///
    /// # Panics
    /// Never: the key belongs to the certificate.
    pub fn server(&self, alpn: &[&str]) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![self.cert.clone()], self.key.clone_key())
            .expect("the key belongs to the certificate");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

//! TLS towards origins: whom to trust and what to offer, prepared once per rule.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::config::OriginSettings;

/// Ready TLS configurations of one origin.
#[derive(Clone, Debug)]
pub(crate) struct TlsSetup {
    pub(crate) h1: Arc<ClientConfig>,
    pub(crate) h2_or_h1: Arc<ClientConfig>,
}

/// Why TLS to an origin cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsSetupError {
    #[error("caPool `{}` cannot be read: {error}", path.display())]
    Read { path: PathBuf, error: rustls_pki_types::pem::Error },
    #[error("caPool `{}` holds no PEM certificate", .0.display())]
    Empty(PathBuf),
    #[error("caPool `{}` holds a certificate that cannot be an authority: {error}", path.display())]
    Authority { path: PathBuf, error: rustls::Error },
    #[error("the authorities cannot be used: {0}")]
    Verifier(String),
    #[error("TLS cannot be set up: {0}")]
    Provider(#[from] rustls::Error),
}

impl TlsSetup {
    /// # Errors
    /// When `caPool` cannot be used.
    pub(crate) fn new(settings: &OriginSettings) -> Result<Self, TlsSetupError> {
        let provider = causeway_daemon::tls::provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        // The file is read even when nothing is verified: a wrong path is a mistake in any case.
        let (roots, own) = roots(settings)?;
        let mut config = if settings.no_tls_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(TakeAny(provider)))
                .with_no_client_auth()
        } else if own.is_empty() {
            builder.with_root_certificates(roots).with_no_client_auth()
        } else {
            let usual = WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| TlsSetupError::Verifier(error.to_string()))?;
            let verifier = Arc::new(OrListed { usual, own });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut h2_or_h1 = config.clone();
        h2_or_h1.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { h1: Arc::new(config), h2_or_h1: Arc::new(h2_or_h1) })
    }
}

/// The system's authorities with those of `caPool`, and the latter once more for themselves.
fn roots(
    settings: &OriginSettings,
) -> Result<(Arc<RootCertStore>, Vec<CertificateDer<'static>>), TlsSetupError> {
    let Some(path) = &settings.ca_pool else { return Ok((system_roots(), Vec::new())) };
    let mut roots = (*system_roots()).clone();
    let mut own = Vec::new();
    let read = |error| TlsSetupError::Read { path: path.clone(), error };
    for certificate in CertificateDer::pem_file_iter(path).map_err(read)? {
        let certificate = certificate.map_err(read)?;
        roots
            .add(certificate.clone())
            .map_err(|error| TlsSetupError::Authority { path: path.clone(), error })?;
        own.push(certificate);
    }
    if own.is_empty() {
        return Err(TlsSetupError::Empty(path.clone()));
    }
    Ok((Arc::new(roots), own))
}

/// Read once, at the first HTTPS rule: a connector without one spends no memory on them.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    Arc::clone(ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (_, ignored) = roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::warn!(ignored, "no system certificates found: HTTPS origins need caPool or noTLSVerify");
        }
        Arc::new(roots)
    }))
}

/// The usual verification, and besides it: a certificate that stands in `caPool` itself is trusted for its names. A
/// self-signed certificate is its own authority to most programs and to cloudflared; webpki alone refuses it.
#[derive(Debug)]
struct OrListed {
    usual: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for OrListed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let refusal =
            match self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                Ok(verified) => return Ok(verified),
                Err(refusal) => refusal,
            };
        let expired = matches!(
            &refusal,
            rustls::Error::InvalidCertificate(
                CertificateError::ExpiredContext { .. } | CertificateError::Expired
            )
        );
        if expired || !self.own.iter().any(|listed| listed == end_entity) {
            return Err(refusal);
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// `noTLSVerify`: any certificate is taken, also of kinds that cannot be read here (X.509 v1) or whose keys are too weak for
/// the usual checks (RSA with 1024 bits): the certificates of old devices.
///
/// The handshake's signature is not checked either. It would prove that the peer has the key of the certificate that it
/// shows; but whoever could forge it could as well show a certificate of his own, which is taken. The connection is
/// encrypted, with whoever answered.
#[derive(Debug)]
struct TakeAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakeAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    /// Those of the provider, and those that old devices know alone.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.0.signature_verification_algorithms.supported_schemes();
        schemes.extend([SignatureScheme::RSA_PKCS1_SHA1, SignatureScheme::ECDSA_SHA1_Legacy]);
        schemes
    }
}

//! What TLS shows a visitor of a name, judged as a browser does.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate that a server showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Unix seconds.
    pub not_after: i64,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Trusted,
    Ended,
    NotYetValid,
    OtherName,
    /// Signed by nobody whom this machine trusts: an authority of one's own, or none.
    Private,
    Other(String),
}

/// Takes every certificate, and keeps what it is.
#[derive(Debug)]
pub(super) struct Look {
    /// None: this machine trusts nobody.
    usual: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    pub(super) seen: Mutex<Option<Shown>>,
}

/// A client that goes on whatever it is shown, and where it notes that.
pub(super) fn client() -> (ClientConfig, Arc<Look>) {
    let provider = causeway_daemon::tls::provider();
    let mut roots = RootCertStore::empty();
    let _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let usual =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().ok();
    let look = Arc::new(Look { usual, provider: Arc::clone(&provider), seen: Mutex::default() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Look>::clone(&look))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    (config, look)
}

impl ServerCertVerifier for Look {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = X509Certificate::from_der(end_entity).ok();
        let not_after = parsed.map_or(0, |(_, certificate)| certificate.validity().not_after.timestamp());
        let verdict = match &self.usual {
            None => Verdict::Private,
            Some(usual) => match usual.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
                Ok(_) => Verdict::Trusted,
                Err(error) => verdict(&error),
            },
        };
        // The end of an own authority's certificate counts as well, and webpki names the issuer first.
        let has_ended = not_after < i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let verdict = if has_ended { Verdict::Ended } else { verdict };
        *self.seen.lock() = Some(Shown { not_after, verdict });
        Ok(ServerCertVerified::assertion())
    }

    // Nothing secret is said on the connection: who holds the key is the business of real visitors.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn verdict(error: &Error) -> Verdict {
    let Error::InvalidCertificate(error) = error else { return Verdict::Other(error.to_string()) };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Verdict::Ended,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Verdict::NotYetValid,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Verdict::OtherName
        }
        CertificateError::UnknownIssuer => Verdict::Private,
        // A self-signed one is its own authority.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => Verdict::Private,
        other => Verdict::Other(other.to_string()),
    }
}

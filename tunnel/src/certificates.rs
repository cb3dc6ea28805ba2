//! Which certificate the edge shows on the port of its tunnels: to each protocol (ALPN) its own.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::carrier::ALPN;
use crate::identity::EdgeIdentity;

/// The edge's identity for the tunnel's protocol, and what others were given.
#[derive(Debug)]
pub struct Certificates {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    others: Vec<(Vec<u8>, Arc<dyn ResolvesServerCert>)>,
}

impl Certificates {
    pub fn of(identity: &EdgeIdentity) -> Self {
        Self { certificate: identity.certificate(), key: identity.key(), others: Vec::new() }
    }

    /// Serves another protocol on the same port.
    #[must_use]
    pub fn and(mut self, protocol: &[u8], certificates: Arc<dyn ResolvesServerCert>) -> Self {
        self.others.push((protocol.to_vec(), certificates));
        self
    }

    /// TLS 1.3 only, and never 0-RTT: registration must not be replayed (hazard 92).
    ///
    /// # Errors
    /// When the provider cannot do TLS 1.3, or not use the identity's key.
    pub(crate) fn into_config(self, provider: Arc<CryptoProvider>) -> Result<ServerConfig, rustls::Error> {
        let key = provider.key_provider.load_private_key(self.key)?;
        let identity = CertifiedKey::new(vec![self.certificate], key);
        let mut by_protocol: Vec<(_, Arc<dyn ResolvesServerCert>)> =
            vec![(ALPN.to_vec(), Arc::new(SingleCertAndKey::from(identity)))];
        by_protocol.extend(self.others);
        let protocols = by_protocol.iter().map(|(protocol, _)| protocol.clone()).collect();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByProtocol(by_protocol)));
        config.alpn_protocols = protocols;
        config.max_early_data_size = 0;
        Ok(config)
    }
}

/// The first protocol of the port that the peer speaks too is spoken.
#[derive(Debug)]
struct ByProtocol(Vec<(Vec<u8>, Arc<dyn ResolvesServerCert>)>);

impl ResolvesServerCert for ByProtocol {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered: Vec<&[u8]> = hello.alpn().into_iter().flatten().collect();
        let spoken = self.0.iter().find(|(protocol, _)| offered.contains(&protocol.as_slice()));
        spoken.and_then(|(_, certificates)| certificates.resolve(hello))
    }
}

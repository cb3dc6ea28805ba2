//! Which certificate the edge shows on the port of its tunnels: to each protocol (ALPN) its own.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::carrier::ALPN;
use crate::identity::{EdgeIdentity, Secret};

/// Who may come back with early data: for each of so many visits, once. About a kilobyte each.
const EARLY_VISITS: usize = 10_000;
/// The one size that QUIC knows (RFC 9001 §4.6.1); what comes is bounded by its windows.
const ANY_SIZE: u32 = u32::MAX;

/// The edge's identity for the tunnel's protocol, and what others were given.
#[derive(Debug)]
pub struct Certificates {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    others: Vec<(Vec<u8>, Arc<dyn ResolvesServerCert>)>,
    early_data: bool,
    /// Of what is kept secret of the identity and outlives the process.
    secret: Secret,
}

impl Certificates {
    pub fn of(identity: &EdgeIdentity) -> Self {
        let (certificate, key, secret) = (identity.certificate(), identity.key(), identity.secret());
        Self { certificate, key, others: Vec::new(), early_data: false, secret }
    }

    /// Serves another protocol on the same port.
    #[must_use]
    pub fn and(mut self, protocol: &[u8], certificates: Arc<dyn ResolvesServerCert>) -> Self {
        self.others.push((protocol.to_vec(), certificates));
        self
    }

    /// Takes what a peer of another protocol sends with its hello when it comes back (0-RTT). A ticket is good for one time, so a
    /// flight that is sent again by somebody else says nothing (RFC 9001 §9.2); after a restart none is good.
    #[must_use]
    pub fn with_early_data(self) -> Self {
        Self { early_data: true, ..self }
    }

    /// A key for one purpose of one listener, the same at each start.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        self.secret.derive(purpose)
    }

    /// TLS 1.3 only. 0-RTT is for others than connectors: these prove themselves over the whole handshake, which must not be
    /// replayed (hazard 92).
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
        if self.early_data {
            config.max_early_data_size = ANY_SIZE;
            config.session_storage = ServerSessionMemoryCache::new(EARLY_VISITS);
        }
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

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::{ClientConfig, ClientConnection, ServerConnection};

    use super::*;
    use crate::identity::{Pin, PinVerifier, SERVER_NAME};

    /// Whether a peer that offers these protocols is shown the identity of this pin; then what is spoken.
    fn shown(certificates: Certificates, offered: &[&[u8]], pin: Pin) -> Option<Vec<u8>> {
        let provider = Arc::new(default_provider());
        let verifier = Arc::new(PinVerifier { pin, provider: Arc::clone(&provider) });
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
        let mut client = ClientConnection::new(Arc::new(config), SERVER_NAME.try_into().unwrap()).unwrap();
        let server = certificates.into_config(provider).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut said = Vec::new();
            client.write_tls(&mut said).unwrap();
            server.read_tls(&mut said.as_slice()).unwrap();
            server.process_new_packets().ok()?;
            let mut answered = Vec::new();
            server.write_tls(&mut answered).unwrap();
            client.read_tls(&mut answered.as_slice()).unwrap();
            client.process_new_packets().ok()?;
        }
        client.alpn_protocol().map(<[u8]>::to_vec)
    }

    #[test]
    fn what_is_derived_of_an_identity_is_the_same_at_each_start_and_another_for_each_purpose() {
        let folder = tempfile::tempdir().unwrap();
        let start = || Certificates::of(&EdgeIdentity::load_or_create(folder.path()).unwrap());
        assert_eq!(start().derive("shard 0"), start().derive("shard 0"));
        assert_ne!(start().derive("shard 0"), start().derive("shard 1"));
        assert_ne!(start().derive("shard 0"), Certificates::of(&EdgeIdentity::ephemeral()).derive("shard 0"));
    }

    #[test]
    fn each_protocol_of_a_port_has_its_certificate() {
        let (tunnel, site) = (EdgeIdentity::ephemeral(), EdgeIdentity::ephemeral());
        let both = || {
            let key = default_provider().key_provider.load_private_key(site.key()).unwrap();
            let shown = SingleCertAndKey::from(CertifiedKey::new(vec![site.certificate()], key));
            Certificates::of(&tunnel).and(b"h3", Arc::new(shown))
        };
        assert_eq!(shown(both(), &[ALPN], tunnel.pin()).as_deref(), Some(ALPN));
        assert_eq!(shown(both(), &[b"h3"], site.pin()).as_deref(), Some(&b"h3"[..]));
        assert_eq!(
            shown(both(), &[b"h3"], tunnel.pin()),
            None,
            "a visitor is never shown the tunnel's identity"
        );
        assert_eq!(shown(both(), &[b"smtp"], tunnel.pin()), None, "nothing for who speaks nothing of ours");
        assert_eq!(shown(Certificates::of(&tunnel), &[b"h3"], tunnel.pin()), None);
    }
}

//! ClientHellos as they really come, as bytes that a test cuts into pieces.

use std::sync::Arc;

use rustls::client::{EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs::{default_provider, hpke, kx_group};
use rustls::crypto::hpke::Hpke;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::ServerName;

/// What a client says first for this name.
///
/// # Panics
/// When the name is none.
pub fn hello(config: ClientConfig, name: &str) -> Vec<u8> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("memory takes all");
    bytes
}

/// A client that has something of Encrypted ClientHello to say, under this outer name (RFC 9849, GREASE).
///
/// # Panics
/// Never: the provider has such keys.
pub fn with_ech() -> ClientConfig {
    let suite: &'static dyn Hpke = hpke::ALL_SUPPORTED_SUITES[0];
    let (key, _) = suite.generate_key_pair().expect("a key");
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_ech(EchMode::Grease(EchGreaseConfig::new(suite, key)))
        .expect("TLS 1.3 is known")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

/// A client of today: its first key share is post-quantum, so that its hello is longer than a packet.
///
/// # Panics
/// Never: the provider knows TLS 1.3.
pub fn of_today(alpn: &[&str]) -> ClientConfig {
    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("TLS 1.3 is known")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// The same handshake message in records of at most so many bytes.
///
/// # Panics
/// When it is not one whole record.
pub fn in_records(hello: &[u8], most: usize) -> Vec<u8> {
    let length = usize::from(u16::from_be_bytes([hello[3], hello[4]]));
    assert_eq!(hello.len(), 5 + length, "one record");
    let mut out = Vec::new();
    for piece in hello[5..].chunks(most) {
        out.extend_from_slice(&hello[..3]);
        out.extend(u16::try_from(piece.len()).expect("short").to_be_bytes());
        out.extend_from_slice(piece);
    }
    out
}

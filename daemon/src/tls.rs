//! The one place that picks the TLS provider, and the order of its cipher suites and key exchanges.

use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite, NamedGroup};

/// aws-lc-rs, its cipher suites ordered for this machine: AES-GCM first when the processor has AES instructions,
/// ChaCha20-Poly1305 first when it has not (small ARM boards), where it is several times faster and constant-time.
/// Of key exchanges X25519MLKEM768 goes first: what is recorded today must not be read by a quantum computer later.
///
/// Both ends of a tunnel use it: the connector's order decides there, the visitor's at the public listener (browsers put
/// the same one first).
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ordered_for(aes_support()))))
}

/// Whether the processor computes AES-GCM in hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aes {
    Hardware,
    Software,
}

fn ordered_for(aes: Aes) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    // Stable: within a rank the library's own order (TLS 1.3 before 1.2, ECDSA before RSA) remains.
    provider.cipher_suites.sort_by_key(|suite| {
        (suite.version().version != rustls::ProtocolVersion::TLSv1_3, rank(suite.suite(), aes))
    });
    provider.kx_groups.sort_by_key(|group| group.name() != NamedGroup::X25519MLKEM768);
    provider
}

/// AES-128 goes before AES-256: ten rounds instead of fourteen, and no known attack on either.
fn rank(suite: CipherSuite, aes: Aes) -> u8 {
    let hardware = aes == Aes::Hardware;
    match suite {
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => {
            if hardware {
                3
            } else {
                0
            }
        }
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 1,
        _ => 2,
    }
}

#[cfg(target_arch = "x86_64")]
fn aes_support() -> Aes {
    let all = std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    if all { Aes::Hardware } else { Aes::Software }
}

#[cfg(target_arch = "aarch64")]
fn aes_support() -> Aes {
    let all =
        std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    if all { Aes::Hardware } else { Aes::Software }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn aes_support() -> Aes {
    Aes::Software
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs;
    use rustls::{CipherSuite, NamedGroup};

    use super::{Aes, ordered_for, provider};

    #[test]
    fn the_first_suite_is_the_fastest_of_the_machine() {
        let first = |aes| ordered_for(aes).cipher_suites[0].suite();
        assert_eq!(first(Aes::Hardware), CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(first(Aes::Software), CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    }

    #[test]
    fn the_first_key_exchange_outlives_quantum_computers() {
        assert_eq!(provider().kx_groups[0].name(), NamedGroup::X25519MLKEM768);
        assert_eq!(provider().kx_groups[1].name(), NamedGroup::X25519, "it rides along in the same hello");
    }

    #[test]
    fn nothing_is_added_or_lost() {
        let default = aws_lc_rs::default_provider();
        for aes in [Aes::Hardware, Aes::Software] {
            let ordered = ordered_for(aes);
            assert_eq!(ordered.cipher_suites.len(), default.cipher_suites.len());
            assert!(default.cipher_suites.iter().all(|suite| ordered.cipher_suites.contains(suite)));
            assert_eq!(ordered.kx_groups.len(), default.kx_groups.len());
        }
    }

    #[test]
    fn the_provider_serves_both_protocol_versions() {
        let config =
            rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        assert!(config.is_ok());
    }
}

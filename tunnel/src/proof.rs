//! The connector's proof: an Ed25519 signature over this connection's TLS exporter (RFC 5705, channel binding as RFC 9266).

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use crate::token::{ConnectorId, TunnelId, TunnelKey};

/// The exporter's label; its context is the tunnel's id.
pub(crate) const EXPORTER_LABEL: &[u8] = b"EXPORTER-causeway-tunnel-1";

/// 32 bytes that only the two ends of one connection know.
pub type Exporter = [u8; 32];

/// Signs for `tunnel` and `connector`; base64url.
pub fn sign(key: &TunnelKey, exporter: &Exporter, tunnel: TunnelId, connector: ConnectorId) -> String {
    BASE64.encode(key.pair().sign(&statement(exporter, tunnel, connector)))
}

/// Whether `proof` was made by the owner of `public_key` on this very connection.
pub fn verify(
    public_key: &[u8; 32],
    proof: &str,
    exporter: &Exporter,
    tunnel: TunnelId,
    connector: ConnectorId,
) -> bool {
    BASE64.decode(proof).is_ok_and(|signature| {
        UnparsedPublicKey::new(&ED25519, public_key)
            .verify(&statement(exporter, tunnel, connector), &signature)
            .is_ok()
    })
}

fn statement(exporter: &Exporter, tunnel: TunnelId, connector: ConnectorId) -> Vec<u8> {
    [b"causeway/1 connector\0".as_slice(), exporter, tunnel.0.as_bytes(), connector.0.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_worth_nothing_elsewhere() {
        let (key, tunnel, connector) = (TunnelKey::generate(), TunnelId::random(), ConnectorId::random());
        let proof = sign(&key, &[1; 32], tunnel, connector);
        assert!(verify(&key.public(), &proof, &[1; 32], tunnel, connector));
        assert!(!verify(&key.public(), &proof, &[2; 32], tunnel, connector));
        assert!(!verify(&key.public(), &proof, &[1; 32], TunnelId::random(), connector));
        assert!(!verify(&key.public(), &proof, &[1; 32], tunnel, ConnectorId::random()));
        assert!(!verify(&TunnelKey::generate().public(), &proof, &[1; 32], tunnel, connector));
        assert!(!verify(&key.public(), "not base64!", &[1; 32], tunnel, connector));
    }
}

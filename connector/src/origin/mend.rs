//! What to do about a TLS handshake that failed: one sentence for each cause that a person can mend.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// The mend that helps with this error.
pub(crate) fn mend(error: &io::Error) -> &'static str {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        let ended = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
        return if ended.contains(&error.kind()) {
            "it ended the connection inside the handshake: does it speak TLS on this port?"
        } else {
            "the cause says more"
        };
    };
    match error {
        Error::InvalidCertificate(certificate) => mend_certificate(certificate),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
            "it does not speak TLS on this port: write http:// if it speaks HTTP there"
        }
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            "it has no certificate for the name that it was asked for: set originServerName"
        }
        Error::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::BadCertificate) => {
            "it wants a client certificate, which the connector cannot give"
        }
        Error::AlertReceived(
            AlertDescription::HandshakeFailure
            | AlertDescription::InsufficientSecurity
            | AlertDescription::ProtocolVersion,
        )
        | Error::PeerIncompatible(_) => {
            "it has no version or cipher in common with the connector, which speaks TLS 1.3, and TLS 1.2 with ECDHE and \
             AES-GCM or ChaCha20: an origin with CBC ciphers, RSA key exchange or older versions only cannot be reached \
             by https://; renew its software or its settings, or reach it by http://"
        }
        _ => "the cause says more",
    }
}

fn mend_certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::UnknownIssuer => {
            "its certificate is private: trust its authority, or the certificate itself, with caPool"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name: set originServerName"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid at this time: renew it, or set this machine's clock"
        }
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is an authority's own: trust it with caPool"
        }
        _ => {
            "its certificate is of a kind that cannot be verified (X.509 v1, a weak key, an old signature), also with \
             caPool: renew it, or take any certificate with noTLSVerify"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: Error) -> &'static str {
        mend(&io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn each_cause_names_the_setting_that_helps() {
        let certificate = |error| said(Error::InvalidCertificate(error));
        assert!(certificate(CertificateError::UnknownIssuer).contains("caPool"));
        assert!(certificate(CertificateError::NotValidForName).contains("originServerName"));
        assert!(certificate(CertificateError::Expired).contains("renew"));
        for kind in [CertificateError::BadEncoding, CertificateError::BadSignature] {
            assert!(certificate(kind).contains("noTLSVerify"));
        }
        assert!(said(Error::AlertReceived(AlertDescription::HandshakeFailure)).contains("RSA key exchange"));
        assert!(mend(&io::ErrorKind::UnexpectedEof.into()).contains("speak TLS"));
    }
}

//! What an operator decides: which authorities, in whose name, and by which proofs.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::dns::{DnsSolver, Resolvers, persist};

pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
pub const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// Whoever asks for this protocol alone is an authority that looks for a TLS-ALPN-01 answer (RFC 8737).
pub const TLS_ALPN_PROTOCOL: &[u8] = b"acme-tls/1";

#[derive(Clone, Debug)]
pub struct Settings {
    /// Asked in this order: the next one when one gives nothing.
    pub directories: Vec<Directory>,
    /// Mail addresses that an authority may write to.
    pub contact: Vec<String>,
    /// The proofs that can be given, the best first.
    pub challenges: Vec<Challenge>,
    /// Needed for DNS-01.
    pub dns: Option<Arc<dyn DnsSolver>>,
    /// Whom to ask for the records of DNS-PERSIST-01.
    pub resolvers: Resolvers,
}

/// One authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// An https URL.
    pub url: String,
    /// PEM roots to trust instead of the system's, for an authority of one's own.
    pub ca_file: Option<PathBuf>,
    /// What certificates are to be like, in the authority's words (`shortlived`).
    pub profile: Option<String>,
    pub eab: Option<Eab>,
}

/// Binds the account to one at the authority's shop (RFC 8555 section 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eab {
    pub key_id: String,
    /// The HMAC key in base64url, one line. Read when the account is made.
    pub key_file: PathBuf,
}

/// How it is proved whose a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Challenge {
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    #[serde(rename = "http-01")]
    Http01,
    #[serde(rename = "dns-01")]
    Dns01,
    #[serde(rename = "dns-persist-01")]
    DnsPersist01,
}

impl Settings {
    /// The proofs that can be given for this name: a wildcard is proved by DNS alone (RFC 8555 section 7.1.3).
    pub fn challenges_for(&self, name: &str) -> Vec<Challenge> {
        let by_dns = |challenge: &Challenge| matches!(challenge, Challenge::Dns01 | Challenge::DnsPersist01);
        let all = self.challenges.iter().copied();
        let all = all.filter(|challenge| *challenge != Challenge::Dns01 || self.dns.is_some());
        if name.starts_with("*.") { all.filter(by_dns).collect() } else { all.collect() }
    }
}

impl Directory {
    pub fn of(url: impl Into<String>) -> Self {
        Self { url: url.into(), ca_file: None, profile: None, eab: None }
    }

    /// Whether it signs only what is a name on the Internet.
    pub(crate) fn is_public(&self) -> bool {
        self.ca_file.is_none() && PUBLIC.iter().any(|host| self.url.starts_with(&format!("https://{host}/")))
    }
}

impl Challenge {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
            Self::DnsPersist01 => persist::CHALLENGE,
        }
    }
}

const PUBLIC: [&str; 5] = [
    "acme-v02.api.letsencrypt.org",
    "acme-staging-v02.api.letsencrypt.org",
    "acme.zerossl.com",
    "dv.acme-v02.api.pki.goog",
    "api.buypass.com",
];

/// Top-level names that no public authority signs (RFC 6761, 6762, 7686, 9476, ICANN's `internal`): asking costs a failure.
const RESERVED: [&str; 9] =
    ["test", "example", "invalid", "localhost", "local", "onion", "internal", "alt", "lan"];

/// Whether this can never be a name on the Internet.
pub(crate) fn is_reserved(name: &str) -> bool {
    let top = name.rsplit('.').next().unwrap_or(name);
    !name.contains('.') || RESERVED.contains(&top)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_proved_by_dns_alone_and_dns_needs_a_solver() {
        let all = vec![Challenge::TlsAlpn01, Challenge::Http01, Challenge::Dns01];
        let resolvers = Resolvers::new(&[]);
        let mut settings =
            Settings { directories: vec![], contact: vec![], challenges: all, dns: None, resolvers };
        assert_eq!(settings.challenges_for("a.example"), [Challenge::TlsAlpn01, Challenge::Http01]);
        assert_eq!(settings.challenges_for("*.a.example"), []);
        settings.challenges.push(Challenge::DnsPersist01);
        assert_eq!(settings.challenges_for("*.a.example"), [Challenge::DnsPersist01]);
    }

    #[test]
    fn no_public_authority_is_asked_for_a_name_that_cannot_be_on_the_internet() {
        assert!(is_reserved("one.example.test") && is_reserved("localhost") && is_reserved("nas.lan"));
        assert!(!is_reserved("example.dev") && !is_reserved("*.test.example.dev"));
        assert!(Directory::of(LETS_ENCRYPT).is_public());
        assert!(!Directory::of("https://ca.lan/directory").is_public());
    }
}

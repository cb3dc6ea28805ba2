//! A certificate with its key, as an authority gave it: checked before anybody relies on it.

use std::fmt;

use causeway_daemon::config::Secret;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::schedule::Term;

/// What is kept under one name. Times are Unix seconds.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// What was ordered: a host name, or `*.` and one; in normal form.
    pub name: String,
    /// The URL of the authority that signed it.
    pub directory: String,
    /// PEM, the leaf first.
    pub chain: String,
    /// PEM, PKCS#8.
    pub key: Secret,
    /// When it came, by our own clock.
    pub issued_at: i64,
    pub not_before: i64,
    pub not_after: i64,
    leaf: CertificateDer<'static>,
}

/// Why what is called a certificate is none for us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("the chain is no certificate in PEM form")]
    NoCertificate,
    #[error("the certificate is not for `{0}`")]
    OtherName(String),
}

impl Certificate {
    /// # Errors
    /// When the chain is none, or not for this name. That the key fits is for those to see who make it ready to use.
    pub fn new(
        name: &str,
        directory: &str,
        chain: String,
        key: Secret,
        issued_at: i64,
    ) -> Result<Self, Unusable> {
        let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).map_err(|_| Unusable::NoCertificate)?;
        let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|_| Unusable::NoCertificate)?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let has =
            |wanted: &str| {
                names.as_ref().is_some_and(|names| {
                    names.value.general_names.iter().any(
                        |one| matches!(one, GeneralName::DNSName(one) if one.eq_ignore_ascii_case(wanted)),
                    )
                })
            };
        if !has(name) {
            return Err(Unusable::OtherName(name.to_owned()));
        }
        let validity = parsed.validity();
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Ok(Self {
            name: name.to_owned(),
            directory: directory.to_owned(),
            chain,
            key,
            issued_at,
            not_before,
            not_after,
            leaf,
        })
    }

    pub(crate) fn term(&self) -> Term {
        Term { not_before: self.not_before, not_after: self.not_after, issued_at: self.issued_at }
    }

    pub(crate) fn leaf(&self) -> &CertificateDer<'static> {
        &self.leaf
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("name", &self.name)
            .field("directory", &self.directory)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_authority_gives_is_for_the_name_or_refused() {
        let made = rcgen::generate_simple_self_signed(vec!["*.a.example".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), Secret::new(made.signing_key.serialize_pem()));
        let take = |name: &str, chain: &str| Certificate::new(name, "d", chain.to_owned(), key.clone(), 7);
        let taken = take("*.a.example", &chain).unwrap();
        assert!(taken.not_after > taken.not_before && taken.issued_at == 7);
        assert!(!format!("{taken:?}").contains("PRIVATE"));
        assert_eq!(take("b.a.example", &chain), Err(Unusable::OtherName("b.a.example".to_owned())));
        assert_eq!(take("*.a.example", "rubbish"), Err(Unusable::NoCertificate));
    }
}

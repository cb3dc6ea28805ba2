//! The name in TLS, as `originServerName` writes it. To Go that may be `*.home.test` as well, and many a file has it:
//! the name is sent as it stands, and a certificate is good when it carries that very text.
//!
//! Our TLS sends no star. It sends a name that the star stands for, for which every server has the same certificate;
//! what is compared is the text.

use rustls_pki_types::{CertificateDer, ServerName};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What is sent to an origin in TLS, and what its certificate must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedName {
    pub(crate) sent: ServerName<'static>,
    /// `*.home.test`, in lower case.
    wildcard: Option<String>,
}

/// Stands for the star in what is sent.
const STAND_IN: &str = "wildcard";

impl WantedName {
    /// None when the text cannot be a name in TLS.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(suffix) = text.strip_prefix("*.").filter(|suffix| !suffix.is_empty()) {
            let sent = ServerName::try_from(format!("{STAND_IN}.{suffix}")).ok()?;
            return Some(Self { sent, wildcard: Some(text.trim_end_matches('.').to_ascii_lowercase()) });
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        ServerName::try_from(bare.to_owned()).ok().map(Self::from)
    }

    /// Whether a certificate that is good for what was sent carries the text that was meant.
    pub(crate) fn is_carried_by(&self, certificate: Option<&CertificateDer<'_>>) -> bool {
        let Some(wildcard) = &self.wildcard else { return true };
        let parsed = certificate.and_then(|der| X509Certificate::from_der(der).ok());
        let names = parsed.as_ref().and_then(|(_, parsed)| parsed.subject_alternative_name().ok().flatten());
        names.is_some_and(|names| {
            let is_it = |name: &GeneralName<'_>| matches!(name, GeneralName::DNSName(name) if name.eq_ignore_ascii_case(wildcard));
            names.value.general_names.iter().any(is_it)
        })
    }
}

impl From<ServerName<'static>> for WantedName {
    fn from(sent: ServerName<'static>) -> Self {
        Self { sent, wildcard: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(text: &str) -> Option<String> {
        WantedName::parse(text).map(|name| name.sent.to_str().into_owned())
    }

    #[test]
    fn a_name_in_tls_is_a_name_an_address_or_a_wildcard() {
        assert_eq!(sent("App.home.test").as_deref(), Some("App.home.test"));
        assert_eq!(sent("my_app").as_deref(), Some("my_app"));
        assert_eq!(sent("10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(sent("[fd00::1]").as_deref(), Some("fd00::1"));
        assert_eq!(sent("*.home.test").as_deref(), Some("wildcard.home.test"));
        for bad in ["a b", "a.*.b", "*", "*.", "a*.b", "*.*.b", "https://a", ""] {
            assert_eq!(sent(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_wildcard_is_compared_with_the_certificates_own_text() {
        let certificate = |names: &[&str]| {
            let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
            rcgen::generate_simple_self_signed(names).unwrap().cert.der().clone()
        };
        let wanted = WantedName::parse("*.Home.test").unwrap();
        assert!(wanted.is_carried_by(Some(&certificate(&["home.test", "*.home.test"]))));
        for names in [&["wildcard.home.test"][..], &["*.test"], &["home.test"], &[]] {
            assert!(!wanted.is_carried_by(Some(&certificate(names))), "{names:?}");
        }
        assert!(!wanted.is_carried_by(None));
        assert!(WantedName::parse("home.test").unwrap().is_carried_by(None), "TLS itself looks at that");
    }
}

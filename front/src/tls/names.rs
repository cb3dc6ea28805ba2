//! The names that a certificate is good for.

use std::collections::HashSet;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The DNS names of one certificate, lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    exact: HashSet<String>,
    /// `*.example.dev` is kept as `example.dev`.
    wildcards: HashSet<String>,
}

impl Names {
    /// Reads the subject alternative names of a certificate, and when it ends, in Unix seconds. None: it is no
    /// certificate.
    pub(super) fn of(der: &[u8]) -> Option<(Self, i64)> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let mut names = Self::default();
        if let Ok(Some(extension)) = certificate.subject_alternative_name() {
            for name in &extension.value.general_names {
                if let GeneralName::DNSName(name) = name {
                    names.add(name);
                }
            }
        }
        Some((names, certificate.validity().not_after.timestamp()))
    }

    /// Whether it is an authority's certificate, which sites show only behind their own.
    pub(super) fn is_authority(der: &[u8]) -> bool {
        X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.is_ca())
    }

    pub(super) fn one(name: &str) -> Self {
        let mut names = Self::default();
        names.add(name);
        names
    }

    fn add(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        match name.strip_prefix("*.") {
            Some(suffix) => self.wildcards.insert(suffix.to_owned()),
            None => self.exact.insert(name),
        };
    }

    /// Whether the certificate is good for `host`: a wildcard stands for exactly one label (RFC 9525).
    pub fn covers(&self, host: &str) -> bool {
        self.exact.contains(host)
            || host
                .split_once('.')
                .is_some_and(|(label, suffix)| !label.is_empty() && self.wildcards.contains(suffix))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty()
    }

    pub(super) fn exact(&self) -> impl Iterator<Item = &String> {
        self.exact.iter()
    }

    pub(super) fn wildcards(&self) -> impl Iterator<Item = &String> {
        self.wildcards.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_045_a_wildcard_stands_for_one_label() {
        let mut names = Names::one("*.Example.dev");
        names.add("example.dev");
        assert!(names.covers("a.example.dev") && names.covers("example.dev"));
        assert!(!names.covers("a.b.example.dev") && !names.covers(".example.dev") && !names.covers("dev"));
        assert_eq!(names.exact().collect::<Vec<_>>(), ["example.dev"]);
        assert_eq!(names.wildcards().collect::<Vec<_>>(), ["example.dev"]);
    }
}

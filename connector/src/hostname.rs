//! Public hostnames and the patterns of rules: normal form, wildcard, and what covers what.

use std::fmt;

/// A hostname pattern of a rule, in A-labels and lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// Every hostname: the rule has none, or `*`.
    Any,
    Exact(String),
    /// `*.a.b` holds `.a.b`: one or more labels below it, but not `a.b` itself.
    Below(String),
}

/// Why a text is not a hostname or pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    #[error("`{0}` is not a hostname")]
    Invalid(String),
    #[error("a hostname has no port: `{0}`")]
    Port(String),
    #[error("`*` may only stand alone or be the first label, as in `*.example.dev`: `{0}`")]
    Wildcard(String),
}

impl Pattern {
    /// # Errors
    /// When the text has a port, a `*` at the wrong place, or is no hostname.
    pub fn parse(text: &str) -> Result<Self, HostnameError> {
        if text.is_empty() || text == "*" {
            return Ok(Self::Any);
        }
        let (below, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if name.contains('*') {
            return Err(HostnameError::Wildcard(text.to_owned()));
        }
        if name.contains(':') {
            return Err(HostnameError::Port(text.to_owned()));
        }
        let name = to_ascii(name)?;
        Ok(if below { Self::Below(format!(".{name}")) } else { Self::Exact(name) })
    }

    /// Whether a hostname in normal form (see [`normalise`]) is one of this pattern's.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => name == host,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }

    /// Whether every hostname of `other` is one of this pattern's too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (_, Self::Exact(name)) => self.matches(name),
            (Self::Below(mine), Self::Below(theirs)) => theirs.ends_with(mine.as_str()),
            (Self::Exact(_), Self::Below(_)) => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// The normal form of an authority for comparing: lower case, without port and without a trailing dot.
pub fn normalise(authority: &str) -> String {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.rsplit_once(':').map_or(authority, |(host, port)| {
            if port.bytes().all(|b| b.is_ascii_digit()) { host } else { authority }
        }),
    };
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// A name in lower-case A-labels, without a trailing dot. Underscores are let through.
///
/// # Errors
/// When it is not a hostname.
pub fn to_ascii(name: &str) -> Result<String, HostnameError> {
    let invalid = || HostnameError::Invalid(name.to_owned());
    let trimmed = name.strip_suffix('.').unwrap_or(name);
    let ascii = if trimmed.is_ascii() {
        trimmed.to_ascii_lowercase()
    } else {
        idna::domain_to_ascii(trimmed).map_err(|_| invalid())?
    };
    let fine = !ascii.is_empty() && ascii.len() <= 253 && ascii.split('.').all(is_label);
    if fine { Ok(ascii) } else { Err(invalid()) }
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= 63
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn a_wildcard_matches_one_or_more_labels_below_but_not_the_name_itself() {
        let wildcard = pattern("*.Apps.example.dev");
        assert!(wildcard.matches("a.apps.example.dev"));
        assert!(wildcard.matches("x.y.apps.example.dev"));
        assert!(!wildcard.matches("apps.example.dev"));
        assert!(!wildcard.matches("aapps.example.dev"));
        assert!(!wildcard.matches(".apps.example.dev"));
    }

    #[test]
    fn the_punycode_twin_is_the_same_name() {
        assert_eq!(pattern("bücher.example"), pattern("xn--bcher-kva.EXAMPLE."));
    }

    #[test]
    fn hazard_037_case_trailing_dot_and_port_do_not_count() {
        assert_eq!(normalise("Blog.Example.DEV.:8443"), "blog.example.dev");
        assert_eq!(normalise("[fd00::1]:80"), "fd00::1");
        assert_eq!(normalise("a.b"), "a.b");
    }

    #[test]
    fn wrong_patterns_are_named() {
        assert!(matches!(Pattern::parse("a.*.b"), Err(HostnameError::Wildcard(_))));
        assert!(matches!(Pattern::parse("a*.b"), Err(HostnameError::Wildcard(_))));
        assert!(matches!(Pattern::parse("a.b:80"), Err(HostnameError::Port(_))));
        assert!(matches!(Pattern::parse("a b"), Err(HostnameError::Invalid(_))));
        assert!(matches!(Pattern::parse("https//a"), Err(HostnameError::Invalid(_))));
    }

    #[test]
    fn covering_is_about_all_names_of_the_other() {
        assert!(pattern("*.b").covers(&pattern("a.b")));
        assert!(pattern("*.b").covers(&pattern("*.a.b")));
        assert!(pattern("*.b").covers(&pattern("*.b")));
        assert!(!pattern("*.a.b").covers(&pattern("*.b")));
        assert!(!pattern("a.b").covers(&pattern("*.b")));
        assert!(!pattern("*.b").covers(&pattern("b")));
        assert!(pattern("*").covers(&pattern("*")));
        assert!(!pattern("*.b").covers(&pattern("*")));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            if let Ok(read) = Pattern::parse(&text) {
                prop_assert_eq!(Pattern::parse(&read.to_string()), Ok(read));
            }
            let _ = normalise(&text);
        }

        #[test]
        fn who_covers_matches_all_that_the_other_matches(
            a in "(\\*\\.)?[ab](\\.[ab]){0,2}", b in "(\\*\\.)?[ab](\\.[ab]){0,2}", host in "[ab](\\.[ab]){0,4}"
        ) {
            let (a, b) = (pattern(&a), pattern(&b));
            if a.covers(&b) && b.matches(&host) {
                prop_assert!(a.matches(&host));
            }
        }
    }
}

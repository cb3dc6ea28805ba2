//! Patterns of public hostnames: what a tunnel is granted and what a rule asks for, in one normal form.

use std::fmt;
use std::sync::Arc;

use super::hostname::{Host, HostError};

/// An exact name, `*.a.b` (one or more labels below `a.b`, never `a.b` itself) or `*`; in A-labels, lower case, without
/// port and trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    Any,
    Exact(Arc<str>),
    /// Holds what follows `*.`.
    Wildcard(Arc<str>),
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("the hostname is empty")]
    Empty,
    #[error("`{0}`: `*` may only stand alone or as the whole first label, as in `*.example.dev`")]
    Star(String),
    #[error("`{0}`: give the name alone, without scheme, port or path")]
    NotAlone(String),
    #[error("`{0}` is not a hostname: {1}")]
    Invalid(String, HostError),
}

impl Pattern {
    /// # Errors
    /// When `text` is no hostname, `*.hostname` or `*`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.trim();
        if text == "*" {
            return Ok(Self::Any);
        }
        let (is_wildcard, name) = match text.strip_prefix("*.") {
            Some(below) => (true, below),
            None => (false, text),
        };
        if name.contains('*') {
            return Err(PatternError::Star(text.to_owned()));
        }
        if name.contains([':', '/']) {
            return Err(PatternError::NotAlone(text.to_owned()));
        }
        let name = match Host::written(name) {
            Ok(name) => Arc::clone(name.shared()),
            Err(HostError::Empty) => return Err(PatternError::Empty),
            Err(error) => return Err(PatternError::Invalid(text.to_owned(), error)),
        };
        Ok(if is_wildcard { Self::Wildcard(name) } else { Self::Exact(name) })
    }

    /// Whether every name that `other` matches is matched by `self` as well.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Exact(_), Self::Wildcard(_)) => false,
            (Self::Wildcard(a), Self::Exact(b)) => is_below(b, a),
            (Self::Wildcard(a), Self::Wildcard(b)) => a == b || is_below(b, a),
        }
    }

    /// Whether `host`, in normal form (see [`Host`]), is one of the names meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => **name == *host,
            Self::Wildcard(suffix) => is_below(host, suffix),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

/// What a wildcard may stand above: a host's parents, the nearest first. A dot at the very start has no label before it.
pub fn parents(host: &str) -> impl Iterator<Item = &str> {
    let dots = host.bytes().enumerate().skip(1).filter(|&(_, byte)| byte == b'.');
    dots.map(|(at, _)| &host[at + 1..])
}

fn is_below(host: &str, suffix: &str) -> bool {
    host.len() > suffix.len() + 1
        && host.ends_with(suffix)
        && host.as_bytes()[host.len() - suffix.len() - 1] == b'.'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::semantics::Authority;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn patterns_have_one_normal_form() {
        assert_eq!(pattern("Blog.Example.DEV."), pattern("blog.example.dev"));
        assert_eq!(pattern("bücher.example").to_string(), "xn--bcher-kva.example");
        assert_eq!(pattern("*.BÜCHER.example").to_string(), "*.xn--bcher-kva.example");
        for bad in
            ["", "a..b", "a b", "http://a.b", "a.b:80", "a.*.b", "**.b", "*a.b", "-a.b", ".", "a/b", "1.2.3"]
        {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        let long = format!("{}.example", "a".repeat(64));
        assert!(Pattern::parse(&long).is_err());
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
    fn the_parents_of_a_host_are_what_a_wildcard_names() {
        assert_eq!(parents("x.y.dev").collect::<Vec<_>>(), ["y.dev", "dev"]);
        assert_eq!(parents(".y.dev").collect::<Vec<_>>(), ["dev"]);
        assert_eq!(parents("dev").count(), 0);
    }

    #[test]
    fn wrong_patterns_are_named() {
        assert!(matches!(Pattern::parse("a.*.b"), Err(PatternError::Star(_))));
        assert!(matches!(Pattern::parse("a*.b"), Err(PatternError::Star(_))));
        assert!(matches!(Pattern::parse("a.b:80"), Err(PatternError::NotAlone(_))));
        assert!(matches!(Pattern::parse("https://a"), Err(PatternError::NotAlone(_))));
        let error = Pattern::parse("a b").unwrap_err().to_string();
        assert_eq!(error, "`a b` is not a hostname: it has a character that does not belong there");
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
        }

        #[test]
        fn a_name_that_can_be_granted_is_a_name_that_can_be_visited(text in "[a-zA-Z0-9_.ü-]{1,20}") {
            if let Ok(Pattern::Exact(name)) = Pattern::parse(&text) {
                let (in_sni, in_host) = (Host::name(&name).unwrap(), Authority::parse(name.as_bytes()).unwrap().host);
                prop_assert_eq!((in_sni.as_str(), in_host.as_str()), (&*name, &*name));
            }
            if let Ok(visited) = Authority::parse(text.as_bytes()) {
                prop_assert!(pattern(&text).matches(&visited.host));
            }
        }

        #[test]
        fn who_covers_matches_all_that_the_other_matches(
            a in "(\\*\\.)?[ab](\\.[ab]){0,2}", b in "(\\*\\.)?[ab](\\.[ab]){0,2}", host in "[ab](\\.[ab]){0,4}"
        ) {
            let (a, b) = (pattern(&a), pattern(&b));
            if a.covers(&b) && b.matches(&host) {
                prop_assert!(a.matches(&host));
            }
            if let Pattern::Wildcard(suffix) = &a {
                prop_assert_eq!(a.matches(&host), parents(&host).any(|parent| *parent == **suffix));
            }
        }
    }
}

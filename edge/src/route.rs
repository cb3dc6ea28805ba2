//! Which tunnel a hostname belongs to: patterns, the immutable table, and what a tunnel may announce.
//!
//! A pattern is an exact name, `*.a.b` (one or more labels below `a.b`, never `a.b` itself) or `*`. The most specific
//! pattern wins: exact, then the longest wildcard, then `*`. A look-up costs one hash per label, whatever the table holds.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A hostname pattern in its one normal form: A-labels, lower case, no port, no trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    Any,
    Exact(Arc<str>),
    /// Holds what follows `*.`.
    Wildcard(Arc<str>),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("the hostname is empty")]
    Empty,
    #[error("`{0}`: `*` may only stand alone or as the whole first label, as in `*.example.net`")]
    Star(String),
    #[error("`{0}` is not a valid hostname (give the name alone: no scheme, port or path)")]
    Invalid(String),
}

impl Pattern {
    /// # Errors
    /// When `text` is no hostname, `*.hostname` or `*`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.trim();
        if text == "*" {
            return Ok(Self::Any);
        }
        let Some(below) = text.strip_prefix("*.") else { return Ok(Self::Exact(normalise(text)?.into())) };
        Ok(Self::Wildcard(normalise(below)?.into()))
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

    /// Whether `host`, already normal, is one of the names meant.
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

/// Immutable once built; readers hold it behind an `ArcSwap`.
#[derive(Clone, Debug)]
pub struct Table<V> {
    exact: HashMap<Arc<str>, V>,
    wildcard: HashMap<Arc<str>, V>,
    any: Option<V>,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new(), any: None }
    }
}

impl<V> Table<V> {
    /// # Errors
    /// Gives `value` back when the pattern is taken: one pattern never has two owners.
    pub fn insert(&mut self, pattern: &Pattern, value: V) -> Result<(), V> {
        if self.at(pattern).is_some() {
            return Err(value);
        }
        match pattern {
            Pattern::Any => self.any = Some(value),
            Pattern::Exact(name) => _ = self.exact.insert(name.clone(), value),
            Pattern::Wildcard(suffix) => _ = self.wildcard.insert(suffix.clone(), value),
        }
        Ok(())
    }

    /// The value of the most specific pattern that matches `host` (normal form).
    pub fn find(&self, host: &str) -> Option<&V> {
        if let Some(value) = self.exact.get(host) {
            return Some(value);
        }
        self.below(host)
    }

    /// The value of the most specific pattern that covers all of `pattern`.
    pub fn owner(&self, pattern: &Pattern) -> Option<&V> {
        match pattern {
            Pattern::Any => self.any.as_ref(),
            Pattern::Exact(name) => self.find(name),
            Pattern::Wildcard(suffix) => self.wildcard.get(suffix).or_else(|| self.below(suffix)),
        }
    }

    /// The value stored for exactly this pattern.
    pub fn at(&self, pattern: &Pattern) -> Option<&V> {
        match pattern {
            Pattern::Any => self.any.as_ref(),
            Pattern::Exact(name) => self.exact.get(name),
            Pattern::Wildcard(suffix) => self.wildcard.get(suffix),
        }
    }

    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcard.len() + usize::from(self.any.is_some())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn below(&self, host: &str) -> Option<&V> {
        if !self.wildcard.is_empty() {
            // Below means at least one label below: a dot at the very start has none before it.
            let mut rest = host.strip_prefix('.').unwrap_or(host);
            while let Some((_, parent)) = rest.split_once('.') {
                if let Some(value) = self.wildcard.get(parent) {
                    return Some(value);
                }
                rest = parent;
            }
        }
        self.any.as_ref()
    }
}

/// Why an announced hostname is not served. The text goes to the connector's log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Invalid(#[from] PatternError),
    #[error("this name belongs to another tunnel of the edge")]
    OtherTunnel,
    #[error(
        "the tunnel is not granted this name; on the edge: causeway-edge tunnel create NEW --hostname {0}, or choose one of: {1}"
    )]
    NotGranted(String, String),
}

/// Decides one announced hostname of a tunnel. `*` means every name the tunnel is granted, so it is always allowed.
///
/// # Errors
/// When the name is malformed, somebody else's, or wider than the grant.
pub fn admit<T: PartialEq>(
    grants: &Table<T>,
    tunnel: &T,
    own: &[Pattern],
    hostname: &str,
) -> Result<Pattern, Refusal> {
    let pattern = Pattern::parse(hostname)?;
    if pattern == Pattern::Any {
        return Ok(pattern);
    }
    match grants.owner(&pattern) {
        Some(owner) if owner == tunnel => Ok(pattern),
        Some(_) => Err(Refusal::OtherTunnel),
        None => Err(Refusal::NotGranted(pattern.to_string(), listed(own))),
    }
}

/// A refusal names at most this many grants: the message is for a log line, not a report.
const LISTED_GRANTS: usize = 5;

fn listed(own: &[Pattern]) -> String {
    let mut text = own.iter().take(LISTED_GRANTS).map(Pattern::to_string).collect::<Vec<_>>().join(", ");
    if own.len() > LISTED_GRANTS {
        text.push_str(", …");
    }
    text
}

fn is_below(host: &str, suffix: &str) -> bool {
    host.len() > suffix.len() + 1
        && host.ends_with(suffix)
        && host.as_bytes()[host.len() - suffix.len() - 1] == b'.'
}

/// RFC 1035 2.3.4.
const NAME_MAX_BYTES: usize = 253;
const LABEL_MAX_BYTES: usize = 63;

fn normalise(text: &str) -> Result<String, PatternError> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() {
        return Err(PatternError::Empty);
    }
    if text.contains('*') {
        return Err(PatternError::Star(text.to_owned()));
    }
    let invalid = || PatternError::Invalid(text.to_owned());
    let name = idna::domain_to_ascii(text).map_err(|_| invalid())?;
    let label_is_fine = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_MAX_BYTES
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    if name.len() > NAME_MAX_BYTES || !name.split('.').all(label_is_fine) {
        return Err(invalid());
    }
    Ok(name)
}

#[cfg(test)]
mod tests;

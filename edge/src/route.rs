//! Which tunnel a hostname belongs to: patterns, the immutable table, and what a tunnel may announce.
//!
//! A pattern is an exact name, `*.a.b` (one or more labels below `a.b`, never `a.b` itself) or `*`. The most specific
//! pattern wins: exact, then the longest wildcard, then `*`. A look-up costs one hash per label, whatever the table holds.

use std::collections::HashMap;
use std::sync::Arc;

use causeway_tunnel::semantics::parents;
pub use causeway_tunnel::{Pattern, PatternError};

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

    /// How specific the pattern is whose value [`Table::find`] gives: the more the narrower.
    pub fn rank(&self, host: &str) -> Option<usize> {
        if self.exact.contains_key(host) {
            return Some(usize::MAX);
        }
        let wildcard = parents(host).find(|parent| self.wildcard.contains_key(*parent)).map(str::len);
        wildcard.or_else(|| self.any.as_ref().map(|_| 0))
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
        let below = (!self.wildcard.is_empty())
            .then(|| parents(host).find_map(|parent| self.wildcard.get(parent)))
            .flatten();
        below.or(self.any.as_ref())
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

#[cfg(test)]
mod tests;

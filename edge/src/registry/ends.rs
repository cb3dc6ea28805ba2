//! Where the TLS of a tunnel's names ends, as its connectors announce it. Pure.
//!
//! The most specific pattern that anybody announces decides. Of connectors that say different things of the same pattern those
//! win who keep the edge from reading: a rollout that moves TLS home is in force with its first connector.

use std::collections::HashMap;

use causeway_tunnel::TlsEnd;

use crate::route::{Pattern, Table};

/// How many live sessions announce that TLS of a pattern does not end at the edge, and where it does.
#[derive(Debug, Default)]
pub(super) struct Elsewhere(HashMap<Pattern, Voices>);

#[derive(Clone, Copy, Debug, Default)]
struct Voices {
    connector: usize,
    passthrough: usize,
}

impl Elsewhere {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts announced patterns out and in.
    pub(super) fn count(&mut self, out: &[(Pattern, TlsEnd)], into: &[(Pattern, TlsEnd)]) {
        for (pattern, end) in into {
            *self.0.entry(pattern.clone()).or_default().of(*end) += 1;
        }
        for (pattern, end) in out {
            if let Some(voices) = self.0.get_mut(pattern) {
                let count = voices.of(*end);
                *count = count.saturating_sub(1);
                if voices.connector + voices.passthrough == 0 {
                    self.0.remove(pattern);
                }
            }
        }
    }

    /// Where TLS ends, by pattern; what is not in it ends at the edge. `announced`: all patterns, for whatever kind of stream.
    pub(super) fn table<'a>(&'a self, announced: impl Iterator<Item = &'a Pattern>) -> Table<TlsEnd> {
        let mut table = Table::default();
        // Tunnels of which nothing passes through are looked up in nothing.
        if self.0.is_empty() {
            return table;
        }
        for pattern in announced.chain(self.0.keys()) {
            let end = self.0.get(pattern).map_or(TlsEnd::Edge, |voices| voices.end());
            // Taken: the same pattern, seen before.
            let _ = table.insert(pattern, end);
        }
        table
    }
}

impl Voices {
    fn of(&mut self, end: TlsEnd) -> &mut usize {
        if end == TlsEnd::Connector { &mut self.connector } else { &mut self.passthrough }
    }

    fn end(self) -> TlsEnd {
        if self.passthrough > 0 { TlsEnd::Passthrough } else { TlsEnd::Connector }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns<const N: usize>(names: [&str; N]) -> [Pattern; N] {
        names.map(|name| Pattern::parse(name).unwrap())
    }

    #[test]
    fn the_most_specific_pattern_decides_and_of_equals_the_one_that_keeps_the_edge_blind() {
        let [wide, narrow, other] = patterns(["*.a.dev", "b.a.dev", "c.dev"]);
        let all = [wide.clone(), narrow, other.clone()];
        let mut elsewhere = Elsewhere::default();
        assert!(elsewhere.table(all.iter()).is_empty());
        elsewhere.count(&[], &[(wide.clone(), TlsEnd::Connector), (other.clone(), TlsEnd::Connector)]);
        elsewhere.count(&[], &[(wide.clone(), TlsEnd::Passthrough)]);
        let table = elsewhere.table(all.iter());
        assert_eq!(table.find("x.a.dev"), Some(&TlsEnd::Passthrough));
        assert_eq!(table.find("b.a.dev"), Some(&TlsEnd::Edge), "a narrower rule");
        assert_eq!(table.find("c.dev"), Some(&TlsEnd::Connector));
        assert_eq!(table.find("d.dev"), None);

        elsewhere.count(&[(wide.clone(), TlsEnd::Passthrough)], &[]);
        assert_eq!(elsewhere.table(all.iter()).find("x.a.dev"), Some(&TlsEnd::Connector));
        elsewhere.count(&[(wide, TlsEnd::Connector), (other, TlsEnd::Connector)], &[]);
        assert!(elsewhere.table(all.iter()).is_empty());
    }
}

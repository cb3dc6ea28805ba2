//! The rules as a table: which rule a public request hits. Pure.
//!
//! Rules are tried from the top and the first match wins, as in cloudflared; an index by hostname keeps the cost
//! independent of their number.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use causeway_tunnel::Pattern;
use causeway_tunnel::semantics::parents;

use crate::path::PathPattern;

/// What a rule asks of a request.
#[derive(Clone, Debug)]
pub struct Matcher {
    pub hostname: Pattern,
    /// Searched anywhere in the decoded path (no query), as cloudflared does.
    pub path: Option<PathPattern>,
}

/// All rules, in order. Immutable.
#[derive(Debug)]
pub struct Table {
    rules: Vec<Matcher>,
    /// Indices into `rules`, ascending, by exact name, by what follows a wildcard's `*.`, and for every name.
    exact: HashMap<Arc<str>, Vec<usize>>,
    below: HashMap<Arc<str>, Vec<usize>>,
    any: Vec<usize>,
}

/// What [`Table::find`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Rule(usize),
    /// The path reads differently to different origins (`%2f`, `..`, `//`), and the readings hit different rules:
    /// to let it pass could open what another rule guards (hazard 28).
    Ambiguous,
    Nothing,
}

impl Table {
    pub fn new(rules: Vec<Matcher>) -> Self {
        Self::of(rules, |_| true)
    }

    /// Of those rules that take part; all keep their numbers.
    pub(crate) fn of(rules: Vec<Matcher>, takes_part: impl Fn(usize) -> bool) -> Self {
        let mut table = Self { exact: HashMap::new(), below: HashMap::new(), any: Vec::new(), rules };
        for (index, rule) in table.rules.iter().enumerate().filter(|(index, _)| takes_part(*index)) {
            match &rule.hostname {
                Pattern::Any => table.any.push(index),
                Pattern::Exact(name) => table.exact.entry(name.clone()).or_default().push(index),
                Pattern::Wildcard(suffix) => table.below.entry(suffix.clone()).or_default().push(index),
            }
        }
        table
    }

    pub fn rules(&self) -> &[Matcher] {
        &self.rules
    }

    /// The first rule for a hostname in normal form and a request target (path and query as sent).
    pub fn find(&self, host: &str, target: &str) -> Choice {
        let lists = self.lists(host);
        if let Some(rule) = lists.peek().filter(|&rule| self.rules[rule].path.is_none()) {
            return Choice::Rule(rule);
        }
        let readings = Readings::new(target);
        let mut choice = None;
        for path in readings.iter() {
            let mut lists = lists.clone();
            let found = std::iter::from_fn(|| lists.next_rule())
                .find(|&rule| self.rules[rule].path.as_ref().is_none_or(|regex| regex.is_match(path)));
            match choice {
                None => choice = Some(found),
                Some(earlier) if earlier != found => return Choice::Ambiguous,
                Some(_) => {}
            }
        }
        choice.flatten().map_or(Choice::Nothing, Choice::Rule)
    }

    /// The first rule whose hostname takes this one, whatever the path.
    pub(crate) fn first(&self, host: &str) -> Option<usize> {
        self.lists(host).peek()
    }

    /// The rules that take every name of a pattern, or more than one of a wildcard's, in order.
    pub(crate) fn covering(&self, pattern: &Pattern) -> impl Iterator<Item = usize> {
        let mut lists = match pattern {
            Pattern::Any => Lists { cursors: vec![&self.any] },
            Pattern::Exact(name) => self.lists(name),
            // `*.a.b` ends as any name below `a.b` does, and is no name itself.
            pattern @ Pattern::Wildcard(_) => self.lists(&pattern.to_string()),
        };
        std::iter::from_fn(move || lists.next_rule())
    }

    /// An earlier rule that takes every request of this one, so that this one can never match.
    pub fn shadowed_by(&self, index: usize) -> Option<usize> {
        let rule = self.rules.get(index)?;
        self.covering(&rule.hostname).take_while(|&earlier| earlier < index).find(|&earlier| {
            let earlier = &self.rules[earlier];
            earlier.hostname.covers(&rule.hostname)
                && match (&earlier.path, &rule.path) {
                    (None, _) => true,
                    (Some(a), Some(b)) => a.as_str() == b.as_str(),
                    (Some(_), None) => false,
                }
        })
    }

    fn lists(&self, host: &str) -> Lists<'_> {
        let mut cursors: Vec<&[usize]> = Vec::with_capacity(4);
        if !self.any.is_empty() {
            cursors.push(&self.any);
        }
        if let Some(list) = self.exact.get(host) {
            cursors.push(list);
        }
        if !self.below.is_empty() {
            cursors.extend(parents(host).filter_map(|parent| self.below.get(parent)).map(Vec::as_slice));
        }
        Lists { cursors }
    }
}

/// Several ascending lists of rules, read as one.
#[derive(Clone)]
struct Lists<'a> {
    cursors: Vec<&'a [usize]>,
}

impl Lists<'_> {
    fn peek(&self) -> Option<usize> {
        self.cursors.iter().filter_map(|list| list.first()).min().copied()
    }

    fn next_rule(&mut self) -> Option<usize> {
        let first = self.cursors.iter_mut().filter(|list| !list.is_empty()).min_by_key(|list| list[0])?;
        let (rule, rest) = first.split_first().expect("only non-empty lists were kept");
        *first = rest;
        Some(*rule)
    }
}

/// The ways in which origins may read a path. Nearly always they are all the same.
struct Readings<'a> {
    /// Percent-decoded once: what rules are written for.
    decoded: Cow<'a, str>,
    others: Vec<String>,
}

impl<'a> Readings<'a> {
    fn new(target: &'a str) -> Self {
        let path = target.split(['?', '#']).next().unwrap_or(target);
        let decoded = percent_decode(path, |_| true);
        let mut others = Vec::new();
        if decoded.contains("//") || decoded.contains("/.") || decoded.contains('\\') {
            others.push(resolve_dots(&decoded));
        }
        if decoded.len() != path.len() {
            let kept = percent_decode(path, |byte| !matches!(byte, b'/' | b'\\' | 0));
            if kept != decoded {
                others.push(resolve_dots(&kept));
                others.push(kept.into_owned());
            }
        }
        Self { decoded, others }
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.decoded).chain(self.others.iter().map(String::as_str))
    }
}

fn percent_decode(path: &str, wanted: impl Fn(u8) -> bool) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.as_bytes();
    while let Some((&byte, rest)) = bytes.split_first() {
        let escaped = match (byte, rest) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        match escaped.filter(|&byte| wanted(byte)) {
            Some(decoded) => {
                out.push(decoded);
                bytes = &rest[2..];
            }
            None => {
                out.push(byte);
                bytes = rest;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// `.` and `..` resolved, repeated slashes merged, backslashes turned, as an origin might do it.
fn resolve_dots(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let ends_in_folder = path.ends_with(['/', '\\']) || path.ends_with("/.") || path.ends_with("/..");
    for segment in path.split(['/', '\\']) {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &segments {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() || ends_in_folder {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(rules: &[(&str, &str)]) -> Table {
        Table::new(
            rules
                .iter()
                .map(|(hostname, path)| Matcher {
                    hostname: Pattern::parse(if hostname.is_empty() { "*" } else { hostname }).unwrap(),
                    path: (!path.is_empty()).then(|| PathPattern::parse(path).unwrap()),
                })
                .collect(),
        )
    }

    #[test]
    fn the_first_match_from_the_top_wins() {
        let table = table(&[("a.dev", "^/api"), ("*.dev", "\\.css$"), ("a.dev", ""), ("", "")]);
        assert_eq!(table.find("a.dev", "/api/x?y=/static.css"), Choice::Rule(0));
        assert_eq!(table.find("a.dev", "/x.css"), Choice::Rule(1));
        assert_eq!(table.find("b.dev", "/x.css?v=1"), Choice::Rule(1));
        assert_eq!(table.find("a.dev", "/x.css/y"), Choice::Rule(2));
        assert_eq!(table.find("b.dev", "/"), Choice::Rule(3));
        assert_eq!(table.find("other", "/"), Choice::Rule(3));
    }

    #[test]
    fn a_wildcard_wants_a_label_in_front_of_its_dot() {
        let table = table(&[("*.dev", "")]);
        assert_eq!(table.find("a.dev", "/"), Choice::Rule(0));
        assert_eq!(table.find(".dev", "/"), Choice::Nothing);
    }

    #[test]
    fn a_rule_sees_the_path_decoded_and_without_its_query() {
        let table = table(&[("", "^/caf\u{e9}$"), ("", "secret"), ("", "")]);
        assert_eq!(table.find("h", "/caf%C3%A9"), Choice::Rule(0));
        assert_eq!(table.find("h", "/x?secret"), Choice::Rule(2));
        assert_eq!(table.find("h", "/a%2Fsecret"), Choice::Rule(1));
    }

    #[test]
    fn hazard_028_a_path_that_reads_two_ways_is_refused_only_when_rules_differ() {
        let table = table(&[("h", "^/admin"), ("h", "^/pub/"), ("", "")]);
        assert_eq!(table.find("h", "/pub/../admin"), Choice::Ambiguous);
        assert_eq!(table.find("h", "/pub/..%2fadmin"), Choice::Ambiguous);
        assert_eq!(table.find("h", "//admin"), Choice::Ambiguous);
        assert_eq!(table.find("h", "/pub/group%2Fproject"), Choice::Rule(1));
        assert_eq!(table.find("h", "/pub/a/./b"), Choice::Rule(1));
        assert_eq!(table.find("other", "/pub/../admin"), Choice::Rule(2));
    }

    #[test]
    fn a_rule_that_can_never_match_is_found_with_the_one_that_hides_it() {
        let table = table(&[
            ("*.dev", ""),
            ("a.dev", ""),
            ("*.b.dev", "^/x"),
            ("dev", ""),
            ("c.org", "^/x"),
            ("c.org", "^/x"),
            ("c.org", "^/y"),
            ("", ""),
        ]);
        let shadows: Vec<_> = (0..8).map(|index| table.shadowed_by(index)).collect();
        assert_eq!(shadows, [None, Some(0), Some(0), None, None, Some(4), None, None]);
    }

    #[test]
    fn hazard_117_ten_thousand_rules_cost_no_more_than_a_few_lists() {
        let rules: Vec<_> = (0..10_000)
            .map(|n| Matcher { hostname: Pattern::Exact(format!("h{n}.example.dev").into()), path: None })
            .chain([Matcher { hostname: Pattern::Any, path: None }])
            .collect();
        let table = Table::new(rules);
        assert_eq!(table.find("h9999.example.dev", "/"), Choice::Rule(9999));
        assert!(table.lists("h9999.example.dev").cursors.iter().map(|list| list.len()).sum::<usize>() <= 2);
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_trying_each_rule_in_turn(
            rules in proptest::collection::vec(
                ("(\\*|(\\*\\.)?[ab](\\.[ab]){0,2})", "(|\\^/a|b\\$|/)"), 0..12),
            host in "[ab](\\.[ab]){0,3}",
            path in "/[ab/]{0,4}(\\?[ab])?",
        ) {
            let rules: Vec<_> = rules.iter().map(|(h, p)| (h.as_str(), p.as_str())).collect();
            let table = table(&rules);
            let only_path = path.split('?').next().unwrap();
            prop_assume!(!only_path.contains("//"));
            let slow = table.rules().iter().position(|rule| {
                rule.hostname.matches(&host) && rule.path.as_ref().is_none_or(|r| r.is_match(only_path))
            });
            prop_assert_eq!(table.find(&host, &path), slow.map_or(Choice::Nothing, Choice::Rule));
            for index in 0..table.rules().len() {
                if let Some(earlier) = table.shadowed_by(index) {
                    prop_assert!(earlier < index);
                    prop_assert_ne!(table.find(&host, &path), Choice::Rule(index));
                }
            }
        }

        #[test]
        fn any_request_is_answered(host in "\\PC{0,30}", path in "\\PC{0,60}") {
            let table = table(&[("a.b", "^/x"), ("*.b", "y"), ("", "")]);
            let _ = table.find(&host, &path);
        }
    }
}

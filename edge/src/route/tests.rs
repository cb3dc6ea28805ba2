use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn table(rules: &[(&str, u32)]) -> Table<u32> {
    let mut table = Table::default();
    for (text, value) in rules {
        table.insert(&pattern(text), *value).unwrap();
    }
    table
}

#[test]
fn the_exact_name_wins_then_the_longest_wildcard_then_the_star() {
    let table = table(&[("*", 0), ("*.b", 1), ("*.a.b", 2), ("x.a.b", 3)]);
    for (host, want) in [("x.a.b", 3), ("y.a.b", 2), ("z.y.a.b", 2), ("a.b", 1), ("b", 0), ("other", 0)] {
        assert_eq!(table.find(host), Some(&want), "{host}");
    }
}

#[test]
fn a_wildcard_does_not_match_its_own_parent_nor_a_longer_label() {
    let table = table(&[("*.a.b", 1)]);
    assert_eq!(table.find("a.b"), None);
    assert_eq!(table.find("xa.b"), None);
    assert_eq!(table.find("x.a.b"), Some(&1));
}

#[test]
fn one_pattern_never_has_two_owners() {
    let mut table = table(&[("a.b", 1), ("*.a.b", 2), ("*", 3)]);
    for taken in ["A.b.", "*.a.b", "*"] {
        assert_eq!(table.insert(&pattern(taken), 9), Err(9), "{taken}");
    }
    assert_eq!(table.len(), 3);
}

#[test]
fn hazard_123_a_tunnel_announces_only_what_it_is_granted() {
    let grants = table(&[("*.a.b", 1), ("x.a.b", 2), ("*.c.a.b", 3)]);
    let own = [pattern("*.a.b")];
    assert_eq!(admit(&grants, &1, &own, "y.a.b"), Ok(pattern("y.a.b")));
    assert_eq!(admit(&grants, &1, &own, "*.a.b"), Ok(pattern("*.a.b")));
    assert_eq!(admit(&grants, &1, &own, "*.y.a.b"), Ok(pattern("*.y.a.b")));
    assert_eq!(admit(&grants, &1, &own, "*"), Ok(Pattern::Any));
    assert_eq!(admit(&grants, &1, &own, "x.a.b"), Err(Refusal::OtherTunnel));
    assert_eq!(admit(&grants, &1, &own, "z.c.a.b"), Err(Refusal::OtherTunnel));
    assert!(matches!(admit(&grants, &1, &own, "a.b"), Err(Refusal::NotGranted(..))));
    assert!(matches!(admit(&grants, &2, &[pattern("x.a.b")], "*.x.a.b"), Err(Refusal::OtherTunnel)));
    assert!(matches!(admit(&grants, &1, &own, "*.b"), Err(Refusal::NotGranted(..))));
    assert!(matches!(admit(&grants, &1, &own, "a:1"), Err(Refusal::Invalid(_))));
}

/// The model: look at every rule and keep the most specific that matches.
fn naive<'a>(rules: &'a [(Pattern, usize)], host: &str) -> Option<&'a usize> {
    let rank = |pattern: &Pattern| match pattern {
        Pattern::Any => 0,
        Pattern::Wildcard(suffix) => 1 + suffix.len(),
        Pattern::Exact(_) => usize::MAX,
    };
    rules.iter().filter(|(p, _)| p.matches(host)).max_by_key(|(p, _)| rank(p)).map(|(_, value)| value)
}

fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "dd", "e-e", "f"]), 1..6)
        .prop_map(|l| l.join("."))
}

fn rule() -> impl Strategy<Value = Pattern> {
    prop_oneof![
        20 => name().prop_map(|n| Pattern::Exact(n.into())),
        20 => name().prop_map(|n| Pattern::Wildcard(n.into())),
        1 => Just(Pattern::Any),
    ]
}

#[test]
fn the_narrower_pattern_ranks_higher() {
    let rank = |pattern: &str| {
        let mut table = Table::default();
        table.insert(&Pattern::parse(pattern).unwrap(), ()).unwrap();
        table.rank("a.b.example")
    };
    assert!(rank("a.b.example") > rank("*.b.example") && rank("*.b.example") > rank("*.example"));
    assert!(rank("*.example") > rank("*") && rank("*").is_some() && rank("*.a.b.example").is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn ten_thousand_rules_answer_as_the_naive_model(
        rules in prop::collection::vec(rule(), 1..10_000),
        hosts in prop::collection::vec(name(), 1..40),
    ) {
        let mut table = Table::default();
        let mut kept = Vec::new();
        for (value, rule) in rules.into_iter().enumerate() {
            if table.insert(&rule, value).is_ok() {
                kept.push((rule, value));
            }
        }
        prop_assert_eq!(table.len(), kept.len());
        for host in hosts {
            prop_assert_eq!(table.find(&host), naive(&kept, &host), "{}", host);
            prop_assert_eq!(table.rank(&host).is_some(), table.find(&host).is_some());
        }
    }

    #[test]
    fn covering_means_matching_every_name(a in rule(), b in rule(), host in name()) {
        if a.covers(&b) && b.matches(&host) {
            prop_assert!(a.matches(&host));
        }
        let mut table = Table::default();
        table.insert(&a, ()).unwrap();
        prop_assert_eq!(table.owner(&b).is_some(), a.covers(&b));
    }
}

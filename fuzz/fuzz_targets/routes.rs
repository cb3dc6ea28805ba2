//! The edge's route table: exact before the longest wildcard, and one pattern has one owner.
#![no_main]

use arbitrary::Arbitrary;
use causeway_edge::route::{Pattern, Table};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    patterns: Vec<String>,
    host: String,
}

fuzz_target!(|input: Input| {
    let mut table = Table::default();
    let mut kept: Vec<Pattern> = Vec::new();
    for pattern in input.patterns.iter().take(100).filter_map(|text| Pattern::parse(text).ok()) {
        let taken = kept.contains(&pattern);
        assert_eq!(table.insert(&pattern, pattern.to_string()).is_err(), taken);
        if !taken {
            kept.push(pattern);
        }
    }
    assert_eq!(table.len(), kept.len());
    let matching = kept.iter().filter(|pattern| pattern.matches(&input.host));
    let best = matching.max_by_key(|pattern| (!pattern.to_string().starts_with('*'), pattern.to_string().len()));
    assert_eq!(table.find(&input.host).cloned(), best.map(ToString::to_string));
});

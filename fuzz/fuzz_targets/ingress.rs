//! Rules against requests: the table gives the rule that trying them one by one from the top gives.
#![no_main]

use arbitrary::Arbitrary;
use causeway_connector::ingress::{Choice, Matcher, Table};
use causeway_tunnel::{Authority, Pattern};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    hostnames: Vec<String>,
    authority: String,
    target: String,
}

fuzz_target!(|input: Input| {
    let patterns: Vec<Pattern> = input.hostnames.iter().take(50).filter_map(|text| Pattern::parse(text).ok()).collect();
    let matchers = patterns.iter().map(|pattern| Matcher { hostname: pattern.clone(), path: None }).collect();
    let Ok(authority) = Authority::parse(input.authority.as_bytes()) else { return };
    let host = authority.host.as_str();
    let expected = patterns.iter().position(|pattern| pattern.matches(host)).map_or(Choice::Nothing, Choice::Rule);
    assert_eq!(Table::new(matchers).find(host, &input.target), expected);
});

//! Address ranges of pools: what is accepted is in order and prints as a text that reads the same.
#![no_main]

// The module without its crate, whose clients of the Kubernetes API would take most of the build.
#[path = "../../l2/src/range.rs"]
#[allow(dead_code, reason = "one part of it is tried here")]
mod range;

use range::IpRange;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(range) = text.parse::<IpRange>() else { return };
    assert!(range.first() <= range.last());
    assert!(range.contains(range.first()) && range.contains(range.last()));
    assert!(range.count() >= 1 && range.overlaps(&range));
    assert_eq!(range.to_string().parse::<IpRange>().ok(), Some(range));
});

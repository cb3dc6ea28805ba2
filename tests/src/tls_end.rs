//! Where TLS of this run's sites ends, by `CAUSEWAY_TLS`: at their edges when it says nothing.

/// Whether something stands in front of each site that passes its visitors on unread.
pub fn is_passed_through() -> bool {
    is("passthrough")
}

/// Whether each site's connector ends it.
pub fn is_at_home() -> bool {
    is("connector")
}

fn is(wanted: &str) -> bool {
    std::env::var("CAUSEWAY_TLS").is_ok_and(|end| end == wanted)
}

//! Which of two versions of an object is older.

/// Versions are opaque in principle and counted upwards in fact; what cannot be compared counts as new.
pub(crate) fn is_older(version: &str, than: &str) -> bool {
    matches!((version.parse::<u64>(), than.parse::<u64>()), (Ok(a), Ok(b)) if a < b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_older("9", "10"));
        assert!(!is_older("10", "10") && !is_older("11", "10") && !is_older("x", "10"));
    }
}

//! SQLite's own result codes, in the words that all databases share.

/// The SQLSTATE that says what a result code says. The low byte is the primary code, the rest only refines it.
pub(in crate::store) fn sqlstate(code: u32) -> Option<&'static str> {
    match code & 0xff {
        11 | 26 => Some("XX001"),
        13 => Some("53100"),
        8 => Some("25006"),
        3 | 14 | 23 => Some("08001"),
        5 | 6 => Some("55P03"),
        _ => None,
    }
}

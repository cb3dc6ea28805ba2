//! Request targets: which bytes may stand in one. The edge refuses what is none, and the connector's `route` says so.

/// Printable ASCII without what is never valid in a path or query. A backslash may stand in a query, where browsers
/// leave it, but not in a path, where some servers take it for a slash.
pub fn is_target(target: &[u8]) -> bool {
    let query = target.iter().position(|&byte| byte == b'?').unwrap_or(target.len());
    let is_path = |&byte: &u8| matches!(byte, 0x21..=0x7e) && !b"#<>`\\".contains(&byte);
    let is_query = |&byte: &u8| matches!(byte, 0x21..=0x7e) && !b"#<>\"".contains(&byte);
    target[..query].iter().all(is_path) && target[query..].iter().all(is_query)
}

//! The names of origins, as rules write them. Public names are the tunnel's own matter: [`causeway_tunnel::hostname`].

/// A name to look up, in lower-case A-labels and without a trailing dot. Wider than a public name: a container's may
/// end in a number.
pub(crate) fn to_ascii(name: &str) -> Option<String> {
    let trimmed = name.strip_suffix('.').unwrap_or(name);
    let ascii = if trimmed.is_ascii() {
        trimmed.to_ascii_lowercase()
    } else {
        idna::domain_to_ascii(trimmed).ok()?
    };
    let is_fine = !ascii.is_empty() && ascii.len() <= MAX_NAME_BYTES && ascii.split('.').all(is_label);
    is_fine.then_some(ascii)
}

/// RFC 1035 section 2.3.4, for both.
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= MAX_LABEL_BYTES
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::to_ascii;

    #[test]
    fn an_origin_may_have_any_name_that_can_be_looked_up() {
        assert_eq!(to_ascii("My_App.Internal.").as_deref(), Some("my_app.internal"));
        assert_eq!(to_ascii("bücher").as_deref(), Some("xn--bcher-kva"));
        assert_eq!(to_ascii("stack_web.1").as_deref(), Some("stack_web.1"));
        for bad in ["", ".", "a..b", "-a", "a-", "a b", "a/b", "a*"] {
            assert_eq!(to_ascii(bad), None, "{bad}");
        }
    }
}

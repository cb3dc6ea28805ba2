//! Public names: what is accepted as Host or :authority is a normal form, and the normal form is accepted as itself;
//! and whatever can be granted can be visited by the very same name.
#![no_main]

use causeway_tunnel::{Authority, Host, Pattern};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some(Pattern::Exact(granted)) = std::str::from_utf8(input).ok().and_then(|text| Pattern::parse(text).ok()) {
        assert_eq!(Host::name(&granted).expect("a granted name can stand in SNI").as_str(), &*granted);
        assert_eq!(Authority::parse(granted.as_bytes()).expect("and in Host").host.as_str(), &*granted);
    }
    let Ok(authority) = Authority::parse(input) else { return };
    let host = authority.host.as_str();
    assert!(!host.is_empty() && host.len() <= 253 && host.is_ascii());
    assert!(!host.bytes().any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_whitespace() || b"/@?#\\%".contains(&byte)), "{host:?}");
    let text = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let again = Authority::parse(text.as_bytes()).expect("a normal form is accepted");
    assert_eq!(again.host.as_str(), host);
});

//! Host and :authority: what is accepted is a normal form, and the normal form is accepted as itself.
#![no_main]

use causeway_edge::http::host::Authority;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(authority) = Authority::parse(input) else { return };
    let host = authority.host.as_str();
    assert!(!host.is_empty() && host.len() <= 253 && host.is_ascii());
    assert!(!host.bytes().any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_whitespace() || b"/@?#\\%".contains(&byte)), "{host:?}");
    let text = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let again = Authority::parse(text.as_bytes()).expect("a normal form is accepted");
    assert_eq!(again.host.as_str(), host);
});

//! HSTS (RFC 6797): a site's promise to be there encrypted.

use http::header::STRICT_TRANSPORT_SECURITY;
use http::{HeaderMap, HeaderValue};

/// Tells the browser to come encrypted only. What the origin says of it itself goes before.
pub fn promise_encryption(headers: &mut HeaderMap, seconds: u32) {
    if !headers.contains_key(STRICT_TRANSPORT_SECURITY) {
        let value = HeaderValue::try_from(format!("max-age={seconds}"));
        headers.insert(STRICT_TRANSPORT_SECURITY, value.expect("a number is a field's value"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_origin_says_of_hsts_goes_before() {
        let mut headers = HeaderMap::new();
        promise_encryption(&mut headers, 60);
        assert_eq!(headers[STRICT_TRANSPORT_SECURITY], "max-age=60");
        promise_encryption(&mut headers, 0);
        assert_eq!(headers[STRICT_TRANSPORT_SECURITY], "max-age=60");
    }
}

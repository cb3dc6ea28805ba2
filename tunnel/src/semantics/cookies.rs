//! Cookies that came as several fields.

use http::header::{COOKIE, HeaderMap, HeaderValue};

/// HTTP/2 visitors may send many; they become one (RFC 9113 section 8.2.3), all that HTTP/1.1 knows (hazard 69).
pub fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_069_cookie_crumbs_become_one_field() {
        let mut headers = HeaderMap::new();
        join_cookies(&mut headers);
        assert!(headers.is_empty());
        for (crumb, joined) in [("a=1", "a=1"), ("b=2", "a=1; b=2")] {
            headers.append(COOKIE, HeaderValue::from_static(crumb));
            join_cookies(&mut headers);
            assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), [joined]);
        }
    }
}

//! Fields that end at each hop (RFC 9110 section 7.6.1), in either direction.

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, TE};

use super::fields::{Class, class, elements};

/// Which way the fields go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Its wish for trailers (`TE: trailers`) goes on: gRPC asks for them.
    Request,
    Answer,
}

/// Removes what concerns one connection only, what Connection names (hazard 47), and what `ends` says besides of a name
/// and its class.
pub fn end_hop(headers: &mut HeaderMap, direction: Direction, ends: impl Fn(&str, Class) -> bool) {
    let wants_trailers = direction == Direction::Request
        && elements(headers, &TE).any(|element| element.eq_ignore_ascii_case("trailers"));
    remove_named_by_connection(headers);
    let is_doomed = |name: &HeaderName| match class(name.as_str()) {
        Class::HopByHop => !(wants_trailers && name == TE),
        class => ends(name.as_str(), class),
    };
    // Nearly always one round is enough, and nothing is allocated.
    loop {
        let mut doomed = [const { None }; DOOMED_AT_ONCE];
        for (slot, name) in doomed.iter_mut().zip(headers.keys().filter(|name| is_doomed(name))) {
            *slot = Some(name.clone());
        }
        let is_last = doomed[DOOMED_AT_ONCE - 1].is_none();
        for name in doomed.into_iter().flatten() {
            headers.remove(name);
        }
        if is_last {
            break;
        }
    }
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Connection may name any field, but not take away what routing, framing or we rely on (hazard 47).
fn remove_named_by_connection(headers: &mut HeaderMap) {
    let mut named = Vec::new();
    for element in elements(headers, &CONNECTION) {
        if element.eq_ignore_ascii_case("close") || element.eq_ignore_ascii_case("keep-alive") {
            continue;
        }
        let Ok(name) = HeaderName::from_bytes(element.as_bytes()) else { continue };
        if class(name.as_str()) == Class::Forward && headers.contains_key(&name) {
            named.push(name);
        }
    }
    for name in named {
        headers.remove(name);
    }
}

const DOOMED_AT_ONCE: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(direction: Direction, pairs: &[(&'static str, &'static str)]) -> Vec<String> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value)| _ = headers.append(name, value));
        end_hop(&mut headers, direction, |_, class| class == Class::Reserved);
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn hazard_048_hop_by_hop_fields_end_here_both_ways() {
        let fields = [
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "a"),
            ("proxy-authenticate", "a"),
            ("proxy-authentication-info", "a"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "a"),
            ("te", "gzip"),
            ("x-causeway-a", "1"),
            ("causeway-b", "1"),
            ("x-kept", "1"),
        ];
        for direction in [Direction::Request, Direction::Answer] {
            assert_eq!(kept(direction, &fields), ["x-kept: 1"], "{direction:?}");
        }
    }

    #[test]
    fn hazard_047_connection_cannot_take_away_what_others_rely_on() {
        let fields = [
            ("connection", "x-forwarded-for, authorization, cookie, trailer, host, x-mine"),
            ("x-forwarded-for", "1.2.3.4"),
            ("authorization", "a"),
            ("cookie", "c"),
            ("trailer", "x-sum"),
            ("host", "h"),
            ("x-mine", "1"),
        ];
        let relied_on =
            ["authorization: a", "cookie: c", "host: h", "trailer: x-sum", "x-forwarded-for: 1.2.3.4"];
        assert_eq!(kept(Direction::Request, &fields), relied_on);
    }

    #[test]
    fn a_wish_for_trailers_goes_on_alone_and_only_with_a_request() {
        assert_eq!(kept(Direction::Request, &[("te", "gzip, Trailers")]), ["te: trailers"]);
        assert_eq!(kept(Direction::Request, &[("te", "gzip"), ("te", "trailers")]), ["te: trailers"]);
        assert_eq!(kept(Direction::Answer, &[("te", "trailers")]), Vec::<String>::new());
    }

    #[test]
    fn however_many_end_here_all_of_them_do() {
        let mut headers = HeaderMap::new();
        for number in 0..35 {
            let name = HeaderName::try_from(format!("x-{number}")).unwrap();
            headers.append(name, HeaderValue::from_static("1"));
        }
        end_hop(&mut headers, Direction::Request, |name, _| {
            name.starts_with("x-1") || name.starts_with("x-2")
        });
        assert_eq!(headers.len(), 13);
    }
}

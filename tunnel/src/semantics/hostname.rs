//! Hostnames: the one parser for what a tunnel is granted, what a rule asks for, and what a visitor writes
//! (Host, :authority, SNI), so that a name is the same name to all of them. Strict, and normalised for routing.
//! The names of origins, which are looked up and never visited, are read here as well.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A hostname or address, normalised: lower case, no port, no trailing dot, IPv6 without brackets. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Arc<str>);

impl Host {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn shared(&self) -> &Arc<str> {
        &self.0
    }

    pub fn as_ip(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }

    /// Parses a name without a port, as in a TLS handshake.
    ///
    /// # Errors
    /// When it is not a DNS name of letters, digits, hyphens and underscores (no host's name to RFC 1123, but people
    /// have such names in DNS, and browsers visit them).
    pub fn name(raw: &str) -> Result<Self, HostError> {
        dns_name(raw.as_bytes()).map(Self)
    }

    /// A name as people write it in files: Unicode is turned into A-labels first.
    ///
    /// # Errors
    /// As [`Host::name`].
    pub fn written(text: &str) -> Result<Self, HostError> {
        Self::name(&to_a_labels(text)?)
    }
}

impl std::ops::Deref for Host {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What Host and :authority hold: `host [":" port]`, nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    pub host: Host,
    pub port: Option<u16>,
}

/// Why a text is no hostname (hazards 35 and 36). Displayed after "…: ".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("it is empty")]
    Empty,
    #[error("it is longer than {MAX_NAME_BYTES} bytes or has a label longer than {MAX_LABEL_BYTES}")]
    TooLong,
    #[error("it has a character that does not belong there")]
    BadCharacter,
    #[error("it has an empty label, or one that begins or ends with a hyphen")]
    BadLabel,
    #[error("it looks like an address and is none")]
    BadAddress,
    #[error("the port is not a number from 1 to 65535")]
    BadPort,
}

/// RFC 1035 section 2.3.4, for both.
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

impl Authority {
    /// Parses the value of a Host or :authority field.
    ///
    /// # Errors
    /// For anything but a DNS name of A-labels or an address, with an optional port: no user information, path,
    /// spaces, percent-encoding, zone or list.
    pub fn parse(raw: &[u8]) -> Result<Self, HostError> {
        if raw.first() == Some(&b'[') {
            let end = raw.iter().position(|&byte| byte == b']').ok_or(HostError::BadAddress)?;
            let text = std::str::from_utf8(&raw[1..end]).map_err(|_| HostError::BadAddress)?;
            let address: Ipv6Addr = text.parse().map_err(|_| HostError::BadAddress)?;
            return Ok(Self { host: Host(address.to_string().into()), port: port(&raw[end + 1..])? });
        }
        let end = raw.iter().position(|&byte| byte == b':').unwrap_or(raw.len());
        Ok(Self { host: Host(dns_name(&raw[..end])?), port: port(&raw[end..])? })
    }

    /// An authority as a person types it into a command: Unicode is turned into A-labels first.
    ///
    /// # Errors
    /// As [`Authority::parse`].
    pub fn written(text: &str) -> Result<Self, HostError> {
        let (host, port) =
            text.split_at(if text.starts_with('[') { 0 } else { text.find(':').unwrap_or(text.len()) });
        Self::parse(format!("{}{port}", to_a_labels(host)?).as_bytes())
    }

    /// Whether both name the same place for a visitor who speaks `scheme`: hosts equal, ports equal after defaults.
    pub fn is_same(&self, other: &Self, default_port: u16) -> bool {
        self.host == other.host && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

/// `rest` is empty or begins with the colon.
fn port(rest: &[u8]) -> Result<Option<u16>, HostError> {
    let Some((colon, digits)) = rest.split_first() else { return Ok(None) };
    let is_number =
        *colon == b':' && (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    if !is_number {
        return Err(HostError::BadPort);
    }
    let number = digits.iter().fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    match u16::try_from(number) {
        Ok(0) | Err(_) => Err(HostError::BadPort),
        Ok(port) => Ok(Some(port)),
    }
}

fn to_a_labels(text: &str) -> Result<Cow<'_, str>, HostError> {
    // What is ASCII stands for itself: a visitor's name is not looked into either.
    if text.is_ascii() {
        return Ok(Cow::Borrowed(text));
    }
    idna::domain_to_ascii(text).map(Cow::Owned).map_err(|_| HostError::BadCharacter)
}

/// A name to look up, as a rule writes that of an origin: in lower-case A-labels and without a trailing dot. Wider than a
/// public name: a container's may end in a number.
///
/// # Errors
/// When no such name can be looked up.
pub fn looked_up(text: &str) -> Result<String, HostError> {
    with_labels(to_a_labels(text)?.as_bytes(), |name, _| Ok(name.to_owned()))
}

/// What stands in Host or :authority without its port and brackets: what TLS can name.
pub fn without_port(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    authority.rsplit_once(':').map_or(authority, |(name, _)| name)
}

fn dns_name(raw: &[u8]) -> Result<Arc<str>, HostError> {
    with_labels(raw, |name, last| {
        // A name whose last label is a number is an address, or nothing at all: 1.2.3, 0x7f.1, 127.0.0.1.5.
        let is_numeric = last.iter().all(u8::is_ascii_digit) || last.starts_with(b"0x");
        if is_numeric && name.parse::<Ipv4Addr>().is_err() {
            return Err(HostError::BadAddress);
        }
        Ok(name.into())
    })
}

/// Gives on a name of proper labels, in lower case and without a trailing dot, with its last label.
fn with_labels<T>(
    raw: &[u8],
    read: impl FnOnce(&str, &[u8]) -> Result<T, HostError>,
) -> Result<T, HostError> {
    let raw = raw.strip_suffix(b".").unwrap_or(raw);
    if raw.is_empty() {
        return Err(HostError::Empty);
    }
    if raw.len() > MAX_NAME_BYTES {
        return Err(HostError::TooLong);
    }
    let mut lower = [0u8; MAX_NAME_BYTES];
    let lower = &mut lower[..raw.len()];
    lower.copy_from_slice(raw);
    lower.make_ascii_lowercase();
    let mut last: &[u8] = b"";
    for label in lower.split(|&byte| byte == b'.') {
        if label.len() > MAX_LABEL_BYTES {
            return Err(HostError::TooLong);
        }
        if !label.iter().all(|&byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_')) {
            return Err(HostError::BadCharacter);
        }
        if label.is_empty() || label.starts_with(b"-") || label.ends_with(b"-") {
            return Err(HostError::BadLabel);
        }
        last = label;
    }
    let text = std::str::from_utf8(lower).map_err(|_| HostError::BadCharacter)?;
    read(text, last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    fn parsed(raw: &str) -> (String, Option<u16>) {
        let authority = Authority::parse(raw.as_bytes()).unwrap_or_else(|error| panic!("{raw}: {error}"));
        (authority.host.to_string(), authority.port)
    }

    #[test]
    fn hazard_037_case_trailing_dot_and_port_do_not_matter_for_routing() {
        for raw in ["blog.example.dev", "BLOG.Example.DEV", "blog.example.dev.", "Blog.example.dev.:443"] {
            assert_eq!(parsed(raw).0, "blog.example.dev", "{raw}");
        }
        assert_eq!(parsed("a.example:8443").1, Some(8443));
        assert_eq!(parsed("127.0.0.1:80"), ("127.0.0.1".into(), Some(80)));
        assert_eq!(parsed("[::1]:80"), ("::1".into(), Some(80)));
        assert_eq!(parsed("[2001:DB8::0:1]"), ("2001:db8::1".into(), None));
        assert_eq!(parsed("xn--bcher-kva.example").0, "xn--bcher-kva.example");
        assert_eq!(parsed("localhost").0, "localhost");
    }

    #[test]
    fn an_underscore_is_part_of_a_name() {
        for name in ["my_app.example.dev", "_dmarc.example.dev", "a_.example", "_.b", "a.b_c"] {
            assert_eq!(parsed(name).0, name);
            assert_eq!(Host::name(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn an_origin_may_have_any_name_that_can_be_looked_up() {
        assert_eq!(looked_up("My_App.Internal."), Ok("my_app.internal".to_owned()));
        assert_eq!(looked_up("b\u{fc}cher"), Ok("xn--bcher-kva".to_owned()));
        assert_eq!(looked_up("stack_web.1"), Ok("stack_web.1".to_owned()));
        for bad in ["", ".", "a..b", "-a", "a-", "a b", "a/b", "a*"] {
            assert!(looked_up(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_without_its_port_is_what_tls_can_name() {
        for host in ["a.example", "a.example:8443"] {
            assert_eq!(without_port(host), "a.example");
        }
        for host in ["[fd00::1]", "[fd00::1]:8443"] {
            assert_eq!(without_port(host), "fd00::1");
        }
    }

    #[test]
    fn people_may_write_unicode_and_visitors_may_not() {
        assert_eq!(Host::written("Bücher.example.").unwrap().as_str(), "xn--bcher-kva.example");
        let authority = Authority::written("bücher.example:8443").unwrap();
        assert_eq!((authority.host.as_str(), authority.port), ("xn--bcher-kva.example", Some(8443)));
        assert_eq!(Authority::written("[::1]:80").unwrap().host.as_str(), "::1");
        assert_eq!(Host::name("bücher.example"), Err(HostError::BadCharacter));
    }

    #[test]
    fn hazard_036_a_host_is_a_name_and_a_port_and_nothing_else() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = format!("{}a", "abc.".repeat(64));
        let bad = [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a.b..",
            "user@host",
            "host/path",
            "a b",
            " a",
            "a ",
            "a\tb",
            "a,b",
            "a, b",
            "a:",
            "a:0",
            "a:65536",
            "a:99999",
            "a:080x",
            "a:-1",
            "a:+1",
            "a:1:2",
            "a:000080",
            "b\u{fc}cher.example",
            "a%2eb",
            "-a.example",
            "a-.example",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[fe80::1%25eth0]",
            "[v1.x]",
            "::1",
            "1.2.3",
            "127.0.0.1.5",
            "256.1.1.1",
            "0x7f.1",
            "a.0x7f",
            "a\0b",
            "a\r\nb",
            "[127.0.0.1]",
            "a?b",
            "a#b",
            "a\\b",
            "*",
            "*.example",
            &long_label,
            &long_name,
        ];
        for raw in bad {
            assert!(Authority::parse(raw.as_bytes()).is_err(), "{raw:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_what_it_accepts_it_accepts_again(raw in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(authority) = Authority::parse(&raw) {
                let again = if authority.host.contains(':') {
                    format!("[{}]", authority.host)
                } else {
                    authority.host.to_string()
                };
                assert_eq!(Authority::parse(again.as_bytes()).unwrap().host, authority.host);
            }
        }

        #[test]
        fn accepts_every_proper_name(name in "([a-z0-9_]([a-z0-9_-]{0,10}[a-z0-9_])?\\.){1,5}[a-z]{2,8}", port in 1u16..) {
            let authority = Authority::parse(format!("{name}:{port}").as_bytes()).unwrap();
            assert_eq!((authority.host.as_str(), authority.port), (name.as_str(), Some(port)));
        }
    }
}

//! What names a proxy: a URL as people write it for curl, read strictly.

use std::fmt;
use std::net::Ipv6Addr;

use causeway_daemon::config::Secret;
use http::Uri;
use http::uri::Authority;
use percent_encoding::percent_decode_str;

/// What is spoken with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// HTTP's CONNECT.
    Http,
    /// SOCKS 5. The proxy resolves names, whether `socks5` or `socks5h` is written.
    Socks5,
}

/// Where it is, without who we are to it: fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) scheme: Scheme,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Who we are to it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: Secret,
}

/// Why a text names no proxy. The text itself is not repeated: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("this is no address of a proxy")]
    Malformed,
    #[error("TLS with the proxy itself is not spoken")]
    Https,
    #[error("`{0}` is nothing that is spoken with proxies")]
    Scheme(String),
    #[error("the host of the proxy is neither a name nor an address")]
    Host,
    #[error("the port of the proxy is no number from 1 to 65535")]
    Port,
    #[error("the address of a proxy ends with its port")]
    Path,
    #[error("a user for a proxy has from 1 to 255 bytes of UTF-8, and no colon over HTTP")]
    User,
    #[error("a password for a proxy has at most 255 bytes of UTF-8 over SOCKS")]
    Password,
}

impl AddressError {
    /// What to write instead.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::Https => {
                "`http://` reaches nearly all: what goes through the proxy is encrypted all the same"
            }
            Self::User | Self::Password => "`%XX` stands for a byte that has a meaning in URLs",
            _ => "http://HOST:PORT or socks5://HOST:PORT, with USER@ in front of HOST where it asks for one",
        }
    }
}

impl Address {
    /// Reads `[http|socks5|socks5h://][USER[:PASSWORD]@]HOST[:PORT][/]`; without a scheme it is `http`, as for curl.
    pub(crate) fn parse(text: &str) -> Result<(Self, Option<Credentials>), AddressError> {
        let uri: Uri = text.parse().map_err(|_| AddressError::Malformed)?;
        let (scheme, usual_port) = match uri.scheme_str() {
            None | Some("http") => (Scheme::Http, 80),
            Some("socks5" | "socks5h") => (Scheme::Socks5, 1080),
            Some("https") => return Err(AddressError::Https),
            Some(other) => return Err(AddressError::Scheme(other.to_owned())),
        };
        if uri.path_and_query().is_some_and(|path| path != "/") || text.contains('#') {
            return Err(AddressError::Path);
        }
        let authority = uri.authority().ok_or(AddressError::Malformed)?.as_str();
        let (userinfo, place) = match authority.rsplit_once('@') {
            Some((userinfo, place)) => (Some(userinfo), place),
            None => (None, authority),
        };
        let (host, port) = split(place).ok_or(AddressError::Host)?;
        let port = match port {
            None => usual_port,
            Some(digits) => match digits.parse() {
                // A number may have a sign.
                Ok(port @ 1..) if digits.starts_with(|c: char| c.is_ascii_digit()) => port,
                _ => return Err(AddressError::Port),
            },
        };
        let credentials = userinfo.map(|userinfo| credentials(userinfo, scheme)).transpose()?;
        Ok((Self { scheme, host, port }, credentials))
    }
}

/// A host without brackets, and what stands behind its colon.
fn split(place: &str) -> Option<(String, Option<&str>)> {
    let place_of: Authority = place.parse().ok()?;
    let host = place_of.host();
    let port = match place.get(host.len()..)? {
        "" => None,
        rest => Some(rest.strip_prefix(':')?),
    };
    let name = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().ok()?.to_string(),
        None => host.to_owned(),
    };
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = !name.is_empty() && (host.starts_with('[') || name.bytes().all(is_of_name));
    is_name.then_some((name, port))
}

fn credentials(userinfo: &str, scheme: Scheme) -> Result<Credentials, AddressError> {
    let decoded = |text| percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let user = decoded(user).map_err(|_| AddressError::User)?;
    let password = Secret::new(decoded(password).map_err(|_| AddressError::Password)?);
    Credentials { user, password }.checked(scheme)
}

impl Credentials {
    /// What the protocols can carry.
    pub(crate) fn checked(self, scheme: Scheme) -> Result<Self, AddressError> {
        let is_user = (1..=MAX_BYTES).contains(&self.user.len());
        if !is_user || scheme == Scheme::Http && self.user.contains(':') {
            return Err(AddressError::User);
        }
        if scheme == Scheme::Socks5 && self.password.expose().len() > MAX_BYTES {
            return Err(AddressError::Password);
        }
        Ok(self)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Socks5 => "socks5",
        };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// RFC 1929 counts them in a byte.
const MAX_BYTES: usize = 255;

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> String {
        let (address, credentials) = Address::parse(text).unwrap();
        let user = credentials.map(|one| format!(" {} {}", one.user, one.password.expose()));
        format!("{address}{}", user.unwrap_or_default())
    }

    #[test]
    fn what_people_write_for_curl_is_read() {
        for (text, told) in [
            ("http://proxy.lan:3128", "http://proxy.lan:3128"),
            ("http://proxy.lan:3128/", "http://proxy.lan:3128"),
            ("HTTP://10.0.0.1", "http://10.0.0.1:80"),
            ("proxy.lan:8080", "http://proxy.lan:8080"),
            ("user:pass@proxy.lan:8080", "http://proxy.lan:8080 user pass"),
            ("socks5://[::1]", "socks5://[::1]:1080"),
            ("socks5h://me@gate_1:9050", "socks5://gate_1:9050 me "),
            ("http://a%40b:p%3a%2Fw@h:1", "http://h:1 a@b p:/w"),
            ("http://u:p:q@h:1", "http://h:1 u p:q"),
        ] {
            assert_eq!(read(text), told, "{text}");
        }
    }

    #[test]
    fn what_names_no_proxy_is_refused_with_what_to_write() {
        let scheme = |name: &str| AddressError::Scheme(name.to_owned());
        for (text, error) in [
            ("", AddressError::Malformed),
            ("http://", AddressError::Malformed),
            ("http://a b:1", AddressError::Malformed),
            ("https://h:443", AddressError::Https),
            ("socks4://h:1", scheme("socks4")),
            ("ftp://h:1", scheme("ftp")),
            ("http://h:1/path", AddressError::Path),
            ("http://h:1/?q", AddressError::Path),
            ("http://h:0", AddressError::Port),
            ("http://h:", AddressError::Port),
            ("http://h:+1", AddressError::Port),
            ("http://h:70000", AddressError::Port),
            ("http://h!:1", AddressError::Host),
            ("http://:pass@h:1", AddressError::User),
            ("http://a%3Ab:c@h:1", AddressError::User),
            ("http://%FF@h:1", AddressError::User),
            ("http://u:%FF@h:1", AddressError::Password),
        ] {
            let refused = Address::parse(text).unwrap_err();
            assert_eq!(refused, error, "{text}");
            assert!(!refused.help().is_empty());
        }
        let long = format!("socks5://u:{}@h:1", "x".repeat(256));
        assert_eq!(Address::parse(&long).unwrap_err(), AddressError::Password);
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read_and_no_secret_is_shown(
            is_socks: bool, host in "[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", port in 1_u16.., user in "[^:]{1,40}", password in "S3cret.{0,40}",
        ) {
            let scheme = if is_socks { "socks5" } else { "http" };
            let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let url = format!("{scheme}://{}:{}@{host}:{port}", encoded(&user), encoded(&password));
            let (address, credentials) = Address::parse(&url).unwrap();
            prop_assert_eq!(address.to_string(), format!("{}://{}:{}", scheme, host, port));
            prop_assert_eq!(&Address::parse(&address.to_string()).unwrap().0, &address);
            let shown = format!("{address} {credentials:?}");
            prop_assert!(!shown.contains("S3cret"), "{}", shown);
            let credentials = credentials.unwrap();
            prop_assert_eq!((credentials.user.as_str(), credentials.password.expose()), (user.as_str(), password.as_str()));
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,60}") {
            if let Ok((address, _)) = Address::parse(&text) {
                prop_assert_eq!(&Address::parse(&address.to_string()).unwrap().0, &address);
            }
        }
    }
}

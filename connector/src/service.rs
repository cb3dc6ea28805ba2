//! A rule's service: what its URL-like text means, parsed once.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use causeway_tunnel::semantics::looked_up;
use http::StatusCode;

/// Where a rule sends its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// HTTP/1.1 (and WebSocket) over TCP.
    Http(OriginAddress),
    /// HTTP over TLS: HTTP/1.1, or HTTP/2 by ALPN with `http2Origin`.
    Https(OriginAddress),
    /// HTTP/2 without TLS, by prior knowledge. Upgrades still go over HTTP/1.1 to the same port.
    H2c(OriginAddress),
    /// HTTP over a Unix socket.
    Unix(PathBuf),
    /// HTTP over TLS over a Unix socket.
    UnixTls(PathBuf),
    /// A fixed answer without a body.
    Status(StatusCode),
    /// A page of our own, to see that the tunnel works.
    HelloWorld,
    /// Raw TCP, for a rule that passes TLS through.
    Tcp(OriginAddress),
    /// Raw TCP and its kin: known, accepted, and answered 501.
    Unserved(String),
}

/// A host and a port to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginAddress {
    pub(crate) host: OriginHost,
    pub(crate) port: u16,
}

/// What the host in an address is: a name is resolved anew at each dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OriginHost {
    Ip(IpAddr),
    Name(String),
}

/// Why a text is not a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct ServiceError {
    pub(crate) reason: String,
    /// What to write instead, if that is clear.
    pub(crate) help: Option<String>,
}

impl Service {
    /// # Errors
    /// Says what is wrong with the text and, where it can, what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, ServiceError> {
        if let Some(rest) = text.strip_prefix("http_status:") {
            return status(rest);
        }
        match text {
            "hello_world" | "hello-world" => return Ok(Self::HelloWorld),
            "bastion" | "socks-proxy" => return Ok(Self::Unserved(text.to_owned())),
            _ => {}
        }
        if let Some(path) = text.strip_prefix("unix+tls:") {
            return unix(path).map(Self::UnixTls);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path).map(Self::Unix);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(missing_scheme(text));
        };
        // RFC 3986 section 3.1: schemes have no case.
        let scheme = scheme.to_ascii_lowercase();
        match &*scheme {
            "http" | "ws" => parse_address(rest, Some(80)).map(Self::Http),
            "https" | "wss" => parse_address(rest, Some(443)).map(Self::Https),
            "h2c" => parse_address(rest, Some(80)).map(Self::H2c),
            // One letter wrong is a slip of the keyboard, in cloudflared a service that nobody can use.
            _ if nearest_scheme(&scheme).is_some() => Err(unknown_scheme(&scheme, rest)),
            // Whatever else has a scheme and a host is raw TCP to cloudflared; the port does not matter here.
            _ if is_scheme(&scheme) => {
                parse_address(rest, Some(UNSERVED_PORT)).map(|_| Self::Unserved(text.to_owned()))
            }
            _ => Err(unknown_scheme(&scheme, rest)),
        }
    }

    /// What a rule that passes TLS through leads to: something that ends TLS itself.
    ///
    /// # Errors
    /// As [`Service::parse`].
    pub(crate) fn parse_raw(text: &str) -> Result<Self, ServiceError> {
        if let Some((scheme, rest)) = text.split_once("://")
            && scheme.eq_ignore_ascii_case("tcp")
        {
            return parse_address(rest, None).map(Self::Tcp);
        }
        match Self::parse(text)? {
            service @ (Self::Https(_) | Self::Unix(_) | Self::UnixTls(_)) => Ok(service),
            _ => Err(ServiceError {
                reason: format!("`{text}` does not end TLS, and the rule says `tls: passthrough`"),
                help: Some("https://HOST, tcp://HOST:PORT, unix:PATH".to_owned()),
            }),
        }
    }

    /// Whether TLS is spoken to the origin.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Https(_) | Self::UnixTls(_))
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(address) => write!(f, "http://{address}"),
            Self::Https(address) => write!(f, "https://{address}"),
            Self::H2c(address) => write!(f, "h2c://{address}"),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::UnixTls(path) => write!(f, "unix+tls:{}", path.display()),
            Self::Status(status) => write!(f, "http_status:{}", status.as_u16()),
            Self::HelloWorld => f.write_str("hello_world"),
            Self::Unserved(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for OriginAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            OriginHost::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            OriginHost::Ip(ip) => write!(f, "{ip}:{}", self.port),
            OriginHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// What `url` and `--url` mean: without a scheme it is HTTP, as in cloudflared. (A rule's `service` has to say it.)
pub(crate) fn with_scheme(url: &str) -> String {
    let is_address = !url.contains("://") && url.contains(['.', ':', '[']) && !is_prefixed(url);
    if url.parse::<Ipv6Addr>().is_ok() {
        format!("http://[{url}]")
    } else if is_address || url == "localhost" {
        format!("http://{url}")
    } else {
        url.to_owned()
    }
}

fn is_prefixed(text: &str) -> bool {
    ["unix:", "unix+tls:", "http_status:"].iter().any(|prefix| text.starts_with(prefix))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// Stands in for the port of a service that is not dialled.
const UNSERVED_PORT: u16 = 1;

fn status(text: &str) -> Result<Service, ServiceError> {
    match text.parse::<u16>().ok().and_then(|number| StatusCode::from_u16(number).ok()) {
        Some(status) if !status.is_informational() => Ok(Service::Status(status)),
        Some(_) => Err(plain("a 1xx status cannot be a final answer")),
        None => Err(plain("the status is not a number from 200 to 999")),
    }
}

fn unix(path: &str) -> Result<PathBuf, ServiceError> {
    if path.is_empty() {
        return Err(plain("the path of the Unix socket is missing: write unix:/path/to/socket"));
    }
    // `unix:///run/x` is a common way to write it.
    Ok(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))
}

fn parse_address(text: &str, default_port: Option<u16>) -> Result<OriginAddress, ServiceError> {
    let authority_end = text.find(['/', '?', '#']).unwrap_or(text.len());
    let (authority, rest) = text.split_at(authority_end);
    if !rest.is_empty() && rest != "/" {
        return Err(ServiceError {
            reason: format!("a service is an address without a path: `{rest}` cannot be added to requests"),
            help: Some(
                "put the path into the rule's `path` to choose by it; rewriting is not done".to_owned(),
            ),
        });
    }
    if authority.contains('@') {
        return Err(plain("user names and passwords do not belong into a service"));
    }
    let (host, port) = split_port(authority)?;
    let port = match port {
        Some("") | None => default_port.ok_or_else(|| plain("the port is missing"))?,
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port != 0 => port,
            _ => return Err(plain(&format!("`{port}` is not a port from 1 to 65535"))),
        },
    };
    if host.is_empty() {
        return Err(plain("the host is missing"));
    }
    Ok(OriginAddress { host: parse_host(host)?, port })
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), ServiceError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(|| plain("`[` without `]` in the address"))?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(plain("something other than a port follows `]`")),
        };
    }
    if authority.parse::<Ipv6Addr>().is_ok() {
        return Err(ServiceError {
            reason: "an IPv6 address stands in brackets".to_owned(),
            help: Some(format!("[{authority}]")),
        });
    }
    Ok(match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    })
}

fn parse_host(host: &str) -> Result<OriginHost, ServiceError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(OriginHost::Ip(ip));
    }
    looked_up(host).map(OriginHost::Name).map_err(|_| plain(&format!("`{host}` is not a hostname")))
}

fn missing_scheme(text: &str) -> ServiceError {
    let help = if text.contains(['.', ':']) || text == "localhost" {
        let scheme = if text.ends_with(":443") || text.ends_with(":8443") { "https" } else { "http" };
        Some(format!("{scheme}://{text}"))
    } else {
        nearest(text, ["hello_world", "http_status:404"])
    };
    ServiceError { reason: format!("`{text}` has no scheme, so it is no service"), help }
}

fn unknown_scheme(scheme: &str, rest: &str) -> ServiceError {
    ServiceError {
        reason: format!("`{scheme}://` is not a kind of service"),
        help: Some(match nearest_scheme(scheme) {
            Some(nearest) => format!("{nearest}://{rest}"),
            None => SCHEMES.map(|scheme| format!("{scheme}://")).join(", "),
        }),
    }
}

fn nearest_scheme(scheme: &str) -> Option<String> {
    nearest(&scheme.to_ascii_lowercase(), SCHEMES)
}

fn nearest<const N: usize>(text: &str, known: [&str; N]) -> Option<String> {
    known.into_iter().find(|known| one_edit_apart(text, known)).map(str::to_owned)
}

/// Equal but for one letter added, left out, changed or swapped with its neighbour.
fn one_edit_apart(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let prefix = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[prefix..], &b[prefix..]);
    match (a, b) {
        ([], []) => true,
        ([_, a @ ..], [_, b @ ..]) if a == b => true,
        ([_, a @ ..], b) if a == b => true,
        (a, [_, b @ ..]) if a == b => true,
        ([w, x, a @ ..], [y, z, b @ ..]) => w == z && x == y && a == b,
        _ => false,
    }
}

fn plain(reason: &str) -> ServiceError {
    ServiceError { reason: reason.to_owned(), help: None }
}

const SCHEMES: [&str; 5] = ["http", "https", "ws", "wss", "h2c"];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        Service::parse(text).unwrap().to_string()
    }

    #[test]
    fn every_kind_of_cloudflared_service_is_read() {
        assert_eq!(shown("http://10.0.0.104"), "http://10.0.0.104:80");
        assert_eq!(shown("https://Web.Example.dev:8443/"), "https://web.example.dev:8443");
        assert_eq!(shown("HTTP://10.0.0.104"), "http://10.0.0.104:80");
        assert_eq!(shown("ws://localhost:81"), "http://localhost:81");
        assert_eq!(shown("wss://[fd00::1]"), "https://[fd00::1]:443");
        assert_eq!(shown("h2c://grpc:50051"), "h2c://grpc:50051");
        assert_eq!(shown("unix:/run/app.sock"), "unix:/run/app.sock");
        assert_eq!(shown("unix+tls:/run/app.sock"), "unix+tls:/run/app.sock");
        assert_eq!(shown("http_status:404"), "http_status:404");
        assert_eq!(shown("hello_world"), "hello_world");
        assert_eq!(shown("hello-world"), "hello_world");
        for raw in
            ["tcp://db:5432", "tcp://db", "ssh://10.0.0.1", "rdp://pc", "smb://nas", "bastion", "socks-proxy"]
        {
            assert_eq!(Service::parse(raw).unwrap(), Service::Unserved(raw.to_owned()));
        }
        for raw in ["ftp://127.0.0.1", "gopher://a", "sftp://nas:22", "git+ssh://a"] {
            assert_eq!(Service::parse(raw).unwrap(), Service::Unserved(raw.to_owned()));
        }
        assert_eq!(shown("redis://cache:6379"), "redis://cache:6379");
        assert_eq!(shown("http://my_app:3000"), "http://my_app:3000");
    }

    #[test]
    fn a_url_without_a_scheme_is_http() {
        for (url, service) in [
            ("localhost:8000", "http://localhost:8000"),
            ("localhost", "http://localhost"),
            ("127.0.0.1", "http://127.0.0.1"),
            ("10.0.0.1:443", "http://10.0.0.1:443"),
            ("::1", "http://[::1]"),
            ("[::1]:81", "http://[::1]:81"),
            ("web.lan", "http://web.lan"),
            ("https://a", "https://a"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("http_status:404", "http_status:404"),
            ("hello_world", "hello_world"),
        ] {
            assert_eq!(with_scheme(url), service);
            Service::parse(service).unwrap();
        }
        assert!(Service::parse("localhost:8000").is_err(), "a rule has to say it");
    }

    #[test]
    fn mistakes_are_named_with_their_mend() {
        let fails = |text: &str| Service::parse(text).unwrap_err();
        assert_eq!(fails("10.0.0.1:8080").help.as_deref(), Some("http://10.0.0.1:8080"));
        assert_eq!(fails("10.0.0.1:443").help.as_deref(), Some("https://10.0.0.1:443"));
        assert_eq!(fails("htp://a").help.as_deref(), Some("http://a"));
        assert_eq!(fails("htpts://a:1").help.as_deref(), Some("https://a:1"));
        assert_eq!(
            fails("not a scheme://a").help.as_deref(),
            Some("http://, https://, ws://, wss://, h2c://")
        );
        assert_eq!(fails("htpp://a:1").help.as_deref(), Some("http://a:1"));
        assert_eq!(fails("helo_world").help.as_deref(), Some("hello_world"));
        assert_eq!(fails("http://fd00::1").help.as_deref(), Some("[fd00::1]"));
        assert!(fails("http://a/path").reason.contains("/path"));
        assert!(fails("http://u:p@a").reason.contains("passwords"));
        assert!(fails("http://a:70000").reason.contains("70000"));
        assert!(fails("http://a:0").reason.contains("port"));
        assert!(fails("http://").reason.contains("host"));
        assert!(fails("http_status:99").reason.contains("status"));
        assert!(fails("http_status:101").reason.contains("1xx"));
        assert!(fails("unix:").reason.contains("path"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_survives_its_text_form(text in "\\PC{0,60}") {
            if let Ok(service) = Service::parse(&text) {
                prop_assert_eq!(Service::parse(&service.to_string()), Ok(service));
            }
        }

        #[test]
        fn urls_survive_their_text_form(
            scheme in "(http|https|h2c|ws|wss)", host in "[a-z][a-z0-9-]{0,8}[a-z0-9](\\.[a-z]{2,5})?", port in 1_u16..
        ) {
            let service = Service::parse(&format!("{scheme}://{host}:{port}")).unwrap();
            prop_assert_eq!(Service::parse(&service.to_string()), Ok(service));
        }
    }
}

//! A nameserver as configurations name it: `host`, `host:port`, an address, `[v6]:port`.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A nameserver by name or address; port 53 where none is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Server {
    host: String,
    port: u16,
}

impl Server {
    /// Its addresses, by the system's own look-up where it is a name.
    pub(crate) async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((self.host.as_str(), self.port)).await?.collect())
    }
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl TryFrom<String> for Server {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self { host: ip.to_string(), port: DEFAULT_PORT });
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(address)
                .filter(|address| address.port() != 0)
                .map(Self::from)
                .ok_or_else(|| refuse(&text));
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|&port| port != 0)),
            None => (text.as_str(), Some(DEFAULT_PORT)),
        };
        let is_name = !host.is_empty()
            && host.len() <= MAX_NAME
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        match port {
            Some(port) if is_name => Ok(Self { host: host.to_owned(), port }),
            _ => Err(refuse(&text)),
        }
    }
}

impl From<Server> for String {
    fn from(server: Server) -> Self {
        server.to_string()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host.contains(':'), self.port) {
            (_, DEFAULT_PORT) => f.write_str(&self.host),
            (true, port) => write!(f, "[{}]:{port}", self.host),
            (false, port) => write!(f, "{}:{port}", self.host),
        }
    }
}

fn refuse(text: &str) -> String {
    format!(
        "`{text}` is not a nameserver: write a name or an address, with a port where it is not 53, as in ns1.example.dev:5353"
    )
}

pub(crate) const DEFAULT_PORT: u16 = 53;
const MAX_NAME: usize = 253;

#[cfg(test)]
mod tests {
    use super::Server;

    #[test]
    fn a_server_is_a_name_or_an_address_with_or_without_a_port() {
        for (written, shown) in [
            ("ns1.example.dev", "ns1.example.dev"),
            ("ns1.example.dev:53", "ns1.example.dev"),
            ("ns1.example.dev:5353", "ns1.example.dev:5353"),
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:54", "192.0.2.1:54"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:54", "[2001:db8::1]:54"),
        ] {
            let server = Server::try_from(written.to_owned()).unwrap();
            assert_eq!(server.to_string(), shown);
            assert_eq!(Server::try_from(shown.to_owned()).unwrap(), server);
        }
        for wrong in ["", ":53", "ns1:0", "192.0.2.1:0", "ns1:x", "http://ns1", "a b", "[::1"] {
            assert!(Server::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}

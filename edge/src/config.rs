//! The edge's configuration: `edge.yaml`, overridden by `CAUSEWAY_EDGE_…` variables, overridden by flags.
//!
//! Every key is optional. After [`Config::load`] a wrong configuration cannot exist.

mod store;
mod tunnels;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use causeway_acme::config::Acme;
use causeway_acme::{Challenge, Settings};
use causeway_daemon::config::{ConfigError, duration, load_with_env};
use causeway_daemon::telemetry::Format;
use causeway_tunnel::Congestion;
use causeway_tunnel::flow::{Budget, available_memory};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

pub use store::{Backend, Server};
pub(crate) use tunnels::check_tunnel_name;
pub use tunnels::{BadName, DeclaredTunnel, Hostname, Key, Name, Tunnels};

/// Variables that override the file: `CAUSEWAY_EDGE_GRACE`, `CAUSEWAY_EDGE_LISTEN_HTTPS`, …
pub const ENV_PREFIX: &str = "CAUSEWAY_EDGE";
/// Read when no `--config` is given and it exists.
pub const DEFAULT_FILE: &str = "/etc/causeway/edge.yaml";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Where the store, the identity key and the control socket live. Default `/var/lib/causeway-edge`.
    pub data: PathBuf,
    /// `sqlite`, a file in `data`, or `postgres://USER@HOST/DATABASE`, which the edges of a fleet share. Default `sqlite`.
    pub store: Backend,
    /// A file that holds the password for it. Default none: as libpq, by `PGPASSFILE` or `~/.pgpass`.
    pub store_password_file: Option<PathBuf>,
    /// `host:port` under which connectors reach this edge: what new tokens carry. Several when it has several names.
    /// Default: the tunnel listener, when that is one plain address.
    pub address: Vec<Address>,
    /// `host:port` of other edges with the same store and key: connectors that come here are told to dial those as well. Default none.
    pub fellows: Vec<Address>,
    pub listen: Listen,
    /// Metrics, health and log level, over plain HTTP: keep it on loopback. Default `127.0.0.1:9101`.
    #[serde(deserialize_with = "socket")]
    pub admin: SocketAddr,
    /// Certificate chains and keys as PEM files; chosen by SNI, read again on SIGHUP and when they change.
    pub certificates: Vec<CertificateFiles>,
    /// Folders of them, such as certbot's `live`: every certificate in it, or in a folder right in it, whose key lies beside it.
    pub certificate_folders: Vec<PathBuf>,
    pub acme: Acme,
    /// Tunnels that are declared here, beside those of the store; read again on SIGHUP. Default none.
    pub tunnels: Tunnels,
    /// Threads that carry traffic, each with its own sockets and sessions. Default 1; one per core is the most that helps.
    pub shards: Shards,
    /// HTTP/3 for visitors, on the UDP ports of `listen.tunnel`. Default true.
    pub http3: bool,
    /// Whether requests over HTTP/3 are taken from a visitor's first flight when it comes back (0-RTT): a round trip less. Those of safe
    /// methods go on marked with `Early-Data: 1`, others wait for the handshake. Default false.
    pub early_data: bool,
    /// The port where visitors reach HTTPS, which is where who comes by plain HTTP is sent. Default: that of the first
    /// `listen.https`.
    pub https_port: Option<NonZeroU16>,
    /// Proxies in front of this edge whose `X-Forwarded-For` is believed. Default none.
    pub trusted_proxies: Vec<Cidr>,
    /// How long requests in flight may run on after a stop was asked for. Default 30s.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// The same when another process has taken over: nobody waits for this one's end, and WebSockets may run on too. Default 1h.
    #[serde(with = "duration")]
    pub hand_over_grace: Duration,
    pub log: Log,
    pub access_log: AccessLog,
    pub limits: Limits,
    /// How connections to connectors find out what the line takes: `auto`, `cubic` (by loss, as TCP) or `bbr`. Default auto.
    pub congestion: Congestion,
    /// Development: a certificate authority of the edge's own signs any granted name. Default false; `--dev` sets it and
    /// moves the default listeners to loopback.
    pub dev: bool,
    /// What was read, for messages.
    #[serde(skip)]
    pub file: String,
}

/// Addresses to listen on; port 0 lets the system choose. Give `[]` to switch one off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listen {
    /// TCP, TLS. Default `[::]:443`.
    #[serde(deserialize_with = "sockets")]
    pub https: Vec<SocketAddr>,
    /// TCP, plain HTTP. Default `[::]:80`.
    #[serde(deserialize_with = "sockets")]
    pub http: Vec<SocketAddr>,
    /// UDP, for connectors. Default `[::]:443`.
    #[serde(deserialize_with = "sockets")]
    pub tunnel: Vec<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateFiles {
    /// PEM, the leaf first.
    pub cert: PathBuf,
    /// PEM, PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    /// `text` or `json`. Default text.
    pub format: Format,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,causeway_edge=debug`. Default info.
    pub level: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AccessLog {
    /// One line a request. Default true.
    pub enabled: bool,
    /// Log the query string too; it often holds secrets. Default false.
    pub query: bool,
}

/// Bounds on what one visitor, one request and the whole edge may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// From the end of the request to the head of the response; then 504. Default 100s.
    #[serde(with = "duration")]
    pub response_header_timeout: Duration,
    /// Silence in the middle of a body, in either direction; event streams and gRPC are exempt. 0 is for ever. Default 300s.
    #[serde(with = "duration")]
    pub body_idle_timeout: Duration,
    /// Silence in both directions of a WebSocket. 0 is for ever. Default 1h.
    #[serde(with = "duration")]
    pub upgrade_idle_timeout: Duration,
    /// A request's whole head, from its first byte. Default 10s.
    #[serde(with = "duration")]
    pub header_timeout: Duration,
    /// Default 10s.
    #[serde(with = "duration")]
    pub tls_handshake_timeout: Duration,
    /// A connection without a request. Default 75s.
    #[serde(with = "duration")]
    pub keep_alive_timeout: Duration,
    /// A visitor that owes us bytes, or does not take ours. Default 60s.
    #[serde(with = "duration")]
    pub visitor_idle_timeout: Duration,
    /// Visitors' connections in all. 0 leaves it to the limit on open files. Default 0.
    pub connections: usize,
    /// Connections of one IPv4 address or IPv6 /64; trusted proxies are exempt. Default 512.
    pub connections_per_ip: usize,
    /// New connections a second of one IPv4 address or IPv6 /64, after a burst of twice [`Limits::connections_per_ip`]; trusted
    /// proxies are exempt. 0 is no limit. Default 100.
    pub connection_rate_per_ip: u32,
    /// Requests in flight of one IPv4 address or IPv6 /64, WebSockets and event streams included; then 503. Behind a
    /// trusted proxy it is the visitor's address that counts. Default 512.
    pub requests_per_ip: usize,
    /// Sessions of one tunnel, all its connectors together. Default 256.
    pub sessions_per_tunnel: usize,
    /// What all streams of the process may hold unread and unsent. 0 is an eighth of the memory that the machine or the cgroup
    /// allows, from 32 MiB to 1 GiB. Default 0.
    pub buffer_bytes: usize,
    /// What the process may have of memory, in bytes: from 85 % on it takes on less and less. 0 is what the cgroup allows or the
    /// machine has. Default 0.
    pub memory_bytes: usize,
}

/// `host:port`, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(String);

/// An address to listen on, told from what is none by a message with the mend.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Socket(SocketAddr);

/// A network such as `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(pub IpNet);

/// 1 to [`MAX_SHARDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Shards(u16);

/// More threads than this have never helped anybody; a typing mistake could start thousands.
const MAX_SHARDS: u16 = 64;

/// What flags say; each wins over file and environment.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub data: Option<PathBuf>,
    pub store: Option<Backend>,
    pub dev: bool,
    pub https: Vec<SocketAddr>,
    pub http: Vec<SocketAddr>,
    pub tunnel: Vec<SocketAddr>,
    pub admin: Option<SocketAddr>,
    pub address: Vec<Address>,
}

impl Config {
    /// Reads `file`, or [`DEFAULT_FILE`] when that exists, or nothing; then the environment; then the flags.
    ///
    /// # Errors
    /// When the file cannot be read or something in it is wrong: names file, line and column.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        let file = file.or_else(|| Some(Path::new(DEFAULT_FILE)).filter(|path| path.exists()));
        let mut config: Self = load_with_env(file, ENV_PREFIX)?;
        config.file = file.map_or_else(|| ENV_PREFIX.to_owned(), |file| file.display().to_string());
        config.apply(overrides);
        Ok(config)
    }

    fn apply(&mut self, overrides: &Overrides) {
        if overrides.dev || self.dev {
            self.dev = true;
            if self.listen == Listen::default() {
                self.listen = Listen::loopback();
            }
        }
        if let Some(data) = &overrides.data {
            self.data.clone_from(data);
        }
        if let Some(store) = &overrides.store {
            self.store.clone_from(store);
        }
        if let Some(admin) = overrides.admin {
            self.admin = admin;
        }
        let replace = |ours: &mut Vec<SocketAddr>, theirs: &[SocketAddr]| {
            if !theirs.is_empty() {
                *ours = theirs.to_vec();
            }
        };
        replace(&mut self.listen.https, &overrides.https);
        replace(&mut self.listen.http, &overrides.http);
        replace(&mut self.listen.tunnel, &overrides.tunnel);
        if !overrides.address.is_empty() {
            self.address.clone_from(&overrides.address);
        }
    }

    /// What certificates are ordered for and how; none where they are switched off, or nobody could use them.
    pub(crate) fn issuing(&self) -> Option<Settings> {
        let has = |challenge| match challenge {
            Challenge::TlsAlpn01 => !self.listen.https.is_empty(),
            Challenge::Http01 => !self.listen.http.is_empty(),
            Challenge::Dns01 | Challenge::DnsPersist01 => true,
        };
        let is_on = self.acme.enabled && !self.dev && !self.listen.https.is_empty();
        is_on.then(|| self.acme.settings(has))
    }

    /// The unix socket by which the command line speaks with a running edge.
    pub fn control_socket(&self) -> PathBuf {
        self.data.join("control.sock")
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "/var/lib/causeway-edge".into(),
            store: Backend::Sqlite,
            store_password_file: None,
            address: Vec::new(),
            fellows: Vec::new(),
            listen: Listen::default(),
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 9101)),
            certificates: Vec::new(),
            certificate_folders: Vec::new(),
            acme: Acme::default(),
            tunnels: Tunnels::default(),
            shards: Shards(1),
            http3: true,
            early_data: false,
            https_port: None,
            trusted_proxies: Vec::new(),
            grace: Duration::from_secs(30),
            hand_over_grace: Duration::from_secs(3600),
            log: Log::default(),
            access_log: AccessLog::default(),
            limits: Limits::default(),
            congestion: Congestion::default(),
            dev: false,
            file: String::new(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        let any = |port| vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))];
        Self { https: any(443), http: any(80), tunnel: any(443) }
    }
}

impl Listen {
    fn loopback() -> Self {
        let local = |port| vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
        Self { https: local(8443), http: local(8080), tunnel: local(8443) }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: Format::Text, level: "info".to_owned() }
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { enabled: true, query: false }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            response_header_timeout: Duration::from_secs(100),
            body_idle_timeout: Duration::from_secs(300),
            upgrade_idle_timeout: Duration::from_secs(3600),
            header_timeout: Duration::from_secs(10),
            tls_handshake_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            visitor_idle_timeout: Duration::from_secs(60),
            connections: 0,
            connections_per_ip: 512,
            connection_rate_per_ip: 100,
            requests_per_ip: 512,
            sessions_per_tunnel: 256,
            buffer_bytes: 0,
            memory_bytes: 0,
        }
    }
}

/// What a limit of zero means where it means no limit: longer than any connection lives.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

impl Limits {
    /// [`Limits::buffer_bytes`], zero resolved.
    pub(crate) fn budget(&self) -> Budget {
        if self.buffer_bytes == 0 { Budget::of_machine() } else { Budget::new(self.buffer_bytes) }
    }

    /// [`Limits::memory_bytes`], zero resolved.
    pub(crate) fn memory(&self) -> usize {
        if self.memory_bytes == 0 { available_memory().unwrap_or(usize::MAX) } else { self.memory_bytes }
    }

    /// [`Limits::upgrade_idle_timeout`], zero resolved.
    pub(crate) fn upgrade_idle(&self) -> Duration {
        if self.upgrade_idle_timeout.is_zero() { FOR_EVER } else { self.upgrade_idle_timeout }
    }

    /// [`Limits::body_idle_timeout`], zero resolved.
    pub(crate) fn body_idle(&self) -> Duration {
        if self.body_idle_timeout.is_zero() { FOR_EVER } else { self.body_idle_timeout }
    }
}

impl Shards {
    pub fn count(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Shards {
    type Error = String;

    fn try_from(count: u16) -> Result<Self, String> {
        if (1..=MAX_SHARDS).contains(&count) {
            return Ok(Self(count));
        }
        Err(format!("shards must be 1 to {MAX_SHARDS}, best the number of cores"))
    }
}

impl From<Shards> for u16 {
    fn from(shards: Shards) -> Self {
        shards.0
    }
}

impl Address {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let whole = text.rsplit_once(':').filter(|(host, port)| {
            let host_is_fine = if host.contains(':') {
                host.starts_with('[') && host.ends_with(']')
            } else {
                !host.is_empty()
            };
            host_is_fine && !host.contains(['/', ' ', '@']) && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        match whole {
            Some(_) => Ok(Self(text)),
            None => Err(format!("`{text}` is not `host:port`, as in edge.example.net:443")),
        }
    }
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Socket {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        let port = text.strip_prefix(':').unwrap_or(&text);
        let (wrong, mend) = match text.rsplit_once(':') {
            _ if port.parse::<u16>().is_ok() => ("has no address", format!("[::]:{port}")),
            Some(("localhost", port)) => ("is a name", format!("127.0.0.1:{port}")),
            _ if text.parse::<Ipv6Addr>().is_ok() => ("has no port", format!("[{text}]:443")),
            _ if text.parse::<std::net::IpAddr>().is_ok() => ("has no port", format!("{text}:443")),
            _ => ("is not host:port", "0.0.0.0:443 or [::]:443".to_owned()),
        };
        Err(format!("`{text}` {wrong}: write host:port with an IP address, as in {mend}"))
    }
}

fn socket<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    Socket::deserialize(deserializer).map(|socket| socket.0)
}

fn sockets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    Ok(Vec::<Socket>::deserialize(deserializer)?.into_iter().map(|socket| socket.0).collect())
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let net = text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
        net.map(Self).ok_or_else(|| format!("`{text}` is not a network such as 10.0.0.0/8 or 2001:db8::/32"))
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use causeway_daemon::config::parse;

    use super::*;

    #[test]
    fn an_empty_file_is_the_documented_default() {
        let config: Config = parse("edge.yaml", "{}").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.limits.response_header_timeout, Duration::from_secs(100));
    }

    #[test]
    fn every_key_is_read() {
        let text = "data: /d\naddress: [edge.example.net:443, '[2001:db8::1]:443']\nlisten:\n  https: ['127.0.0.1:0']\n  http: []\n  \
                    tunnel: ['[::1]:0']\nadmin: 127.0.0.1:0\ncertificates:\n  - { cert: c.pem, key: k.pem }\nshards: 3\n\
                    trustedProxies: [10.0.0.0/8, 192.0.2.1]\ngrace: 1m30s\nlog: { format: json, level: debug }\n\
                    accessLog: { enabled: false, query: true }\nlimits: { bodyIdleTimeout: 0s, connectionsPerIp: 7 }\ndev: true\n";
        let config: Config = parse("edge.yaml", text).unwrap();
        assert_eq!(config.shards.count(), 3);
        assert_eq!(config.grace, Duration::from_secs(90));
        assert_eq!(config.address[1].as_str(), "[2001:db8::1]:443");
        assert_eq!(config.trusted_proxies[1].0.to_string(), "192.0.2.1/32");
        assert_eq!((config.limits.body_idle_timeout, config.limits.connections_per_ip), (Duration::ZERO, 7));
        assert!(config.dev && config.access_log.query && !config.access_log.enabled);
    }

    /// `prefix.key` to its value, down to the leaves.
    fn flatten(prefix: &str, value: &serde_json::Value, into: &mut Vec<(String, serde_json::Value)>) {
        for (key, value) in value.as_object().expect("sections are objects") {
            let key = format!("{prefix}{key}");
            if value.is_object() {
                flatten(&format!("{key}."), value, into);
            } else {
                into.push((key, value.clone()));
            }
        }
    }

    #[test]
    fn the_manual_lists_every_key_with_its_default() {
        let page = include_str!("../../docs/configuration.md");
        let page = &page[page.find("## The edge").unwrap()..page.find("## The connector").unwrap()];
        let mut documented: Vec<(&str, &str)> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
            .map(|(key, rest)| (key, rest.split(" | ").next().unwrap()))
            .collect();
        let mut real = Vec::new();
        flatten("", &serde_json::to_value(Config::default()).unwrap(), &mut real);
        documented.sort_unstable();
        real.sort_by(|a, b| a.0.cmp(&b.0));
        let keys: Vec<&str> = real.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(documented.iter().map(|(key, _)| *key).collect::<Vec<_>>(), keys);
        for ((key, written), (_, value)) in documented.iter().zip(&real) {
            let Some(written) = written.strip_prefix('`') else { continue };
            let written = written.trim_end_matches('`');
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let same = written == value
                || matches!((duration::parse(written), duration::parse(&value)), (Ok(a), Ok(b)) if a == b);
            assert!(same, "{key}: the manual says {written}, the code {value}");
        }
    }

    #[test]
    fn hazard_167_a_wrong_key_or_value_is_named_with_its_place() {
        for (text, line, word) in [
            ("grace: 3s\nlisten:\n  htps: []\n", 3, "https"),
            ("shards: 0\n", 1, "shards must be"),
            ("data: /d\naddress: [edge]\n", 2, "host:port"),
            ("trustedProxies: [10.0.0.0/99]\n", 1, "network"),
            (
                "address: \"203.0.113.7:443\"\n",
                1,
                "`address` is a list, not \"203.0.113.7:443\"; write `address: [\"203.0.113.7:443\"]`",
            ),
            (
                "listen: { https: [\"443\"] }\n",
                1,
                "`https`: `443` has no address: write host:port with an IP address, as in [::]:443",
            ),
            (
                "listen:\n  http:\n    - localhost:80\n",
                3,
                "`http`: `localhost:80` is a name: write host:port with an IP address, as in 127.0.0.1:80",
            ),
            (
                "listen:\n  tunnel: \":443\"\n",
                2,
                "`tunnel` is a list, not \":443\"; write `tunnel: [\":443\"]`",
            ),
            (
                "admin: 0.0.0.0\n",
                1,
                "`admin`: `0.0.0.0` has no port: write host:port with an IP address, as in 0.0.0.0:443",
            ),
            ("certificates: { cert: a, key: b }\n", 1, "`certificates` is a list, and here is a mapping"),
            ("certificates:\n  - cert: a\n", 2, "`key` is missing"),
            ("limits: { connections: many }\n", 1, "`connections` is a whole number, not many"),
        ] {
            let error = parse::<Config>("edge.yaml", text).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn dev_moves_only_the_default_listeners_to_loopback() {
        let mut config = Config::default();
        config.apply(&Overrides {
            dev: true,
            http: vec!["127.0.0.1:0".parse().unwrap()],
            ..Overrides::default()
        });
        assert!(config.listen.https[0].ip().is_loopback() && config.listen.tunnel[0].ip().is_loopback());
        assert_eq!(config.listen.http[0].port(), 0);
        let mut config =
            Config { listen: Listen { https: Vec::new(), ..Listen::default() }, ..Config::default() };
        config.apply(&Overrides { dev: true, ..Overrides::default() });
        assert!(config.listen.https.is_empty());
    }
}

//! `originRequest`: how to speak to an origin, for all rules and per rule; the rule's own word wins.

use std::path::PathBuf;
use std::time::Duration;

use causeway_daemon::config::duration;
use http::HeaderName;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::{Location, Spanned};

use super::{Problem, Warning};
use crate::origin::server_name::WantedName;

/// The settings of one rule, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginSettings {
    /// `connectTimeout`, default 30 s: name lookup and TCP connection. 0: no limit.
    pub(crate) connect_timeout: Duration,
    /// `tlsTimeout`, default 10 s: the TLS handshake. 0: no limit.
    pub(crate) tls_timeout: Duration,
    /// `tcpKeepAlive`, default 30 s: between probes on an idle connection. 0: none.
    pub(crate) tcp_keep_alive: Duration,
    /// `noHappyEyeballs`, default false: addresses one after another instead of IPv4 and IPv6 raced.
    pub(crate) no_happy_eyeballs: bool,
    /// `keepAliveConnections`, default 100: idle connections kept, per shard. 0: none.
    pub(crate) keep_alive_connections: usize,
    /// `maxConnections` (ours), default 1,024: connections to the origin, in the whole process; more requests wait for one,
    /// up to `connectTimeout`. A WebSocket holds one for as long as it is open.
    pub(crate) max_connections: usize,
    /// `keepAliveTimeout`, default 90 s: how long an idle connection is kept. 0: no limit.
    pub(crate) keep_alive_timeout: Duration,
    /// `httpHostHeader`, default none: replaces Host; the public name goes to X-Forwarded-Host.
    pub(crate) http_host_header: Option<String>,
    /// `visitorIpHeader` (ours), default none: a field that tells the visitor's address, as CF-Connecting-IP did.
    pub(crate) visitor_ip_header: Option<HeaderName>,
    /// `originServerName`, default the service's host: the name in TLS, sent and verified.
    pub(crate) origin_server_name: Option<String>,
    /// `matchSNItoHost`, default false: the name in TLS is the request's Host (after `httpHostHeader`).
    pub(crate) match_sni_to_host: bool,
    /// `caPool`, default none: a PEM file of authorities trusted besides the system's.
    pub(crate) ca_pool: Option<PathBuf>,
    /// `noTLSVerify`, default false: any certificate is taken.
    pub(crate) no_tls_verify: bool,
    /// `disableChunkedEncoding`, default false: a body of unknown length is held back (up to 1 MiB) to send its length.
    pub(crate) disable_chunked_encoding: bool,
    /// `http2Origin`, default false: HTTP/2 when the origin chooses it in TLS.
    pub(crate) http2_origin: bool,
    /// `responseHeaderTimeout` (ours), default 100 s: from the request's end to the answer's head. 0: no limit.
    pub(crate) response_header_timeout: Duration,
    /// `idleTimeout` (ours), default 5 min: silence inside a body. 0: no limit. Never applied to event streams and gRPC.
    pub(crate) idle_timeout: Duration,
    /// `upgradeIdleTimeout` (ours), default 1 h: silence on a WebSocket. 0: no limit.
    pub(crate) upgrade_idle_timeout: Duration,
    /// `proxyProtocol` (ours), default none: what a service that ends TLS itself is told of each connection. Of no meaning elsewhere.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
}

/// Which version of haproxy's PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyProtocol {
    V2,
}

impl Default for OriginSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(30),
            tls_timeout: Duration::from_secs(10),
            tcp_keep_alive: Duration::from_secs(30),
            no_happy_eyeballs: false,
            keep_alive_connections: 100,
            max_connections: 1024,
            keep_alive_timeout: Duration::from_secs(90),
            http_host_header: None,
            visitor_ip_header: None,
            origin_server_name: None,
            match_sni_to_host: false,
            ca_pool: None,
            no_tls_verify: false,
            disable_chunked_encoding: false,
            http2_origin: false,
            response_header_timeout: Duration::from_secs(100),
            idle_timeout: Duration::from_secs(300),
            upgrade_idle_timeout: Duration::from_secs(3600),
            proxy_protocol: None,
        }
    }
}

/// As written; what is left out is inherited.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct OriginRequest {
    #[serde(with = "duration::option")]
    connect_timeout: Option<Duration>,
    #[serde(with = "duration::option")]
    tls_timeout: Option<Duration>,
    #[serde(with = "duration::option")]
    tcp_keep_alive: Option<Duration>,
    no_happy_eyeballs: Option<bool>,
    keep_alive_connections: Option<usize>,
    max_connections: Option<Spanned<usize>>,
    #[serde(with = "duration::option")]
    keep_alive_timeout: Option<Duration>,
    http_host_header: Option<Spanned<String>>,
    visitor_ip_header: Option<Spanned<String>>,
    origin_server_name: Option<Spanned<String>>,
    #[serde(rename = "matchSNItoHost")]
    match_sni_to_host: Option<bool>,
    ca_pool: Option<Spanned<String>>,
    #[serde(rename = "noTLSVerify")]
    no_tls_verify: Option<Spanned<bool>>,
    disable_chunked_encoding: Option<bool>,
    http2_origin: Option<bool>,
    #[serde(with = "duration::option")]
    response_header_timeout: Option<Duration>,
    #[serde(with = "duration::option")]
    idle_timeout: Option<Duration>,
    #[serde(with = "duration::option")]
    upgrade_idle_timeout: Option<Duration>,
    proxy_protocol: Option<Spanned<String>>,
    // Known to cloudflared, without meaning here.
    access: Option<Spanned<Access>>,
    bastion_mode: Option<Spanned<bool>>,
    proxy_address: Option<Spanned<IgnoredAny>>,
    proxy_port: Option<Spanned<IgnoredAny>>,
    proxy_type: Option<Spanned<IgnoredAny>>,
    ip_rules: Option<Spanned<IgnoredAny>>,
}

/// Who had signed in at Cloudflare Access, by the header that it put into the request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Access {
    required: bool,
}

impl OriginRequest {
    /// Lays this over what is inherited.
    pub(super) fn over(&self, base: &OriginSettings) -> Result<OriginSettings, Problem> {
        let span = |own: Option<Duration>, base: Duration| own.unwrap_or(base);
        let text = |own: &Option<Spanned<String>>, base: &Option<String>| match own {
            // An empty text takes back what was said for all rules.
            Some(own) => (!own.value.is_empty()).then(|| own.value.clone()),
            None => base.clone(),
        };
        if let Some(host) = &self.http_host_header
            && !host.value.is_empty()
            && !is_host_header(&host.value)
        {
            return Err(Problem::at(host.referenced, format!("`{}` cannot be a Host header", host.value)));
        }
        if let Some(name) = &self.origin_server_name
            && !name.value.is_empty()
            && WantedName::parse(&name.value).is_none()
        {
            return Err(Problem::at(
                name.referenced,
                format!("`{}` cannot be a server name in TLS", name.value),
            ));
        }
        let visitor_ip_header = match &self.visitor_ip_header {
            None => base.visitor_ip_header.clone(),
            Some(name) if name.value.is_empty() => None,
            Some(name) => Some(field_of_ours(&name.value).map_err(|reason| {
                Problem::at(name.referenced, reason).help(Some(HELP_VISITOR_IP.to_owned()))
            })?),
        };
        if let Some(limit) = &self.max_connections
            && limit.value == 0
        {
            return Err(Problem::at(
                limit.referenced,
                "`maxConnections: 0` lets no request through: write how many connections the origin may have"
                    .to_owned(),
            ));
        }
        let proxy_protocol = match &self.proxy_protocol {
            None => base.proxy_protocol,
            Some(own) => match own.value.as_str() {
                "" => None,
                "v2" => Some(ProxyProtocol::V2),
                other => {
                    return Err(Problem::at(own.referenced, format!("`{other}` is not spoken here"))
                        .help(Some("write `proxyProtocol: v2`".to_owned())));
                }
            },
        };
        Ok(OriginSettings {
            connect_timeout: span(self.connect_timeout, base.connect_timeout),
            tls_timeout: span(self.tls_timeout, base.tls_timeout),
            tcp_keep_alive: span(self.tcp_keep_alive, base.tcp_keep_alive),
            no_happy_eyeballs: self.no_happy_eyeballs.unwrap_or(base.no_happy_eyeballs),
            keep_alive_connections: self.keep_alive_connections.unwrap_or(base.keep_alive_connections),
            max_connections: self.max_connections.as_ref().map_or(base.max_connections, |own| own.value),
            keep_alive_timeout: span(self.keep_alive_timeout, base.keep_alive_timeout),
            http_host_header: text(&self.http_host_header, &base.http_host_header),
            visitor_ip_header,
            origin_server_name: text(&self.origin_server_name, &base.origin_server_name),
            match_sni_to_host: self.match_sni_to_host.unwrap_or(base.match_sni_to_host),
            ca_pool: match &self.ca_pool {
                Some(own) => (!own.value.is_empty()).then(|| PathBuf::from(&own.value)),
                None => base.ca_pool.clone(),
            },
            no_tls_verify: self.no_tls_verify.as_ref().map_or(base.no_tls_verify, |own| own.value),
            disable_chunked_encoding: self.disable_chunked_encoding.unwrap_or(base.disable_chunked_encoding),
            http2_origin: self.http2_origin.unwrap_or(base.http2_origin),
            response_header_timeout: span(self.response_header_timeout, base.response_header_timeout),
            idle_timeout: span(self.idle_timeout, base.idle_timeout),
            upgrade_idle_timeout: span(self.upgrade_idle_timeout, base.upgrade_idle_timeout),
            proxy_protocol,
        })
    }

    /// `bastionMode`, which makes a rule without a service one that is answered 501.
    pub(super) fn is_bastion(&self) -> Option<bool> {
        self.bastion_mode.as_ref().map(|own| own.value)
    }

    pub(super) fn has_access(&self) -> bool {
        self.access.is_some()
    }

    /// Where `access` says `required: true`: who had not signed in at Cloudflare was refused.
    pub(super) fn guard(&self) -> Option<Location> {
        self.access.as_ref().filter(|own| own.value.required).map(|own| own.referenced)
    }

    pub(super) fn proxy_protocol_at(&self) -> Option<Location> {
        self.proxy_protocol.as_ref().filter(|own| !own.value.is_empty()).map(|own| own.referenced)
    }

    pub(super) fn ca_pool_at(&self) -> Option<(u64, u64)> {
        self.ca_pool.as_ref().map(|pool| (pool.referenced.line(), pool.referenced.column()))
    }

    /// Warnings for what is known but does nothing, and for what weakens security.
    pub(super) fn warn(&self, warnings: &mut Vec<Warning>) {
        let mut warn = |at: &Location, text: String| {
            warnings.push(Warning { line: at.line(), column: at.column(), text });
        };
        let at = |given: &Option<Spanned<IgnoredAny>>| given.as_ref().map(|given| given.referenced);
        let bastion_mode = self.bastion_mode.as_ref().map(|given| given.referenced);
        let access = self.access.as_ref().map(|given| given.referenced);
        let no_access =
            if self.guard().is_some() { GUARDED } else { "Cloudflare Access does not exist here" };
        for (key, given, why) in [
            ("access", access, no_access),
            ("bastionMode", bastion_mode, "jump hosts are not served"),
            ("proxyAddress", at(&self.proxy_address), "it belongs to the SOCKS proxy, which is not served"),
            ("proxyPort", at(&self.proxy_port), "it belongs to the SOCKS proxy, which is not served"),
            ("proxyType", at(&self.proxy_type), "SOCKS proxies are not served"),
            ("ipRules", at(&self.ip_rules), "it belongs to the SOCKS proxy, which is not served"),
        ] {
            if let Some(at) = given {
                warn(&at, format!("`{key}` is ignored: {why}"));
            }
        }
        if let Some(off) = self.no_tls_verify.as_ref().filter(|off| off.value) {
            warn(
                &off.referenced,
                "`noTLSVerify` takes any certificate: `caPool` is the safe way to trust a private one"
                    .to_owned(),
            );
        }
    }
}

/// Whether a text can be a Host header.
pub(crate) fn is_host_header(text: &str) -> bool {
    http::uri::Authority::try_from(text).is_ok() && !text.contains('@')
}

/// A field that may be set on every request without changing what the request is.
fn field_of_ours(name: &str) -> Result<HeaderName, String> {
    let field = HeaderName::try_from(name).map_err(|_| format!("`{name}` cannot be the name of a header"))?;
    let text = field.as_str();
    let is_taken = TAKEN.contains(&text)
        || ["proxy-", "sec-", "x-forwarded-"].iter().any(|prefix| text.starts_with(prefix));
    if is_taken {
        return Err(format!("`{name}` already has a meaning in HTTP"));
    }
    Ok(field)
}

/// What was let in by somebody else's check alone is not opened to everybody by a change of programs.
const GUARDED: &str = "nobody checks here who signed in at Cloudflare Access, so what it guarded is answered 501; take it \
                       out to open the service to everybody";

const HELP_VISITOR_IP: &str =
    "CF-Connecting-IP is what apps behind cloudflared know; X-Real-IP is always there";

/// What frames, routes or authenticates a request, or names its visitor already.
const TAKEN: [&str; 16] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-request-id",
];

//! The file's top-level keys, and why cloudflared's other ones do nothing here.

/// All keys that may stand at the top of the file: ours first, then those of cloudflared that are ignored.
pub(super) const KEYS: &[&str] = &[
    "ingress",
    "originRequest",
    "url",
    "edges",
    "tokenFile",
    "token-file",
    "gracePeriod",
    "grace-period",
    "metrics",
    "loglevel",
    "output",
    "log",
    "shards",
    "bufferBytes",
    "congestion",
    "protocol",
    "quicProbeInterval",
    "proxy",
    "proxyPasswordFile",
    "data",
    "acme",
    "certificateFolders",
    // Who the tunnel is: the token says it.
    "tunnel",
    "credentials-file",
    "cred-file",
    "credentials-contents",
    "origincert",
    "token",
    "name",
    "hostname",
    "label",
    "lb-pool",
    "id",
    "tag",
    // How to reach Cloudflare.
    "edge",
    "region",
    "cacert",
    "edge-ip-version",
    "edge-bind-address",
    "ha-connections",
    "max-edge-addr-retries",
    "retries",
    "rpc-timeout",
    "write-stream-timeout",
    "dial-edge-timeout",
    "quick-service",
    "api-url",
    "api-key",
    "api-email",
    "api-ca-key",
    "management-hostname",
    "service-op-ip",
    "post-quantum",
    "pq",
    "features",
    "quic-disable-pmtu-discovery",
    "quic-connection-level-flow-control-limit",
    "quic-stream-level-flow-control-limit",
    "heartbeat-interval",
    "heartbeat-count",
    "use-reconnect-token",
    "compression-quality",
    "max-fetch-size",
    // The program itself.
    "autoupdate-freq",
    "no-autoupdate",
    "is-autoupdated",
    "no-prechecks",
    "pidfile",
    "logfile",
    "log-directory",
    "transport-loglevel",
    "proto-loglevel",
    "trace-output",
    "metrics-update-freq",
    "management-diagnostics",
    "stdin-control",
    "ui",
    "config",
    "dns-resolver-addrs",
    "max-active-flows",
    "icmpv4-src",
    "icmpv6-src",
    "warp-routing",
    // Settings of the one origin that `url` names.
    "hello-world",
    "socks5",
    "unix-socket",
    "bastion",
    "proxy-address",
    "proxy-port",
    "proxy-connect-timeout",
    "proxy-connection-timeout",
    "proxy-expect-continue-timeout",
    "proxy-tls-timeout",
    "proxy-tcp-keepalive",
    "proxy-no-happy-eyeballs",
    "proxy-keepalive-connections",
    "proxy-keepalive-timeout",
    "http-host-header",
    "origin-server-name",
    "origin-ca-pool",
    "no-tls-verify",
    "no-chunked-encoding",
    "http2-origin",
    "ssh-server",
    "ssh-port",
    "ssh-idle-timeout",
    "ssh-max-timeout",
    "bucket-name",
    "region-name",
    "secret-id",
    "access-key-id",
    "session-token",
    "s3-url-host",
    "host-key-path",
];

/// How many of [`KEYS`] do something here.
pub(super) const OURS: usize = 22;

/// Why a known key does nothing. Only for keys of [`KEYS`] that the file does not use.
pub(super) fn why(key: &str) -> &'static str {
    match key {
        "tunnel"
        | "credentials-file"
        | "cred-file"
        | "credentials-contents"
        | "origincert"
        | "name"
        | "id" => {
            "a Causeway token says which tunnel this is (tokenFile, CAUSEWAY_TOKEN_FILE or CAUSEWAY_TOKEN)"
        }
        "token" => {
            "a secret does not belong into this file: use tokenFile, CAUSEWAY_TOKEN_FILE or CAUSEWAY_TOKEN"
        }
        "hostname" => "hostnames stand in the rules",
        "edge" | "region" | "cacert" => "the token names the edges and their key (`edges` can name others)",
        "ha-connections" => "the connector keeps one session to each shard of each edge and one in reserve",
        "warp-routing" | "icmpv4-src" | "icmpv6-src" | "max-active-flows" | "dns-resolver-addrs" => {
            "private networks are not carried"
        }
        "retries" | "max-edge-addr-retries" => "the connector tries for ever",
        "autoupdate-freq" | "no-autoupdate" | "is-autoupdated" => "the connector never updates itself",
        "logfile" | "log-directory" | "transport-loglevel" | "proto-loglevel" | "trace-output" => {
            "logs go to standard error (`log: {level, format}` sets them)"
        }
        "hello-world" => "write a rule with `service: hello_world`",
        "unix-socket" => "write a rule with `service: unix:PATH`",
        "http-host-header" => "write `httpHostHeader` under `originRequest`",
        "origin-server-name" => "write `originServerName` under `originRequest`",
        "origin-ca-pool" => "write `caPool` under `originRequest`",
        "no-tls-verify" => "write `noTLSVerify` under `originRequest`",
        "no-chunked-encoding" => "write `disableChunkedEncoding` under `originRequest`",
        "http2-origin" => "write `http2Origin` under `originRequest`",
        "proxy-connect-timeout" | "proxy-connection-timeout" => {
            "write `connectTimeout` under `originRequest`"
        }
        "proxy-tls-timeout" => "write `tlsTimeout` under `originRequest`",
        "proxy-tcp-keepalive" => "write `tcpKeepAlive` under `originRequest`",
        "proxy-no-happy-eyeballs" => "write `noHappyEyeballs` under `originRequest`",
        "proxy-keepalive-connections" => "write `keepAliveConnections` under `originRequest`",
        "proxy-keepalive-timeout" => "write `keepAliveTimeout` under `originRequest`",
        _ => "it has no meaning for a Causeway connector",
    }
}

//! What the allocator can be told: flags, each with an environment variable.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use causeway_daemon::telemetry::Format;
use clap::Args;

use crate::api::DEFAULT_NAMESPACE;
use crate::range::{IpRange, RangeError};

/// Flags of `causeway-allocator run`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The namespace of pools and advertisements.
    #[arg(long, env = "CAUSEWAY_NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    pub namespace: String,
    /// Serve Services with this loadBalancerClass only; without it, those without a class.
    #[arg(long = "lb-class", env = "CAUSEWAY_LB_CLASS")]
    pub class: Option<String>,
    /// Rest of a released address before another Service gets it, in seconds; a full pool does not wait.
    #[arg(long, env = "CAUSEWAY_COOL_DOWN", default_value = "60", value_parser = seconds)]
    pub cool_down: Duration,
    /// An address or range that is never given, such as the gateway of the LAN; may be repeated or separated by commas.
    #[arg(long = "reserve", env = "CAUSEWAY_RESERVE", value_delimiter = ',', value_parser = range)]
    pub reserve: Vec<IpRange>,
    /// The name of the Lease by which replicas agree on one that writes.
    #[arg(long, env = "CAUSEWAY_LEASE", default_value = "causeway-allocator")]
    pub lease: String,
    /// This replica's name in the Lease; by default the pod's name or the host's.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// The pod's uid: its ConfigurationState goes with it.
    #[arg(long, env = "POD_UID", hide = true)]
    pub pod_uid: Option<String>,
    /// Where /live, /ready and /metrics are served.
    #[arg(long, env = "CAUSEWAY_ADMIN", default_value = "127.0.0.1:17472")]
    pub admin: SocketAddr,
    /// The kubeconfig to use outside a pod.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// How log lines look.
    #[arg(long, env = "CAUSEWAY_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: Format,
    /// error, warn, info, debug, trace, or per part as in `info,causeway_l2=debug`. By default the client's own lines
    /// are left out: whatever fails is told once by the part that it fails for.
    #[arg(long, env = "CAUSEWAY_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// A range as in a pool, or a single address: here nobody can have meant anything else.
fn range(text: &str) -> Result<IpRange, RangeError> {
    let single = text.trim().parse::<IpAddr>().map(|address| IpRange::single(address.to_canonical()));
    single.or_else(|_| text.parse())
}

fn seconds(text: &str) -> Result<Duration, String> {
    causeway_daemon::config::duration::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn the_routers_address_is_reserved_as_it_is_written() {
        for text in ["192.168.1.1", " 192.168.1.1/32", "192.168.1.1-192.168.1.1"] {
            assert_eq!(range(text).unwrap().to_string(), "192.168.1.1/32", "{text}");
        }
        assert!(range("router").is_err());
    }
}

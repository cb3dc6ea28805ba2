//! What the speaker can be told: flags, each with an environment variable.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use causeway_daemon::telemetry::Format;
use clap::Args;

use crate::{announce::OnConflict, api::DEFAULT_NAMESPACE};

/// Flags of `causeway-speaker run`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The Kubernetes name of the node that this speaker runs on.
    #[arg(long, env = "CAUSEWAY_NODE_NAME")]
    pub node_name: String,
    /// The node's address at which other speakers reach this one; by default the first global one of an interface.
    #[arg(long, env = "CAUSEWAY_NODE_IP")]
    pub node_ip: Option<IpAddr>,
    /// The namespace of pools, advertisements and statuses.
    #[arg(long, env = "CAUSEWAY_NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    pub namespace: String,
    /// Serve Services with this loadBalancerClass only; without it, those without a class.
    #[arg(long = "lb-class", env = "CAUSEWAY_LB_CLASS")]
    pub class: Option<String>,
    /// Announce also from nodes with the label node.kubernetes.io/exclude-from-external-load-balancers.
    #[arg(long = "ignore-exclude-lb", env = "CAUSEWAY_IGNORE_EXCLUDE_LB")]
    pub ignore_exclude_label: bool,
    /// UDP and TCP address for the other speakers. All of them use the same port.
    #[arg(long, env = "CAUSEWAY_MEMBERLIST_BIND", default_value = "0.0.0.0:7946")]
    pub memberlist_bind: SocketAddr,
    /// The file with the secret that all speakers share.
    #[arg(long = "key-file", alias = "memberlist-key-file", env = "CAUSEWAY_KEY_FILE")]
    pub key_file: PathBuf,
    /// Addresses of further speakers, besides those of the cluster's Nodes.
    #[arg(long, env = "CAUSEWAY_PEERS", value_delimiter = ',')]
    pub peers: Vec<SocketAddr>,
    /// MetalLB's list of interfaces that are never used; without the file, its default list.
    #[arg(long, env = "CAUSEWAY_EXCLUDE_FILE", default_value = "/etc/metallb/excludel2.yaml")]
    pub exclude_file: PathBuf,
    /// Regular expressions of interfaces that are never used; replaces the file.
    #[arg(long, env = "CAUSEWAY_EXCLUDE_INTERFACES", value_delimiter = ',')]
    pub exclude_interfaces: Vec<String>,
    /// Receive every frame of the interfaces: for wireless drivers that withhold broadcasts.
    #[arg(long, env = "CAUSEWAY_PROMISCUOUS")]
    pub promiscuous: bool,
    /// When another host keeps claiming an address: `defend` it (once in 10 s) or `yield`.
    #[arg(long, env = "CAUSEWAY_ON_CONFLICT", value_enum, default_value = "defend")]
    pub(crate) on_conflict: OnConflict,
    /// How long a node must be a member before it is given addresses that have an owner, in seconds.
    #[arg(long, env = "CAUSEWAY_SETTLE_AFTER", default_value = "5", value_parser = seconds)]
    pub settle_after: std::time::Duration,
    /// Where /live, /ready, /metrics and /status are served.
    #[arg(long, env = "CAUSEWAY_ADMIN", default_value = "127.0.0.1:17472")]
    pub admin: SocketAddr,
    /// The pod's name and uid: its statuses go with it.
    #[arg(long, env = "POD_NAME", hide = true)]
    pub pod_name: Option<String>,
    #[arg(long, env = "POD_UID", hide = true)]
    pub pod_uid: Option<String>,
    /// The kubeconfig to use outside a pod.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// How log lines look.
    #[arg(long, env = "CAUSEWAY_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: Format,
    /// error, warn, info, debug, trace, or per part as in `info,causeway_l2=debug`.
    #[arg(long, env = "CAUSEWAY_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

fn seconds(text: &str) -> Result<std::time::Duration, String> {
    causeway_daemon::config::duration::parse(text).map_err(|error| error.to_string())
}

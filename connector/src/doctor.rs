//! `doctor`: looks at everything that stands between a visitor and the origins, from home, whether the connector runs or not.
//!
//! ```text
//! cluster   the Services that become rules
//! running   what the running connector says of itself
//! edges     name, ports, time, and a trial session over each carrier (tunnel): token, way, proxy
//! visitors  names and certificates as visitors see them
//! origins   each rule's service: name, TCP, TLS, HTTP (what an answer means: answers)
//! ```

mod answers;
mod arp;
mod cluster;
mod edges;
mod origins;
mod running;
mod tunnel;
mod visitors;

use anyhow::Result;
use causeway_daemon::config::ConfigError;
use causeway_daemon::doctor::{Finding, Report};
use causeway_front::doctor::kernel;
use causeway_tunnel::Token;

use crate::carriers::Protocol;
use crate::config::{self, Config};
use crate::forward_proxy::Outward;
use crate::kubernetes::{AccessError, Discovery};
use crate::status::Status;

use tunnel::Way;

/// What there is to look at.
#[derive(Debug)]
pub(crate) struct Patient {
    /// None: there is no rule file.
    pub(crate) config: Option<Result<Config, ConfigError>>,
    /// What one look at the cluster has shown. None: none is asked for.
    pub(crate) cluster: Option<Result<Discovery, AccessError>>,
    pub(crate) token: Result<Token>,
    /// Instead of the token's and the file's edges.
    pub(crate) edges: Vec<String>,
    /// What edges are dialled over, and through what.
    pub(crate) protocol: Protocol,
    pub(crate) outward: Result<Outward, ConfigError>,
    /// What the running connector says, if one runs.
    pub(crate) running: Option<Status>,
}

pub(crate) async fn examine(patient: Patient) -> Report {
    let Patient { config, cluster, token, edges, protocol, outward, running } = patient;
    let mut report = Report::default();
    let token = match token {
        Ok(token) => Some(token),
        Err(error) => {
            let mend = "write what `causeway-edge tunnel create` or `tunnel rotate` printed into a file, and name it with --token-file";
            report.add(Finding::fault("token", "token", format!("{error:#}"), mend));
            None
        }
    };
    let config = match (config, &cluster) {
        (None, Some(_)) => Some(config::of_cluster()),
        // `running` tells of its Services.
        (None, None) if running.as_ref().is_some_and(|status| status.config.cluster.is_some()) => None,
        (config, _) => rules(config, &mut report),
    };
    let config = match (config, cluster) {
        (Some(config), Some(cluster)) => {
            let (config, findings) = cluster::examine(config, cluster);
            report.extend(findings);
            Some(config)
        }
        (config, _) => config,
    };
    report.add(kernel::buffers());
    report.extend(running::findings(running.as_ref(), token.as_ref()));
    let of_file = config.as_ref().and_then(|config| config.edges.clone());
    let names = match (edges.is_empty(), of_file, &token) {
        (false, ..) => edges,
        (true, Some(of_file), _) => of_file,
        (true, None, Some(token)) => token.edges.clone(),
        (true, None, None) => Vec::new(),
    };
    let outward = self::outward(outward, &mut report);
    let mut addresses = Vec::new();
    for name in &names {
        let proxy = outward.as_ref().and_then(|outward| outward.proxy(name));
        let (found, findings) = edges::examine(name, token.as_ref(), &Way { protocol, proxy }).await;
        addresses.extend(found);
        report.extend(findings);
    }
    if let Some(config) = &config {
        report.extend(visitors::examine(config, &addresses).await);
        report.extend(origins::examine(config, running.as_ref().and_then(|status| status.metrics)).await);
    }
    report
}

fn outward(outward: Result<Outward, ConfigError>, report: &mut Report) -> Option<Outward> {
    match outward {
        Ok(outward) => {
            if let Some(trouble) = outward.trouble() {
                let mend = "mend the variable; `--proxy none` takes no notice of it";
                report.add(Finding::warning("proxy", "environment", trouble, mend));
            }
            Some(outward)
        }
        Err(error) => {
            let mend = "write the password into the file that is named, for the connector's user to read";
            report.add(Finding::fault("proxy", error.file.clone(), error.to_string(), mend));
            None
        }
    }
}

fn rules(config: Option<Result<Config, ConfigError>>, report: &mut Report) -> Option<Config> {
    match config {
        None => {
            let mend = "name it with --config, or one service with --url";
            report.add(Finding::warning(
                "rules",
                "rules",
                "there is no rule file: all names show the hello page, and no origin is looked at",
                mend,
            ));
            None
        }
        Some(Err(error)) => {
            let subject = error.file.clone();
            let mend = error
                .help
                .clone()
                .unwrap_or_else(|| format!("`causeway-connector check {subject}` says it again"));
            let cause = ConfigError { help: None, ..error }.to_string();
            report.add(Finding::fault("rules", subject, cause, mend));
            None
        }
        Some(Ok(config)) => {
            report.add(Finding::ok("rules", &config.file, format!("{} rules", config.rules.len())));
            let warnings = config.warnings.iter();
            report.extend(warnings.map(|warning| Finding::note("rules", &config.file, warning.to_string())));
            Some(config)
        }
    }
}

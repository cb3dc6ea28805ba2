//! `doctor`: gathers what there is, and prints what is found.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use causeway_daemon::doctor::Report;
use causeway_daemon::output::Output;
use clap::Args;
use http::StatusCode;

use super::kubernetes::KubernetesArgs;
use super::outward::OutwardArgs;
use super::{Where, ask, read_token, usual_places};
use crate::config::{self, Config};
use crate::doctor::{Patient, examine};
use crate::kubernetes::Cluster;
use crate::status::Status;

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Rule file, as for `run`
    #[arg(long, env = "CAUSEWAY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Instead of a rule file: one service
    #[arg(long, conflicts_with = "config", value_name = "SERVICE")]
    url: Option<String>,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
    /// File with the tunnel's token [or the token itself in CAUSEWAY_TOKEN]
    #[arg(long, env = "CAUSEWAY_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Address of an edge instead of the token's; may be repeated
    #[arg(long, env = "CAUSEWAY_EDGES", value_delimiter = ',', value_name = "HOST:PORT")]
    edge: Vec<String>,
    #[command(flatten)]
    outward: OutwardArgs,
    #[command(flatten)]
    place: Where,
}

pub(super) async fn run(args: DoctorArgs, output: Output) -> Result<ExitCode> {
    let config = match (&args.url, &args.config) {
        (Some(url), _) => Some(config::from_url(url)),
        (None, Some(file)) => Some(config::load(file)),
        (None, None) => {
            usual_places().into_iter().find(|place| place.is_file()).map(|file| config::load(&file))
        }
    };
    let (config, said) = match config {
        Some(Ok(config)) => {
            let config = args.outward.over(config)?;
            (Some(Ok(config.clone())), config)
        }
        other => (other, args.outward.over(config::of_nobody())?),
    };
    let of_file = |config: &Config| config.token_file.clone();
    let token_file = args.token_file.or_else(|| config.as_ref()?.as_ref().ok().and_then(of_file));
    let running: Option<Status> = match ask(&args.place, "/status").await {
        Ok((StatusCode::OK, body)) => serde_json::from_slice(&body).ok(),
        _ => None,
    };
    let token = read_token(token_file.as_deref());
    let cluster = match args.kubernetes.options()? {
        Some(options) => Some(Cluster::begin(options, None).await.map(|cluster| cluster.discovery())),
        None => None,
    };
    let (protocol, outward) = (said.carriers.protocol, said.outward());
    let patient = Patient { config, cluster, token, edges: args.edge, protocol, outward, running };
    let report = examine(patient).await;
    output.print(&report, Report::render)?;
    Ok(report.exit_code())
}

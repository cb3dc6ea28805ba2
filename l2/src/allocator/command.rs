//! The commands of `causeway-allocator` besides `run`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use causeway_daemon::output::Output;
use clap::Subcommand;
use kube::Api;
use kube::api::ListParams;

use super::{Index, Settings, load};
use crate::allocate::ServiceKey;
use crate::api::{DEFAULT_NAMESPACE, ServiceL2Status};
use crate::call::Call;
use crate::speaker::Silence;
use crate::{check, client, convert, crds, explain, manifest};

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Print the CustomResourceDefinitions.
    Crds,
    /// Check manifests without a cluster; `-` reads standard input.
    Check {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The namespace that the allocator reads; by default the one that most of the files name.
        #[arg(long)]
        namespace: Option<String>,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Turn MetalLB's old ConfigMap or manifests into the resources that are read now; `-` reads standard input.
    Convert {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The namespace of the result where a document names none.
        #[arg(long)]
        namespace: Option<String>,
    },
    /// Say why a Service has, or has not, its address.
    Explain {
        /// NAMESPACE/NAME.
        service: String,
        /// The namespace of pools and advertisements.
        #[arg(long, env = "CAUSEWAY_NAMESPACE", default_value = DEFAULT_NAMESPACE)]
        namespace: String,
        #[arg(long = "lb-class", env = "CAUSEWAY_LB_CLASS")]
        class: Option<String>,
        #[arg(long, env = "KUBECONFIG")]
        kubeconfig: Option<PathBuf>,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Ask a running allocator whether it is ready; for probes.
    Healthcheck {
        #[arg(long, env = "CAUSEWAY_ADMIN", default_value = "127.0.0.1:17472")]
        admin: std::net::SocketAddr,
    },
}

/// Runs one command.
///
/// # Errors
/// When it cannot do its work; findings of `check` are its work, and an exit code.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Crds => print(&crds::yaml()?),
        Command::Check { files, namespace, output } => {
            let report = check::check(&documents(&files)?, namespace.as_deref());
            output.print(&report, ToString::to_string)?;
            Ok(if report.has_errors() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        Command::Convert { files, namespace } => {
            let converted = convert::convert(&documents(&files)?, namespace.as_deref())?;
            converted.remarks.iter().for_each(|remark| eprintln!("remark: {remark}"));
            print(&converted.yaml()?)
        }
        Command::Explain { service, namespace, class, kubeconfig, output } => {
            let (in_namespace, name) = service.split_once('/').unwrap_or(("default", &service));
            let key = ServiceKey::new(in_namespace, name);
            let client = client::connect(kubeconfig.as_deref()).await?;
            let class = class.filter(|class| !class.is_empty());
            let mut index = Index::new(Settings { cool_down: Duration::ZERO, reserved: Vec::new() });
            if kubeconfig.is_none() {
                // In the allocator's pod its network is ours; elsewhere another machine's gateway would count.
                index.set_own_gateways(crate::host_routes::gateways());
            }
            load(&client, &namespace, class.as_deref(), &mut index).await?;
            let statuses: Api<ServiceL2Status> = Api::namespaced(client.clone(), &namespace);
            let statuses = Call::new("list", "servicel2statuses")
                .run(statuses.list(&ListParams::default()))
                .await?
                .items;
            let silence = Silence::look(&client, &namespace, class.as_deref(), in_namespace, name).await?;
            let reasons = silence.reasons();
            let explanation = explain::explain(&mut index, &key, &statuses, reasons, Instant::now())
                .with_context(|| {
                    format!("there is no Service {key} of type LoadBalancer and of this class")
                })?;
            output.print(&explanation, ToString::to_string)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Healthcheck { admin } => {
            let (status, body) = causeway_daemon::unix_client::http_get(admin, "/ready").await?;
            if status.is_success() {
                return Ok(ExitCode::SUCCESS);
            }
            eprintln!("not ready: {}", String::from_utf8_lossy(&body).trim());
            Ok(ExitCode::FAILURE)
        }
    }
}

fn documents(files: &[PathBuf]) -> anyhow::Result<Vec<manifest::Document>> {
    let mut documents = Vec::new();
    for file in files {
        documents.extend(manifest::read(file)?);
    }
    Ok(documents)
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    use std::io::Write;
    // A reader that has seen enough, such as `head`, is no fault.
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

//! `causeway-allocator`: gives Services of type LoadBalancer their addresses, and says why.

use std::process::ExitCode;

use causeway_daemon::drain::Finished;
use causeway_daemon::signals::{Signals, Stopping};
use causeway_l2::allocator::command::{self, Command};
use causeway_l2::allocator::{App, Options};
use clap::Parser;
use tracing::{error, info, warn};

/// Gives Services of type LoadBalancer their addresses, from the pools of metallb.io/v1beta1.
#[derive(Parser, Debug)]
#[command(name = "causeway-allocator", version)]
struct Arguments {
    #[command(subcommand)]
    command: Main,
}

#[derive(clap::Subcommand, Debug)]
enum Main {
    /// Run the allocator until SIGTERM.
    Run(Box<Options>),
    #[command(flatten)]
    Other(Command),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One thread: the work is small and waits for the API server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| match arguments.command {
        Main::Run(options) => runtime.block_on(run(&options)),
        Main::Other(command) => runtime.block_on(command::run(command)),
    });
    result.unwrap_or_else(|error| {
        causeway_daemon::output::complain(format!("causeway-allocator: {error:#}"));
        ExitCode::FAILURE
    })
}

async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let (levels, _flush) = causeway_daemon::telemetry::init(options.log_format, &options.log_level)?;
    let mut signals = Signals::install()?;
    let client = causeway_l2::client::connect(options.kubeconfig.as_deref()).await?;
    let app = App::start(client, options, Some(levels)).await?;
    info!(version = env!("CARGO_PKG_VERSION"), admin = ?app.admin(), namespace = %options.namespace, "started");
    let drain = app.drain();
    // There is nothing to read again.
    signals.until_stop(&drain, || ()).await;
    let stopping = Stopping { grace: App::GRACE, in_flight: drain.tasks() as u64 };
    let stopped = signals.until_stopped(&drain, stopping, app.stop()).await;
    if stopped == Finished::Forced {
        warn!("stopped by force; what was not written is written by the next leader");
    }
    if app.panics() > 0 {
        error!(panics = app.panics(), "tasks panicked while this process ran");
    }
    Ok(ExitCode::SUCCESS)
}

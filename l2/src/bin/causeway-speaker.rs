//! `causeway-speaker`: answers for the addresses of Services on the LAN, and moves them when a node dies.

use std::process::ExitCode;

use causeway_daemon::{
    drain::Finished,
    signals::{Signals, Stopping},
};
use causeway_l2::{
    client,
    speaker::{
        App, Options,
        command::{self, Command},
    },
};
use clap::Parser;
use tracing::{error, info, warn};

/// Answers ARP and NDP for the addresses of Services of type LoadBalancer.
#[derive(Parser, Debug)]
#[command(name = "causeway-speaker", version)]
struct Arguments {
    #[command(subcommand)]
    command: Main,
}

#[derive(clap::Subcommand, Debug)]
enum Main {
    /// Run the speaker until SIGTERM.
    Run(Box<Options>),
    #[command(flatten)]
    Other(Command),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| match arguments.command {
        Main::Run(options) => runtime.block_on(run(&options)),
        Main::Other(command) => runtime.block_on(command::run(command)),
    });
    result.unwrap_or_else(|error| {
        causeway_daemon::output::complain(format!("causeway-speaker: {error:#}"));
        ExitCode::FAILURE
    })
}

async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let (levels, _flush) = causeway_daemon::telemetry::init(options.log_format, &options.log_level)?;
    let mut signals = Signals::install()?;
    let client = client::connect(options.kubeconfig.as_deref()).await?;
    let mut app = App::start(client, options, Some(levels)).await?;
    info!(version = env!("CARGO_PKG_VERSION"), admin = ?app.admin(), node = options.node_name, "started");
    let drain = app.drain();
    let failed = tokio::select! {
        // There is nothing to read again.
        () = signals.until_stop(&drain, || ()) => false,
        () = app.failed() => true,
    };
    let stopping = Stopping { grace: App::GRACE, in_flight: drain.tasks() as u64 };
    let stopped = signals.until_stopped(&drain, stopping, app.stop()).await;
    if stopped == Finished::Forced {
        warn!("stopped by force");
    }
    if app.panics() > 0 {
        error!(panics = app.panics(), "tasks panicked while this process ran");
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

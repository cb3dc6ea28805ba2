//! The command line: parses it, runs one command, prints its result and gives the exit code.

mod cert;
mod check;
mod doctor;
mod healthcheck;
mod identity;
mod run;
mod status;
mod text;
mod transfer;
mod tunnel;
mod upgrade;

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use causeway_daemon::config::ConfigError;
use causeway_daemon::output::Output;
use causeway_daemon::unix_client::RequestError;
use causeway_tunnel::PublicKeyError;
use clap::{Args, Parser, Subcommand};

use crate::config::{Address, Config, Overrides};
use crate::route::PatternError;
use crate::store::StoreError;

#[derive(Debug, Parser)]
#[command(
    name = "causeway-edge",
    version,
    about = "The public end of Causeway: ends TLS and routes names into tunnels"
)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Common {
    /// Configuration file [default: /etc/causeway/edge.yaml when it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder: store, identity key, control socket [default: data in the file, or /var/lib/causeway-edge]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the store is: `sqlite`, or postgres://USER@HOST/DATABASE for the edges of a fleet [default: store in the file, or sqlite]
    // A text here: what may hold a password is not to be quoted.
    #[arg(long, global = true, value_name = "URL")]
    store: Option<String>,
    /// How to print the result
    #[arg(long, global = true, value_enum, default_value_t = Output::Text, value_name = "FORM")]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the edge
    Run(RunArgs),
    /// Create and manage tunnels
    Tunnel {
        #[command(subcommand)]
        command: tunnel::Command,
    },
    /// Certificates that the edge orders by itself
    Cert {
        #[command(subcommand)]
        command: cert::Command,
    },
    /// Print the pin by which connectors know this edge, and the command that makes a token with it at home
    Identity,
    /// Write the store and the edge's key into a new file: it is secret
    Export {
        /// Mode 0600; what is there is not replaced
        file: PathBuf,
    },
    /// Take in what `export` wrote, all of it or nothing: into the database of a fleet, say
    Import {
        /// What `export` wrote
        file: PathBuf,
    },
    /// Show tunnels, connectors and listeners of the running edge
    Status,
    /// Start the program's file as the running edge's next process, which takes over without a lost request
    Upgrade,
    /// Check a configuration file and what it names
    Check {
        /// edge.yaml
        file: PathBuf,
    },
    /// Exit 0 when the running edge is ready, else 1 (for Docker)
    Healthcheck,
    /// Look for what keeps visitors out: exit 0 when nothing does, 1 with warnings, 2 with faults
    Doctor,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Development: sign any granted name with an own CA (DATA/dev-ca.pem), listen on loopback by default
    #[arg(long)]
    dev: bool,
    /// Listen here for HTTPS; may be repeated; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    https: Vec<SocketAddr>,
    /// Listen here for plain HTTP; may be repeated
    #[arg(long, value_name = "ADDR")]
    http: Vec<SocketAddr>,
    /// Listen here (UDP) for connectors; may be repeated
    #[arg(long, value_name = "ADDR")]
    tunnel: Vec<SocketAddr>,
    /// Admin address: metrics, health, log level
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// Where connectors reach this edge: what new tokens carry; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    address: Vec<Address>,
    /// Take over from the process that runs on the data folder, if one does, without a lost request; SIGUSR2 to that one does it too
    #[arg(long)]
    take_over: bool,
    /// Start another process with the other arguments, and end
    #[arg(long, hide = true)]
    detach: bool,
}

/// A command that failed: one message that names the mend.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error(
        "tunnel `{name}` is declared in {place}: change it there and have the edge read it again (SIGHUP)"
    )]
    Declared { name: String, place: String },
    #[error(
        "`{hostname}` is granted to the tunnel `{name}`, which is declared in {place}: choose another hostname, or change it there"
    )]
    HostnameDeclared { hostname: String, name: String, place: String },
    #[error(transparent)]
    PublicKey(#[from] PublicKeyError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("cannot print the result")]
    Print(#[from] std::io::Error),
    #[error("{0}")]
    Other(String),
}

impl Cli {
    /// Runs the command on the current thread's runtime.
    pub async fn run(self) -> ExitCode {
        let Self { common, command } = self;
        let result = match command {
            // It logs, and ends with a code of its own.
            Command::Run(args) => return Box::pin(run::run(&common, args)).await,
            Command::Tunnel { command } => tunnel::run(&common, command).await,
            Command::Cert { command } => cert::run(&common, command).await,
            Command::Identity => identity::run(&common).await,
            Command::Export { file } => transfer::export(&common, &file).await,
            Command::Import { file } => transfer::import(&common, &file).await,
            Command::Status => status::run(&common).await,
            Command::Upgrade => upgrade::run(&common).await,
            Command::Check { file } => check::run(&common, &file).await,
            Command::Healthcheck => healthcheck::run(&common).await,
            Command::Doctor => doctor::run(&common).await,
        };
        match result {
            Ok(code) => code,
            Err(error) => {
                complain(&error);
                ExitCode::FAILURE
            }
        }
    }
}

impl Common {
    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref(), &self.overrides()?)
    }

    /// What the common flags say.
    fn overrides(&self) -> Result<Overrides, ConfigError> {
        let store = self.store.as_deref().map(str::parse).transpose();
        let store = store.map_err(|reason: String| ConfigError::new("--store", reason))?;
        Ok(Overrides { data: self.data.clone(), store, ..Overrides::default() })
    }
}

/// One line on standard error: the message and its causes, those that say something new.
fn complain(error: &dyn Error) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text = format!("{text} ({reason})");
        }
        cause = error.source();
    }
    causeway_daemon::output::complain(format!("causeway-edge: {text}"));
}

/// The folder, made if needed, for its owner alone.
fn data_folder(path: &Path) -> Result<(), CliError> {
    crate::app::make_data_folder(path).map_err(|error| CliError::Other(error.to_string()))
}

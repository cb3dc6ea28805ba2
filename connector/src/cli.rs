//! The command line: parses it, runs one command, prints its result and gives the exit code.

mod doctor;
mod expose;
mod kubernetes;
mod outward;
mod token;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use causeway_daemon::config::{ConfigError, Secret, duration};
use causeway_daemon::output::{Output, complain};
use causeway_daemon::signals::Signals;
use causeway_daemon::telemetry::{self, Format};
use causeway_daemon::{limits, unix_client};
use causeway_tunnel::Token;
use clap::{Args, Parser, Subcommand};
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::app::{App, DEFAULT_PORTS, Settings};
use crate::config::{self, AtHome, Config};
use crate::explain::explain;
use crate::home::certificates;
use crate::listing::Listing;
use crate::metrics::Metrics;
use crate::reload::Source;
use crate::rules::{Ground, RuleSet};
use crate::status::Status;
use crate::visits::Visits;

#[derive(Debug, Parser)]
#[command(
    name = "causeway-connector",
    version,
    about = "The home end of Causeway: dials out to edges and carries public requests to your services"
)]
pub struct Cli {
    /// How to print the result
    #[arg(long, global = true, value_enum, default_value_t = Output::Text, value_name = "FORM")]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the connector
    Run(Box<RunArgs>),
    /// Publish one local service under a granted name until Ctrl-C, and show its requests
    Expose(expose::Args),
    /// Make a tunnel's token at home, or show what of it the edge has to know
    Token {
        #[command(subcommand)]
        command: token::Command,
    },
    /// Check a rule file: exit 1 with file, line, column and reason when it is wrong
    Check { file: PathBuf },
    /// Say which rule and service a URL hits, and why
    Route { file: PathBuf, url: String },
    /// Show sessions, rules and figures of the running connector
    Status(Where),
    /// Show the rules in force of the running connector, and where each comes from
    Rules(Where),
    /// Exit 0 when the running connector has a session with an edge, else 1 (for Docker)
    Healthcheck(Where),
    /// Look for what keeps visitors from the origins: exit 0 when nothing does, 1 with warnings, 2 with faults
    Doctor(doctor::DoctorArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Rule file, as of cloudflared [default: the first of the usual places that exists]
    #[arg(long, env = "CAUSEWAY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Instead of a rule file: send everything to this service, such as http://10.0.0.104
    #[arg(long, conflicts_with = "config", value_name = "SERVICE")]
    url: Option<String>,
    #[command(flatten)]
    kubernetes: kubernetes::KubernetesArgs,
    /// Folder of this connector alone, for what has to outlive it: certificates, the last known Services
    #[arg(long, env = "CAUSEWAY_DATA", value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// File with the tunnel's token [or the token itself in CAUSEWAY_TOKEN]
    #[arg(long, env = "CAUSEWAY_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Address of an edge instead of the token's; may be repeated
    #[arg(long, env = "CAUSEWAY_EDGES", value_delimiter = ',', value_name = "HOST:PORT")]
    edge: Vec<String>,
    #[command(flatten)]
    outward: outward::OutwardArgs,
    /// Where health, status and metrics are served [default: 127.0.0.1:20241]; port 0 takes a free one
    #[arg(long, env = "CAUSEWAY_METRICS", value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// The same on a unix socket
    #[arg(long, env = "CAUSEWAY_CONTROL", value_name = "PATH")]
    control: Option<PathBuf>,
    /// How long a stop waits for requests in flight [default: 30s]
    #[arg(long, env = "CAUSEWAY_GRACE_PERIOD", value_parser = duration::parse, value_name = "TIME")]
    grace_period: Option<Duration>,
    /// Threads that carry requests [default: 1]
    #[arg(long, env = "CAUSEWAY_SHARDS", value_parser = clap::value_parser!(u16).range(1..=64), value_name = "N")]
    shards: Option<u16>,
    /// error, warn, info, debug or trace, or parts as in info,causeway_connector=debug [default: info]
    #[arg(long, env = "CAUSEWAY_LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<String>,
    /// Form of the log [default: text]
    #[arg(long, env = "CAUSEWAY_LOG_FORMAT", value_enum, value_name = "FORM")]
    log_format: Option<Format>,
}

/// Where the running connector is asked.
#[derive(Debug, Args)]
struct Where {
    /// Its `metrics` address [default: the first of 127.0.0.1:20241 to 20245 that answers]
    #[arg(long, env = "CAUSEWAY_METRICS", value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Its control socket
    #[arg(long, env = "CAUSEWAY_CONTROL", value_name = "PATH")]
    control: Option<PathBuf>,
}

impl Cli {
    /// Runs the command on the current thread's runtime.
    pub async fn run(self) -> ExitCode {
        let output = self.output;
        let done = match self.command {
            Command::Run(args) => run(*args).await,
            Command::Expose(args) => expose::run(args, output).await,
            Command::Token { command } => token::run(command, output),
            Command::Check { file } => check(&file, output),
            Command::Route { file, url } => route(&file, &url, output),
            Command::Status(place) => status(&place, output).await,
            Command::Rules(place) => listing(&place, output).await,
            Command::Healthcheck(place) => healthcheck(&place, output).await,
            Command::Doctor(args) => doctor::run(args, output).await,
        };
        done.unwrap_or_else(|error| {
            complain(format!("causeway-connector: {error:#}"));
            ExitCode::FAILURE
        })
    }
}

async fn run(args: RunArgs) -> Result<ExitCode> {
    let (config, mut file) = rules(&args).await?;
    let mut config = args.outward.over(config)?;
    let format = args
        .log_format
        .or_else(|| config.log_json.map(|json| if json { Format::Json } else { Format::Text }));
    let level = args.log_level.as_deref().or(config.log_level.as_deref()).map(zerolog_level);
    let (levels, _flush) = telemetry::init(format.unwrap_or_default(), level.unwrap_or("info"))?;
    for warning in &config.warnings {
        tracing::warn!("{}:{warning}", config.file);
    }
    if config.source == config::Source::Nobody {
        tracing::warn!(
            "there is no rule file: every granted name shows the hello page; rules written to {} are read at once",
            first_places()
        );
    }
    let token = read_token(args.token_file.as_deref().or(config.token_file.as_deref()))?;
    if let Some(cluster) = args.kubernetes.open(config.home.data.as_deref()).await? {
        file.get_or_insert(Source::awaited(Vec::new()).await).cluster = Some(cluster);
    }
    config.grace = args.grace_period.unwrap_or(config.grace);
    limits::raise_nofile();
    let mut signals = Signals::install().context("signals cannot be handled")?;
    let app = App::start(Settings {
        config,
        file,
        token,
        edges: args.edge,
        metrics: args.metrics,
        shards: args.shards.map(usize::from),
        control: args.control,
        levels: Some(levels),
        visits: Visits::default(),
        within: None,
    })
    .await?;
    app.run(&mut signals).await;
    // Also when something had to be ended by force: the stop itself was what was asked for.
    Ok(ExitCode::SUCCESS)
}

/// cloudflared knows two more words.
fn zerolog_level(level: &str) -> &str {
    match level {
        "fatal" | "panic" => "error",
        other => other,
    }
}

async fn rules(args: &RunArgs) -> Result<(Config, Option<Source>)> {
    let data = args.data.as_deref();
    let without_file = |config: Config| {
        let home = AtHome { data: args.data.clone(), ..config.home };
        Config { home, ..config }
    };
    if let Some(service) = &args.url {
        return Ok((without_file(config::from_url(service)?), None));
    }
    let file = match &args.config {
        Some(file) => file.clone(),
        None => match usual_places().into_iter().find(|place| place.is_file()) {
            Some(file) => file,
            None => {
                let config =
                    if args.kubernetes.is_wanted() { config::of_cluster() } else { config::of_nobody() };
                let source = Source { data: args.data.clone(), ..Source::awaited(usual_places()).await };
                return Ok((without_file(config), Some(source)));
            }
        },
    };
    let source = Source { data: args.data.clone(), ..Source::open(file.clone()).await };
    Ok((config::load_with(&file, data)?, Some(source)))
}

/// Ours first, then cloudflared's: an existing installation is found where it is.
fn usual_places() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let folders = [
        home.as_ref().map(|home| home.join(".causeway")),
        Some(PathBuf::from("/etc/causeway")),
        home.as_ref().map(|home| home.join(".cloudflared")),
        Some(PathBuf::from("/etc/cloudflared")),
        Some(PathBuf::from("/usr/local/etc/cloudflared")),
    ];
    let names = ["connector.yaml", "connector.yml", "config.yml", "config.yaml"];
    folders.into_iter().flatten().flat_map(|folder| names.map(|name| folder.join(name))).collect()
}

/// Where a new rule file is best put: in a folder that is there, such as the one that is mounted into a container.
fn first_places() -> String {
    let ours =
        |place: &PathBuf| place.ends_with(".causeway/config.yml") || place.ends_with("causeway/config.yml");
    let ours: Vec<PathBuf> = usual_places().into_iter().filter(ours).collect();
    let is_there = |place: &&PathBuf| place.parent().is_some_and(Path::is_dir);
    let there: Vec<&PathBuf> = ours.iter().filter(is_there).collect();
    let places = if there.is_empty() { ours.iter().collect() } else { there };
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(" or ")
}

fn read_token(file: Option<&Path>) -> Result<Token> {
    let secret = match (file, std::env::var("CAUSEWAY_TOKEN")) {
        (Some(file), _) => Secret::from_file(file)?,
        (None, Ok(text)) => Secret::written(&text),
        (None, Err(_)) => Secret::new(""),
    };
    if secret.expose().is_empty() {
        bail!(
            "there is no token: write the one that `causeway-edge tunnel create` printed into a file, or make one with `causeway-connector token new`, and name it with --token-file or CAUSEWAY_TOKEN_FILE, or put it into CAUSEWAY_TOKEN"
        );
    }
    Ok(Token::parse(secret.expose())?)
}

/// Reads a file as `run` would, including the files that it names.
fn load_checked(file: &Path) -> Result<Config, ConfigError> {
    let config = config::load(file)?;
    let ground = Ground { egress: Arc::default(), ids: Arc::default(), metrics: Metrics::new(), shards: 1 };
    let config = RuleSet::build(config, None, &ground)?.config;
    config.outward()?;
    certificates::from_files(&config.home).map_err(|error| config.error_at((1, 1), error.to_string()))?;
    Ok(config)
}

fn check(file: &Path, output: Output) -> Result<ExitCode> {
    match load_checked(file) {
        Ok(config) => {
            let warnings: Vec<_> = config
                .warnings
                .iter()
                .map(|warning| json!({"line": warning.line, "column": warning.column, "text": warning.text}))
                .collect();
            let result = json!({"file": config.file, "valid": true, "rules": config.rules.len(), "warnings": warnings});
            output.print(&result, |_| {
                let warnings =
                    config.warnings.iter().map(|warning| format!("{}:{warning} (warning)\n", config.file));
                format!(
                    "{}{}: fine, {} rules\n",
                    warnings.collect::<String>(),
                    config.file,
                    config.rules.len()
                )
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            if output == Output::Json {
                let ConfigError { file, line, column, reason, help } = &error;
                let result = json!({"file": file, "valid": false,
                    "error": {"line": line, "column": column, "reason": reason, "help": help}});
                output.print(&result, ToString::to_string)?;
            } else {
                eprintln!("{error}");
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

fn route(file: &Path, url: &str, output: Output) -> Result<ExitCode> {
    let config = config::load(file)?;
    let explanation = explain(&config, url)?;
    output.print(&explanation, crate::explain::Explanation::render)?;
    Ok(ExitCode::SUCCESS)
}

async fn status(place: &Where, output: Output) -> Result<ExitCode> {
    let status: Status = shown(place, "/status").await?;
    output.print(&status, Status::render)?;
    Ok(ExitCode::SUCCESS)
}

async fn listing(place: &Where, output: Output) -> Result<ExitCode> {
    let listing: Listing = shown(place, "/rules").await?;
    output.print(&listing, Listing::render)?;
    Ok(ExitCode::SUCCESS)
}

/// A page of the running connector.
async fn shown<T: DeserializeOwned>(place: &Where, path: &str) -> Result<T> {
    let (code, body) = ask(place, path).await?;
    if code != StatusCode::OK {
        bail!("the connector answered {code}");
    }
    serde_json::from_slice(&body).context("this is not a causeway-connector, or of another version")
}

async fn healthcheck(place: &Where, output: Output) -> Result<ExitCode> {
    let (code, body) = ask(place, "/ready").await?;
    let ready = code == StatusCode::OK;
    output.print(&json!({"ready": ready}), |_| {
        if ready { "ready".to_owned() } else { String::from_utf8_lossy(&body).into_owned() }
    })?;
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(place: &Where, path: &str) -> Result<(StatusCode, Bytes)> {
    if let Some(socket) = &place.control {
        return Ok(unix_client::get(socket, path).await?);
    }
    if let Some(address) = place.metrics {
        return Ok(unix_client::http_get(address, path).await?);
    }
    let mut last = None;
    for port in DEFAULT_PORTS {
        match unix_client::http_get((Ipv4Addr::LOCALHOST, port).into(), path).await {
            Ok(answer) => return Ok(answer),
            Err(error) => last = last.or(Some(error)),
        }
    }
    Err(last.expect("there are ports to try").into())
}

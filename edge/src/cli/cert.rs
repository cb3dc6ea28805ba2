//! `cert list|show|add|renew|remove`: asks the running edge, which alone orders certificates.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use causeway_acme::{State, View};
use causeway_daemon::unix_client;
use clap::Subcommand;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::text::{row, table, when};
use super::{CliError, Common};
use crate::config::Config;
use crate::route::Pattern;
use crate::status::{FileCertificate, Status};
use crate::unix_now;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the certificates that the edge orders by itself
    List,
    /// Show one: whose it is, when it ends, when it is renewed, what went wrong
    Show { name: String },
    /// Order one now, ahead of any connector; it is kept renewed
    Add {
        /// A granted name, or `*.` and one where DNS can prove it
        name: String,
        /// Do not wait for the outcome
        #[arg(long)]
        no_wait: bool,
        /// Print the TXT record that proves the name for as long as it stands (DNS-PERSIST-01); ordered once it is there
        #[arg(long)]
        persist: bool,
    },
    /// Renew one now
    Renew {
        name: String,
        /// Do not wait for the outcome
        #[arg(long)]
        no_wait: bool,
    },
    /// Forget one and its key; a name that is announced gets a new one
    Remove { name: String },
}

/// An order takes seconds; where two proofs are tried and both fail, minutes.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

pub(super) async fn run(common: &Common, command: Command) -> Result<ExitCode, CliError> {
    let config = common.load()?;
    match command {
        Command::List => {
            let all = views(&config).await?;
            let files = files(&config).await?;
            common.output.print(&all, |all| list(all, &files))?;
        }
        Command::Show { name } => {
            let view = view(&config, &name).await?;
            common.output.print(&view, show)?;
        }
        Command::Add { name, persist: true, .. } => persist(common, &config, &name).await?,
        Command::Add { name, no_wait, .. } => return order(common, &config, "add", &name, no_wait).await,
        Command::Renew { name, no_wait } => return order(common, &config, "renew", &name, no_wait).await,
        Command::Remove { name } => {
            ask(&config, "remove", &name).await?;
            let value = serde_json::json!({ "name": name, "removed": true });
            common.output.print(&value, |_| format!("the certificate of `{name}` is forgotten"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What `persist` answers.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    record: String,
    value: String,
    /// As a zone file has it.
    line: String,
}

async fn persist(common: &Common, config: &Config, name: &str) -> Result<(), CliError> {
    let answer = ask(config, "persist", name).await?;
    let record: Record = serde_json::from_slice(&answer).map_err(|error| unlike(&error))?;
    common.output.print(&record, |record| {
        format!(
            "Put this record into DNS and leave it there:\n\n{}\n\nThe certificate is ordered as soon as it is seen: \
             `causeway-edge cert show '{name}'`.",
            record.line
        )
    })?;
    Ok(())
}

async fn order(
    common: &Common,
    config: &Config,
    command: &str,
    name: &str,
    no_wait: bool,
) -> Result<ExitCode, CliError> {
    ask(config, command, name).await?;
    let until = Instant::now() + PATIENCE;
    let view = loop {
        let view = view(config, name).await?;
        if no_wait || !is_open(&view) {
            break view;
        }
        if Instant::now() > until {
            return Err(CliError::Other(format!(
                "the order for `{name}` is not over after {} s; `causeway-edge cert show {name}` follows it",
                PATIENCE.as_secs()
            )));
        }
        sleep(LOOK_INTERVAL).await;
    };
    if let (false, Some(error)) = (no_wait, &view.last_error) {
        let next = when(view.next_try);
        return Err(CliError::Other(format!("no certificate for `{name}`: {error}; tried again {next}")));
    }
    common.output.print(&view, show)?;
    Ok(ExitCode::SUCCESS)
}

/// Whether the outcome of what was asked for is not known yet.
fn is_open(view: &View) -> bool {
    let is_due = view.renew_at.is_some_and(|at| at <= unix_now());
    view.failures == 0 && (view.under_way || view.state == State::Ordering || is_due)
}

async fn views(config: &Config) -> Result<Vec<View>, CliError> {
    let (status, body) = unix_client::get(&config.control_socket(), "/certificates").await?;
    if status != StatusCode::OK {
        return Err(refused(&body));
    }
    serde_json::from_slice(&body).map_err(|error| unlike(&error))
}

/// What files are good for: the edge orders none of it, but who looks for a name looks here.
async fn files(config: &Config) -> Result<Vec<FileCertificate>, CliError> {
    let (_, body) = unix_client::get(&config.control_socket(), "/status").await?;
    let status: Status = serde_json::from_slice(&body).map_err(|error| unlike(&error))?;
    Ok(status.certificate_files)
}

fn unlike(error: &serde_json::Error) -> CliError {
    CliError::Other(format!(
        "the running edge is of another version than this program ({error}): update the older"
    ))
}

async fn view(config: &Config, name: &str) -> Result<View, CliError> {
    let wanted = Pattern::parse(name)?.to_string();
    let found = views(config).await?.into_iter().find(|view| view.name == wanted);
    found.ok_or_else(|| {
        CliError::Other(format!(
            "there is no automatic certificate for `{name}`, and none was asked for; `causeway-edge cert list` shows what there is"
        ))
    })
}

async fn ask(config: &Config, command: &str, name: &str) -> Result<Bytes, CliError> {
    let name = Pattern::parse(name)?.to_string();
    let path = format!("/certificates/{command}");
    let answer =
        unix_client::request(&config.control_socket(), Method::POST, &path, Bytes::from(name)).await?;
    if answer.0 == StatusCode::OK { Ok(answer.1) } else { Err(refused(&answer.1)) }
}

fn refused(body: &[u8]) -> CliError {
    CliError::Other(String::from_utf8_lossy(body).trim().to_owned())
}

/// In one word.
pub(super) fn word(state: State) -> &'static str {
    match state {
        State::Ordering => "ORDERING",
        State::Valid => "VALID",
        State::Failing => "FAILING",
        State::Failed => "FAILED",
        State::Expired => "EXPIRED",
    }
}

fn list(all: &[View], files: &[FileCertificate]) -> String {
    if all.is_empty() && files.is_empty() {
        return "no automatic certificates yet: a granted name gets one when a connector announces it, or by \
                `causeway-edge cert add NAME`"
            .to_owned();
    }
    let mut rows = vec![row(["NAME", "STATE", "ENDS", "RENEWED", "PROBLEM"])];
    for view in all {
        rows.push(row([
            &view.name,
            word(view.state),
            &when(view.not_after),
            &when(view.renew_at),
            view.last_error.as_deref().unwrap_or_default(),
        ]));
    }
    for file in files {
        rows.push(row([&file.name, "FILE", &when(Some(file.not_after)), "by others", ""]));
    }
    table(&rows)
}

fn show(view: &View) -> String {
    let mut rows = vec![row(["name", &view.name]), row(["state", word(view.state)])];
    if let Some(directory) = &view.directory {
        rows.push(row(["signed by", directory]));
        rows.push(row(["began", &when(view.not_before)]));
        rows.push(row(["ends", &when(view.not_after)]));
        rows.push(row(["renewed", &when(view.renew_at)]));
    }
    let why = match (view.added, view.announced) {
        (true, true) => "asked for by `cert add`, and announced",
        (true, false) => "asked for by `cert add`",
        (false, true) => "announced by a connector",
        (false, false) => "nobody announces it now",
    };
    rows.push(row(["because", why]));
    if let Some(error) = &view.last_error {
        rows.push(row(["problem", error]));
        rows.push(row(["failures", &view.failures.to_string()]));
        rows.push(row(["tried again", &when(view.next_try)]));
    }
    table(&rows)
}

//! `doctor`: looks at everything between the Internet and the sessions, from the edge, whether it runs or not.
//!
//! ```text
//! listeners      the own ports answer, or who else has them (holders)
//! authority      who signs certificates: reached, and what time it has
//! names          where granted names lead, and what certificate a visitor of them is shown
//! certificates   those that cannot be obtained, or end
//! tunnels        connectors, what they complain of, and the way to them
//! ```

mod authority;
mod certificates;
mod holders;
mod listeners;
mod names;
mod tunnels;

use causeway_daemon::config::ConfigError;
use causeway_daemon::doctor::{Finding, Report};
use causeway_daemon::unix_client;
use causeway_front::doctor::kernel;
use http::StatusCode;

use crate::config::Config;
use crate::declared::Declared;
use crate::status::Status;
use crate::store::{Store, TunnelRecord};

pub(crate) async fn examine(config: Result<Config, ConfigError>, named: &str) -> Report {
    let mut report = Report::default();
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            let mend =
                error.help.clone().unwrap_or_else(|| format!("`causeway-edge check {named}` says it again"));
            let cause = ConfigError { help: None, ..error }.to_string();
            report.add(Finding::fault("config", named, cause, mend));
            return report;
        }
    };
    report.extend(files(&config, named));
    report.add(kernel::buffers());
    let running = running(&config, &mut report).await;
    match &running {
        Some(status) => report.extend(listeners::answering(&status.listening).await),
        None => report.extend(listeners::free(&config.listen)),
    }
    if let Some(settings) = config.issuing() {
        report.extend(authority::examine(&settings).await);
    }
    let mut records = records(&config, &mut report).await;
    records.extend(declared(&config, named, &records, &mut report));
    let granted = names::granted(running.as_ref(), &records);
    report.extend(names::examine(&config, running.as_ref(), &granted).await);
    match &running {
        Some(status) => {
            report.extend(certificates::of_running(status, &granted));
            report.extend(status.tunnels.iter().flat_map(tunnels::of_running));
        }
        None => report.extend(certificates::of_files(&config)),
    }
    report.extend(tunnels::keys(&records, crate::unix_now()));
    report
}

/// What the configuration names and cannot be used.
fn files(config: &Config, named: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Err(error) = crate::front::check_certificates(config) {
        found.push(Finding::fault(
            "config",
            named,
            format!("{error:#}"),
            "mend or remove what `certificates` names",
        ));
    }
    if let Err(error) = config.acme.solver() {
        found.push(Finding::fault("config", named, format!("acme.{error}"), "mend the section `acme.dns`"));
    }
    if found.is_empty() {
        found.push(Finding::ok("config", named, "can be read, and the files that it names"));
    }
    found
}

async fn running(config: &Config, report: &mut Report) -> Option<Status> {
    let socket = config.control_socket();
    let subject = socket.display().to_string();
    match unix_client::get(&socket, "/status").await {
        Ok((StatusCode::OK, body)) => match serde_json::from_slice::<Status>(&body) {
            Ok(status) => {
                let pending = status.pending.join(", ");
                report.add(match status.ready {
                    true => Finding::ok("running", subject, format!("version {}", status.version)),
                    false => Finding::fault(
                        "running",
                        subject,
                        format!("not ready: {pending}"),
                        "its log says why",
                    ),
                });
                return Some(status);
            }
            Err(error) => {
                let mend = "update the older of the two programs";
                let cause = format!("the running edge is of another version ({error})");
                report.add(Finding::warning("running", subject, cause, mend));
            }
        },
        Ok((code, _)) => {
            let cause = format!("the edge answers {code} to the request for its status");
            report.add(Finding::fault("running", subject, cause, "its log says why"));
        }
        Err(error) => {
            let mend = "start it (`systemctl start causeway-edge`, `docker start …`), or name its data folder with --data";
            report.add(Finding::fault("running", subject, error.to_string(), mend));
        }
    }
    None
}

/// Tunnels that are not revoked, as the store has them.
async fn records(config: &Config, report: &mut Report) -> Vec<TunnelRecord> {
    if !Store::is_made(config) {
        return Vec::new();
    }
    let read = async { Store::open(config).await?.tunnels().await };
    match read.await {
        Ok(records) => records.into_iter().filter(|record| record.revoked_at.is_none()).collect(),
        Err(error) => {
            let mend = "docs/operations.md, Backup and restore; a disk that is full has to be emptied first";
            report.add(Finding::fault("store", Store::place(config).to_string(), error.to_string(), mend));
            Vec::new()
        }
    }
}

/// The tunnels of the file.
fn declared(config: &Config, named: &str, stored: &[TunnelRecord], report: &mut Report) -> Vec<TunnelRecord> {
    match Declared::read(config) {
        Ok(declared) => {
            if let Err(clash) = declared.check(stored) {
                report.add(Finding::fault(
                    "tunnels",
                    named,
                    clash.to_string(),
                    "have each tunnel in one place",
                ));
            }
            declared.0
        }
        Err(error) => {
            report.add(Finding::fault(
                "tunnels",
                named,
                error.to_string(),
                "mend the entry, then start or reload the edge",
            ));
            Vec::new()
        }
    }
}

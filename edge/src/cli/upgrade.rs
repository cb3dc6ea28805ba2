//! `upgrade`: has the running edge start its next process from the program's file, and waits until that has taken over.

use std::process::ExitCode;
use std::time::Duration;

use causeway_daemon::unix_client;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::{CliError, Common};
use crate::config::Config;
use crate::status::Status;

/// The next process opens the store and reads certificates before it takes over.
const PATIENCE: Duration = Duration::from_secs(40);
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) async fn run(common: &Common) -> Result<ExitCode, CliError> {
    let config = common.load()?;
    let before = status(&config).await?;
    let pid = match i32::try_from(before.pid).ok().and_then(Pid::from_raw) {
        None => {
            return Err(CliError::Other(format!(
                "the running edge ({}) cannot hand over: restart it",
                before.version
            )));
        }
        Some(pid) if pid.is_init() => {
            return Err(CliError::Other(
                "the edge is the first process of its container, which ends with it: start the new container beside it with `run --take-over`"
                    .to_owned(),
            ));
        }
        Some(pid) => pid,
    };
    kill_process(pid, Signal::USR2).map_err(|error| {
        CliError::Other(format!("cannot signal the edge (process {}): {error}", before.pid))
    })?;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        sleep(LOOK_EVERY).await;
        // Between two processes nobody answers, for a moment.
        if let Ok(now) = status(&config).await
            && now.pid != before.pid
        {
            let value = serde_json::json!({ "from": before.version, "to": now.version, "pid": now.pid });
            common.output.print(&value, |_| {
                format!("{} has taken over from {}, as process {}", now.version, before.version, now.pid)
            })?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    let seconds = PATIENCE.as_secs();
    Err(CliError::Other(format!(
        "no other process took over within {seconds} s: the edge's log says why; it serves on"
    )))
}

async fn status(config: &Config) -> Result<Status, CliError> {
    let (_, body) = unix_client::get(&config.control_socket(), "/status").await?;
    serde_json::from_slice(&body).map_err(|error| {
        CliError::Other(format!("the running edge is of another version ({error}): restart it"))
    })
}

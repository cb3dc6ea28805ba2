//! `healthcheck`: whether the running edge is ready, by its control socket, else by its admin port.

use std::process::ExitCode;

use causeway_daemon::unix_client::{self, RequestError};
use http::StatusCode;

use super::{CliError, Common};

pub(super) async fn run(common: &Common) -> Result<ExitCode, CliError> {
    let config = common.load()?;
    let answer = match unix_client::get(&config.control_socket(), "/ready").await {
        // Another data folder than the edge's, perhaps, or one that this user may not enter.
        Err(RequestError::NoSocket(_) | RequestError::Connect { .. }) if config.admin.port() != 0 => {
            unix_client::http_get(config.admin, "/ready").await
        }
        answer => answer,
    };
    let (is_ready, detail) = match answer {
        Ok((StatusCode::OK, _)) => (true, "ready".to_owned()),
        Ok((_, body)) => (false, format!("not ready: {}", String::from_utf8_lossy(&body).trim())),
        Err(error) => (false, error.to_string()),
    };
    let value = serde_json::json!({ "ready": is_ready, "detail": detail });
    common.output.print(&value, |_| detail.clone())?;
    Ok(if is_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

//! `doctor`: what keeps visitors out, and what mends it.

use std::process::ExitCode;

use causeway_daemon::doctor::Report;

use super::{CliError, Common};
use crate::doctor::examine;

pub(super) async fn run(common: &Common) -> Result<ExitCode, CliError> {
    let named =
        common.config.as_ref().map_or_else(|| "edge.yaml".to_owned(), |file| file.display().to_string());
    let report = examine(common.load(), &named).await;
    common.output.print(&report, Report::render)?;
    Ok(report.exit_code())
}

//! `check FILE`: the configuration and the files that it names, without starting anything.

use std::path::Path;
use std::process::ExitCode;

use super::{CliError, Common};
use crate::config::{Config, Overrides};

pub(super) fn run(common: &Common, file: &Path) -> Result<ExitCode, CliError> {
    let overrides = Overrides { data: common.data.clone(), ..Overrides::default() };
    let config = Config::load(Some(file), &overrides)?;
    let mut warnings = Vec::new();
    crate::front::check_certificates(&config)
        .map_err(|error| CliError::Other(format!("{}: {error}", file.display())))?;
    if config.certificates.is_empty() && !config.listen.https.is_empty() && !config.dev {
        warnings.push("no certificates: HTTPS visitors will be turned away until there are some".to_owned());
    }
    if config.address.is_empty() && config.listen.tunnel.iter().any(|address| address.ip().is_unspecified()) {
        warnings.push("no address: `tunnel create` will need --address HOST:PORT".to_owned());
    }
    if !config.admin.ip().is_loopback() {
        warnings.push(format!("admin: {} is open to other machines; keep it on loopback", config.admin));
    }
    let value = serde_json::json!({ "file": file.display().to_string(), "ok": true, "warnings": warnings });
    common.output.print(&value, |_| {
        let notes: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
        format!("{notes}{}: ok", file.display())
    })?;
    Ok(ExitCode::SUCCESS)
}

//! `check FILE`: the configuration and the files that it names, without starting anything.

use std::path::Path;
use std::process::ExitCode;

use super::{CliError, Common};
use crate::certified::Certified;
use crate::config::Config;
use crate::declared::Declared;
use crate::store::{Store, TunnelRecord};

pub(super) async fn run(common: &Common, file: &Path) -> Result<ExitCode, CliError> {
    let config = Config::load(Some(file), &common.overrides()?)?;
    let declared = Declared::read(&config)?;
    let stored = stored(&config).await;
    declared.check(&stored).map_err(|error| CliError::Other(error.to_string()))?;
    let mut warnings = Vec::new();
    let certified = crate::front::check_certificates(&config)
        .map_err(|error| CliError::Other(format!("{}: {error}", file.display())))?;
    config.acme.solver().map_err(|error| CliError::Other(format!("{}: acme.{error}", file.display())))?;
    if config.certificates.is_empty()
        && config.certificate_folders.is_empty()
        && config.issuing().is_none()
        && !config.listen.https.is_empty()
        && !config.dev
    {
        warnings.push("no certificates: HTTPS visitors will be turned away until there are some".to_owned());
    }
    warnings.extend(bare_names(&config, &certified, &[stored, declared.0].concat()));
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

/// The tunnels of the store, where there is one.
async fn stored(config: &Config) -> Vec<TunnelRecord> {
    if !Store::is_made(config) {
        return Vec::new();
    }
    // A store that cannot be read is no mistake of the configuration.
    let Ok(store) = Store::open(config).await else { return Vec::new() };
    store.tunnels().await.unwrap_or_default()
}

/// What tunnels are granted and no certificate covers.
fn bare_names(config: &Config, certified: &Certified, tunnels: &[TunnelRecord]) -> Vec<String> {
    if config.issuing().is_some() || config.certificates.is_empty() {
        return Vec::new();
    }
    let live = tunnels.iter().filter(|tunnel| tunnel.revoked_at.is_none());
    let names = live.flat_map(|tunnel| tunnel.hostnames.iter().map(move |name| (&tunnel.name, name)));
    let bare = names.filter(|(_, name)| !certified.covers(name));
    bare.map(|(tunnel, name)| format!("tunnel `{tunnel}`: not servable: no certificate for {name}")).collect()
}

//! `export` and `import`: an edge's identity and all of its store in one file, so that it can go into another database.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use causeway_daemon::config::Secret;
use causeway_tunnel::EdgeIdentity;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{CliError, Common, data_folder};
use crate::store::{Store, Transfer};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Of this form.
    version: u32,
    /// `identity.pem`: tokens pin it.
    identity: String,
    store: Transfer,
}

const VERSION: u32 = 1;

pub(super) async fn export(common: &Common, path: &Path) -> Result<ExitCode, CliError> {
    let config = common.load()?;
    if !Store::is_made(&config) {
        let place = Store::place(&config);
        return Err(CliError::Other(format!(
            "there is no store {place}: name the edge's data folder with --data"
        )));
    }
    let identity = EdgeIdentity::pem(&config.data).map_err(|error| CliError::Other(error.to_string()))?;
    let store = Store::open(&config).await?.export().await?;
    let (tunnels, certificates) = (store.tunnels(), store.certificates());
    let file = File { version: VERSION, identity: identity.to_string(), store };
    let json = serde_json::to_string_pretty(&file).map_err(|error| CliError::Other(error.to_string()))?;
    write_new(path, Secret::new(json).expose().as_bytes()).map_err(|error| {
        let mend = match error.kind() {
            io::ErrorKind::AlreadyExists => "it is there already: name another",
            _ => "choose a folder that is there, that you may write to and that has room",
        };
        CliError::Other(format!("cannot write {}: {error}; {mend}", path.display()))
    })?;
    report(common, "exported", tunnels, certificates, path)
}

pub(super) async fn import(common: &Common, path: &Path) -> Result<ExitCode, CliError> {
    let config = common.load()?;
    data_folder(&config.data)?;
    let wrong = |reason: String| CliError::Other(format!("cannot import {}: {reason}", path.display()));
    let json = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let file: File = serde_json::from_slice(&json)
        .map_err(|error| wrong(format!("it is no file of `causeway-edge export` ({error})")))?;
    if file.version != VERSION {
        return Err(wrong(format!(
            "it is of version {}, and this program knows {VERSION}: update the older of the two",
            file.version
        )));
    }
    let told = |error: causeway_tunnel::IdentityError| CliError::Other(error.to_string());
    let pin = EdgeIdentity::from_pem(&file.identity, path).map_err(told)?.pin();
    let is_there = EdgeIdentity::is_in(&config.data);
    if is_there && EdgeIdentity::load_or_create(&config.data).map_err(told)?.pin() != pin {
        return Err(wrong(format!(
            "the edge of {} has another key already, which its tokens pin; an edge that made none yet can take this one: \
             stop it and take its `identity.pem` away, or name another data folder with --data",
            config.data.display()
        )));
    }
    let store = Store::open(&config).await?;
    store.import(&file.store, pin).await?;
    if !is_there {
        EdgeIdentity::keep(&config.data, &file.identity).map_err(told)?;
    }
    report(common, "imported", file.store.tunnels(), file.store.certificates(), path)
}

fn report(
    common: &Common,
    done: &str,
    tunnels: usize,
    certificates: usize,
    path: &Path,
) -> Result<ExitCode, CliError> {
    let file = path.display().to_string();
    let value = serde_json::json!({ "file": file, "tunnels": tunnels, "certificates": certificates });
    common.output.print(&value, |_| {
        format!("{done} {tunnels} tunnels, {certificates} certificates and the edge's key; {file} is secret")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// For its owner alone, whole or not at all, and never in the place of another.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.new", Uuid::new_v4()));
    let new = path.with_file_name(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        // Other than a rename it fails where something has the name.
        fs::hard_link(&new, path)
    })();
    let _ = fs::remove_file(&new);
    written
}

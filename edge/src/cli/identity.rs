//! `identity`: what a token made at home has to know of this edge.

use std::process::ExitCode;

use causeway_daemon::unix_client;
use causeway_tunnel::EdgeIdentity;
use http::StatusCode;
use serde::Serialize;

use super::text::{row, table};
use super::{CliError, Common, data_folder};
use crate::config::{Address, Config};
use crate::status::Status;

#[derive(Serialize)]
struct Identity {
    pin: String,
    /// Where connectors dial; empty when nobody has said it.
    address: Vec<String>,
    /// What makes the token.
    command: String,
}

pub(super) async fn run(common: &Common) -> Result<ExitCode, CliError> {
    let config = common.load()?;
    data_folder(&config.data)?;
    let identity =
        EdgeIdentity::load_or_create(&config.data).map_err(|error| CliError::Other(error.to_string()))?;
    let address = addresses(&config, &[]).await;
    let edges = match address.as_slice() {
        [] => vec!["HOST:PORT".to_owned()],
        known => known.to_vec(),
    };
    let edges = edges.iter().map(|edge| format!(" --edge {edge}")).collect::<String>();
    let pin = identity.pin().to_string();
    let command = format!("causeway-connector token new{edges} --pin {pin}");
    common.output.print(&Identity { pin, address, command }, |identity| {
        let address = match identity.address.as_slice() {
            [] => "not known: set `address` in the configuration".to_owned(),
            known => known.join(", "),
        };
        let rows = [row(["pin", &identity.pin]), row(["address", &address])];
        format!("{}\nmake a token at home:\n{}\n", table(&rows), identity.command)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Where connectors dial: what was said, what is configured, or what the running edge says.
pub(super) async fn addresses(config: &Config, said: &[Address]) -> Vec<String> {
    let said = if said.is_empty() { &config.address } else { said };
    if !said.is_empty() {
        return said.iter().map(Address::to_string).collect();
    }
    live(config).await.map(|status| status.address).unwrap_or_default()
}

/// The running edge's picture, if there is one on this data folder.
pub(super) async fn live(config: &Config) -> Option<Status> {
    let (status, body) = unix_client::get(&config.control_socket(), "/status").await.ok()?;
    (status == StatusCode::OK).then(|| serde_json::from_slice(&body).ok())?
}

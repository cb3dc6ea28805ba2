//! `status`: the running edge's tunnels, connectors and listeners.

use std::net::SocketAddr;
use std::process::ExitCode;

use causeway_acme::State;
use causeway_daemon::unix_client;
use http::StatusCode;

use super::cert::word;
use super::text::{row, span, table, when};
use super::tunnel::state_word;
use super::{CliError, Common};
use crate::status::{CertificateStatus, HostnameState, Status, TunnelStatus};

pub(super) async fn run(common: &Common) -> Result<ExitCode, CliError> {
    let config = common.load()?;
    let (code, body) = unix_client::get(&config.control_socket(), "/status").await?;
    if code != StatusCode::OK {
        return Err(CliError::Other(format!(
            "the edge answered {code} to the request for its status; see its log"
        )));
    }
    let status: Status = serde_json::from_slice(&body).map_err(|error| {
        CliError::Other(format!(
            "the running edge is of another version than this program ({error}): update the older"
        ))
    })?;
    common.output.print(&status, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(status: &Status) -> String {
    let list = |addresses: &[SocketAddr]| {
        if addresses.is_empty() {
            return "off".to_owned();
        }
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let ready =
        if status.ready { "ready".to_owned() } else { format!("not ready: {}", status.pending.join(", ")) };
    let mut text = table(&[
        row(["edge", &format!("{} {ready}, up {}", status.version, span(status.uptime_seconds))]),
        row(["https", &list(&status.listening.https)]),
        row(["http", &list(&status.listening.http)]),
        row(["tunnel", &list(&status.listening.tunnel)]),
        row(["admin", &list(status.listening.admin.as_slice())]),
    ]);
    if let Some(error) = &status.store_error {
        text.push_str(&table(&[row(["store", error])]));
    }
    if status.tunnels.is_empty() {
        text.push_str(
            "\nno tunnels yet; make one with `causeway-edge tunnel create NAME --hostname PATTERN`\n",
        );
    }
    if !status.certificates.is_empty() {
        text.push('\n');
        text.push_str(&certificates_text(&status.certificates));
    }
    if let Some(first) = status.certificate_files.iter().min_by_key(|file| file.not_after) {
        let (count, end) = (status.certificate_files.len(), when(Some(first.not_after)));
        let names = format!("good for {count} names, the first ends {end} ({})", first.name);
        text.push_str(&table(&[row(["files", &names])]));
    }
    for tunnel in &status.tunnels {
        text.push('\n');
        text.push_str(&tunnel_text(tunnel));
    }
    text
}

/// How many there are, and each that needs somebody's eye.
fn certificates_text(all: &[CertificateStatus]) -> String {
    let is_fine = |view: &&CertificateStatus| view.state == State::Valid;
    let soonest = all.iter().filter_map(|view| view.not_after).min();
    let fine = all.iter().filter(is_fine).count();
    let mut rows = vec![row([
        "certificates",
        &format!("{fine} of {} valid, the first ends {}", all.len(), when(soonest)),
    ])];
    for view in all.iter().filter(|view| !is_fine(view)) {
        let problem = view.last_error.as_deref().unwrap_or("the first certificate is under way");
        rows.push(row(["  certificate", &format!("{}  {}: {problem}", view.name, word(view.state))]));
    }
    table(&rows)
}

fn tunnel_text(tunnel: &TunnelStatus) -> String {
    let (state, since) = (state_word(Some(tunnel.state)), when(tunnel.since));
    let mut text = format!("{}  {state}  since {since}", tunnel.name);
    if let Some(place) = &tunnel.declared {
        text.push_str(&format!("  declared in {place}"));
    }
    text.push('\n');
    let mut rows = Vec::new();
    for hostname in &tunnel.hostnames {
        let word = match hostname.state {
            HostnameState::Served if !hostname.tls.is_edge() => {
                format!("served, tls: {}", hostname.tls.as_str())
            }
            HostnameState::Served => "served".to_owned(),
            HostnameState::NoCertificate => format!("not servable: no certificate for {}", hostname.hostname),
            HostnameState::NotAnnounced => "no rule of the connector has it".to_owned(),
            HostnameState::Down => "down".to_owned(),
        };
        rows.push(row(["  hostname", &hostname.hostname, &word]));
    }
    for connector in &tunnel.connectors {
        let draining = if connector.draining { ", draining" } else { "" };
        let in_flight: usize = connector.sessions.iter().map(|session| session.in_flight).sum();
        let name = if connector.host.is_empty() { &connector.id } else { &connector.host };
        let facts = format!(
            "{} from {}, {} sessions, {in_flight} in flight, since {}{draining}",
            connector.version,
            connector.address,
            connector.sessions.len(),
            when(Some(connector.since))
        );
        rows.push(row(["  connector", name, &facts]));
        for refused in &connector.refused {
            rows.push(row(["  refused", &refused.hostname, &refused.reason]));
        }
        if let Some(error) = &connector.config_error {
            rows.push(row(["  config", name, error]));
        }
    }
    text.push_str(&table(&rows));
    text
}

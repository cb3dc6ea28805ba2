//! The commands beside `run`: what a running speaker owns and why, and whether it is healthy.

use std::{net::SocketAddr, process::ExitCode};

use anyhow::{Context, ensure};
use causeway_daemon::{output::Output, unix_client::http_get};
use clap::Subcommand;
use http::StatusCode;

use super::{address::Reach, page::Page};

#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Show who owns which address and why, as the speaker of this node sees it.
    Status {
        #[arg(long, env = "CAUSEWAY_ADMIN", default_value = "127.0.0.1:17472")]
        admin: SocketAddr,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Exit 0 when the speaker of this node is ready.
    Healthcheck {
        #[arg(long, env = "CAUSEWAY_ADMIN", default_value = "127.0.0.1:17472")]
        admin: SocketAddr,
    },
}

/// # Errors
/// When the speaker does not answer.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Status { admin, output } => {
            let (status, body) =
                http_get(admin, "/status").await.with_context(|| format!("no speaker answers on {admin}"))?;
            ensure!(status == StatusCode::OK, "the speaker answers {status}");
            let page: Page =
                serde_json::from_slice(&body).context("the speaker's answer is not understood")?;
            output.print(&page, text)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Healthcheck { admin } => {
            let (status, body) = http_get(admin, "/ready").await?;
            if status == StatusCode::OK {
                return Ok(ExitCode::SUCCESS);
            }
            eprint!("{}", String::from_utf8_lossy(&body));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn text(page: &Page) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    let alone = !page.members.iter().any(|member| member.up);
    let mood = match (page.reach, page.fenced, page.draining) {
        (Reach::NoAddress, ..) => "no interface has its address, nothing is answered",
        (Reach::NoCarrier, ..) => "the interface with its address is down",
        (_, true, _) => "asking its peers before it answers",
        (_, _, true) => "leaving",
        _ if alone && page.members.is_empty() => "no other speaker was ever heard",
        _ if alone => "alone: no other speaker is heard",
        _ => "in agreement with its peers",
    };
    let address = page.address.map(|address| format!(" ({address})")).unwrap_or_default();
    let _ = writeln!(out, "node {}{address}: {mood}", page.node);
    for member in &page.members {
        let up = if member.up { "up" } else { "down" };
        let _ = writeln!(out, "  speaker {} {} {up}", member.node, member.address);
    }
    for (vip, known) in &page.vips {
        let owner = known.owner.as_deref().unwrap_or("nobody");
        let services = known.services.join(", ");
        let _ = write!(out, "{vip}  {owner} ({})  {services}", known.tenure);
        if let Some(held) = &known.held {
            let _ = write!(out, "  here on {}: {}", held.interfaces.join(", "), held.reason);
        } else if let Some(mac) = &known.used_by {
            let _ = write!(out, "  used by the host {mac}");
        } else if known.candidates == 0 {
            let _ = write!(out, "  no node may announce it");
        } else if known.unable {
            let _ = write!(out, "  no interface here suits it");
        }
        if let Some(node) = &known.contested_by {
            let _ = write!(out, "  claimed by the speaker of {node} too, which is not heard");
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out
}

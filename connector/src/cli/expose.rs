//! `expose`: one local service under one granted name until Ctrl-C, with its requests as they come.
//!
//! It is a connector beside those that run already: it announces nothing but its name, and that only where nobody else
//! serves it, so that it takes nothing from them.

mod name;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use aws_lc_rs::digest::{SHA256, digest};
use causeway_daemon::drain::Finished;
use causeway_daemon::output::Output;
use causeway_daemon::signals::Signals;
use causeway_daemon::telemetry::{self, Format};
use causeway_daemon::{limits, tls};
use causeway_tunnel::dial::Dialer;
use causeway_tunnel::{CloseCode, ConnectorId, Granted, Pattern, Role, Token};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::outward::OutwardArgs;
use super::{read_token, token};
use crate::app::{App, Settings, machine_name};
use crate::config::{self, Config};
use crate::dial::EdgeName;
use crate::visits::{Outcome, Visit, Visits};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A port of this machine, or a service such as http://10.0.0.104
    #[arg(value_name = "PORT|URL")]
    target: String,
    /// A granted name, or a label in front of a granted wildcard [default: one made of words, or the only granted name]
    #[arg(long)]
    name: Option<String>,
    /// File with the tunnel's token [or the token itself in CAUSEWAY_TOKEN]
    #[arg(long, env = "CAUSEWAY_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Address of an edge instead of the token's; may be repeated
    #[arg(long, env = "CAUSEWAY_EDGES", value_delimiter = ',', value_parser = token::edge, value_name = "HOST[:PORT]")]
    edge: Vec<String>,
    #[command(flatten)]
    outward: OutwardArgs,
    /// error, warn, info, debug or trace
    #[arg(long, env = "CAUSEWAY_LOG_LEVEL", default_value = "error", value_name = "LEVEL")]
    log_level: String,
}

pub(super) async fn run(args: Args, output: Output) -> Result<ExitCode> {
    let service = service(&args.target);
    // Before anything is asked of the network.
    let plain = args.outward.over(config::from_url(&service)?)?;
    let token = read_token(args.token_file.as_deref())?;
    let (levels, _flush) = telemetry::init(Format::Text, &args.log_level)?;
    limits::raise_nofile();
    let mut signals = Signals::install().context("signals cannot be handled")?;
    let edges = if args.edge.is_empty() { token.edges.clone() } else { args.edge };
    let (granted, tunnel) = ask(&token, &edges, &plain).await?;
    let patterns: Vec<Pattern> =
        granted.hostnames.iter().filter_map(|text| Pattern::parse(text).ok()).collect();
    let name = name::choose(args.name.as_deref(), &patterns, seed(&token, &service))?;
    let (visits, seen) = Visits::channel();
    let mut config = args.outward.over(config::exposed(&name, &service)?)?;
    config.grace = GRACE;
    let app = App::start(Settings {
        config,
        file: None,
        token,
        edges: edges.clone(),
        metrics: Some((Ipv4Addr::LOCALHOST, 0).into()),
        shards: None,
        control: None,
        levels: Some(levels),
        visits,
        within: None,
    })
    .await?;
    if let Err(error) = served(&app).await {
        app.stop(GRACE).await;
        return Err(error);
    }
    greet(output, &address(&name, &granted), &service, &tunnel, &edges)?;
    let _: Finished = tokio::select! {
        finished = app.run(&mut signals) => finished,
        // Only when nobody reads it any more: as good as a Ctrl-C.
        gone = show(output, seen) => return gone.map(|()| ExitCode::SUCCESS),
    };
    Ok(ExitCode::SUCCESS)
}

/// A bare number is a port here; a name, so that it may listen on IPv4 or IPv6.
fn service(target: &str) -> String {
    match target.parse::<u16>() {
        Ok(port) => format!("http://localhost:{port}"),
        Err(_) => target.to_owned(),
    }
}

/// Learns from the first edge that answers what the tunnel is granted, and its name, by a session that announces nothing.
async fn ask(token: &Token, edges: &[String], config: &Config) -> Result<(Granted, String)> {
    let outward = config.outward()?;
    let dialer = Dialer::new(token.clone(), ConnectorId::random(), machine_name(), tls::provider())
        .context("TLS towards the edges cannot be set up")?;
    let mut troubles = Vec::new();
    for edge in edges {
        let name = EdgeName::new(edge.clone(), config.carriers, outward.proxy(edge));
        match name.try_once(&dialer, Role::Standby).await {
            Ok((session, _control)) => {
                let info = session.info();
                let answer = (info.granted.clone(), info.tunnel_name.clone());
                session.close(CloseCode::Done, "it was asked what the tunnel is granted");
                // This may be the last that the process does, and the edge would wait for one that is gone.
                sleep(SETTLE).await;
                return Ok(answer);
            }
            Err(trouble) => troubles.push(format!("{edge}: {trouble}")),
        }
    }
    bail!("no edge can be reached: {}", troubles.join("; "))
}

/// The same for the same service on this machine, so that its certificate is ordered once.
fn seed(token: &Token, service: &str) -> [u8; 8] {
    let text = format!("{} {} {service}", token.key_id, machine_name());
    let sum = digest(&SHA256, text.as_bytes());
    *sum.as_ref().first_chunk().expect("a SHA-256 has 32 bytes")
}

/// Waits until an edge serves the name.
async fn served(app: &App) -> Result<()> {
    let begun = Instant::now();
    while !app.ready() {
        if begun.elapsed() > READY_WITHIN {
            let edges = app.status().edges;
            let trouble = edges.into_iter().find_map(|edge| edge.trouble);
            bail!("no edge took the name in time: {}", trouble.as_deref().unwrap_or("none has answered"));
        }
        sleep(LOOK_EVERY).await;
    }
    let refused = app.status().edges.into_iter().find_map(|edge| edge.refused.into_iter().next());
    match refused {
        Some(refused) => bail!("the edge does not serve {}: {}", refused.hostname, refused.reason),
        None => Ok(()),
    }
}

fn address(name: &Pattern, granted: &Granted) -> String {
    match granted.https_port {
        None | Some(443) => format!("https://{name}"),
        Some(port) => format!("https://{name}:{port}"),
    }
}

fn greet(output: Output, url: &str, service: &str, tunnel: &str, edges: &[String]) -> Result<()> {
    if output == Output::Json {
        let line = json!({ "url": url, "service": service, "tunnel": tunnel });
        return Ok(Output::Text.print(&(), |()| line.to_string())?);
    }
    Ok(Output::Text.print(&(), |()| {
        format!(
            "\n{url}  ->  {service}\ntunnel {tunnel} at {}; Ctrl-C ends it\n\n{}\n",
            edges.join(", "),
            code(url).unwrap_or_default()
        )
    })?)
}

/// For a phone's camera, on a dark terminal: where the background is light it is inverted, which cameras read as well.
fn code(url: &str) -> Option<String> {
    let code = QrCode::new(url.as_bytes()).ok()?;
    Some(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

/// Prints each request until nobody is left to tell of one, or to read it.
async fn show(output: Output, mut seen: mpsc::Receiver<Visit>) -> Result<()> {
    while let Some(visit) = seen.recv().await {
        let line = if output == Output::Json { in_json(&visit) } else { in_words(&visit) };
        Output::Text.print(&(), |()| line)?;
    }
    Ok(())
}

fn in_json(visit: &Visit) -> String {
    let (status, error) = match &visit.outcome {
        Outcome::Answered(status) => (Some(status.as_u16()), None),
        Outcome::Failed(why) => (None, Some(why)),
    };
    json!({
        "at": unix(visit.at).as_secs_f64(),
        "method": visit.method,
        "path": visit.path,
        "status": status,
        "error": error,
        "milliseconds": visit.took.as_secs_f64() * 1e3,
        "missed": visit.missed,
    })
    .to_string()
}

/// Time of day (UTC), method, status, duration, path.
fn in_words(visit: &Visit) -> String {
    let seconds = unix(visit.at).as_secs() % 86_400;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let (status, why) = match &visit.outcome {
        Outcome::Answered(status) => (status.as_str().to_owned(), String::new()),
        Outcome::Failed(why) => ("---".to_owned(), format!("  {why}")),
    };
    let mut line = String::new();
    if visit.missed > 0 {
        let _ = writeln!(line, "({} more)", visit.missed);
    }
    let (took, method, path) = (visit.took.as_millis(), &visit.method, visit.path.escape_debug());
    let _ =
        write!(line, "{hour:02}:{minute:02}:{second:02}Z  {method:<7} {status}  {took:>6} ms  {path}{why}");
    line
}

fn unix(at: SystemTime) -> Duration {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Who presses Ctrl-C wants the prompt; a second one ends at once.
const GRACE: Duration = Duration::from_secs(3);
/// Longer than a dial over a bad line.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Time for the transport to hand the word over.
const SETTLE: Duration = Duration::from_millis(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_number_is_a_port_and_anything_else_a_service() {
        assert_eq!(service("3000"), "http://localhost:3000");
        assert_eq!(service("https://10.0.0.1"), "https://10.0.0.1");
    }

    #[test]
    fn a_request_is_one_line() {
        let mut visit = Visit {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 + 3_723),
            method: "GET".to_owned(),
            path: "/a".to_owned(),
            outcome: Outcome::Answered(StatusCode::NOT_FOUND),
            took: Duration::from_millis(12),
            missed: 0,
        };
        assert_eq!(in_words(&visit), "01:02:03Z  GET     404      12 ms  /a");
        visit.outcome = Outcome::Failed("connection refused".to_owned());
        visit.missed = 3;
        assert_eq!(in_words(&visit), "(3 more)\n01:02:03Z  GET     ---      12 ms  /a  connection refused");
    }

    #[test]
    fn the_address_names_the_port_where_it_is_not_the_usual_one() {
        let name = Pattern::parse("a.example.dev").unwrap();
        let of = |https_port| address(&name, &Granted { https_port, ..Granted::default() });
        assert_eq!(of(None), "https://a.example.dev");
        assert_eq!(of(Some(443)), "https://a.example.dev");
        assert_eq!(of(Some(8443)), "https://a.example.dev:8443");
    }

    #[test]
    fn the_code_is_a_square_of_half_blocks() {
        let code = code("https://calm-otter-42.example.dev").unwrap();
        let lines: Vec<_> = code.lines().collect();
        let width = lines[0].chars().count();
        assert!(lines.iter().all(|line| line.chars().count() == width), "{code}");
        assert_eq!(lines.len(), width.div_ceil(2), "{code}");
    }
}

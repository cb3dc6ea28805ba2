//! An edge and its connectors in one process, joined by the memory carrier: for tests.
//!
//! `causeway-one-process CONNECTORS run FLAGS…`, with the flags of `causeway-edge run`; each file in the folder CONNECTORS names
//! the folder of a connector: `config.yml`, `token` and the place of its `control.sock`.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use causeway_connector::app::{App, Settings};
use causeway_connector::config;
use causeway_daemon::signals::Signals;
use causeway_daemon::telemetry;
use causeway_edge::config::{Config, Overrides};
use causeway_tunnel::Token;
use causeway_tunnel::carrier::memory::{Line, Network};

/// How soon a new connector is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let connectors = PathBuf::from(args.next().context("which folder names the connectors?")?);
    let (file, overrides) = edge_flags(args)?;
    let config = Config::load(file.as_deref(), &overrides)?;
    let (levels, _flush) = telemetry::init(config.log.format, &config.log.level)?;
    let network = Network::new(Line::default());
    let mut signals = Signals::install()?;
    let carried = network.clone().run();
    let edge =
        causeway_edge::app::App::start_within(config.clone(), Some(levels), Some(network.clone())).await?;
    let tunnel = *edge.listening().tunnel.first().context("no address for tokens")?;
    tokio::select! {
        () = carried => unreachable!("it runs for ever"),
        failed = serve_connectors(&connectors, network, tunnel) => failed,
        _ = edge.run(&mut signals, || Ok(config.clone())) => Ok(()),
    }
}

/// Starts a connector for each file of the folder whose token leads to this edge, for ever.
async fn serve_connectors(folder: &Path, network: Network, tunnel: SocketAddr) -> Result<()> {
    let mut running = Vec::new();
    let mut known = HashSet::new();
    loop {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let is_whole = !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if is_whole && known.insert(path.clone()) {
                let folder = PathBuf::from(std::ffi::OsString::from_vec(std::fs::read(&path)?));
                running.extend(connector(&folder, network.clone(), tunnel).await?);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn connector(folder: &Path, network: Network, tunnel: SocketAddr) -> Result<Option<App>> {
    // Another test's connector may be gone already.
    let Ok(token) = std::fs::read_to_string(folder.join("token")) else { return Ok(None) };
    let token = Token::parse(&token)?;
    if !token.edges.contains(&tunnel.to_string()) {
        return Ok(None);
    }
    let settings = Settings {
        config: config::load(&folder.join("config.yml"))?,
        file: None,
        token,
        edges: Vec::new(),
        metrics: Some((Ipv4Addr::LOCALHOST, 0).into()),
        shards: None,
        control: Some(folder.join("control.sock")),
        levels: None,
        visits: Default::default(),
        within: Some(network),
    };
    App::start(settings).await.map(Some)
}

fn edge_flags(mut args: impl Iterator<Item = String>) -> Result<(Option<PathBuf>, Overrides)> {
    let (mut file, mut overrides) = (None, Overrides::default());
    while let Some(flag) = args.next() {
        let mut value = || args.next().with_context(|| format!("{flag} needs a value"));
        let mut socket = || anyhow::Ok(vec![value()?.parse::<SocketAddr>()?]);
        match flag.as_str() {
            "run" => {}
            "--dev" => overrides.dev = true,
            "--https" => overrides.https = socket()?,
            "--http" => overrides.http = socket()?,
            "--tunnel" => overrides.tunnel = socket()?,
            "--admin" => overrides.admin = socket()?.pop(),
            "--config" => file = Some(value()?.into()),
            "--data" => overrides.data = Some(value()?.into()),
            other => bail!("{other} is not known here"),
        }
    }
    Ok((file, overrides))
}

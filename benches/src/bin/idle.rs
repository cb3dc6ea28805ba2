//! `causeway-idle`: what sessions cost an edge that nobody asks through them, in memory and CPU. Started by `benches/idle`,
//! which builds the programs first.
//!
//! A real edge; one site that is visited, behind a real connector; and beside it so many sessions, made by the connector's
//! own dialler in this process, half of them in reserve as every connector keeps one.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use causeway_benches::contender::{self, Contender, HOST};
use causeway_benches::load::{self, Kind, Tools};
use causeway_tests::edge::Edge;
use causeway_tests::origin::nginx::Nginx;
use causeway_tests::process::{Usage, cpu};
use causeway_tests::wait;
use causeway_tunnel::dial::Dialer;
use causeway_tunnel::limits::STATS_INTERVAL;
use causeway_tunnel::{ConnectorId, Message, Role, Route, Stats, Token};
use clap::Parser;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

#[derive(Debug, Parser)]
#[command(about = "Measures what idle sessions cost an edge")]
struct Options {
    /// Idle sessions.
    #[arg(long, default_value_t = 240)]
    sessions: usize,
    /// Sessions at once on their way through the handshake.
    #[arg(long, default_value_t = 16)]
    at_once: usize,
    /// How long each figure of CPU is taken.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rounds of the load without them, and with them.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Lets everything stand once it is idle, to be looked at.
    #[arg(long)]
    pause: bool,
}

/// As at most homes: one connector, with a session in use and one in reserve.
const SESSIONS_A_TUNNEL: usize = 2;
/// What the allocator holds back it gives to the system within ten seconds.
const SETTLED: Duration = Duration::from_secs(12);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let tool = |name: &str| {
        causeway_tests::needs(name).with_context(|| format!("{name} is not installed: run tests/prepare"))
    };
    let tools = Tools { wrk: tool("wrk")?, h2load: tool("h2load")?, curl: tool("curl")? };
    let nginx = Nginx::start(&tool("nginx")?).await;
    nginx.put("1k.bin", &vec![b'x'; 1024]);
    let ours = contender::causeway(nginx.addr).await;
    let edge = ours.edge().context("ours has an edge")?;
    let pid = edge.program.pid();

    // Nothing has been asked yet: memory that a load left free would be taken for nothing.
    sleep(SETTLED).await;
    let (memory, rest) = (Usage::of(pid).anonymous_bytes, cpu_a_second(pid, options.seconds).await);
    let mut idle = connect(edge, options.sessions, options.at_once).await?;
    sleep(SETTLED).await;
    let each = |all: f64| all / options.sessions as f64;
    let bytes = Usage::of(pid).anonymous_bytes.saturating_sub(memory);
    let busy = cpu_a_second(pid, options.seconds).await;
    println!("{} idle sessions, each at the edge:", options.sessions);
    println!("  memory  {:8.1} kB", each(bytes as f64) / 1000.0);
    println!("  CPU     {:8.3} ms a second", each((busy - rest) * 1000.0));
    if options.pause {
        println!("the edge is process {pid}; Enter goes on");
        tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    }
    let crowded = load(&tools, &ours, &options).await?;
    if let Some(ended) = idle.try_join_next() {
        ended?.context("a session ended while it was idle")?;
    }
    idle.shutdown().await;
    let gone = || async { (edge.sessions().await < options.sessions).then_some(()) };
    wait::until("the end of the sessions", Duration::from_secs(40), gone).await;
    for ((kind, alone), (_, crowded)) in load(&tools, &ours, &options).await?.into_iter().zip(crowded) {
        // What they cost by themselves is said above; here it is how much dearer they make a request.
        let own = (busy - rest) * 1e6 / crowded[1];
        let dearer = |figure: f64| (figure / alone[0] - 1.0) * 100.0;
        println!(
            "  {:<22} {:6.1} us of CPU a request without them, {:6.1} with: {:+.1} %, less their own {:+.1} %",
            kind.name(),
            alone[0],
            crowded[0],
            dearer(crowded[0]),
            dearer(crowded[0] - own)
        );
    }
    Ok(())
}

/// CPU per request and requests a second, medians.
async fn load(tools: &Tools, ours: &Contender, options: &Options) -> anyhow::Result<Vec<(Kind, [f64; 2])>> {
    let mut all = Vec::new();
    for kind in [Kind::Http1, Kind::Http2] {
        let mut rounds = Vec::new();
        for _ in 0..options.rounds {
            rounds.push(load::measure(tools, ours, kind, options.seconds.min(5)).await?);
        }
        rounds.sort_by(|a, b| a[0].total_cmp(&b[0]));
        all.extend(rounds.get(rounds.len() / 2).map(|&median| (kind, median)));
    }
    Ok(all)
}

async fn cpu_a_second(pid: u32, seconds: u64) -> f64 {
    let before = cpu(pid);
    sleep(Duration::from_secs(seconds)).await;
    (cpu(pid) - before).as_secs_f64() / seconds as f64
}

/// Brings the sessions up, each announcing a name of its own and reporting its figures as a connector does.
async fn connect(edge: &Edge, count: usize, at_once: usize) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut running = JoinSet::new();
    let mut tokens = Vec::new();
    for tunnel in 0..count.div_ceil(SESSIONS_A_TUNNEL) {
        let created = edge.create(&format!("idle{tunnel}"), &[&format!("*.idle{tunnel}.example")]).await;
        tokens.push(Token::parse(&created.token)?);
    }
    let before = edge.sessions().await;
    for number in 0..count {
        let tunnel = number / SESSIONS_A_TUNNEL;
        let (role, hostname) =
            if number % 2 == 0 { (Role::Primary, number) } else { (Role::Standby, number - 1) };
        let hostname = format!("site{hostname}.idle{tunnel}.example");
        running.spawn(keep(tokens[tunnel].clone(), edge.tunnel, role, hostname));
        if (number + 1) % at_once == 0 {
            wait_for(edge, before + number + 1).await;
        }
    }
    wait_for(edge, before + count).await;
    Ok(running)
}

async fn wait_for(edge: &Edge, sessions: usize) {
    let look = || async { (edge.sessions().await >= sessions).then_some(()) };
    wait::until("the sessions", Duration::from_secs(20), look).await;
}

async fn keep(token: Token, address: SocketAddr, role: Role, hostname: String) -> anyhow::Result<()> {
    // Keep-alives of real connectors do not come all at once.
    sleep(Duration::from_millis(rand::random_range(0..1000))).await;
    let provider = causeway_daemon::tls::provider();
    let dialer = Dialer::new(token, ConnectorId::random(), "bench".to_owned(), provider)?;
    let (session, control) = dialer.dial(address, role).await?;
    let (mut send, mut recv) = control.split();
    let routes = vec![Route::of_requests(1, hostname)];
    send.send(&Message::Announce { generation: 1, routes }).await?;
    let mut report = interval(STATS_INTERVAL);
    loop {
        tokio::select! {
            _ = report.tick() => send.send(&Message::Stats(Stats::default())).await?,
            message = recv.recv() => ensure!(message?.is_some(), "the edge ended {HOST}'s neighbour"),
            stream = session.accept() => ensure!(stream.is_none(), "nobody asks it"),
        }
    }
}

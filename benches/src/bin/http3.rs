//! `causeway-http3`: started by `benches/http3`, which builds the programs first. The visitors are the h3 crate's, so that both
//! contenders meet a client that neither is made of.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use causeway_benches::contender::{self, Contender, HOST};
use causeway_benches::load::{self, Kind, Tools};
use causeway_benches::machine;
use causeway_tests::client::{Http3, http3_answer};
use causeway_tests::origin::nginx::Nginx;
use clap::Parser;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Request;
use tokio::task::JoinSet;
use tokio::time::Instant;

#[derive(Debug, Parser)]
#[command(about = "Measures HTTP/3 beside HTTP/2 and beside caddy, interleaved, on loopback")]
struct Options {
    /// Rounds of every load on every contender; the table shows medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// As h2load's: so many connections with so many requests at once on each.
const CONNECTIONS: usize = 8;
const STREAMS: usize = 16;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    println!("{}", machine());
    let tool = |name: &str| {
        causeway_tests::needs(name).with_context(|| format!("{name} is not installed: run tests/prepare"))
    };
    let tools = Tools { wrk: tool("wrk")?, h2load: tool("h2load")?, curl: tool("curl")? };
    let nginx = Nginx::start(&tool("nginx")?).await;
    nginx.put("1k.bin", &vec![b'x'; 1024]);
    let contenders =
        [contender::causeway(nginx.addr).await, contender::caddy(&tool("caddy")?, nginx.addr).await];
    let mut rows: Vec<(String, Vec<[f64; 2]>)> = Vec::new();
    for round in 0..options.rounds {
        for contender in &contenders {
            for is_http3 in [true, false] {
                let figures = match is_http3 {
                    true => http3(contender, Duration::from_secs(options.seconds)).await?,
                    false => load::measure(&tools, contender, Kind::Http2, options.seconds).await?,
                };
                let name = format!("{} {}", contender.name, if is_http3 { "HTTP/3" } else { "HTTP/2" });
                eprintln!("round {}  {name:<18} {:>10.2} {:>10.0}", round + 1, figures[0], figures[1]);
                match rows.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, all)) => all.push(figures),
                    None => rows.push((name, vec![figures])),
                }
            }
        }
    }
    println!("\n{:<18} {:>14} {:>12}", "1 KiB GET, 8 x 16", "CPU us/request", "requests/s");
    for (name, all) in &rows {
        let median = |at: usize| {
            let mut of: Vec<f64> = all.iter().map(|figures| figures[at]).collect();
            of.sort_by(f64::total_cmp);
            of[of.len() / 2]
        };
        println!("{name:<18} {:>14.1} {:>12.0}", median(0), median(1));
    }
    Ok(())
}

/// CPU microseconds a request of everything between visitor and origin, and requests a second.
async fn http3(contender: &Contender, length: Duration) -> anyhow::Result<[f64; 2]> {
    let mut visitors = JoinSet::new();
    let (addr, ca) = (contender.http3(), contender.ca().to_owned());
    let (before, since) = (contender.cpu(), Instant::now());
    for _ in 0..CONNECTIONS {
        let ca = ca.clone();
        visitors.spawn(async move { visit(addr, &ca, since + length).await });
    }
    let mut requests = 0.0;
    for visited in visitors.join_all().await {
        requests += visited.map_err(anyhow::Error::msg)?;
    }
    let (cpu, time) = (contender.cpu() - before, since.elapsed());
    Ok([cpu.as_secs_f64() * 1e6 / requests, requests / time.as_secs_f64()])
}

/// How many requests one connection had answered until then.
async fn visit(addr: SocketAddr, ca: &std::path::Path, until: Instant) -> Result<f64, String> {
    let mut client = Http3::at(addr, ca, HOST).await?;
    let mut answers = FuturesUnordered::new();
    let mut requests = 0.0;
    loop {
        while answers.len() < STREAMS && Instant::now() < until {
            let request = Request::get(format!("https://{HOST}:{}/1k.bin", addr.port())).body(());
            let mut stream = client.open(request.map_err(|error| error.to_string())?).await?;
            stream.finish().await.map_err(|error| error.to_string())?;
            answers.push(http3_answer(stream));
        }
        let Some(answer) = answers.next().await else { return Ok(requests) };
        let answer = answer?;
        if (answer.status, answer.body.len()) != (200, 1024) {
            return Err(format!("a wrong answer: {}", answer.status));
        }
        requests += 1.0;
    }
}

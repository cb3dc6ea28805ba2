//! `causeway-compare`: started by `benches/compare`, which builds the programs first.

use std::path::PathBuf;
use std::time::Duration;

use causeway_benches::contender::{self, Contender, HOST, Transport};
use causeway_benches::load::{self, BULK_BYTES, KINDS, Tools};
use causeway_benches::machine;
use causeway_benches::report::Report;
use causeway_tests::child::output;
use causeway_tests::origin::nginx::Nginx;
use clap::Parser;
use tokio::process::Command;

#[derive(Debug, Parser)]
#[command(about = "Measures ours beside its peers, interleaved, on loopback")]
struct Options {
    /// Rounds of every load on every contender; the table shows medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Only those whose name begins so.
    #[arg(long, default_value = "")]
    only: String,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut report = Report { machine: machine(), ..Report::default() };
    let tool = |name: &str| {
        causeway_tests::needs(name)
            .ok_or_else(|| anyhow::anyhow!("{name} is not installed: run tests/prepare"))
    };
    let tools = Tools { wrk: tool("wrk")?, h2load: tool("h2load")?, curl: tool("curl")? };
    let nginx = Nginx::start(&tool("nginx")?).await;
    nginx.put("1k.bin", &vec![b'x'; 1024]);
    nginx.put("bulk.bin", &vec![b'y'; usize::try_from(BULK_BYTES)?]);

    let mut contenders = start(&nginx, &mut report).await;
    contenders.retain(|contender| contender.name.starts_with(&options.only));
    for contender in &contenders {
        same_bytes(&tools.curl, contender).await?;
        report.contenders.push(contender.name);
    }
    for round in 1..=options.rounds {
        for kind in KINDS {
            for contender in &contenders {
                let figures = load::measure(&tools, contender, kind, options.seconds).await?;
                eprintln!(
                    "round {round}  {:<24} {:<22} {:>10.2} {:>10.2}",
                    kind.name(),
                    contender.name,
                    figures[0],
                    figures[1]
                );
                report.rounds.push((contender.name, kind, figures));
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    for contender in &contenders {
        for ((program, usage), (_, idle)) in contender.usage().into_iter().zip(&contender.idle) {
            report.memory.push((contender.name, program, *idle, usage.resident_bytes));
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report.json())?);
    } else {
        println!("{}", report.table());
    }
    Ok(())
}

/// Every contender whose programs are installed; the others are named.
async fn start(nginx: &Nginx, report: &mut Report) -> Vec<Contender> {
    let mut contenders =
        vec![contender::causeway(nginx.addr).await, contender::causeway_at_home(nginx.addr).await];
    let Some(haproxy) = causeway_tests::needs("haproxy") else {
        report.missing.push("haproxy is not installed (tests/prepare installs it)".into());
        return contenders;
    };
    contenders.push(contender::haproxy(&haproxy, nginx.addr).await);
    let Some(rathole) = causeway_tests::needs("rathole") else {
        report.missing.push("rathole is not installed (benches/compare --install-peers builds it)".into());
        return contenders;
    };
    for transport in [Transport::Tcp, Transport::Tls] {
        match contender::haproxy_rathole(&haproxy, &rathole, transport, nginx.addr).await {
            Some(contender) => contenders.push(contender),
            None => report
                .missing
                .push(format!("rathole over {transport:?}: openssl could not make its key file")),
        }
    }
    contenders
}

/// Nothing is compared that does not answer alike.
async fn same_bytes(curl: &PathBuf, contender: &Contender) -> anyhow::Result<()> {
    let mut command = Command::new(curl);
    command.args(["-sS", "-k", &format!("https://{HOST}:{}/1k.bin", contender.https.port())]);
    let body = output(command).await.ok();
    anyhow::ensure!(body == "x".repeat(1024), "{} answers something else: {body:.100}", contender.name);
    Ok(())
}

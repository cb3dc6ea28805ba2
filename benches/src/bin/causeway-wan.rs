//! `causeway-wan`: started by `benches/wan`, which builds the programs first.

use std::time::Duration;

use causeway_benches::machine;
use causeway_benches::wan::{Kind, Measure, Row, Table, rows};
use causeway_tests::line::missing;
use clap::Parser;

#[derive(Debug, Parser)]
#[command(about = "Measures ours beside its peers over lines with delay, loss and queues")]
struct Options {
    /// Only these rows, or those whose name begins so; `--list` names them.
    #[arg(long, num_args = 1..)]
    only: Vec<String>,
    /// Only contenders whose name begins so.
    #[arg(long, num_args = 1..)]
    contender: Vec<String>,
    /// Transfers over a line of one's own: RTT,MBIT[,LOSS%[,QUEUE]] in ms.
    #[arg(long)]
    line: Vec<String>,
    /// Rounds of every row; the table shows the median and the span.
    #[arg(long, default_value_t = 1)]
    rounds: u64,
    /// Bytes of one transfer.
    #[arg(long, default_value_t = 20_000_000)]
    bytes: u64,
    /// Seconds for which rates and answers are watched.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Decides which packets are lost; each round takes the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Further lines of ours: edge.yaml.
    #[arg(long, default_value = "")]
    edge_config: String,
    /// Further lines of ours: the connector's file.
    #[arg(long, default_value = "")]
    connector_config: String,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// The rows' names.
    #[arg(long)]
    list: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut chosen = rows();
    if options.list {
        chosen.iter().for_each(|row| println!("{}", row.name));
        return Ok(());
    }
    if let Some(reason) = missing() {
        anyhow::bail!("there can be no line here: {reason}");
    }
    if !options.only.is_empty() || !options.line.is_empty() {
        let whole: Vec<_> = chosen.iter().map(|row| row.name.clone()).collect();
        let wanted = |row: &Row| {
            options.only.iter().any(|only| {
                row.name == *only || (!whole.contains(only) && row.name.starts_with(only.as_str()))
            })
        };
        chosen.retain(wanted);
    }
    chosen.extend(options.line.iter().map(|line| Row::custom(line)).collect::<anyhow::Result<Vec<_>>>()?);

    let mut table = Table { machine: machine(), ..Table::default() };
    let mut measure = Measure {
        bytes: options.bytes,
        length: Duration::from_secs(options.seconds),
        seed: options.seed,
        haproxy: causeway_tests::needs("haproxy"),
        rathole: causeway_tests::needs("rathole"),
        edge_config: options.edge_config,
        connector_config: options.connector_config,
    };
    let wanted = |kind: &Kind| {
        options.contender.is_empty()
            || options.contender.iter().any(|name| kind.name().starts_with(name.as_str()))
    };
    let mut contenders: Vec<_> = Kind::ALL.into_iter().filter(wanted).collect();
    if measure.haproxy.is_none() || measure.rathole.is_none() {
        contenders.retain(|kind| *kind == Kind::Causeway);
        table.missing.push("haproxy + rathole: not installed (benches/compare --install-peers)".to_owned());
    }
    for _ in 0..options.rounds {
        for row in &chosen {
            for kind in &contenders {
                match row.measure(*kind, &measure).await {
                    Ok(figures) => {
                        let done = Table { figures, ..Table::default() };
                        eprintln!("{}", done.text().trim());
                        table.figures.extend(done.figures);
                    }
                    Err(error) => table.missing.push(format!("{}, {}: {error:#}", row.name, kind.name())),
                }
            }
        }
        measure.seed += 1;
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&table.json())?);
    } else {
        println!("{}", table.text());
    }
    Ok(())
}

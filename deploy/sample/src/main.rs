//! `causeway-sample origin` serves the sample origin; `causeway-sample check` visits it through an edge.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use causeway_sample::check::{self, Target};
use causeway_sample::origin::{Origin, Speak};
use clap::Parser;

#[derive(Debug, Parser)]
#[command(about)]
enum Command {
    /// Serve the sample origin over HTTP/1.1; prints the bound address.
    Origin {
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Send requests of several kinds through an edge and check every answer.
    Check {
        /// The edge's HTTPS address.
        #[arg(long)]
        edge: SocketAddr,
        /// PEM file of the certificate authority to trust.
        #[arg(long)]
        ca: PathBuf,
        /// A public name that leads to the sample origin.
        #[arg(long)]
        host: String,
        /// A public name whose rule rewrites the Host …
        #[arg(long, requires = "origin_host")]
        rewritten: Option<String>,
        /// … to this one.
        #[arg(long)]
        origin_host: Option<String>,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    match Command::parse() {
        Command::Origin { listen } => {
            let origin = Origin::tcp(listen, Speak::Http1).await?;
            println!("{}", origin.addr());
            origin.run().await;
        }
        Command::Check { edge, ca, host, rewritten, origin_host } => {
            let target = Target { edge, ca, host, rewritten: rewritten.zip(origin_host) };
            if check::run(&target).await? > 0 {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

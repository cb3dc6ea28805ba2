//! Two edges of a fleet behind a balancer, restarted one after the other: no visitor of the balancer notices. Hazard 154.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use causeway_tests::child::Program;
use causeway_tests::connector::Connector;
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::files::Folder;
use causeway_tests::load::Load;
use causeway_tests::origin::{closed_port, http, sample};
use causeway_tests::postgres::Postgres;
use causeway_tests::{long, needs, run_within, wait};
use tokio::net::TcpStream;
use tokio::process::Command;

const APP: &str = "app.example.test";
const READY: Duration = Duration::from_secs(30);

/// haproxy in front of both: HTTP/1.1 to the edges at one port, HTTP/2 at the other. Asked again is what was not sent, or not answered
/// on a connection that had been used before (RFC 9110 section 9.2.2).
async fn balancer(path: &Path, folder: &Folder, edges: [&Edge; 2]) -> (Program, [SocketAddr; 2]) {
    let (over_http1, over_http2) = (closed_port(), closed_port());
    let [one, two] = edges.map(|edge| edge.https);
    let server = |name: &str, at: SocketAddr, alpn: &str| {
        format!(
            "  server {name} {at} ssl verify none sni str({APP}) alpn {alpn} check check-sni {APP} inter 200ms fall 1 rise 1\n"
        )
    };
    let backend = |alpn: &str| server("one", one, alpn) + &server("two", two, alpn);
    let config = folder.write(
        "haproxy.cfg",
        &format!(
            "defaults\n  mode http\n  timeout connect 1s\n  timeout client 30s\n  timeout server 30s\n  retries 3\n  \
             option redispatch 1\n  retry-on conn-failure empty-response\n\
             frontend f1\n  bind {over_http1}\n  default_backend b1\nbackend b1\n{}\
             frontend f2\n  bind {over_http2}\n  default_backend b2\nbackend b2\n{}",
            backend("http/1.1"),
            backend("h2"),
        ),
    );
    let mut command = Command::new(path);
    command.arg("-db").arg("-f").arg(config);
    let program = Program::start("haproxy", command);
    for at in [over_http1, over_http2] {
        let look = || async { TcpStream::connect(at).await.ok() };
        wait::until("haproxy to listen", READY, look).await;
    }
    (program, [over_http1, over_http2])
}

#[test]
fn hazard_154_two_edges_are_restarted_in_turn_and_no_visitor_of_their_balancer_notices() {
    let rounds = if long() { 100 } else { 4 };
    run_within(Duration::from_secs(120 + rounds * 20), async move {
        let (Some(postgres), Some(haproxy)) = (Postgres::start(), needs("haproxy")) else { return };
        let start = async |data: Folder, at: Option<&[SocketAddr; 3]>| {
            let at = |index: usize| at.map(|at| at[index]);
            let (https, http, tunnel) = (at(0), at(1), at(2));
            let store = Some(postgres.url());
            Edge::with(EdgeOptions { store, data: Some(data), https, http, tunnel, ..EdgeOptions::default() })
                .await
        };
        let one = start(Folder::default(), None).await;
        let key = Folder::default();
        for file in ["identity.pem", "dev-ca.pem"] {
            std::fs::copy(one.data().join(file), key.join(file)).unwrap();
        }
        let two = start(key, None).await;
        let addresses = [&one, &two].map(|edge| edge.tunnel.to_string());
        let args = ["tunnel", "create", "home", "--hostname", APP, "--output", "json"];
        let args = [&args[..], &["--address", &addresses[0], "--address", &addresses[1]]].concat();
        let made = one.cli(&args).await.json();
        let origin = sample().await;
        let rules = format!("ingress:\n  - service: {}\n", http(&origin));
        let mut connector = Connector::start(made["token"].as_str().unwrap(), &rules);
        connector.ready(READY).await;
        for edge in [&one, &two] {
            edge.wait_state("home", "HEALTHY", READY).await;
        }
        let folder = Folder::default();
        let (_haproxy, [over_http1, over_http2]) = balancer(&haproxy, &folder, [&one, &two]).await;
        let loads = [over_http1, over_http2].map(|at| Load::plain(at, APP, "/bytes/2000", 2000, 6));
        let mut edges = [Some(one), Some(two)];
        for round in 0..rounds {
            for load in &loads {
                let before = load.answered();
                wait::holds("load to flow", READY, || load.answered() > before + 250).await;
            }
            let index = usize::try_from(round).unwrap() % 2;
            let edge = edges[index].take().unwrap();
            let at = [edge.https, edge.http, edge.tunnel];
            let again = start(edge.stop().await, Some(&at)).await;
            again.wait_state("home", "HEALTHY", READY).await;
            edges[index] = Some(again);
            for load in &loads {
                assert_eq!(load.failed(), 0, "round {round}");
            }
        }
        for (load, version) in loads.into_iter().zip(["HTTP/1.1", "HTTP/2"]) {
            let tally = load.stop().await;
            println!(
                "{version}: {} answers over {rounds} restarts, slowest {:?}",
                tally.answered, tally.slowest
            );
            assert_eq!(tally.failed, 0, "{:?}", tally.failures);
        }
    });
}

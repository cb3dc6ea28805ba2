//! Certificates of a fleet, against a real authority (pebble): one edge orders, whichever is asked answers, all serve.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use causeway_tests::client::tls_connect;
use causeway_tests::connector::Connector;
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::files::Folder;
use causeway_tests::pebble::{Manners, Pebble, Place};
use causeway_tests::postgres::Postgres;
use causeway_tests::{run, wait};

const NAMES: [&str; 3] = ["one.example.test", "two.example.test", "three.example.test"];
const START: Duration = Duration::from_secs(20);
const ORDER: Duration = Duration::from_secs(60);

struct Fleet {
    postgres: Postgres,
    edges: [Edge; 2],
}

impl Fleet {
    /// Two edges that order as `config` says.
    async fn start(config: &str) -> Option<Self> {
        let postgres = Postgres::start()?;
        let key = Folder::default();
        Edge::ask(key.path(), None, &["identity"]).await.ok();
        let edge = async || {
            let data = Folder::default();
            std::fs::copy(key.join("identity.pem"), data.join("identity.pem")).unwrap();
            let (store, config) = (Some(postgres.url()), config.to_owned());
            Edge::with(EdgeOptions {
                config,
                store,
                data: Some(data),
                no_dev: true,
                ..EdgeOptions::default()
            })
            .await
        };
        let edges = [edge().await, edge().await];
        Some(Self { postgres, edges })
    }

    /// A connector of these names, at the first `count` of the edges.
    async fn connect(&self, names: &[&str], count: usize) -> Connector {
        let mut args = vec!["tunnel", "create", "site", "--hostname", "*.example.test", "--output", "json"];
        let addresses: Vec<String> =
            self.edges.iter().take(count).map(|edge| edge.tunnel.to_string()).collect();
        args.extend(addresses.iter().flat_map(|address| ["--address", address]));
        let made = self.edges[0].cli(&args).await.json();
        let rule = |name: &&str| format!("  - {{ hostname: \"{name}\", service: hello_world }}\n");
        let rules: String = names.iter().map(rule).collect();
        let rules = format!("ingress:\n{rules}  - service: http_status:404\n");
        let mut connector = Connector::start(made["token"].as_str().unwrap(), &rules);
        connector.ready(START).await;
        connector
    }

    /// Waits until both show visitors the same certificate.
    async fn served(&self, name: &str, pebble: &Pebble) {
        let root = pebble.root();
        let look = || async {
            let [one, two] = &self.edges;
            let (one, two) = (shown(one, &root, name).await?, shown(two, &root, name).await?);
            (one == two).then_some(())
        };
        wait::until(&format!("one certificate for {name}"), ORDER, look).await;
    }

    async fn orders(&self, outcome: &str) -> f64 {
        let mut orders = 0.0;
        for edge in &self.edges {
            let outcome = format!("outcome=\"{outcome}\"");
            orders += edge.metric("causeway_edge_certificate_orders_total", &[&outcome]).await;
        }
        orders
    }
}

async fn shown(edge: &Edge, root: &Path, name: &str) -> Option<Vec<u8>> {
    let root: PathBuf = root.to_owned();
    let stream = tls_connect(edge.https, &root, name, &["http/1.1"]).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?[0].to_vec())
}

#[test]
fn one_edge_orders_and_the_authority_may_ask_the_other() {
    for challenge in ["http-01", "tls-alpn-01"] {
        run(async {
            let Some(place) = Place::choose() else { return };
            let config = place.config(&format!("  challenges: [{challenge}]\n"));
            let Some(fleet) = Fleet::start(&config).await else { return };
            let pebble = place.open(&Manners::of(&fleet.edges[1])).await;
            // The second edge never hears of the name by itself.
            let _connector = fleet.connect(&NAMES[..1], 1).await;
            fleet.served(NAMES[0], &pebble).await;
            assert_eq!((fleet.orders("issued").await, fleet.orders("unproven").await), (1.0, 0.0));
            let left = || fleet.postgres.sql("SELECT count(*) FROM claims").ok().filter(|left| left == "0");
            wait::until("the claims to be given back", START, || std::future::ready(left())).await;
        });
    }
}

#[test]
fn both_want_the_same_names_and_each_is_ordered_once_by_one_account() {
    run(async {
        let Some(place) = Place::choose() else { return };
        let Some(fleet) = Fleet::start(&place.config("")).await else { return };
        let pebble = place.open(&Manners::of(&fleet.edges[0])).await;
        let _connector = fleet.connect(&NAMES, 2).await;
        for name in NAMES {
            fleet.served(name, &pebble).await;
        }
        assert_eq!(fleet.orders("issued").await, 3.0);
        assert_eq!(fleet.postgres.sql("SELECT count(*) FROM acme_accounts").unwrap(), "1");
        let accounts = pebble.log().lines().filter(|line| line.contains("/sign-me-up")).count();
        assert!(accounts <= 2, "{accounts} requests for one account, a lost nonce included");

        // What is asked for at one is done for both, and what is forgotten at one is at both.
        fleet.edges[1].cli(&["cert", "renew", NAMES[1]]).await.ok();
        let look = || async { (fleet.orders("issued").await >= 4.0).then_some(()) };
        wait::until("one more order", ORDER, look).await;
        fleet.served(NAMES[1], &pebble).await;
        assert_eq!(fleet.orders("issued").await, 4.0);
    });
}

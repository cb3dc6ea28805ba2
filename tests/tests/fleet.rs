//! Edges of a fleet, which share one PostgreSQL database: tunnels, revocation, and the database's absence.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use causeway_tests::client::{Protocol, visit};
use causeway_tests::connector::Connector;
use causeway_tests::edge::{Created, Edge, EdgeOptions};
use causeway_tests::files::Folder;
use causeway_tests::postgres::Postgres;
use causeway_tests::{run, wait};

const APP: &str = "app.example.test";
const URL: &str = "https://app.example.test/";
const RULES: &str = "ingress:\n  - service: hello_world\n";
const START: Duration = Duration::from_secs(30);
/// What a revocation may take until every edge knows of it.
const REVOKED: Duration = Duration::from_secs(5);

/// A data folder with the key of this one's edge, as whoever adds an edge to a fleet makes it.
fn beside(data: &Folder) -> Folder {
    let folder = Folder::default();
    std::fs::copy(data.join("identity.pem"), folder.join("identity.pem")).unwrap();
    folder
}

async fn edge(postgres: &Postgres, data: Folder) -> Edge {
    let store = Some(postgres.url());
    Edge::with(EdgeOptions { store, data: Some(data), ..EdgeOptions::default() }).await
}

/// Two edges of one fleet.
async fn two(postgres: &Postgres) -> (Edge, Edge) {
    let one = edge(postgres, Folder::default()).await;
    let two = edge(postgres, beside(one.data())).await;
    (one, two)
}

/// A tunnel whose token names both edges.
async fn create(at: &Edge, name: &str, hostname: &str, edges: [&Edge; 2]) -> Created {
    let [one, two] = edges.map(|edge| edge.tunnel.to_string());
    let args = ["tunnel", "create", name, "--hostname", hostname, "--address", &one, "--address", &two];
    let made = at.cli(&[&args[..], &["--output", "json"]].concat()).await.json();
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    Created { name: name.to_owned(), id: text("id"), token: text("token") }
}

#[test]
fn a_tunnel_made_at_one_edge_is_served_by_both_and_cut_at_both_when_it_is_revoked_at_one() {
    run(async {
        let Some(postgres) = Postgres::start() else { return };
        let (one, two) = two(&postgres).await;
        let home = create(&one, "home", APP, [&one, &two]).await;
        let mut connector = Connector::start(&home.token, RULES);
        connector.ready(START).await;
        for edge in [&one, &two] {
            edge.wait_state("home", "HEALTHY", START).await;
            visit(edge, Protocol::Http2, URL).await.ok();
        }
        let since = Instant::now();
        two.cli(&["tunnel", "revoke", "home"]).await.ok();
        for edge in [&one, &two] {
            let look = || async { (edge.sessions().await == 0).then_some(()) };
            wait::until("the sessions to be cut", START, look).await;
        }
        assert!(since.elapsed() < REVOKED, "it took {:?}", since.elapsed());
    });
}

#[test]
fn a_connector_that_knows_one_edge_is_told_of_the_other_and_dials_it() {
    run(async {
        let Some(postgres) = Postgres::start() else { return };
        let two = edge(&postgres, Folder::default()).await;
        let options = EdgeOptions {
            store: Some(postgres.url()),
            data: Some(beside(two.data())),
            config: format!("fellows: ['{}']", two.tunnel),
            ..EdgeOptions::default()
        };
        let one = Edge::with(options).await;
        let home = one.create("home", &[APP]).await;
        let mut connector = Connector::start(&home.token, RULES);
        connector.ready(START).await;
        for edge in [&one, &two] {
            edge.wait_state("home", "HEALTHY", START).await;
            visit(edge, Protocol::Http2, URL).await.ok();
        }
        let status = connector.status().await;
        let known: Vec<_> = status["edges"].as_array().unwrap().iter().map(|edge| &edge["edge"]).collect();
        assert_eq!(known.len(), 2, "{status}");
    });
}

#[test]
fn both_serve_on_while_the_database_is_away_and_take_changes_when_it_is_back() {
    run(async {
        let Some(mut postgres) = Postgres::start() else { return };
        let (one, two) = two(&postgres).await;
        let home = create(&one, "home", APP, [&one, &two]).await;
        let mut connector = Connector::start(&home.token, RULES);
        connector.ready(START).await;
        for edge in [&one, &two] {
            edge.wait_state("home", "HEALTHY", START).await;
        }
        postgres.close();
        for edge in [&one, &two] {
            edge.program.line("the edge runs on with the tunnels it knows", START).await;
            let error = edge.status().await["storeError"].as_str().unwrap().to_owned();
            assert!(error.contains("cannot be reached"), "{error}");
            assert!(edge.metric("causeway_edge_store_errors_total", &[]).await > 0.0);
            visit(edge, Protocol::Http2, URL).await.ok();
        }
        let refused = one.cli(&["tunnel", "revoke", "home"]).await;
        assert_eq!(refused.code, 1, "{}", refused.text());
        assert!(refused.stderr.contains("check that the server runs"), "{}", refused.stderr);
        // Whoever comes anew is known, too.
        drop(connector);
        let mut connector = Connector::start(&home.token, RULES);
        connector.ready(START).await;
        visit(&two, Protocol::Http2, URL).await.ok();

        postgres.open();
        for edge in [&one, &two] {
            edge.program.line("the store works again", START).await;
            assert!(edge.status().await["storeError"].is_null());
        }
        two.cli(&["tunnel", "revoke", "home"]).await.ok();
        let look = || async { (one.sessions().await == 0).then_some(()) };
        wait::until("the sessions to be cut", REVOKED, look).await;
    });
}

#[test]
fn edges_of_an_empty_database_may_start_at_once() {
    run(async {
        let Some(postgres) = Postgres::start() else { return };
        let key = Folder::default();
        Edge::ask(key.path(), None, &["identity"]).await.ok();
        let edges = [(); 4].map(|()| edge(&postgres, beside(&key)));
        let edges = futures_util::future::join_all(edges).await;
        edges[0].create("home", &[APP]).await;
        for edge in &edges[1..] {
            edge.wait_state("home", "INACTIVE", REVOKED).await;
        }
    });
}

#[test]
fn an_edge_with_a_key_of_its_own_is_told_to_take_the_fleets() {
    run(async {
        let Some(postgres) = Postgres::start() else { return };
        let _one = edge(&postgres, Folder::default()).await;
        let stranger = Folder::default();
        let refused = Edge::ask(stranger.path(), Some(&postgres.url()), &["run", "--dev"]).await;
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("put `identity.pem` of another"), "{}", refused.stderr);
    });
}

#[test]
fn a_password_in_the_url_is_refused_and_not_repeated() {
    run(async {
        let data = Folder::default();
        let said =
            Edge::ask(data.path(), Some("postgres://edge:hunter2@127.0.0.1/causeway"), &["tunnel", "list"])
                .await;
        assert_eq!(said.code, 1);
        assert!(
            said.stderr.contains("storePasswordFile") && !said.text().contains("hunter2"),
            "{}",
            said.text()
        );
    });
}

#[test]
fn an_edge_moves_into_a_fleet_and_its_connectors_find_it_there() {
    run(async {
        let Some(postgres) = Postgres::start() else { return };
        let alone = Edge::start().await;
        let home = alone.create("home", &[APP]).await;
        let mut connector = Connector::start(&home.token, RULES);
        connector.ready(START).await;
        let (tunnel, files) = (alone.tunnel, Folder::default());
        let file = files.join("edge.json");
        let file = file.to_str().unwrap();
        alone.cli(&["export", file]).await.ok();
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(file).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        let again = alone.cli(&["export", file]).await;
        assert!(again.code == 1 && again.stderr.contains("it is there already"), "{}", again.text());
        drop(alone);

        let (data, store) = (Folder::default(), postgres.url());
        Edge::ask(data.path(), Some(&store), &["import", file]).await.ok();
        let twice = Edge::ask(data.path(), Some(&store), &["import", file]).await;
        assert!(twice.code == 1 && twice.stderr.contains("nothing was imported"), "{}", twice.text());
        let stranger = Folder::default();
        Edge::ask(stranger.path(), None, &["identity"]).await.ok();
        let other = Edge::ask(stranger.path(), None, &["import", file]).await;
        assert!(other.code == 1 && other.stderr.contains("has another key already"), "{}", other.text());

        let options = EdgeOptions {
            store: Some(store),
            data: Some(data),
            tunnel: Some(tunnel),
            ..EdgeOptions::default()
        };
        let edge = Edge::with(options).await;
        edge.wait_state("home", "HEALTHY", START).await;
        visit(&edge, Protocol::Http2, URL).await.ok();
    });
}

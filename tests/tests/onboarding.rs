//! The first steps of a newcomer: a token made at home, a page before there are rules, and one service published by one command.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use causeway_tests::child::{Program, output};
use causeway_tests::client::{Protocol, visit};
use causeway_tests::connector::{Connector, ask};
use causeway_tests::edge::{Created, Edge};
use causeway_tests::files::Folder;
use causeway_tests::origin::{http, sample};
use causeway_tests::programs::program;
use causeway_tests::{run, wait};
use serde_json::Value;
use tokio::process::Command;

const START: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(5);

#[test]
fn no_secret_crosses_the_wire_where_the_token_is_made_at_home() {
    run(async {
        let edge = Edge::start().await;
        let identity = edge.cli(&["identity", "--output", "json"]).await.json();
        let (pin, address) = (identity["pin"].as_str().unwrap(), identity["address"][0].as_str().unwrap());
        assert_eq!(address, edge.tunnel.to_string());
        assert!(
            edge.cli(&["identity"]).await.ok().contains(&format!("token new --edge {address} --pin {pin}"))
        );

        let home = Folder::default();
        let path = home.join("token");
        let file = path.display().to_string();
        let new = ["token", "new", &file, "--edge", address, "--pin", pin];
        let said = ask(&new).await.ok();
        let token = std::fs::read_to_string(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!said.contains("cwt1_") && said.contains("tunnels:\n  - name: home\n"), "{said}");
        let again = ask(&new).await;
        assert!(again.code == 1 && again.text().contains("--force"), "{}", again.text());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), token);
        let shown = ask(&["token", "show", &file, "--output", "json"]).await.json();
        let key = shown["publicKey"].as_str().unwrap();
        assert!(said.contains(key) && !shown.to_string().contains("cwt1_"), "{shown}");

        // Nobody knows it yet; pasted, it is good.
        let create = ["tunnel", "create", "home", "--hostname", "*.example.test", "--public-key", key];
        let created = edge.cli(&create).await.ok();
        assert!(!created.contains("cwt1_") && created.contains("home"), "{created}");
        let taken = ["tunnel", "create", "two", "--hostname", "two.test", "--public-key", key];
        let taken = edge.cli(&taken).await;
        assert!(taken.code == 1 && taken.text().contains("`home`"), "{}", taken.text());
        let mistaken = ["tunnel", "create", "two", "--hostname", "two.test", "--public-key", token.trim()];
        let mistaken = edge.cli(&mistaken).await;
        assert!(mistaken.code == 1 && mistaken.text().contains("is a token"), "{}", mistaken.text());
        assert!(!mistaken.text().contains(token.trim()), "a secret is not quoted");
        let mut connector = Connector::start(&token, "ingress:\n  - service: hello_world\n");
        connector.ready(START).await;
        let page = visit(&edge, Protocol::Http1, "https://a.example.test/").await.ok().text();
        assert!(page.contains("Hello!") && !page.contains("What next?"), "a rule asks for it: {page}");
    });
}

#[test]
fn without_rules_the_granted_names_show_the_hello_page_until_there_is_a_file() {
    run(async {
        let origin = sample().await;
        let edge = Edge::start().await;
        let created = edge.create("home", &["*.example.test"]).await;
        let home = Folder::default();
        let mut connector = Command::new(program("causeway-connector"));
        connector.args(["run", "--metrics", "127.0.0.1:0"]).env("HOME", home.path());
        connector.env("CAUSEWAY_TOKEN", &created.token).env_remove("CAUSEWAY_CONFIG");
        let connector = Program::start("connector", connector);
        connector.line("there is no rule file", SOON).await;
        edge.wait_state("home", "HEALTHY", START).await;
        let page =
            async || visit(&edge, Protocol::Http2, "https://app.example.test/bytes/1").await.ok().text();
        let hello = page().await;
        assert!(hello.contains("What next?") && hello.contains("- hostname: app.example.test"), "{hello}");
        let secret = [&created.token[5..40], &created.id, &edge.tunnel.to_string(), "home/"];
        assert!(secret.iter().all(|secret| !hello.contains(*secret)), "{hello}");

        std::fs::create_dir(home.join(".causeway")).unwrap();
        home.write(".causeway/config.yml", &format!("ingress:\n  - service: {}\n", http(&origin)));
        wait::until("the rules", SOON, || async { (!page().await.contains("Hello!")).then_some(()) }).await;
    });
}

/// `expose` and what it prints.
fn expose(created: &Created, args: &[&str]) -> Program {
    let mut command = Command::new(program("causeway-connector"));
    command.arg("expose").args(args).env("CAUSEWAY_TOKEN", &created.token).env_remove("CAUSEWAY_TOKEN_FILE");
    Program::start("expose", command)
}

async fn refused(created: &Created, args: &[&str]) -> String {
    let mut command = Command::new(program("causeway-connector"));
    command.arg("expose").args(args).env("CAUSEWAY_TOKEN", &created.token).env_remove("CAUSEWAY_TOKEN_FILE");
    let output = output(command).await;
    assert_eq!(output.code, 1, "{}", output.text());
    output.stderr
}

#[test]
fn expose_publishes_a_service_until_it_ends_and_disturbs_nobody() {
    run(async {
        let (usual, mine) = (sample().await, sample().await);
        let edge = Edge::start().await;
        let created = edge.create("home", &["*.example.test"]).await;
        let rules = format!(
            "ingress:\n  - hostname: app.example.test\n    service: {}\n  - service: http_status:410\n",
            http(&usual)
        );
        let mut connector = Connector::start(&created.token, &rules);
        connector.ready(START).await;
        edge.wait_state("home", "HEALTHY", START).await;
        let get = async |url: &str| visit(&edge, Protocol::Http1, url).await.status;
        assert_eq!(get("https://demo.example.test/bytes/1").await, 410, "the catch-all's");

        let port = mine.addr().port().to_string();
        let mut exposed = expose(&created, &[&port, "--name", "demo", "--output", "json"]);
        let said = exposed.line("url", START).await;
        let said: Value = serde_json::from_str(&said).unwrap();
        let url = said["url"].as_str().unwrap();
        assert_eq!(url, format!("https://demo.example.test:{}", edge.https.port()), "where visitors come in");
        for _ in 0..20 {
            assert_eq!(get("https://demo.example.test/bytes/1?secret=1").await, 200);
            assert_eq!(get("https://app.example.test/bytes/1").await, 200);
        }
        assert_eq!((mine.counters().requests(), usual.counters().requests()), (20, 20), "each its own");
        assert_eq!(get("https://demo.example.test/status/404").await, 404);
        let line: Value = serde_json::from_str(&exposed.line("\"status\":404", SOON).await).unwrap();
        assert_eq!((&line["method"], &line["path"]), (&"GET".into(), &"/status/404".into()), "{line}");
        assert!(line["milliseconds"].as_f64().unwrap() > 0.0 && !exposed.log_contains("secret"), "{line}");

        // What somebody serves is his.
        for name in ["demo", "app", "app.example.test"] {
            let why = refused(&created, &[&port, "--name", name]).await;
            assert!(why.contains("serves this name already"), "{why}");
        }
        let why = refused(&created, &[&port, "--name", "demo.other.test"]).await;
        assert!(why.contains("not granted") && why.contains("*.example.test"), "{why}");
        assert_eq!(get("https://demo.example.test/bytes/1").await, 200);

        exposed.terminate();
        assert!(exposed.ended(SOON).await.success());
        let look = || async { (get("https://demo.example.test/bytes/1").await == 410).then_some(()) };
        wait::until("the name to be the catch-all's again", SOON, look).await;
    });
}

#[test]
fn expose_finds_a_name_by_itself_and_says_what_fails() {
    run(async {
        let edge = Edge::start().await;
        let created = edge.create("home", &["only.example.test", "*.more.test"]).await;
        let port = causeway_tests::origin::closed_port().port().to_string();
        let mut first = String::new();
        for _ in 0..2 {
            let mut exposed = expose(&created, &[&port]);
            let line = exposed.line("  ->  ", START).await;
            let url = line.split(' ').next().unwrap().to_owned();
            assert!(url.starts_with("https://") && url.contains(".more.test:"), "{line}");
            exposed.line("█", SOON).await;
            let host = url.trim_end_matches(&format!(":{}", edge.https.port()));
            assert_eq!(visit(&edge, Protocol::Http1, &format!("{host}/")).await.status, 502);
            let line = exposed.line("GET     ---", SOON).await;
            assert!(line.contains("refused"), "{line}");
            exposed.terminate();
            assert!(exposed.ended(SOON).await.success());
            assert!(first.is_empty() || first == url, "the same each time: {first}, {url}");
            first = url;
        }
        edge.cli(&["tunnel", "revoke", "home"]).await.ok();
        let why = refused(&created, &[&port]).await;
        assert!(why.contains("was revoked"), "{why}");
    });
}

//! Tunnels declared in edge.yaml: an edge that is whole from files, which the command line leaves alone and a reload follows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use causeway_tests::child::{Output, output};
use causeway_tests::client::{Http1, Protocol, visit};
use causeway_tests::connector::{Connector, ask};
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::files::Folder;
use causeway_tests::origin::{http, sample};
use causeway_tests::programs::program;
use causeway_tests::{run, wait};
use serde_json::Value;
use tokio::process::Command;

const START: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(5);

/// A token that was made at home, and what the edge has to know of it.
struct Made {
    token: String,
    public_key: String,
}

/// Makes a token with the pin of the edge that will have this data folder.
async fn made(data: &Folder) -> Made {
    let home = Folder::default();
    let (path, data) = (home.join("token").display().to_string(), data.path().display().to_string());
    let identity = edge(&["identity", "--data", &data, "--output", "json"]).await.json();
    let pin = identity["pin"].as_str().unwrap();
    let args = ["token", "new", &path, "--edge", "127.0.0.1:1", "--pin", pin, "--output", "json"];
    let public_key = ask(&args).await.json()["publicKey"].as_str().unwrap().to_owned();
    Made { token: std::fs::read_to_string(&path).unwrap(), public_key }
}

async fn edge(args: &[&str]) -> Output {
    let mut command = Command::new(program("causeway-edge"));
    command.args(args);
    output(command).await
}

fn declaring(name: &str, hostnames: &str, key: &str) -> String {
    format!("  - {{ name: {name}, hostnames: [{hostnames}], {key} }}\n")
}

/// Rewrites the file of a running edge, and has it read again.
async fn reload(edge: &Edge, config: &str, says: &str) {
    let before = count(edge, says);
    edge.data().write("edge.yaml", &format!("{config}log: {{ format: json, level: info }}\n"));
    edge.program.hang_up();
    wait::holds("the reload", SOON, || count(edge, says) > before).await;
}

fn count(edge: &Edge, says: &str) -> usize {
    edge.program.lines().iter().filter(|line| line.contains(says)).count()
}

const TAKEN: &str = "the configuration was read again";
const REFUSED: &str = "nothing was changed";

/// Connects to where the edge really is.
async fn connect(edge: &Edge, token: &str, rules: &str) -> Connector {
    let address = edge.tunnel.to_string();
    let mut connector = Connector::start_in(Folder::default(), token, rules, &["--edge", &address]);
    connector.ready(START).await;
    connector
}

/// What plain HTTP says of a name.
async fn status(edge: &Edge, host: &str) -> u16 {
    let mut client = Http1::plain(edge.http).await;
    client.send(format!("GET /bytes/1 HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await;
    client.answer("GET").await.unwrap().status
}

async fn until_status(edge: &Edge, host: &str, wanted: u16) {
    let look = || async { (status(edge, host).await == wanted).then_some(()) };
    wait::until(&format!("{host} answered {wanted}"), SOON, look).await;
}

async fn sessions(edge: &Edge) -> Vec<String> {
    let all = edge.all_sessions().await;
    let mut ids: Vec<String> = all.iter().map(|session| session["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn an_edge_is_whole_from_a_file_and_the_command_line_leaves_it_alone() {
    run(async {
        let origin = sample().await;
        let data = Folder::default();
        let Made { token, public_key } = made(&data).await;
        let key = format!("publicKey: {public_key}");
        let config = format!("tunnels:\n{}", declaring("home", "'*.example.test'", &key));
        let edge = Edge::with(EdgeOptions { config, data: Some(data), ..EdgeOptions::default() }).await;
        let rules = format!("ingress:\n  - service: {}\n", http(&origin));
        let _connector = connect(&edge, &token, &rules).await;
        visit(&edge, Protocol::Http2, "https://app.example.test/bytes/1").await.ok();
        edge.wait_state("home", "HEALTHY", START).await;

        let config = edge.config().display().to_string();
        let place = format!("{config}: tunnels[0]");
        // Told by the file, and by the running edge to who does not name the file.
        for file in [vec!["--config", config.as_str()], vec![]] {
            let cli = async |args: &[&str]| edge.cli(&[args, file.as_slice()].concat()).await;
            for args in [vec!["tunnel", "list"], vec!["tunnel", "show", "home"], vec!["status"]] {
                let plain = cli(&args).await.ok();
                assert!(plain.contains("home") && plain.contains("declared"), "{args:?}: {plain}");
                let json = cli(&[args.as_slice(), &["--output", "json"]].concat()).await.json();
                let shown = match &json {
                    Value::Array(all) => &all[0],
                    Value::Object(all) if all.contains_key("tunnels") => &json["tunnels"][0],
                    _ => &json,
                };
                assert_eq!(shown["declared"], place.as_str(), "{args:?}: {json}");
                assert!(!json.to_string().contains(&token[..20]));
            }
            for args in [
                vec!["tunnel", "revoke", "home"],
                vec!["tunnel", "rotate", "home"],
                vec!["tunnel", "create", "home", "--hostname", "other.test"],
                vec!["tunnel", "create", "other", "--hostname", "*.example.test"],
            ] {
                let refused = cli(&args).await;
                assert!(refused.code == 1 && refused.text().contains(&place), "{args:?}: {}", refused.text());
            }
        }
        let history =
            edge.cli(&["tunnel", "show", "home", "--config", &config, "--output", "json"]).await.json();
        let first = &history["history"][0];
        assert_eq!(
            (&first["action"], &first["actor"]),
            (&"declare".into(), &"edge.yaml".into()),
            "{history}"
        );
        assert!(edge.sessions().await >= 2, "nobody was disturbed");
    });
}

#[test]
fn a_reload_adds_changes_and_removes_declared_tunnels() {
    run(async {
        let origin = sample().await;
        let data = Folder::default();
        let (home, next, lab) = (made(&data).await, made(&data).await, made(&data).await);
        let key = |made: &Made| format!("publicKey: {}", made.public_key);
        let wide = format!("tunnels:\n{}", declaring("home", "'*.example.test'", &key(&home)));
        let options = EdgeOptions { config: wide.clone(), data: Some(data), ..EdgeOptions::default() };
        let edge = Edge::with(options).await;
        let service = http(&origin);
        let rules = format!(
            "ingress:\n  - {{ hostname: app.example.test, service: '{service}', http: serve }}\n  \
             - {{ hostname: b.example.test, service: '{service}', http: serve }}\n  - service: http_status:404\n"
        );
        let connector = connect(&edge, &home.token, &rules).await;
        edge.wait_state("home", "HEALTHY", START).await;
        until_status(&edge, "b.example.test", 200).await;
        let before = sessions(&edge).await;

        // Narrowed: the name goes, and who announced it hears of it, on the session that it has.
        let narrow = format!("tunnels:\n{}", declaring("home", "app.example.test", &key(&home)));
        reload(&edge, &narrow, TAKEN).await;
        assert_eq!(status(&edge, "b.example.test").await, 404);
        assert_eq!(status(&edge, "app.example.test").await, 200);
        let look = || async {
            let status = connector.status().await;
            (status["edges"][0]["refused"][0]["hostname"] == "b.example.test").then_some(())
        };
        wait::until("the connector to hear of it", SOON, look).await;
        assert_eq!(sessions(&edge).await, before);

        // What is wrong changes nothing.
        reload(&edge, &wide.replace("cwp1_", "cwp1_A"), REFUSED).await;
        assert!(edge.program.log_contains("the public key is damaged"), "the cause is said");
        assert_eq!(status(&edge, "b.example.test").await, 404);

        // Widened, and another one beside it.
        let token = edge.data().write("lab.token", &lab.token).display().to_string();
        let both = format!("{wide}{}", declaring("lab", "lab.test", &format!("tokenFile: {token}")));
        reload(&edge, &both, TAKEN).await;
        until_status(&edge, "b.example.test", 200).await;
        assert_eq!(sessions(&edge).await, before);
        let _lab = connect(&edge, &lab.token, "ingress:\n  - service: hello_world\n").await;
        edge.wait_state("lab", "HEALTHY", START).await;

        // Another key: whoever has the old one goes, who has the new one comes.
        let rekeyed = both.replace(&home.public_key, &next.public_key);
        reload(&edge, &rekeyed, TAKEN).await;
        edge.wait_state("home", "INACTIVE", SOON).await;
        assert_ne!(status(&edge, "app.example.test").await, 200);
        assert!(edge.sessions().await <= 2, "the other tunnel's alone");
        let _next = connect(&edge, &next.token, &rules).await;
        until_status(&edge, "app.example.test", 200).await;

        // Renamed: its connectors come back by themselves.
        reload(&edge, &rekeyed.replace("name: home", "name: house"), TAKEN).await;
        edge.wait_state("house", "HEALTHY", START).await;
        assert_eq!(status(&edge, "app.example.test").await, 200);

        // Taken out: the names are free for anybody.
        reload(&edge, "tunnels: []\n", TAKEN).await;
        wait::until("no session", SOON, || async { (edge.sessions().await == 0).then_some(()) }).await;
        assert_eq!(status(&edge, "app.example.test").await, 404);
        edge.create("home", &["app.example.test", "lab.test"]).await;
        let json = edge.cli(&["tunnel", "list", "--output", "json"]).await.json();
        assert_eq!(json.as_array().map(Vec::len), Some(1), "{json}");
        assert!(!edge.program.log_contains(&home.token[..20]), "no token in the log");
    });
}

#[test]
fn what_is_declared_and_in_the_store_too_is_an_error_that_names_both() {
    run(async {
        let edge = Edge::start().await;
        edge.create("home", &["app.example.test"]).await;
        let key = format!("publicKey: {}", made(edge.data()).await.public_key);
        let other = declaring("other", "b.example.test, app.example.test", &key);
        for (entry, words) in [
            (declaring("home", "b.example.test", &key), "has the name of the store's tunnel `home`"),
            (other, "is granted app.example.test, and so is the store's tunnel `home`"),
        ] {
            let config = format!("tunnels:\n{entry}");
            reload(&edge, &config, REFUSED).await;
            let line = edge.program.line(words, SOON).await;
            assert!(line.contains("edge.yaml: tunnels[0]") && line.contains("tunnel revoke home"), "{line}");
            assert_eq!(edge.tunnel_state("home").await, "INACTIVE", "it is as it was");
        }
        let config = edge.config().display().to_string();
        let data = edge.kill().await;
        let folder = data.path().display().to_string();
        let checked = self::edge(&["check", &config, "--data", &folder]).await;
        assert!(checked.code == 1 && checked.text().contains("`home`"), "{}", checked.text());
        let started = self::edge(&["run", "--dev", "--config", &config, "--data", &folder]).await;
        assert!(started.code == 1, "{}", started.text());
        assert!(
            started.text().contains("tunnels[0]") && started.text().contains("tunnel revoke home"),
            "{}",
            started.text()
        );
        // As it says.
        self::edge(&["tunnel", "revoke", "home", "--config", &config, "--data", &folder]).await.ok();
        let config = std::fs::read_to_string(&config).unwrap();
        let edge = Edge::with(EdgeOptions { config, data: Some(data), ..EdgeOptions::default() }).await;
        assert_eq!(edge.tunnel_state("other").await, "INACTIVE");
    });
}

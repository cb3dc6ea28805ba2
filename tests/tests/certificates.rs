//! Certificates by themselves, against a real authority (pebble): hazards 43, 131 to 133 and 164 to 166.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use causeway_tests::client::{Entrance, Http1, Protocol, tls_connect, visit};
use causeway_tests::connector::Connector;
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::files::{Certificate, Folder};
use causeway_tests::origin::closed_port;
use causeway_tests::origin::scripted::Scripted;
use causeway_tests::pebble::{EAB, Gate, Manners, Pebble, Place};
use causeway_tests::{long, needs, run, run_within, wait};
use rustls_pki_types::CertificateDer;
use serde_json::Value;

const ONE: &str = "one.example.test";
const START: Duration = Duration::from_secs(20);
/// What an order may take on a busy machine; that it is quicker when nothing else runs, one test says.
const ORDER: Duration = Duration::from_secs(30);

/// What visitors see: an edge, and the authority's root.
struct Visitors {
    https: SocketAddr,
    root: PathBuf,
}

impl Entrance for Visitors {
    fn https(&self) -> SocketAddr {
        self.https
    }

    fn ca(&self) -> PathBuf {
        self.root.clone()
    }
}

impl Visitors {
    fn of(edge: &Edge, pebble: &Pebble) -> Self {
        Self { https: edge.https, root: pebble.root() }
    }

    /// Shakes hands; what certificate was shown.
    async fn shake(&self, name: &str) -> std::io::Result<CertificateDer<'static>> {
        let stream = tls_connect(self.https, &self.root, name, &["http/1.1"]).await?;
        Ok(stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
    }

    /// Waits for the certificate of a name, and says how long it took.
    async fn served(&self, name: &str, within: Duration) -> Duration {
        let look = || async { self.shake(name).await.ok() };
        wait::until(&format!("a certificate for {name}"), within, look).await.1
    }
}

/// Rules for these names.
fn rules(names: &[&str], service: &str) -> String {
    let rule = |name: &&str| format!("  - {{ hostname: \"{name}\", service: \"{service}\" }}\n");
    format!("ingress:\n{}  - service: http_status:404\n", names.iter().map(rule).collect::<String>())
}

/// An edge without any certificate, which orders as `config` says.
async fn edge(config: String) -> Edge {
    Edge::with(EdgeOptions { config, no_dev: true, ..EdgeOptions::default() }).await
}

/// A connector of a tunnel that is granted `*.example.test`, whose rules have these names.
async fn connect(edge: &Edge, names: &[&str], service: &str) -> Connector {
    let created = edge.create("site", &["*.example.test"]).await;
    let mut connector = Connector::start(&created.token, &rules(names, service));
    connector.ready(START).await;
    connector
}

/// Everything: an authority with a name served, as `further` keys of the section `acme` say.
async fn town(further: &str, manners: impl FnOnce(Manners) -> Manners) -> Option<(Pebble, Edge, Connector)> {
    let place = Place::choose()?;
    let edge = edge(place.config(further)).await;
    let pebble = place.open(&manners(Manners::of(&edge))).await;
    let connector = connect(&edge, &[ONE], "hello_world").await;
    Some((pebble, edge, connector))
}

async fn certificate(edge: &Edge, name: &str) -> Value {
    edge.cli(&["cert", "show", name, "--output", "json"]).await.json()
}

async fn orders(edge: &Edge, outcome: &str) -> f64 {
    edge.metric("causeway_edge_certificate_orders_total", &[&format!("outcome=\"{outcome}\"")]).await
}

/// Waits until a certificate is kept as well: visitors see it before the disk has it, and what the edge tells of it comes after.
async fn kept(edge: &Edge, name: &str) -> Value {
    let look = || async { Some(certificate(edge, name).await).filter(|shown| shown["state"] == "VALID") };
    wait::until(&format!("the certificate for {name} to be kept"), START, look).await.0
}

#[test]
fn a_name_is_served_within_five_seconds_of_its_announcement() {
    run(async {
        let Some(place) = Place::choose() else { return };
        let edge = edge(place.config("")).await;
        let pebble = place.open(&Manners::of(&edge)).await;
        let visitors = Visitors::of(&edge, &pebble);
        let created = edge.create("site", &["*.example.test"]).await;
        let mut connector = Connector::start(&created.token, &rules(&[ONE], "hello_world"));
        connector.ready(START).await;
        let took = visitors.served(ONE, ORDER).await;
        assert!(took < Duration::from_secs(5), "it took {took:?}");
        for protocol in [Protocol::Http1, Protocol::Http2] {
            visit(&visitors, protocol, &format!("https://{ONE}/")).await.ok();
        }
        edge.wait_state("site", "HEALTHY", START).await;
        let shown = kept(&edge, ONE).await;
        assert_eq!(shown["announced"], true, "{shown}");
        assert!((88.0..=90.0).contains(&edge.metric("causeway_edge_certificate_days_left", &[ONE]).await));
        let mode = |name: &str| {
            let metadata = std::fs::metadata(edge.data().join(name)).unwrap();
            std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777
        };
        assert_eq!(mode("causeway.db"), 0o600, "hazard 133: it holds the keys");
        assert_eq!(mode("causeway.db-wal"), 0o600);
    });
}

#[test]
fn hazard_043_and_132_no_authority_means_an_alert_until_there_is_one() {
    run(async {
        let Some(place) = Place::choose() else { return };
        let edge = edge(place.config("")).await;
        let _connector = connect(&edge, &[ONE], "hello_world").await;
        edge.program.line("cannot be reached", ORDER).await;
        // Any root will do: there is nothing to check.
        let stranger =
            edge.data().write("stranger.pem", &Certificate::for_names(&["stranger.test"]).cert_pem);
        let refused = tls_connect(edge.https, &stranger, ONE, &[]).await.unwrap_err();
        assert!(refused.to_string().to_lowercase().contains("unrecogni"), "{refused}");
        let status = edge.status().await;
        let failed = &status["certificates"][0];
        assert!(failed["lastError"].as_str().unwrap().contains("cannot be reached"), "{failed}");
        assert_eq!(edge.tunnel_state("site").await, "DEGRADED");
        assert!(orders(&edge, "unreachable").await >= 1.0);

        let pebble = place.open(&Manners::of(&edge)).await;
        Visitors::of(&edge, &pebble).served(ONE, Duration::from_secs(60)).await;
        assert_eq!(kept(&edge, ONE).await["lastError"], Value::Null);
    });
}

#[test]
fn hazard_132_an_authority_that_has_had_enough_is_left_alone_for_as_long_as_it_says() {
    run(async {
        let (Some(place), Some(nginx)) = (Place::choose(), needs("nginx")) else { return };
        let gate = Gate::before(&place, &nginx, 4).await;
        let edge = edge(place.config_by(&gate)).await;
        let pebble = place.open(&Manners::of(&edge)).await;
        let visitors = Visitors::of(&edge, &pebble);
        let _connector = connect(&edge, &[ONE], "hello_world").await;
        visitors.served(ONE, ORDER).await;
        kept(&edge, ONE).await;
        gate.limit();
        let before = visitors.shake(ONE).await.unwrap();
        edge.cli(&["cert", "renew", ONE, "--no-wait"]).await.ok();
        let refused = || async { gate.orders().iter().any(|order| order.status == 429).then_some(()) };
        wait::until("an order to be refused", ORDER, refused).await;
        wait::until("it to be told", ORDER, || async {
            let failed = certificate(&edge, ONE).await;
            failed["lastError"]
                .as_str()
                .is_some_and(|error| error.contains("too many certificates"))
                .then_some(())
        })
        .await;
        assert!(orders(&edge, "rate_limited").await >= 1.0);
        assert_eq!(visitors.shake(ONE).await.unwrap(), before, "what is there is served on");
        gate.unlimit();
        let renewed = || async { (visitors.shake(ONE).await.unwrap() != before).then_some(()) };
        wait::until("the renewal", Duration::from_secs(60), renewed).await;
        let seen = gate.orders();
        for pair in seen.windows(2).filter(|pair| pair[0].status == 429) {
            assert!(pair[1].at - pair[0].at >= 4.0, "{seen:?}");
        }
    });
}

#[test]
fn a_restart_serves_at_once_from_the_store_without_an_authority() {
    run(async {
        let Some((pebble, edge, connector)) = town("", |manners| manners).await else { return };
        let visitors = Visitors::of(&edge, &pebble);
        visitors.served(ONE, ORDER).await;
        let before = visitors.shake(ONE).await.unwrap();
        kept(&edge, ONE).await;
        let config = std::fs::read_to_string(edge.config()).unwrap();
        let (https, tunnel) = (Some(edge.https), Some(edge.tunnel));
        let root = std::fs::read_to_string(pebble.root()).unwrap();
        drop(connector);
        let data = edge.kill().await;
        let _place = pebble.close().await;
        let root = data.write("root.pem", &root);
        let again =
            EdgeOptions { config, https, tunnel, data: Some(data), no_dev: true, ..EdgeOptions::default() };
        let edge = Edge::with(again).await;
        let visitors = Visitors { https: edge.https, root };
        assert_eq!(visitors.shake(ONE).await.unwrap(), before);
        assert_eq!(certificate(&edge, ONE).await["state"], "VALID");
    });
}

#[test]
fn either_proof_alone_suffices_and_what_works_is_found() {
    run(async {
        for (challenge, is_http) in [("http-01", true), ("tls-alpn-01", false)] {
            let further = format!("  challenges: [{challenge}]\n");
            let Some((pebble, edge, _connector)) = town(&further, |manners| manners).await else { return };
            Visitors::of(&edge, &pebble).served(ONE, ORDER).await;
            assert_eq!(pebble.log().contains("validate w/ HTTP"), is_http, "{}", pebble.log());
        }
        // Port 443 of the world is closed: the other proof is tried in the same attempt, and first from then on.
        let shut = closed_port();
        let Some((pebble, edge, _connector)) = town("", |manners| Manners { https: shut, ..manners }).await
        else {
            return;
        };
        Visitors::of(&edge, &pebble).served(ONE, ORDER).await;
        kept(&edge, ONE).await;
        edge.cli(&["cert", "add", "two.example.test"]).await.ok();
        assert_eq!(orders(&edge, "issued").await, 2.0);
        assert_eq!(orders(&edge, "unproven").await, 0.0);
        let in_vain = pebble.log().matches("set INVALID by completed challenge").count();
        assert_eq!(in_vain, 1, "for the first name alone: {}", pebble.log());
    });
}

#[test]
fn hazard_131_the_edge_answers_its_own_tokens_and_the_origin_all_others() {
    run(async {
        let Some(place) = Place::choose() else { return };
        let origin = Scripted::always("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong").await;
        let edge = edge(place.config("  challenges: [http-01]\n")).await;
        let pebble = place.open(&Manners::of(&edge)).await;
        let _connector = connect(&edge, &[ONE], &origin.service()).await;
        Visitors::of(&edge, &pebble).served(ONE, ORDER).await;
        assert!(pebble.log().contains("/.well-known/acme-challenge/"), "{}", pebble.log());
        assert_eq!(origin.heads(), Vec::<String>::new(), "no token of ours reached the origin");

        let mut client = Http1::plain(edge.http).await;
        let path = "/.well-known/acme-challenge/of-the-origin";
        client.send(format!("GET {path} HTTP/1.1\r\nhost: {ONE}\r\n\r\n").as_bytes()).await;
        assert_eq!(client.answer("GET").await.unwrap().ok().text(), "wrong");
        assert!(origin.heads()[0].starts_with(&format!("GET {path} ")), "{:?}", origin.heads());
        // Over TLS the same protocol is nobody's: there is no challenge of ours, and the site has no TLS of its own.
        let root = pebble.root();
        let refused = tls_connect(edge.https, &root, ONE, &["acme-tls/1"]).await.unwrap_err();
        assert!(refused.to_string().contains("ApplicationProtocol"), "{refused}");
    });
}

#[test]
fn nothing_is_ordered_for_a_name_that_nobody_was_granted() {
    run(async {
        let Some(place) = Place::choose() else { return };
        let edge = edge(place.config("")).await;
        let pebble = place.open(&Manners::of(&edge)).await;
        let _connector = connect(&edge, &[ONE, "other.test", "*.wide.example.test"], "hello_world").await;
        let visitors = Visitors::of(&edge, &pebble);
        visitors.served(ONE, ORDER).await;
        for (name, word) in [
            ("other.test", "granted to no tunnel"),
            ("*.wide.example.test", "no record _validation-persist.wide.example.test"),
        ] {
            let refused = edge.cli(&["cert", "add", name]).await;
            assert_eq!(refused.code, 1);
            assert!(refused.text().contains(word), "{}", refused.text());
            assert!(!pebble.log().contains(name), "{}", pebble.log());
        }
        assert!(pebble.log().contains(ONE), "it names what is ordered");
        assert!(visitors.shake("other.test").await.is_err());

        edge.cli(&["tunnel", "revoke", "site"]).await.ok();
        let refused = edge.cli(&["cert", "renew", ONE]).await;
        assert!(refused.code == 1 && refused.text().contains("granted to no tunnel"), "{}", refused.text());
    });
}

#[test]
fn certificates_are_added_ahead_shown_renewed_and_removed_by_hand() {
    run(async {
        let Some(place) = Place::choose() else { return };
        let edge = edge(place.config("")).await;
        let pebble = place.open(&Manners::of(&edge)).await;
        edge.create("site", &["*.example.test"]).await;
        let added = edge.cli(&["cert", "add", "Ahead.example.test", "--output", "json"]).await.json();
        assert_eq!(
            (&added["state"], &added["added"]),
            (&Value::from("VALID"), &Value::from(true)),
            "{added}"
        );
        let visitors = Visitors::of(&edge, &pebble);
        let name = "ahead.example.test";
        let first = visitors.shake(name).await.unwrap();
        edge.cli(&["cert", "renew", name]).await.ok();
        let second = visitors.shake(name).await.unwrap();
        assert_ne!(first, second);
        let list = edge.cli(&["cert", "list"]).await.ok();
        assert!(list.contains(name) && list.contains("VALID"), "{list}");
        let status = edge.cli(&["status"]).await.ok();
        assert!(status.contains("certificates") && status.contains("1 of 1 valid"), "{status}");
        let config = edge.config().display().to_string();
        let doctor = edge.cli(&["doctor", "--config", &config]).await.stdout;
        let authority = doctor.lines().find(|line| line.contains("authority")).unwrap();
        assert!(authority.starts_with("ok"), "{doctor}");
        edge.cli(&["cert", "remove", name]).await.ok();
        assert!(visitors.shake(name).await.is_err());
        for command in ["show", "renew", "remove"] {
            let unknown = edge.cli(&["cert", command, name]).await;
            assert!(
                unknown.code == 1 && unknown.text().contains("no automatic certificate"),
                "{}",
                unknown.text()
            );
        }
    });
}

#[test]
fn files_come_first_and_nothing_is_ordered_beside_them() {
    run(async {
        let Some(place) = Place::choose() else { return };
        let folder = Folder::default();
        let own = Certificate::for_names(&["filed.example.test"]);
        let (cert, key) = (folder.write("c.pem", &own.cert_pem), folder.write("k.pem", &own.key_pem));
        let files = format!("certificates: [{{ cert: {}, key: {} }}]\n", cert.display(), key.display());
        let edge = edge(format!("{files}{}", place.config(""))).await;
        let pebble = place.open(&Manners::of(&edge)).await;
        let _connector = connect(&edge, &[ONE, "filed.example.test"], "hello_world").await;
        Visitors::of(&edge, &pebble).served(ONE, ORDER).await;
        let by_file = Visitors { https: edge.https, root: cert };
        assert_eq!(by_file.shake("filed.example.test").await.unwrap(), own.der());
        let of_file = ["hostname=\"filed.example.test\"", "source=\"file\""];
        assert!(edge.metric("causeway_edge_certificate_days_left", &of_file).await > 1000.0);
        let status = edge.status().await;
        assert_eq!(status["certificateFiles"].as_array().map(Vec::len), Some(1), "{status}");
        let listed = edge.cli(&["cert", "list"]).await.ok();
        assert!(listed.contains(" FILE "), "{listed}");
        assert!(!pebble.log().contains("filed.example.test"), "{}", pebble.log());
    });
}

#[test]
fn another_authority_is_asked_when_the_first_gives_nothing() {
    run(async {
        let (Some(dead), Some(place)) = (Place::choose(), Place::choose()) else { return };
        let config =
            format!("acme:\n  directory:\n    - {}\n    - {}\n", dead.directory(""), place.directory(""));
        let edge = edge(config).await;
        let pebble = place.open(&Manners::of(&edge)).await;
        let _connector = connect(&edge, &[ONE], "hello_world").await;
        Visitors::of(&edge, &pebble).served(ONE, ORDER).await;
        kept(&edge, ONE).await;
        assert_eq!(orders(&edge, "issued").await, 1.0);
    });
}

#[test]
fn an_authority_that_wants_accounts_bound_gets_them_bound_and_a_profile_is_asked_for() {
    run(async {
        let Some(place) = Place::choose() else { return };
        let shop = Folder::default();
        let key = shop.write("eab", EAB.1);
        let bound = format!(", profile: other, eab: {{ keyId: {}, keyFile: {} }}", EAB.0, key.display());
        let bound =
            format!("acme:\n  contact: [admin@example.dev]\n  directory: {}\n", place.directory(&bound));
        let unbound = edge(place.config("")).await;
        let pebble = place.open(&Manners { wants_eab: true, ..Manners::of(&unbound) }).await;
        unbound.create("site", &["*.example.test"]).await;
        let refused = unbound.cli(&["cert", "add", ONE]).await;
        assert!(
            refused.code == 1 && refused.text().contains("externalAccountRequired"),
            "{}",
            refused.text()
        );
        let place = pebble.close().await;

        let edge = edge(bound).await;
        let pebble = place.open(&Manners { wants_eab: true, ..Manners::of(&edge) }).await;
        edge.create("site", &["*.example.test"]).await;
        let added = edge.cli(&["cert", "add", ONE, "--output", "json"]).await.json();
        let life = added["notAfter"].as_i64().unwrap() - added["notBefore"].as_i64().unwrap();
        assert!(life > 100 * 86_400, "the profile `other` has 180 days: {added}");
        Visitors::of(&edge, &pebble).shake(ONE).await.unwrap();
    });
}

#[test]
fn hazard_165_an_authority_that_forgot_us_or_is_gone_stops_nothing_and_is_asked_again() {
    run(async {
        let Some((pebble, edge, _connector)) = town("", |manners| manners).await else { return };
        Visitors::of(&edge, &pebble).served(ONE, ORDER).await;
        let root = std::fs::read_to_string(pebble.root()).unwrap();
        let root = edge.data().write("root.pem", &root);
        let visitors = Visitors { https: edge.https, root };
        let place = pebble.close().await;
        let failed = edge.cli(&["cert", "renew", ONE]).await;
        assert!(failed.code == 1 && failed.text().contains("cannot be reached"), "{}", failed.text());
        let shown = certificate(&edge, ONE).await;
        assert_eq!(shown["state"], "FAILING", "{shown}");
        visitors.shake(ONE).await.unwrap();
        assert_eq!(edge.tunnel_state("site").await, "HEALTHY");

        // It is back with an empty memory: our account there is gone, and so is what it once signed.
        let pebble = place.open(&Manners::of(&edge)).await;
        edge.cli(&["cert", "renew", ONE]).await.ok();
        assert!(edge.program.log_contains("does not know our account"));
        Visitors::of(&edge, &pebble).shake(ONE).await.unwrap();
    });
}

#[test]
fn a_renewal_is_ordered_when_the_authority_advises_it() {
    run(async {
        let Some((pebble, edge, connector)) = town("", |manners| manners).await else { return };
        let visitors = Visitors::of(&edge, &pebble);
        visitors.served(ONE, ORDER).await;
        let before = visitors.shake(ONE).await.unwrap();
        kept(&edge, ONE).await;
        drop(connector);
        let config = std::fs::read_to_string(edge.config()).unwrap();
        let (https, http, tunnel) = (Some(edge.https), Some(edge.http), Some(edge.tunnel));
        let data = edge.kill().await;
        // Two hours later the authority has revoked it: its window is over.
        let later = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); \
                     db.execute('UPDATE certificates SET issued_at = issued_at - 7200'); db.commit()";
        let mut python = tokio::process::Command::new("python3");
        python.args(["-c", later]).arg(data.join("causeway.db"));
        causeway_tests::child::output(python).await.ok();
        let before_pem = pem(&before);
        pebble.advise(&before_pem, "2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z").await;
        let options = EdgeOptions {
            config,
            https,
            http,
            tunnel,
            data: Some(data),
            no_dev: true,
            ..EdgeOptions::default()
        };
        let _edge = Edge::with(options).await;
        let renewed = || async { visitors.shake(ONE).await.ok().filter(|now| *now != before) };
        wait::until("the renewal that was advised", ORDER, renewed).await;
    });
}

#[test]
fn hazard_166_a_full_disk_costs_no_certificate() {
    run(async {
        let Some(place) = Place::choose() else { return };
        let data = Folder::default();
        let mut mount = tokio::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "causeway-test"]).arg(data.path());
        if !mount.output().await.is_ok_and(|output| output.status.success()) {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI runs as root");
            eprintln!("SKIPPED hazard_166_a_full_disk_costs_no_certificate: no right to mount a file system");
            return;
        }
        let (path, config) = (data.path().to_owned(), place.config(""));
        let edge =
            Edge::with(EdgeOptions { config, data: Some(data), no_dev: true, ..EdgeOptions::default() })
                .await;
        let pebble = place.open(&Manners::of(&edge)).await;
        edge.create("site", &["*.example.test"]).await;
        let mut filler = std::fs::File::create(path.join("filler")).unwrap();
        while std::io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
        edge.cli(&["cert", "add", ONE]).await.ok();
        edge.program.line("served from memory and written later", START).await;
        let visitors = Visitors::of(&edge, &pebble);
        let before = visitors.shake(ONE).await.unwrap();
        drop(filler);
        std::fs::remove_file(path.join("filler")).unwrap();
        edge.program.line("certificates can be written again", START).await;
        let config = std::fs::read_to_string(edge.config()).unwrap();
        let data = Some(edge.kill().await);
        let edge = Edge::with(EdgeOptions { config, data, no_dev: true, ..EdgeOptions::default() }).await;
        let visitors = Visitors::of(&edge, &pebble);
        assert_eq!(visitors.shake(ONE).await.unwrap(), before, "it was kept");
        let data = edge.kill().await;
        let _ = tokio::process::Command::new("umount").arg("-l").arg(data.path()).output().await;
    });
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, certificate);
    for line in encoded.as_bytes().chunks(64) {
        writeln!(text, "{}", str::from_utf8(line).unwrap()).unwrap();
    }
    text + "-----END CERTIFICATE-----\n"
}

/// Visitors who come without a pause and find something wrong with none of the certificates.
async fn crowd(visitors: &Visitors, names: &[String], is_over: &Cell<bool>) -> u64 {
    let mut handshakes = 0;
    while !is_over.get() {
        for name in names {
            let shaken = visitors.shake(name).await;
            shaken.unwrap_or_else(|error| panic!("handshake {handshakes} with {name}: {error}"));
            handshakes += 1;
        }
    }
    handshakes
}

#[test]
fn renewals_under_load_cost_no_handshake() {
    let (swaps, deadline) = if long() { (1000.0, 3600) } else { (30.0, 170) };
    run_within(Duration::from_secs(deadline), async {
        let Some(place) = Place::choose() else { return };
        let edge = edge(place.config("") + "limits: { connectionRatePerIp: 0 }\n").await;
        let pebble = place.open(&Manners { validity: 60, ..Manners::of(&edge) }).await;
        edge.create("site", &["*.example.test"]).await;
        let visitors = Visitors::of(&edge, &pebble);
        let names: Vec<String> = (0..6).map(|n| format!("n{n}.example.test")).collect();
        for name in &names {
            edge.cli(&["cert", "add", name]).await.ok();
        }
        let is_over = Cell::new(false);
        let renewing = async {
            while orders(&edge, "issued").await < swaps {
                for name in &names {
                    edge.cli(&["cert", "renew", name, "--no-wait"]).await.ok();
                }
                let all = || async {
                    let status = edge.cli(&["cert", "list", "--output", "json"]).await.json();
                    status.as_array().unwrap().iter().all(|one| one["underWay"] == false).then_some(())
                };
                wait::until("all renewals", ORDER * 2, all).await;
            }
            is_over.set(true);
        };
        let ((), handshakes, more) =
            tokio::join!(renewing, crowd(&visitors, &names, &is_over), crowd(&visitors, &names, &is_over));
        assert!(handshakes + more > 100, "{handshakes} + {more} handshakes");
        println!("{swaps} swaps, {} handshakes", handshakes + more);
    });
}

#[test]
fn a_certificate_of_sixty_seconds_is_renewed_before_it_ends() {
    run(async {
        let Some((pebble, edge, _connector)) = town("", |manners| Manners { validity: 60, ..manners }).await
        else {
            return;
        };
        let visitors = Visitors::of(&edge, &pebble);
        visitors.served(ONE, ORDER).await;
        let (first, since) = (visitors.shake(ONE).await.unwrap(), Instant::now());
        let renewed = || async {
            let shown = visitors
                .shake(ONE)
                .await
                .unwrap_or_else(|error| panic!("after {:?}: {error}", since.elapsed()));
            (shown != first).then_some(())
        };
        let ((), took) = wait::until("the renewal", Duration::from_secs(70), renewed).await;
        assert!(took < Duration::from_secs(60), "{took:?}");
    });
}

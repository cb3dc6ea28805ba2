//! TLS that ends in the connector: certificates of its own, rules by path, and an edge that redirects and relays.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use causeway_tests::client::{Entrance, Http1, Protocol, tls_connect, visit};
use causeway_tests::connector::{Connector, check};
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::files::Folder;
use causeway_tests::origin::{http, sample};
use causeway_tests::pebble::{Manners, Place};
use causeway_tests::{outside, run, wait};
use rustls_pki_types::CertificateDer;
use serde_json::Value;

const ONE: &str = "one.example.test";
const START: Duration = Duration::from_secs(20);
const ORDER: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(10);

/// What visitors see: an edge, and whom they trust.
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
    async fn shake(&self, name: &str) -> std::io::Result<CertificateDer<'static>> {
        let stream = tls_connect(self.https, &self.root, name, &["http/1.1"]).await?;
        Ok(stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
    }

    async fn status(&self, protocol: Protocol, path: &str) -> u16 {
        visit(self, protocol, &format!("https://{ONE}{path}")).await.status
    }
}

/// An edge that orders nothing and has no certificate.
async fn bare() -> Edge {
    Edge::with(EdgeOptions { no_dev: true, ..EdgeOptions::default() }).await
}

async fn connect(folder: Folder, token: &str, rules: &str) -> Connector {
    let mut connector = Connector::start_in(folder, token, rules, &[]);
    connector.ready(START).await;
    connector
}

#[test]
fn a_connector_gets_and_keeps_certificates_by_itself() {
    run(async {
        let Some(place) = Place::choose() else { return };
        let edge = bare().await;
        let acme = place.config("");
        let pebble = place.open(&Manners::of(&edge)).await;
        let own = Folder::default();
        let root = own.write("root.pem", &std::fs::read_to_string(pebble.root()).unwrap());
        let visitors = Visitors { https: edge.https, root };
        let created = edge.create("site", &["*.example.test"]).await;
        let folder = Folder::default();
        let data = folder.join("data");
        let rules = format!(
            "data: '{}'\n{acme}ingress:\n  - {{ hostname: {ONE}, path: ^/none, service: 'http_status:204', tls: connector }}\n  \
             - {{ hostname: {ONE}, service: hello_world, tls: connector, hsts: 1h }}\n  \
             - {{ hostname: refused.else.test, service: hello_world, tls: connector }}\n  - service: http_status:404\n",
            data.display()
        );
        let connector = connect(folder, &created.token, &rules).await;
        let look = || async { visitors.shake(ONE).await.ok() };
        let (first, _) = wait::until("a certificate", ORDER, look).await;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            assert_eq!(visitors.status(protocol, "/").await, 200, "{protocol:?}");
            assert_eq!(visitors.status(protocol, "/none").await, 204, "the path is read at home");
            let answer = visit(&visitors, protocol, &format!("https://{ONE}/")).await;
            let hsts = answer
                .headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("strict-transport-security"));
            assert_eq!(hsts.unwrap().1, "max-age=3600");
        }
        let kept = || async {
            let status = connector.status().await;
            let names = status["certificates"].as_array().cloned().unwrap_or_default();
            (names.iter().any(|one| one["state"] == "VALID")).then_some(names)
        };
        let (names, _) = wait::until("the certificate to be kept", START, kept).await;
        assert_eq!(names.len(), 1, "what no edge has taken is not ordered: {names:?}");
        let page = connector.metrics().await;
        assert!(
            page.contains(
                "causeway_connector_certificate_days_left{hostname=\"one.example.test\",source=\"acme\"}"
            ),
            "{page}"
        );
        let state = data.join("certificates.json");
        assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(edge.status().await["certificates"], Value::Array(Vec::new()), "the edge has none");

        // By plain HTTP it is sent to where it is encrypted.
        let mut plain = Http1::plain(edge.http).await;
        plain.send(format!("GET /x HTTP/1.1\r\nhost: {ONE}\r\n\r\n").as_bytes()).await;
        assert_eq!(plain.answer("GET").await.unwrap().status, 308);

        // A restart serves at once what was kept, without an authority.
        drop(pebble);
        let (mut program, folder) = connector.into_parts();
        program.kill().await;
        let _again = connect(folder, &created.token, &rules).await;
        let shown = || async { visitors.shake(ONE).await.ok() };
        let (again, _) = wait::until("the kept certificate", SOON, shown).await;
        assert_eq!(again, first);
    });
}

#[test]
fn a_connection_is_for_the_names_that_end_at_home_alone() {
    run(async {
        let origin = sample().await;
        let edge = bare().await;
        let created = edge.create("site", &["example.test", "*.example.test"]).await;
        let rules = format!(
            "ingress:\n  - {{ hostname: {ONE}, service: '{0}', tls: connector }}\n  - {{ hostname: two.example.test, service: '{0}' }}\n  - service: http_status:404\n",
            http(&origin)
        );
        let folder = Folder::default();
        let (with_ends, shown) = outside::at_home(&folder, &rules);
        // The second name stays at the edge.
        let mut file: Value = serde_json::from_str(&with_ends).unwrap();
        for rule in file["ingress"].as_array_mut().unwrap() {
            if rule["hostname"] != ONE {
                rule["tls"] = "edge".into();
            }
        }
        let connector = connect(folder, &created.token, &file.to_string()).await;
        let visitors = Visitors { https: edge.https, root: shown };
        let look = || async { visitors.shake(ONE).await.ok() };
        wait::until("the site", SOON, look).await;
        let stream = tls_connect(edge.https, &visitors.root, ONE, &["http/1.1"]).await.unwrap();
        let mut client = Http1::over(stream);
        let ask = |host: &str| format!("GET /bytes/1 HTTP/1.1\r\nhost: {host}\r\n\r\n");
        client.send(ask(ONE).as_bytes()).await;
        client.answer("GET").await.unwrap().ok();
        client.send(ask("two.example.test").as_bytes()).await;
        assert_eq!(
            client.answer("GET").await.unwrap().status,
            421,
            "hazard 41: its certificate has that name too"
        );

        // A rule that moves TLS to the edge sends old connections away.
        let stream = tls_connect(edge.https, &visitors.root, ONE, &["http/1.1"]).await.unwrap();
        let mut kept = Http1::over(stream);
        kept.send(ask(ONE).as_bytes()).await;
        kept.answer("GET").await.unwrap().ok();
        connector.rules(&rules.replace(", tls: connector", ""));
        let reloaded = || async { (connector.status().await["config"]["generation"] == 2).then_some(()) };
        wait::until("the new rules", SOON, reloaded).await;
        kept.send(ask(ONE).as_bytes()).await;
        assert_eq!(kept.answer("GET").await.unwrap().status, 421);
    });
}

#[test]
fn rules_that_could_not_serve_are_named_with_the_mend() {
    run(async {
        for (rules, told) in [
            ("", "there is nowhere to have certificates from"),
            ("data: /tmp/x\nacme: off\n", "there is nowhere to have certificates from"),
        ] {
            let text = format!(
                "{rules}ingress:\n  - {{ hostname: {ONE}, service: hello_world, tls: connector }}\n  - service: http_status:404\n"
            );
            let output = check(&text).await;
            assert!(
                output.code != 0 && output.text().contains(told) && output.text().contains("data: FOLDER"),
                "{}",
                output.text()
            );
        }
        let none =
            "certificateFolders: [/does/not/exist]\ningress:\n  - { service: hello_world, tls: connector }\n";
        let output = check(none).await;
        assert!(output.code != 0 && output.text().contains("/does/not/exist"), "{}", output.text());
        let text = format!(
            "data: /tmp/x\ningress:\n  - {{ hostname: {ONE}, path: ^/a, service: hello_world, tls: connector }}\n  - {{ hostname: {ONE}, service: hello_world }}\n  - service: http_status:404\n"
        );
        let output = check(&text).await;
        assert!(output.text().contains("has the same hostname and another `tls`"), "{}", output.text());
    });
}

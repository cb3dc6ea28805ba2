//! Who comes unencrypted is sent to HTTPS, unless a rule serves plain HTTP or the name has no certificate; who comes encrypted
//! hears that he is to stay so, where a rule says it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use causeway_tests::client::{Answer, Http1, PROTOCOLS, Protocol, visit};
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::files::{Certificate, Folder};
use causeway_tests::origin::{http, sample};
use causeway_tests::site::{APP, Site};
use causeway_tests::{run, wait};

const SOON: Duration = Duration::from_secs(10);

/// What a visitor of the plain port gets.
async fn plain(edge: &Edge, request_line: &str, host: &str) -> Answer {
    let mut client = Http1::plain(edge.http).await;
    client.send(format!("{request_line} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await;
    client.answer("GET").await.unwrap()
}

fn rules(service: &str, keys: &str) -> String {
    format!("ingress:\n  - {{ hostname: {APP}, service: {service}{keys} }}\n  - service: http_status:404\n")
}

#[test]
fn plain_http_is_redirected_unless_a_rule_serves_it() {
    run(async {
        let origin = sample().await;
        let site = Site::start(&rules(&http(&origin), "")).await;
        let port = site.edge.https.port();
        let answer = plain(&site.edge, "GET /inspect?x=%20y", &format!("{APP}:8080")).await;
        assert_eq!(answer.status, 308);
        let there = format!("https://{APP}:{port}/inspect?x=%20y");
        assert_eq!(answer.header("location"), Some(there.as_str()));
        assert_eq!(plain(&site.edge, "POST /sink", APP).await.status, 308);
        assert_eq!(origin.counters().requests(), 0, "nothing of it reached the origin");
        visit(&site.edge, Protocol::Http1, &there).await.ok();

        // The change is taken while it runs, and back.
        for (keys, status) in [(", http: serve", 200), (", http: redirect", 308)] {
            site.connector.rules(&rules(&http(&origin), keys));
            let look =
                || async { (plain(&site.edge, "GET /inspect", APP).await.status == status).then_some(()) };
            wait::until("the rules to be announced", SOON, look).await;
        }
    });
}

#[test]
fn hazard_131_a_challenge_of_a_certificate_authority_reaches_the_origin_over_plain_http() {
    run(async {
        let origin = sample().await;
        let site = Site::start(&rules(&http(&origin), "")).await;
        let path = "/.well-known/acme-challenge/token";
        let answer = plain(&site.edge, &format!("GET {path}"), APP).await;
        assert_ne!(answer.status, 308);
        assert_eq!(site.edge.access_line(path).await["session"].as_str().map(str::len), Some(16));
        assert_eq!(origin.counters().requests(), 1);
    });
}

#[test]
fn a_name_without_a_certificate_is_served_over_plain_http() {
    run(async {
        let folder = Folder::default();
        let made = Certificate::for_names(&[APP]);
        let (cert, key) = (folder.write("c.pem", &made.cert_pem), folder.write("k.pem", &made.key_pem));
        let config = format!(
            "certificates: [{{ cert: {}, key: {} }}]\nhttpsPort: 443\n",
            cert.display(),
            key.display()
        );
        let edge = Edge::with(EdgeOptions { config, no_dev: true, ..EdgeOptions::default() }).await;
        let tunnel = edge.create("site", &["*.example.test"]).await;
        let mut connector = causeway_tests::connector::Connector::start(
            &tunnel.token,
            "ingress:\n  - service: hello_world\n    hsts: 1h\n",
        );
        connector.ready(SOON).await;
        let answer = plain(&edge, "GET /x", APP).await;
        assert_eq!((answer.status, answer.header("location").unwrap()), (308, &*format!("https://{APP}/x")));
        let answer = plain(&edge, "GET /", "bare.example.test").await.ok();
        assert_eq!(answer.header("strict-transport-security"), None, "a promise counts over TLS only");
    });
}

#[test]
fn a_rules_promise_of_encryption_is_told_to_who_comes_encrypted() {
    run(async {
        let site = Site::start(&rules("hello_world", ", hsts: 365d, http: serve")).await;
        let told = |answer: Answer| answer.ok().header("strict-transport-security").map(str::to_owned);
        for protocol in PROTOCOLS {
            let answer = visit(&site.edge, protocol, &format!("https://{APP}/")).await;
            assert_eq!(told(answer).as_deref(), Some("max-age=31536000"));
        }
        assert_eq!(told(plain(&site.edge, "GET /", APP).await), None);
    });
}

//! A name leads to one tunnel and one rule, whatever its case, port or dot; certificates and Host agree: hazards 37 to 46.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::time::Duration;

use causeway_tests::client::{Http1, Http2, PROTOCOLS, tls_connect, visit};
use causeway_tests::connector::Connector;
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::files::{Certificate, Folder};
use causeway_tests::origin::scripted::Scripted;
use causeway_tests::run;
use causeway_tests::site::{APP, Site, to};

const READY: Duration = Duration::from_secs(20);

/// An origin that says its name.
async fn named(name: &str) -> Scripted {
    Scripted::always(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len())).await
}

async fn connect(token: &str, rules: &str) -> Connector {
    let mut connector = Connector::start(token, rules);
    connector.ready(READY).await;
    connector
}

#[test]
fn hazard_045_an_exact_name_wins_over_the_longest_wildcard_across_tunnels() {
    run(async {
        let edge = Edge::start().await;
        let mut keep = Vec::new();
        for (tunnel, pattern) in [
            ("wide", "*.example.test"),
            ("deep", "*.apps.example.test"),
            ("exact", "one.apps.example.test"),
            ("apex", "example.test"),
        ] {
            let origin = named(tunnel).await;
            let created = edge.create(tunnel, &[pattern]).await;
            keep.push((connect(&created.token, &to(origin.service())).await, origin));
            edge.wait_state(tunnel, "HEALTHY", READY).await;
        }
        for (host, tunnel) in [
            ("blog.example.test", "wide"),
            ("a.b.example.test", "wide"),
            ("two.apps.example.test", "deep"),
            ("x.y.apps.example.test", "deep"),
            ("one.apps.example.test", "exact"),
            ("example.test", "apex"),
            ("apps.example.test", "wide"),
        ] {
            for protocol in PROTOCOLS {
                let answer = visit(&edge, protocol, &format!("https://{host}/")).await;
                assert_eq!(answer.ok().text(), tunnel, "{host} over {protocol:?}");
            }
        }
    });
}

#[test]
fn rules_are_tried_from_the_top_by_host_and_path() {
    run(async {
        let (api, app, other) = (named("api").await, named("app").await, named("other").await);
        let rules = format!(
            "ingress:\n  - {{ hostname: app.example.test, path: ^/api/, service: {} }}\n  - {{ hostname: app.example.test, service: {} }}\n\
             \x20 - {{ hostname: gone.example.test, service: \"http_status:410\" }}\n  - {{ hostname: '*.example.test', service: {} }}\n\
             \x20 - {{ service: \"http_status:404\" }}\n",
            api.service(),
            app.service(),
            other.service()
        );
        let site = Site::start(&rules).await;
        for protocol in PROTOCOLS {
            for (url, expected) in [
                ("https://app.example.test/api/users?x=1", "api"),
                ("https://app.example.test/apis", "app"),
                ("https://app.example.test/x/api/", "app"),
                ("https://blog.example.test/api/", "other"),
            ] {
                assert_eq!(visit(&site.edge, protocol, url).await.ok().text(), expected, "{url}");
            }
            assert_eq!(visit(&site.edge, protocol, "https://gone.example.test/").await.status, 410);
            assert_eq!(visit(&site.edge, protocol, "https://example.test/").await.status, 404);
        }
    });
}

#[test]
fn hazard_044_an_unknown_name_is_a_constant_404() {
    run(async {
        let site = Site::of("hello_world").await;
        let mut client = Http1::plain(site.edge.http).await;
        client.send(b"GET / HTTP/1.1\r\nHost: nobody.invalid\r\n\r\n").await;
        let answer = client.answer("GET").await.unwrap();
        assert_eq!(answer.status, 404);
        assert!(!answer.text().contains("nobody.invalid"), "{}", answer.text());
    });
}

#[test]
fn hazard_043_an_unknown_server_name_gets_no_certificate() {
    run(async {
        let site = Site::of("hello_world").await;
        for name in ["nobody.invalid", "127.0.0.1"] {
            let refused = tls_connect(site.edge.https, &site.edge.ca(), name, &["h2", "http/1.1"]).await;
            assert!(refused.is_err(), "{name} was given a certificate");
        }
    });
}

#[test]
fn hazard_041_and_042_a_host_that_the_handshake_did_not_name_is_misdirected() {
    run(async {
        let edge = Edge::start().await;
        let (a, b) = (named("a").await, named("b").await);
        let one = edge.create("one", &["a.example.test"]).await;
        let two = edge.create("two", &["b.example.test"]).await;
        let _a = connect(&one.token, &to(a.service())).await;
        let _b = connect(&two.token, &to(b.service())).await;
        edge.wait_state("two", "HEALTHY", READY).await;
        let mut client = Http1::tls(&edge, "a.example.test").await;
        client.send(b"GET / HTTP/1.1\r\nHost: b.example.test\r\n\r\n").await;
        assert_eq!(client.answer("GET").await.unwrap().status, 421);
        let mut client = Http2::connect(&edge, "a.example.test").await;
        let request = http::Request::get("https://b.example.test/").body(bytes::Bytes::new()).unwrap();
        assert_eq!(client.fetch(request, None).await.unwrap().status, 421);
        assert!(b.heads().is_empty());
    });
}

#[test]
fn certificates_from_files_are_chosen_by_name_and_reloaded_when_they_change() {
    run(async {
        let folder = Folder::default();
        let put = |name: &str, certificate: &Certificate| {
            folder.write(&format!("{name}.crt"), &certificate.cert_pem);
            folder.write(&format!("{name}.key"), &certificate.key_pem);
        };
        let (first, second) = (Certificate::for_names(&[APP]), Certificate::for_names(&["*.other.test"]));
        put("app", &first);
        put("other", &second);
        let at = folder.path().display();
        let config = format!(
            "certificates:\n  - {{ cert: {at}/app.crt, key: {at}/app.key }}\n  - {{ cert: {at}/other.crt, key: {at}/other.key }}\n"
        );
        let edge = Edge::with(EdgeOptions { config, no_dev: true, ..Default::default() }).await;
        let created = edge.create("site", &[APP, "*.other.test"]).await;
        let _connector = connect(&created.token, &to("hello_world")).await;
        let served = |name: &'static str, pem: String| {
            let trusted = folder.write(&format!("trust-{name}.pem"), &pem);
            let https = edge.https;
            async move { tls_connect(https, &trusted, name, &["http/1.1"]).await }
        };
        assert!(served(APP, first.cert_pem.clone()).await.is_ok());
        assert!(served("x.other.test", second.cert_pem.clone()).await.is_ok());
        assert!(
            served(APP, second.cert_pem.clone()).await.is_err(),
            "the other certificate is not this name's"
        );

        let renewed = Certificate::for_names(&[APP]);
        put("app", &renewed);
        edge.program.hang_up();
        let look = || async { served(APP, renewed.cert_pem.clone()).await.ok() };
        causeway_tests::wait::until("the renewed certificate", Duration::from_secs(10), look).await;

        // A damaged file changes nothing.
        folder.write("app.crt", "this is no certificate");
        edge.program.hang_up();
        edge.program.line("app.crt", Duration::from_secs(10)).await;
        assert!(served(APP, renewed.cert_pem.clone()).await.is_ok(), "the old certificate keeps serving");
    });
}

#[test]
fn a_tunnel_without_a_connector_is_a_503_that_says_when_to_come_back() {
    run(async {
        let Site { edge, mut connector, .. } = Site::of("hello_world").await;
        // In good order: one that was killed is only suspected at first, and its visitors wait for it.
        connector.program.terminate();
        connector.program.ended(Duration::from_secs(5)).await;
        edge.wait_state("site", "DOWN", Duration::from_secs(10)).await;
        for protocol in PROTOCOLS {
            let answer = visit(&edge, protocol, &format!("https://{APP}/")).await;
            assert_eq!(answer.status, 503, "{protocol:?}");
            assert!(
                answer.header("retry-after").is_some_and(|value| value.parse::<u32>().is_ok()),
                "{answer:?}"
            );
        }
    });
}

#[test]
fn error_pages_speak_html_text_or_json_and_name_the_hop_and_nothing_inside() {
    run(async {
        let request_id = regex::Regex::new("[0-9a-f]{32}").unwrap();
        let secret = causeway_tests::origin::closed_port();
        let site = Site::of(format!("http://{secret}")).await;
        for protocol in PROTOCOLS {
            for (accept, kind) in [
                ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
                ("application/json", "application/json"),
                ("*/*", "text/plain"),
            ] {
                let request = http::Request::get(format!("https://{APP}/secret-path?secret-query"))
                    .header("accept", accept);
                let request = request.body(bytes::Bytes::new()).unwrap();
                let answer = causeway_tests::client::fetch(&site.edge, protocol, request).await.unwrap();
                assert_eq!(answer.status, 502);
                assert!(answer.header("content-type").unwrap().starts_with(kind), "{answer:?}");
                let text = answer.text();
                assert!(text.contains("site's own server") || text.contains("origin"), "{text}");
                let id = request_id.find(&text).map(|found| found.as_str().to_owned());
                let id = id.unwrap_or_else(|| panic!("no request id in {text}"));
                let logged = site.edge.program.line(&id, Duration::from_secs(5)).await;
                assert!(logged.contains("502"), "{logged}");
                for inside in [&secret.port().to_string(), "127.0.0.1", "secret", "causeway"] {
                    assert!(!text.to_ascii_lowercase().contains(inside), "{inside} in {text}");
                }
            }
        }
    });
}

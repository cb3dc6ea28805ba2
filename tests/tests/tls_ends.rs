//! Where TLS ends: as announced within the grant, never confused by what a visitor or another connector says, and an edge that
//! passes it through holds neither a key of the site nor a word of what is said.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::Duration;

use causeway_tests::client::{Http1, Http2, quic_dial, tls_connect};
use causeway_tests::connector::Connector;
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::files::{Certificate, Folder};
use causeway_tests::memory::{holds, on_disk};
use causeway_tests::origin::{Origin, http, sample, sample_tls};
use causeway_tests::site::{APP, Site};
use causeway_tests::{run, wait};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

const SOON: Duration = Duration::from_secs(10);
const START: Duration = Duration::from_secs(20);

/// A service that ends TLS itself.
struct Home {
    certificate: Certificate,
    folder: Folder,
    origin: Origin,
}

impl Home {
    async fn start() -> Self {
        let certificate = Certificate::for_names(&[APP]);
        let folder = Folder::default();
        folder.write("ca.pem", &certificate.cert_pem);
        let origin = sample_tls(certificate.server(&["h2", "http/1.1"])).await;
        Self { certificate, folder, origin }
    }

    fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The rules that pass a name on to it, above others.
    fn rules(&self, more: &str) -> String {
        let service = self.origin.addr();
        format!(
            "ingress:\n  - {{ hostname: {APP}, service: 'https://{service}', tls: passthrough }}\n{more}  - service: http_status:404\n"
        )
    }

    /// Whose certificate is shown at an edge for the usual name; none: no TLS comes to be.
    async fn shown(&self, edge: &Edge) -> Option<Shown> {
        for (ca, shown) in [(self.ca(), Shown::Home), (edge.ca(), Shown::Edge)] {
            if tls_connect(edge.https, &ca, APP, &["http/1.1"]).await.is_ok() {
                return Some(shown);
            }
        }
        None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Home,
    Edge,
}

async fn wait_shown(home: &Home, edge: &Edge, wanted: Option<Shown>) {
    let look = || async { (home.shown(edge).await == wanted).then_some(()) };
    wait::until(&format!("{wanted:?} shown"), SOON, look).await;
}

#[test]
fn of_two_connectors_that_differ_the_one_wins_that_keeps_the_edge_from_reading() {
    run(async {
        let (home, origin) = (Home::start().await, sample().await);
        let site = Site::of(http(&origin)).await;
        assert_eq!(home.shown(&site.edge).await, Some(Shown::Edge));

        let by_udp = async || quic_dial(site.edge.tunnel, &site.edge.ca(), APP, "h3").await.map(drop);
        by_udp().await.unwrap();

        let mut other = site.replica(&home.rules("")).await;
        wait_shown(&home, &site.edge, Some(Shown::Home)).await;
        let refused = by_udp().await.unwrap_err();
        assert!(refused.contains("no server certificate"), "{refused}");
        for _ in 0..10 {
            assert_eq!(home.shown(&site.edge).await, Some(Shown::Home), "whichever connector is idler");
        }
        // Only what goes on to say otherwise counts, once he is gone.
        other.program.kill().await;
        wait_shown(&home, &site.edge, Some(Shown::Edge)).await;
    });
}

#[test]
fn while_no_connector_is_there_a_name_that_passed_through_is_not_read_by_the_edge() {
    run(async {
        let home = Home::start().await;
        let mut site = Site::start(&home.rules("")).await;
        assert_eq!(home.shown(&site.edge).await, Some(Shown::Home));
        site.connector.program.kill().await;
        site.edge.wait_state("site", "DOWN", Duration::from_secs(40)).await;
        // The edge of these tests has a certificate for every granted name, and does not show it.
        assert_eq!(home.shown(&site.edge).await, None);
        let _back = site.replica(&home.rules("")).await;
        wait_shown(&home, &site.edge, Some(Shown::Home)).await;
    });
}

#[test]
fn a_changed_rule_moves_the_end_of_tls_without_a_restart_and_old_connections_are_sent_away() {
    run(async {
        let (home, origin) = (Home::start().await, sample().await);
        let site = Site::of(http(&origin)).await;
        let mut kept = Http1::tls(&site.edge, APP).await;
        let get = format!("GET /bytes/1 HTTP/1.1\r\nhost: {APP}\r\n\r\n");
        kept.send(get.as_bytes()).await;
        kept.answer("GET").await.unwrap().ok();
        site.connector
            .rules(&home.rules(&format!("  - {{ hostname: {APP}, service: '{}' }}\n", http(&origin))));
        wait_shown(&home, &site.edge, Some(Shown::Home)).await;
        kept.send(get.as_bytes()).await;
        assert_eq!(kept.answer("GET").await.unwrap().status, 421, "this connection is read at the edge");
        site.connector.rules(&causeway_tests::site::to(http(&origin)));
        wait_shown(&home, &site.edge, Some(Shown::Edge)).await;
    });
}

#[test]
fn hazard_041_a_connection_for_another_name_does_not_reach_one_that_passes_through() {
    run(async {
        let (home, origin) = (Home::start().await, sample().await);
        // One certificate for all, as a browser that joins connections would like it.
        let folder = Folder::default();
        let wide = Certificate::for_names(&["*.example.test"]);
        let (cert, key) = (folder.write("c.pem", &wide.cert_pem), folder.write("k.pem", &wide.key_pem));
        let config = format!("certificates: [{{ cert: '{}', key: '{}' }}]\n", cert.display(), key.display());
        let options = EdgeOptions { config, no_dev: true, ..EdgeOptions::default() };
        let others = format!(
            "  - {{ hostname: {APP}, service: '{0}', http: serve }}\n  - {{ hostname: other.example.test, service: '{0}' }}\n",
            http(&origin)
        );
        let edge = Edge::with(options).await;
        let tunnel = edge.create("site", &["*.example.test"]).await;
        let mut connector = Connector::start(&tunnel.token, &home.rules(&others));
        connector.ready(START).await;
        let request = |host: &str| {
            http::Request::get(format!("https://{host}/bytes/1")).body(bytes::Bytes::new()).unwrap()
        };
        let mut h2 = Http2::at(edge.https, &cert, "other.example.test").await.unwrap();
        assert_eq!(h2.fetch(request("other.example.test"), None).await.unwrap().status, 200);
        assert_eq!(h2.fetch(request(APP), None).await.unwrap().status, 421);
        let stream = tls_connect(edge.https, &cert, "other.example.test", &["http/1.1"]).await.unwrap();
        let mut h1 = Http1::over(stream);
        h1.send(format!("GET /bytes/1 HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
        assert_eq!(h1.answer("GET").await.unwrap().status, 421);
        // And the other way round: what its visitors ask of other names the service hears, and nobody else.
        let mut passed = Http2::at(edge.https, &home.ca(), APP).await.unwrap();
        let before = (home.origin.counters().requests(), origin.counters().requests());
        passed.fetch(request("other.example.test"), None).await.unwrap();
        assert_eq!(
            (home.origin.counters().requests(), origin.counters().requests()),
            (before.0 + 1, before.1)
        );
        // In the clear it is served by the rule below.
        let mut plain = Http1::plain(edge.http).await;
        plain.send(format!("GET /bytes/1 HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
        plain.answer("GET").await.unwrap().ok();
    });
}

#[test]
fn hazard_123_nobody_takes_a_name_outside_his_grant_by_passing_it_through() {
    run(async {
        let (home, origin) = (Home::start().await, sample().await);
        let site = Site::of(http(&origin)).await;
        let other = site.edge.create("other", &["mine.test"]).await;
        let mut thief = Connector::start(&other.token, &home.rules(""));
        thief.ready(START).await;
        let status = thief.status().await;
        assert_eq!(status["edges"][0]["refused"][0]["hostname"], APP, "{status}");
        // `*` is every name that is granted, and no more.
        let service = home.origin.addr();
        let every = format!(
            "ingress:\n  - {{ service: 'https://{service}', tls: passthrough }}\n  - service: http_status:404\n"
        );
        let mut greedy = Connector::start(&other.token, &every);
        greedy.ready(START).await;
        for _ in 0..10 {
            assert_eq!(home.shown(&site.edge).await, Some(Shown::Edge));
        }
    });
}

/// A connector's folder with the certificate of the usual name.
fn home_folder(home: &Home) -> Folder {
    let folder = Folder::default();
    std::fs::create_dir(folder.join("certificates")).unwrap();
    folder.write("certificates/c.pem", &home.certificate.cert_pem);
    folder.write("certificates/k.pem", &home.certificate.key_pem);
    folder
}

/// A POST whose body never ends: while it is on its way, everybody who may see it has it.
async fn say(edge: &Edge, ca: &std::path::Path, secret: &str) -> Http1 {
    let stream = tls_connect(edge.https, ca, APP, &["http/1.1"]).await.unwrap();
    let mut client = Http1::over(stream);
    client
        .send(
            format!("POST /sink HTTP/1.1\r\nhost: {APP}\r\ncontent-length: 1000000\r\n\r\n{secret}")
                .as_bytes(),
        )
        .await;
    client
}

/// The private number of a P-256 key, in the two orders in which it may lie in memory.
fn scalars(certificate: &Certificate) -> [Vec<u8>; 2] {
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes()).unwrap();
    let (der, mark) = (key.secret_der(), [2, 1, 1, 4, 32]);
    let at = der.windows(mark.len()).position(|window| window == mark).unwrap() + mark.len();
    let big = der[at..at + 32].to_vec();
    let little = big.iter().rev().copied().collect();
    [big, little]
}

#[test]
fn an_edge_that_does_not_read_holds_neither_key_nor_body_and_one_that_ends_tls_holds_both() {
    run(async {
        let secret = format!("secret-{:032x}", rand::random::<u128>());
        let home = Home::start().await;
        let key = scalars(&home.certificate);
        let of_site = |edge: &Edge| {
            let pid = edge.program.pid();
            let has_key = key.iter().any(|key| holds(pid, key) || on_disk(edge.data().path(), key));
            (has_key, holds(pid, secret.as_bytes()) || on_disk(edge.data().path(), secret.as_bytes()))
        };

        let site = Site::start(&home.rules("")).await;
        let kept = say(&site.edge, &home.ca(), &secret).await;
        let sunk = || std::future::ready((home.origin.counters().sunk() > 0).then_some(()));
        wait::until("the body at the service", SOON, sunk).await;
        assert_eq!(of_site(&site.edge), (false, false), "key, body");
        drop(kept);
        assert_eq!(of_site(&site.edge), (false, false), "key, body");

        // Nor one whose connector ends it.
        let origin = sample().await;
        let folder = home_folder(&home);
        let rules = format!(
            "certificateFolders: ['{}']\ningress:\n  - {{ service: '{}', tls: connector }}\n",
            folder.join("certificates").display(),
            http(&origin)
        );
        let site = Site::with(EdgeOptions::default(), folder, &rules).await;
        let kept = say(&site.edge, &home.ca(), &secret).await;
        let sunk = || std::future::ready((origin.counters().sunk() > 0).then_some(()));
        wait::until("the body at the origin", SOON, sunk).await;
        assert_eq!(of_site(&site.edge), (false, false), "key, body");
        let pid = site.connector.program.pid();
        assert!(key.iter().any(|key| holds(pid, key)) && holds(pid, secret.as_bytes()), "they are at home");
        drop(kept);

        // The search finds both where they are.
        let folder = Folder::default();
        let (cert, key) = (home.ca(), folder.write("k.pem", &home.certificate.key_pem));
        let config = format!("certificates: [{{ cert: '{}', key: '{}' }}]\n", cert.display(), key.display());
        let options = EdgeOptions { config, no_dev: true, ..EdgeOptions::default() };
        let origin = sample().await;
        let edge = Edge::with(options).await;
        let tunnel = edge.create("site", &[APP]).await;
        let mut connector = Connector::start(&tunnel.token, &causeway_tests::site::to(http(&origin)));
        connector.ready(START).await;
        let _kept = say(&edge, &home.ca(), &secret).await;
        let sunk = || std::future::ready((origin.counters().sunk() > 0).then_some(()));
        wait::until("the body at the origin", SOON, sunk).await;
        assert_eq!(of_site(&edge), (true, true), "key, body");
    });
}

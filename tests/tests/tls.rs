//! TLS as visitors meet it: versions, groups, tickets, and records that carry nothing (hazards 80 and 98 to 105).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use causeway_tests::child::{Output, output};
use causeway_tests::client::client_config;
use causeway_tests::edge::Edge;
use causeway_tests::site::{APP, Site};
use causeway_tests::{needs, run};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, SupportedProtocolVersion, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Another site of the same edge.
const OTHER: &str = "other.example.test";

/// Asks once, so that what comes behind the handshake, tickets among it, has come.
async fn visit(edge: &Edge, config: &Arc<ClientConfig>, name: &str) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(edge.https).await.unwrap();
    let server = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = TlsConnector::from(Arc::clone(config)).connect(server, tcp).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// A visitor who keeps one ticket for all names, whoever gave it.
#[derive(Debug, Default)]
struct OneForAll {
    ticket: parking_lot::Mutex<Option<Tls13ClientSessionValue>>,
    session: parking_lot::Mutex<Option<Tls12ClientSessionValue>>,
}

impl ClientSessionStore for OneForAll {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        *self.session.lock() = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.session.lock().clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        *self.session.lock() = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        *self.ticket.lock() = Some(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.ticket.lock().take()
    }
}

/// Trusts the edge's authority, speaks these versions, offers these groups.
fn visitor(ca: &Path, versions: &[&'static SupportedProtocolVersion], groups: &[NamedGroup]) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups.retain(|group| groups.is_empty() || groups.contains(&group.name()));
    let config =
        ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions).unwrap();
    config.with_root_certificates(roots).with_no_client_auth()
}

#[test]
fn hazard_103_a_ticket_is_good_for_the_site_that_gave_it_and_for_no_other() {
    run(async {
        let site = Site::of("hello_world").await;
        for version in [&version::TLS13, &version::TLS12] {
            let mut config = visitor(&site.edge.ca(), &[version], &[]);
            config.resumption = Resumption::store(Arc::<OneForAll>::default());
            let config = Arc::new(config);
            let kind = async |name| visit(&site.edge, &config, name).await.get_ref().1.handshake_kind();
            assert_eq!(kind(APP).await, Some(HandshakeKind::Full));
            assert_eq!(kind(APP).await, Some(HandshakeKind::Resumed), "{version:?}: to whom it belongs");
            assert_ne!(kind(OTHER).await, Some(HandshakeKind::Resumed), "{version:?}: to another site");
        }
    });
}

#[test]
fn visitors_with_one_key_exchange_are_served_also_one_that_outlives_quantum_computers() {
    run(async {
        let site = Site::of("hello_world").await;
        for only in [NamedGroup::X25519MLKEM768, NamedGroup::X25519, NamedGroup::secp256r1] {
            let config = Arc::new(visitor(&site.edge.ca(), &[&version::TLS13], &[only]));
            let stream = visit(&site.edge, &config, APP).await;
            let group = stream.get_ref().1.negotiated_key_exchange_group().map(|group| group.name());
            assert_eq!(group, Some(only));
        }
    });
}

/// `openssl s_client` with these arguments.
async fn s_client(openssl: &Path, edge: &Edge, args: &str) -> Output {
    let mut command = Command::new(openssl);
    command.args(["s_client", "-connect", &edge.https.to_string(), "-servername", APP]);
    command.arg("-CAfile").arg(edge.ca()).args(args.split(' '));
    output(command).await
}

#[test]
fn hazard_098_and_099_what_is_older_than_tls_1_2_gets_an_alert_and_nothing_is_negotiated_anew() {
    let Some(openssl) = needs("openssl") else { return };
    run(async move {
        let site = Site::of("hello_world").await;
        for version in ["-tls1", "-tls1_1"] {
            let said =
                s_client(&openssl, &site.edge, &format!("{version} -cipher ALL:@SECLEVEL=0")).await.text();
            // rustls may stop at what such a hello lacks before it comes to the version.
            let is_told = ["alert protocol version", "alert handshake failure"]
                .iter()
                .any(|alert| said.contains(alert));
            assert!(is_told && !said.contains("BEGIN CERTIFICATE"), "{version}: {said}");
        }
        let said = s_client(&openssl, &site.edge, "-tls1_2").await.text();
        assert!(said.contains("Compression: NONE") && said.contains("Verify return code: 0"), "{said}");
    });
}

#[test]
fn hazard_080_no_suite_that_http_2_forbids_is_spoken() {
    let Some(openssl) = needs("openssl") else { return };
    run(async move {
        let site = Site::of("hello_world").await;
        for forbidden in [
            "AES128-GCM-SHA256",
            "ECDHE-ECDSA-AES128-SHA256",
            "ECDHE-ECDSA-AES256-SHA",
            "DHE-RSA-AES128-GCM-SHA256",
        ] {
            let args = format!("-tls1_2 -alpn h2 -cipher {forbidden}:@SECLEVEL=0");
            let said = s_client(&openssl, &site.edge, &args).await.text();
            assert!(said.contains("alert handshake failure"), "{forbidden}: {said}");
        }
        let said =
            s_client(&openssl, &site.edge, "-tls1_2 -alpn h2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256").await;
        assert!(said.text().contains("ALPN protocol: h2"), "{}", said.text());
    });
}

#[test]
fn hazard_101_records_that_carry_nothing_end_the_connection() {
    run(async {
        let site = Site::of("hello_world").await;
        let empty: &[u8] = &[22, 3, 3, 0, 0];
        let warning: &[u8] = &[21, 3, 3, 0, 2, 1, 90];
        let change: &[u8] = &[20, 3, 3, 0, 1, 1];
        for (name, record) in [("empty records", empty), ("warnings", warning), ("ChangeCipherSpec", change)]
        {
            let mut stream = TcpStream::connect(site.edge.https).await.unwrap();
            // As much as a handshake may be long at most, and more.
            let flood = record.repeat(200_000 / record.len());
            let mut rest = Vec::new();
            let (mut reader, mut writer) = stream.split();
            let both = async { tokio::join!(writer.write_all(&flood), reader.read_to_end(&mut rest)) };
            // Well before the deadline of the handshake: nothing waits for more.
            assert!(timeout(Duration::from_secs(5), both).await.is_ok(), "{name} are borne");
        }
        visit(&site.edge, &client_config(&site.edge.ca(), &["http/1.1"]), APP).await;
    });
}

#[test]
fn sslyze_finds_what_mozilla_calls_intermediate() {
    let Some(python) = needs("python") else { return };
    run(async move {
        let site = Site::of("hello_world").await;
        let there = site.edge.https;
        let mut command = Command::new(python);
        command.args([
            "-m",
            "sslyze",
            "--mozilla_config=intermediate",
            "--sslv2",
            "--sslv3",
            "--tlsv1",
            "--tlsv1_1",
        ]);
        command.args([
            "--tlsv1_2",
            "--tlsv1_3",
            "--reneg",
            "--resum",
            "--compression",
            "--heartbleed",
            "--robot",
        ]);
        command.args(["--early_data", "--elliptic_curves", "--openssl_ccs", "--fallback", "--certinfo"]);
        command.arg(format!("--certinfo_ca_file={}", site.edge.ca().display()));
        command.arg(format!("{APP}:{}{{{}}}", there.port(), there.ip()));
        let seen = output(command).await;
        let verdict = format!("{APP}:{}: OK - Compliant", there.port());
        assert!(seen.code == 0 && seen.text().contains(&verdict), "{}", seen.text());
    });
}

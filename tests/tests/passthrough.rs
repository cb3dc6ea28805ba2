//! `tls: passthrough`: what a visitor says reaches the service byte for byte, and back, with its ends as ends and its resets as
//! resets; nobody on the way reads more than the name.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::io::ErrorKind;
use std::time::Duration;

use causeway_tests::client::hello::{hello, in_records, of_today, with_ech};
use causeway_tests::client::{Http1, Http2, tls_connect};
use causeway_tests::edge::EdgeOptions;
use causeway_tests::files::{Certificate, Folder};
use causeway_tests::origin::{ANY, closed_port, http, sample, sample_tls};
use causeway_tests::run;
use causeway_tests::site::{APP, Site};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

/// The rules that pass one name on to a service.
fn passing(service: impl std::fmt::Display, more: &str) -> String {
    format!(
        "ingress:\n  - {{ hostname: {APP}, service: '{service}', tls: passthrough{more} }}\n  - service: http_status:404\n"
    )
}

/// A site that passes on to a service in the test's own hands.
async fn raw_site(more: &str) -> (Site, TcpListener) {
    let service = TcpListener::bind(ANY).await.unwrap();
    let rules = passing(format!("tcp://{}", service.local_addr().unwrap()), more);
    (Site::start(&rules).await, service)
}

async fn accept(service: &TcpListener) -> TcpStream {
    timeout(SOON, service.accept()).await.expect("the connection comes through").unwrap().0
}

async fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    timeout(SOON, stream.read_exact(&mut bytes)).await.expect("bytes come through").unwrap();
    bytes
}

async fn end(stream: &mut TcpStream) -> std::io::Result<usize> {
    timeout(SOON, stream.read(&mut [0])).await.expect("an end comes through")
}

#[test]
fn hazard_100_a_hello_in_any_pieces_and_of_any_size_passes_byte_for_byte() {
    run(async {
        let (site, service) = raw_site("").await;
        let today = hello(of_today(&["h2", "http/1.1"]), APP);
        assert!(today.len() > 1400, "a post-quantum hello is longer than a packet: {}", today.len());
        let ech = hello(with_ech(), APP);
        let many: Vec<&'static str> = (0..200).map(|_| "a-protocol-with-a-long-name").collect();
        let large = hello(of_today(&many), APP);
        assert!(large.len() > 4096, "more than one read takes");
        let said = [
            ("whole", today.clone(), usize::MAX),
            ("in segments of a byte", today.clone(), 1),
            ("in records of 100 bytes", in_records(&today, 100), usize::MAX),
            ("in records of 1 byte, segments of 7", in_records(&today, 1), 7),
            ("with ECH, by its outer name", ech, 500),
            ("of six kilobytes", large, 1000),
        ];
        for (what, hello, segment) in said {
            let mut visitor = TcpStream::connect(site.edge.https).await.unwrap();
            visitor.set_nodelay(true).unwrap();
            for piece in hello.chunks(segment.min(hello.len())) {
                visitor.write_all(piece).await.unwrap();
                if segment < 10 {
                    tokio::task::yield_now().await;
                }
            }
            let mut home = accept(&service).await;
            assert!(read(&mut home, hello.len()).await == hello, "{what}");
            // Whatever it is: nobody on the way knows what it means.
            home.write_all(b"\x00 no TLS at all").await.unwrap();
            assert_eq!(read(&mut visitor, 15).await, b"\x00 no TLS at all", "{what}");
            visitor.write_all(b"neither \xff").await.unwrap();
            assert_eq!(read(&mut home, 9).await, b"neither \xff", "{what}");
        }
    });
}

#[test]
fn each_half_ends_for_itself_and_a_reset_is_a_reset() {
    run(async {
        let (site, service) = raw_site("").await;
        let hello = hello(of_today(&["h2"]), APP);
        let connect = async || {
            let mut visitor = TcpStream::connect(site.edge.https).await.unwrap();
            visitor.write_all(&hello).await.unwrap();
            let mut home = accept(&service).await;
            read(&mut home, hello.len()).await;
            home.write_all(b"!").await.unwrap();
            read(&mut visitor, 1).await;
            (visitor, home)
        };

        let (mut visitor, mut home) = connect().await;
        visitor.shutdown().await.unwrap();
        assert_eq!(end(&mut home).await.unwrap(), 0, "the visitor's half ends");
        home.write_all(b"still here").await.unwrap();
        assert_eq!(read(&mut visitor, 10).await, b"still here");
        home.shutdown().await.unwrap();
        assert_eq!(end(&mut visitor).await.unwrap(), 0, "and the service's");

        let (mut visitor, mut home) = connect().await;
        home.shutdown().await.unwrap();
        assert_eq!(end(&mut visitor).await.unwrap(), 0);
        visitor.write_all(b"go on").await.unwrap();
        assert_eq!(read(&mut home, 5).await, b"go on");
        drop(visitor);
        assert_eq!(end(&mut home).await.unwrap(), 0);

        let (visitor, mut home) = connect().await;
        visitor.set_zero_linger().unwrap();
        drop(visitor);
        assert_eq!(end(&mut home).await.unwrap_err().kind(), ErrorKind::ConnectionReset);

        let (mut visitor, home) = connect().await;
        home.set_zero_linger().unwrap();
        drop(home);
        assert_eq!(end(&mut visitor).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_service_that_does_not_read_stops_its_visitor_and_nobody_else() {
    run(async {
        let (site, service) = raw_site("").await;
        let hello = hello(of_today(&["h2"]), APP);
        let mut visitor = TcpStream::connect(site.edge.https).await.unwrap();
        visitor.write_all(&hello).await.unwrap();
        let mut home = accept(&service).await;
        let chunk = vec![7; 64 * 1024];
        let mut sent = 0;
        // Until nothing fits anywhere between the two.
        while let Ok(written) = timeout(Duration::from_secs(2), visitor.write(&chunk)).await {
            sent += written.unwrap();
            assert!(sent < 64 << 20, "back-pressure never reached the visitor");
        }
        let mut other = TcpStream::connect(site.edge.https).await.unwrap();
        other.write_all(&hello).await.unwrap();
        let mut other_home = accept(&service).await;
        read(&mut other_home, hello.len()).await;

        let drained = read(&mut home, hello.len() + sent).await;
        assert!(drained[hello.len()..].iter().all(|byte| *byte == 7), "and all of it comes");
    });
}

#[test]
fn a_service_is_told_the_visitors_address_by_proxy_protocol() {
    run(async {
        let (site, service) = raw_site(", originRequest: { proxyProtocol: v2 }").await;
        let hello = hello(of_today(&["h2"]), APP);
        let mut visitor = TcpStream::connect(site.edge.https).await.unwrap();
        visitor.write_all(&hello).await.unwrap();
        let mut home = accept(&service).await;
        let head = read(&mut home, 16).await;
        assert_eq!(head[..14], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11");
        let rest = read(&mut home, usize::from(u16::from_be_bytes([head[14], head[15]]))).await;
        let (from, to) = (visitor.local_addr().unwrap(), service.local_addr().unwrap());
        assert_eq!(rest[..8], [127, 0, 0, 1, 127, 0, 0, 1]);
        assert_eq!(rest[8..12], [from.port().to_be_bytes(), to.port().to_be_bytes()].concat());
        let name = [&[2, 0, APP.len() as u8][..], APP.as_bytes()].concat();
        assert_eq!(rest[12..12 + name.len()], name);
        assert_eq!(read(&mut home, hello.len()).await, hello);
    });
}

#[test]
fn acme_tls_1_and_every_other_protocol_goes_through_and_the_clear_port_has_its_own_rule() {
    run(async {
        let certificate = Certificate::for_names(&[APP]);
        let folder = Folder::default();
        let ca = folder.write("ca.pem", &certificate.cert_pem);
        let home = sample_tls(certificate.server(&["h2", "http/1.1", "acme-tls/1"])).await;
        let clear = sample().await;
        let rules = format!(
            "ingress:\n  - {{ hostname: {APP}, service: 'https://{}', tls: passthrough }}\n  - {{ hostname: {APP}, service: '{}', http: serve }}\n  - service: http_status:404\n",
            home.addr(),
            http(&clear)
        );
        let site = Site::with(EdgeOptions::default(), Folder::default(), &rules).await;
        for alpn in ["acme-tls/1", "h2", "http/1.1"] {
            let stream = tls_connect(site.edge.https, &ca, APP, &[alpn]).await.unwrap();
            let (_, session) = stream.get_ref();
            assert_eq!(session.alpn_protocol(), Some(alpn.as_bytes()));
            assert_eq!(session.peer_certificates().unwrap()[0], certificate.der(), "the service's own");
        }
        let mut h2 = Http2::at(site.edge.https, &ca, APP).await.unwrap();
        let request =
            http::Request::get(format!("https://{APP}/bytes/1000")).body(bytes::Bytes::new()).unwrap();
        assert_eq!(h2.fetch(request, None).await.unwrap().ok().body.len(), 1000);
        assert_eq!(clear.counters().requests(), 0);

        let mut plain = Http1::plain(site.edge.http).await;
        plain.send(format!("GET /inspect HTTP/1.1\r\nhost: {APP}\r\n\r\n").as_bytes()).await;
        plain.answer("GET").await.unwrap().ok();
        assert_eq!(clear.counters().requests(), 1);
        assert!(!home.counters().knows_sni("other"));
    });
}

#[test]
fn what_passes_through_is_told_apart_in_log_metrics_and_status() {
    run(async {
        let (site, service) = raw_site("").await;
        let hello = hello(of_today(&["h2"]), APP);
        let mut visitor = TcpStream::connect(site.edge.https).await.unwrap();
        visitor.write_all(&hello).await.unwrap();
        let mut home = accept(&service).await;
        read(&mut home, hello.len()).await;
        let labels = ["tunnel=\"site\"", "mode=\"passthrough\"", APP];
        assert_eq!(site.edge.metric("causeway_edge_passed_connections_open", &labels).await, 1.0);
        home.write_all(b"12345").await.unwrap();
        read(&mut visitor, 5).await;
        drop((visitor, home));

        let look = || {
            std::future::ready(site.edge.access_log().into_iter().find(|line| line["tls"] == "passthrough"))
        };
        let (line, _) = causeway_tests::wait::until("the connection's line", SOON, look).await;
        assert_eq!((&line["host"], &line["tunnel"]), (&APP.into(), &"site".into()), "{line}");
        assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&hello.len().into(), &5.into()), "{line}");
        assert!(line["path"].is_null() && line["status"].is_null(), "nothing else is known: {line}");
        assert_eq!(site.edge.metric("causeway_edge_passed_connections_total", &labels).await, 1.0);
        let bytes = ["mode=\"passthrough\"", "direction=\"in\""];
        assert_eq!(site.edge.metric("causeway_edge_passed_bytes_total", &bytes).await, hello.len() as f64);
        assert_eq!(site.edge.metric("causeway_edge_requests_total", &[APP]).await, 0.0, "it is no request");
        let page = site.connector.metrics().await;
        let sample = causeway_tests::edge::sample;
        assert_eq!(
            sample(&page, "causeway_connector_passed_connections_total", &["mode=\"passthrough\""]),
            1.0
        );

        let status = site.edge.status().await;
        let names = status["tunnels"][0]["hostnames"].as_array().unwrap().clone();
        let app = names.iter().find(|name| name["hostname"] == APP).unwrap();
        assert_eq!((&app["tls"], &app["state"]), (&"passthrough".into(), &"SERVED".into()), "{status}");
        assert!(names.iter().any(|name| name["tls"] == "edge"), "{status}");
        let home = site.connector.status().await;
        assert_eq!(home["config"]["tls"], serde_json::json!([{ "hostname": APP, "tls": "passthrough" }]));
    });
}

#[test]
fn a_visitor_whose_service_is_away_is_told_so_in_tls_and_another_connector_is_tried_first() {
    run(async {
        let dead = passing(format!("tcp://{}", closed_port()), "");
        let site = Site::start(&dead).await;
        let folder = Folder::default();
        let certificate = Certificate::for_names(&[APP]);
        let ca = folder.write("ca.pem", &certificate.cert_pem);
        let refused = tls_connect(site.edge.https, &ca, APP, &["h2"]).await.unwrap_err().to_string();
        assert!(refused.contains("InternalError"), "{refused}");
        let labels = ["reason=\"origin_unreachable\""];
        assert_eq!(site.edge.metric("causeway_edge_request_failures_total", &labels).await, 1.0);

        let home = sample_tls(certificate.server(&["h2"])).await;
        let _replica = site.replica(&passing(format!("https://{}", home.addr()), "")).await;
        for _ in 0..8 {
            tls_connect(site.edge.https, &ca, APP, &["h2"]).await.expect("the replica has it");
        }
    });
}

#[test]
fn a_stop_waits_for_what_passes_through() {
    run(async {
        let (mut site, service) = raw_site("").await;
        let hello = hello(of_today(&["h2"]), APP);
        let mut visitor = TcpStream::connect(site.edge.https).await.unwrap();
        visitor.write_all(&hello).await.unwrap();
        let mut home = accept(&service).await;
        read(&mut home, hello.len()).await;
        site.edge.program.terminate();
        site.edge.program.line("stop", SOON).await;
        for _ in 0..20 {
            visitor.write_all(b"ping").await.unwrap();
            assert_eq!(read(&mut home, 4).await, b"ping");
            home.write_all(b"pong").await.unwrap();
            assert_eq!(read(&mut visitor, 4).await, b"pong");
        }
        visitor.shutdown().await.unwrap();
        assert_eq!(end(&mut home).await.unwrap(), 0);
        drop(home);
        assert_eq!(end(&mut visitor).await.unwrap(), 0);
        assert!(site.edge.program.ended(SOON).await.success());
    });
}

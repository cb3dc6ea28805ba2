//! The connector's rules: a cloudflared file works unchanged, Host rewriting, every kind of service, and messages that name the mend.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::time::Duration;

use causeway_tests::client::{Answer, PROTOCOLS, Protocol, visit};
use causeway_tests::connector::{ask, check};
use causeway_tests::files::{Certificate, Folder};
use causeway_tests::origin::scripted::Scripted;
use causeway_tests::origin::{Origin, sample, sample_h2c, sample_tls};
use causeway_tests::run;
use causeway_tests::site::{APP, Site};

fn host_seen(answer: &Answer, name: &str) -> Option<String> {
    let json = answer.json();
    let pairs = json["headers"].as_array().cloned().unwrap_or_default();
    pairs.iter().find(|pair| pair[0] == name).and_then(|pair| pair[1].as_str().map(str::to_owned))
}

/// Every kind of rule that cloudflared knows, and every originRequest key that this program takes.
fn cloudflared_file(plain: &Origin, tls: &Origin, socket: &std::path::Path, ca: &std::path::Path) -> String {
    let socket = socket.display();
    format!(
        r#"tunnel: 6ff42ae2-765d-4adf-8112-31c55c1551ef
credentials-file: /root/.cloudflared/6ff42ae2-765d-4adf-8112-31c55c1551ef.json
originRequest:
  connectTimeout: 30s
  tlsTimeout: 10s
  tcpKeepAlive: 30s
  noHappyEyeballs: false
  keepAliveConnections: 100
  keepAliveTimeout: 1m30s
  access: {{ required: false, teamName: myteam, audTag: [abc] }}
  proxyAddress: 127.0.0.1
  proxyPort: 0
  proxyType: ""
ingress:
  - hostname: plain.example.test
    service: http://{plain}
  - hostname: path.example.test
    path: /static/.*\.(jpg|png)$
    service: http://{plain}
  - hostname: path.example.test
    service: http_status:403
  - hostname: rewritten.example.test
    service: http://{plain}
    originRequest: {{ httpHostHeader: internal.lan }}
  - hostname: tls.example.test
    service: https://{tls}
    originRequest: {{ originServerName: tls.internal, caPool: {ca} }}
  - hostname: insecure.example.test
    service: https://{tls}
    originRequest: {{ noTLSVerify: true, http2Origin: true }}
  - hostname: sni.example.test
    service: https://{tls}
    originRequest: {{ matchSNItoHost: true, noTLSVerify: true }}
  - hostname: unverified.example.test
    service: https://{tls}
  - hostname: wsgi.example.test
    service: http://{plain}
    originRequest: {{ disableChunkedEncoding: true }}
  - hostname: ws.example.test
    service: ws://{plain}
  - hostname: wss.example.test
    service: wss://{tls}
    originRequest: {{ noTLSVerify: true }}
  - hostname: unix.example.test
    service: unix:{socket}
  - hostname: hello.example.test
    service: hello_world
  - hostname: hello2.example.test
    service: hello-world
  - hostname: ssh.example.test
    service: ssh://127.0.0.1:22
  - hostname: rdp.example.test
    service: rdp://127.0.0.1:3389
  - hostname: tcp.example.test
    service: tcp://127.0.0.1:5432
  - hostname: smb.example.test
    service: smb://127.0.0.1
  - hostname: "*.apps.example.test"
    service: http://{plain}
  - service: http_status:404
"#,
        plain = plain.addr(),
        tls = tls.addr(),
        ca = ca.display(),
    )
}

#[test]
fn a_cloudflared_file_with_every_kind_of_rule_works_unchanged() {
    run(async {
        let folder = Folder::default();
        let certificate = Certificate::for_names(&["tls.internal"]);
        let ca = folder.write("ca.pem", &certificate.cert_pem);
        let socket = folder.join("origin.sock");
        let plain = sample().await;
        let tls = sample_tls(certificate.server(&["h2", "http/1.1"])).await;
        let _unix = Origin::unix(&socket, None).unwrap();
        let rules = cloudflared_file(&plain, &tls, &socket, &ca);

        let checked = check(&rules).await;
        assert_eq!(checked.code, 0, "{}", checked.text());
        for ignored in ["access", "proxyAddress", "proxyPort"] {
            assert!(checked.text().contains(ignored), "{ignored} is named in a warning: {}", checked.text());
        }

        let site = Site::with(Default::default(), folder, &rules).await;
        for protocol in PROTOCOLS {
            let get = |host: &str, path: &str| {
                let url = format!("https://{host}.example.test{path}");
                let edge = &site.edge;
                async move { visit(edge, protocol, &url).await }
            };
            assert_eq!(get("plain", "/inspect").await.ok().json()["method"], "GET");
            assert_eq!(get("path", "/static/a/b.jpg").await.status, 404, "the origin's own 404");
            assert_eq!(get("path", "/inspect").await.status, 403, "the rule's 403");
            let seen = get("rewritten", "/inspect").await.ok();
            assert_eq!(host_seen(&seen, "host").as_deref(), Some("internal.lan"));
            assert_eq!(host_seen(&seen, "x-forwarded-host").as_deref(), Some("rewritten.example.test"));
            get("tls", "/inspect").await.ok();
            assert!(tls.counters().knows_sni("tls.internal"));
            let seen = get("insecure", "/inspect").await.ok().json();
            assert_eq!(seen["version"], "HTTP/2.0", "http2Origin");
            get("sni", "/inspect").await.ok();
            assert!(tls.counters().knows_sni("sni.example.test"));
            let refused = get("unverified", "/inspect").await;
            assert_eq!(refused.status, 502, "a certificate that nobody vouches for: {}", refused.text());
            get("ws", "/inspect").await.ok();
            get("wss", "/inspect").await.ok();
            get("unix", "/inspect").await.ok();
            get("hello", "/").await.ok();
            get("hello2", "/").await.ok();
            for tcp in ["ssh", "rdp", "tcp", "smb"] {
                assert_eq!(get(tcp, "/").await.status, 501, "{tcp}");
            }
            get("x.y.apps", "/inspect").await.ok();
            assert_eq!(get("unknown", "/").await.status, 404);
        }
        let request =
            http::Request::post("https://wsgi.example.test/inspect").header("transfer-encoding", "chunked");
        let request = request.body(bytes::Bytes::from_static(b"2\r\nhi\r\n0\r\n\r\n")).unwrap();
        let answer = causeway_tests::client::fetch(&site.edge, Protocol::Http1, request).await.unwrap().ok();
        assert_eq!(
            host_seen(&answer, "content-length").as_deref(),
            Some("2"),
            "disableChunkedEncoding: {}",
            answer.text()
        );
        assert_eq!(host_seen(&answer, "transfer-encoding"), None);
        site.connector.program.line("tcp.example.test", Duration::from_secs(5)).await;
    });
}

#[test]
fn host_rewriting_sets_the_authority_on_http2() {
    run(async {
        let origin = sample_h2c().await;
        let rules = format!(
            "ingress:\n  - service: h2c://{}\n    originRequest: {{ httpHostHeader: 'inner.lan:8080' }}\n",
            origin.addr()
        );
        let site = Site::start(&rules).await;
        for protocol in PROTOCOLS {
            let seen = visit(&site.edge, protocol, &format!("https://{APP}/inspect")).await.ok();
            assert_eq!(seen.json()["authority"], "inner.lan:8080", "{protocol:?}");
            assert_eq!(host_seen(&seen, "x-forwarded-host").as_deref(), Some(APP), "{protocol:?}");
        }
    });
}

#[test]
fn the_public_host_reaches_the_origin_unchanged_by_default() {
    run(async {
        let origin = Scripted::always("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let site = Site::of(origin.service()).await;
        for protocol in PROTOCOLS {
            visit(&site.edge, protocol, &format!("https://{APP}/")).await.ok();
            let head = origin.heads().pop().unwrap().to_ascii_lowercase();
            assert!(head.contains(&format!("\r\nhost: {APP}\r\n")), "{head}");
        }
    });
}

#[test]
fn a_unix_socket_with_tls_is_an_origin() {
    run(async {
        let folder = Folder::default();
        let certificate = Certificate::for_names(&["sock.internal"]);
        let socket = folder.join("tls.sock");
        let _origin = Origin::unix(&socket, Some(certificate.server(&["http/1.1"]))).unwrap();
        let rules = format!(
            "ingress:\n  - service: unix+tls:{}\n    originRequest: {{ noTLSVerify: true, originServerName: sock.internal }}\n",
            socket.display()
        );
        let site = Site::with(Default::default(), folder, &rules).await;
        visit(&site.edge, Protocol::Http2, &format!("https://{APP}/inspect")).await.ok();
    });
}

#[test]
fn bad_rules_are_refused_with_place_reason_and_mend() {
    run(async {
        let cases = [
            (
                "misspelt key",
                "ingress:\n  - hostnam: a.example.test\n    service: http://127.0.0.1\n  - service: http_status:404\n",
                vec!["config.yml:2:", "hostname"],
            ),
            (
                "missing catch-all",
                "ingress:\n  - hostname: a.example.test\n    service: http://127.0.0.1\n",
                vec!["config.yml:3:", "the last rule must", "http_status:404"],
            ),
            (
                "rule that can never match",
                "ingress:\n  - service: http_status:404\n  - hostname: a.example.test\n    service: http://127.0.0.1\n",
                vec!["config.yml", "never"],
            ),
            ("no rules", "ingress: []\n", vec!["config.yml", "ingress"]),
            ("bad service", "ingress:\n  - service: htp://127.0.0.1\n", vec!["config.yml:2:", "htp"]),
            (
                "path in a service",
                "ingress:\n  - service: http://127.0.0.1/path\n",
                vec!["config.yml:2:", "path"],
            ),
            ("bad status", "ingress:\n  - service: http_status:9999\n", vec!["config.yml:2:", "status"]),
            (
                "bad regex",
                "ingress:\n  - path: '('\n    service: http_status:200\n  - service: http_status:404\n",
                vec!["config.yml:2:", "path"],
            ),
            (
                "bad duration",
                "originRequest: { connectTimeout: soon }\ningress:\n  - service: http_status:404\n",
                vec!["config.yml:1:", "soon"],
            ),
            (
                "bad hostname",
                "ingress:\n  - hostname: 'a b.example.test'\n    service: http_status:200\n  - service: http_status:404\n",
                vec!["config.yml:2:", "hostname"],
            ),
            (
                "wildcard in the middle",
                "ingress:\n  - hostname: a.*.example.test\n    service: http_status:200\n  - service: http_status:404\n",
                vec!["config.yml:2:", "*"],
            ),
            ("not YAML", "ingress: [\n", vec!["config.yml:"]),
        ];
        let mut wrong = Vec::new();
        for (name, rules, expected) in cases {
            let seen = check(rules).await;
            let missing: Vec<_> = expected.into_iter().filter(|text| !seen.text().contains(text)).collect();
            if seen.code != 1 || !missing.is_empty() {
                wrong.push(format!("{name}: code {}, without {missing:?}: {}", seen.code, seen.text()));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn route_says_which_rule_a_url_hits_and_why() {
    run(async {
        let folder = Folder::default();
        let path = folder.write(
            "config.yml",
            "ingress:\n  - { hostname: a.example.test, path: ^/api, service: 'http://10.0.0.1' }\n  - { hostname: '*.example.test', service: 'http://10.0.0.2' }\n  - { service: 'http_status:404' }\n",
        );
        let path = path.display().to_string();
        for (url, service) in [
            ("https://a.example.test/api/x", "10.0.0.1"),
            ("https://a.example.test/other", "10.0.0.2"),
            ("https://else.test/", "http_status:404"),
        ] {
            let text = ask(&["route", &path, url]).await.ok();
            assert!(text.contains(service), "{url}: {text}");
            let json = ask(&["route", &path, url, "--output", "json"]).await.json();
            assert!(json.to_string().contains(service), "{url}: {json}");
        }
    });
}

#[test]
fn a_service_may_be_reached_by_name() {
    run(async {
        let origin = sample().await;
        let site = Site::of(format!("http://localhost:{}", origin.addr().port())).await;
        visit(&site.edge, Protocol::Http1, &format!("https://{APP}/inspect")).await.ok();
    });
}

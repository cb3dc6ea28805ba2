//! Files and habits of real people: names, certificates, tokens and expressions as they bring them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use causeway_tests::child::output;
use causeway_tests::client::{Http1, PROTOCOLS, Protocol, visit};
use causeway_tests::connector::{Connector, ask, check};
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::files::{Certificate, Folder};
use causeway_tests::origin::{sample, sample_tls};
use causeway_tests::page;
use causeway_tests::programs::{here, program};
use causeway_tests::run;
use causeway_tests::site::{APP, Site};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_name_with_an_underscore_is_served_as_it_is_granted() {
    run(async {
        let name = "my_app.example.test";
        let rules = format!(
            "ingress:\n  - {{ hostname: {name}, service: hello_world, http: serve }}\n  - service: http_status:404\n"
        );
        assert_eq!(check(&rules).await.code, 0);
        let edge = Edge::start().await;
        let tunnel = edge.create("one", &[name]).await;
        let mut connector = Connector::start(&tunnel.token, &rules);
        connector.ready(SOON).await;
        for protocol in PROTOCOLS {
            visit(&edge, protocol, &format!("https://{name}/")).await.ok();
            visit(&edge, protocol, &format!("https://{}/", name.to_uppercase())).await.ok();
        }
        let mut plain = Http1::plain(edge.http).await;
        plain.send(format!("GET / HTTP/1.1\r\nhost: {name}\r\n\r\n").as_bytes()).await;
        plain.answer("GET").await.unwrap().ok();
        let config = connector.folder().join("config.yml").display().to_string();
        let route =
            ask(&["route", &config, &format!("https://{name}:443/"), "--output", "json"]).await.json();
        assert_eq!((&route["host"], &route["rule"]), (&name.into(), &1.into()));
    });
}

/// Writes a certificate for these names into the folder, and gives the lines of edge.yaml that name it.
fn certificate(folder: &Folder, names: &[&str]) -> String {
    let made = Certificate::for_names(names);
    let (cert, key) = (folder.write("c.pem", &made.cert_pem), folder.write("k.pem", &made.key_pem));
    format!("certificates: [{{ cert: {}, key: {} }}]\n", cert.display(), key.display())
}

#[test]
fn a_name_that_no_certificate_covers_is_told_and_not_called_served() {
    run(async {
        let folder = Folder::default();
        let config = certificate(&folder, &["*.example.test"]);
        let edge = Edge::with(EdgeOptions { config, no_dev: true, ..EdgeOptions::default() }).await;
        let tunnel = edge.create("site", &["*.example.test", "other.test"]).await;
        let rules = "ingress:\n  - { hostname: deep.a.example.test, service: hello_world }\n  \
                     - { hostname: b.example.test, service: hello_world }\n  - service: http_status:404\n";
        let mut connector = Connector::start(&tunnel.token, rules);
        connector.ready(SOON).await;

        let line = edge.program.line("no certificate for these names", SOON).await;
        assert!(
            line.contains("WARN") && line.contains("deep.a.example.test") && line.contains("other.test"),
            "{line}"
        );
        assert!(!line.contains("b.example.test"), "{line}");
        let status = edge.cli(&["status"]).await.ok();
        assert!(status.contains("not servable: no certificate for deep.a.example.test"), "{status}");
        assert!(status.contains("not servable: no certificate for other.test"), "{status}");
        let served = status.lines().filter(|line| line.ends_with("served")).count();
        assert_eq!(served, 2, "*.example.test and b.example.test: {status}");
        assert_eq!(edge.tunnel_state("site").await, "DEGRADED");
        let checked = edge.cli(&["check", &edge.config().display().to_string()]).await.ok();
        assert!(checked.contains("not servable: no certificate for other.test"), "{checked}");

        certificate(&folder, &["*.example.test", "deep.a.example.test", "other.test"]);
        edge.program.hang_up();
        edge.wait_state("site", "HEALTHY", SOON).await;
        let status = edge.cli(&["status"]).await.ok();
        assert!(!status.contains("not servable"), "{status}");

        certificate(&folder, &["deep.a.example.test", "other.test"]);
        edge.program.hang_up();
        edge.program.line("\"hostnames\":\"b.example.test\"", SOON).await;
        let lines = edge.program.lines();
        assert_eq!(lines.iter().filter(|line| line.contains("no certificate for these names")).count(), 2);
    });
}

#[test]
fn a_wildcard_as_origin_server_name_is_compared_with_the_certificates_own() {
    run(async {
        let folder = Folder::default();
        let (wide, narrow) =
            (Certificate::for_names(&["*.home.test"]), Certificate::for_names(&["wildcard.home.test"]));
        let pool = folder.write("ca.pem", &format!("{}{}", wide.cert_pem, narrow.cert_pem));
        let origin = sample_tls(wide.server(&["http/1.1"])).await;
        let other = sample_tls(narrow.server(&["http/1.1"])).await;
        let rules = format!(
            "originRequest: {{ originServerName: \"*.home.test\", caPool: {} }}\ningress:\n  - {{ hostname: {APP}, service: https://{} }}\n  \
             - {{ service: https://{} }}\n",
            pool.display(),
            origin.addr(),
            other.addr()
        );
        let site = Site::with(EdgeOptions::default(), folder, &rules).await;
        for protocol in PROTOCOLS {
            visit(&site.edge, protocol, &format!("https://{APP}/inspect")).await.ok();
            let refused = visit(&site.edge, protocol, "https://else.example.test/inspect").await;
            assert_eq!(refused.status, 502, "{}", refused.text());
        }
        assert!(origin.counters().knows_sni("wildcard.home.test"));
    });
}

#[test]
fn a_token_in_quotation_marks_or_behind_a_byte_order_mark_is_taken_as_meant() {
    run(async {
        let edge = Edge::start().await;
        let tunnel = edge.create("site", &["*.example.test"]).await;
        let rules = "ingress: [{ service: hello_world }]\n";
        for written in [format!("\"{}\"\n", tunnel.token), format!("\u{feff}{}\r\n", tunnel.token)] {
            let mut connector = Connector::start(&written, rules);
            connector.ready(SOON).await;
        }
    });
}

#[test]
fn a_path_with_braces_is_the_path_that_it_is_to_go() {
    run(async {
        let origin = sample().await;
        let rules = format!(
            "ingress:\n  - {{ path: '^/users/{{id}}/posts$', service: http_status:204 }}\n  - service: http://{}\n",
            origin.addr()
        );
        let checked = check(&rules).await;
        assert_eq!(checked.code, 0, "{}", checked.text());
        let site = Site::start(&rules).await;
        let answer = visit(&site.edge, Protocol::Http2, &format!("https://{APP}/users/%7Bid%7D/posts")).await;
        assert_eq!(answer.status, 204);
        let refused = check(
            "ingress:\n  - { path: '(?=x)', service: http_status:204 }\n  - service: http_status:404\n",
        )
        .await;
        assert_eq!((refused.code, refused.stderr.lines().count()), (1, 1), "{}", refused.text());
    });
}

#[test]
fn a_file_with_keys_and_services_of_others_is_read_with_warnings_and_served() {
    run(async {
        let rules = "x-base: &base { connectTimeout: 10s }\nownerTeam: home\ningress:\n  \
                     - { hostname: a.example.test, service: hello_world, originRequest: *base }\n  \
                     - { hostname: b.example.test, originRequest: { bastionMode: true, colour: red } }\n  \
                     - { hostname: c.example.test, service: 'ftp://127.0.0.1' }\n  \
                     - { hostname: d.example.test, service: hello_world, originRequest: { access: { required: true } } }\n  \
                     - service: http_status:404\n";
        let checked = check(rules).await;
        assert_eq!(checked.code, 0, "{}", checked.text());
        for key in ["x-base", "ownerTeam", "bastionMode", "colour", "ftp://127.0.0.1", "access"] {
            let line = checked.stdout.lines().find(|line| line.contains(key));
            assert!(line.is_some_and(|line| line.ends_with("(warning)")), "{key}: {}", checked.text());
        }
        let site = Site::start(rules).await;
        for protocol in PROTOCOLS {
            for (name, status) in [("a", 200), ("b", 501), ("c", 501), ("d", 501), ("e", 404)] {
                let answer = visit(&site.edge, protocol, &format!("https://{name}.example.test/")).await;
                assert_eq!(answer.status, status, "{name}");
            }
        }
    });
}

#[test]
fn a_url_without_a_scheme_is_http() {
    run(async {
        let origin = sample().await;
        let rules = format!("url: localhost:{}\ntunnel: x\n", origin.addr().port());
        let checked = check(&rules).await;
        assert_eq!(checked.code, 0, "{}", checked.text());
        let site = Site::start(&rules).await;
        visit(&site.edge, Protocol::Http1, &format!("https://{APP}/inspect")).await.ok();
    });
}

#[test]
fn slips_in_yaml_are_one_line_that_names_key_cause_and_mend() {
    run(async {
        let star = "ingress:\n  - hostname: *.example.dev\n    service: http://10.0.0.5\n  - service: http_status:404\n";
        let dash = "ingress:\n    -hostname: a.example.dev\n     service: http://10.0.0.5\n    -service: http_status:404\n";
        for (rules, mend) in [(star, "\"*.example.dev\""), (dash, "`- hostname`")] {
            let told = check(rules).await;
            assert_eq!((told.code, told.stderr.lines().count()), (1, 1), "{}", told.text());
            assert!(told.stderr.contains("config.yml:2:") && told.stderr.contains(mend), "{}", told.stderr);
        }
        let edge = Edge::start().await;
        let list = "address: \"203.0.113.7:443\"\n";
        let port = "listen: { https: [\"443\"] }\n";
        for (text, mend) in [
            (list, "write `address: [\"203.0.113.7:443\"]`"),
            (port, "`443` has no address: write host:port"),
        ] {
            let file = edge.data().write("slip.yaml", text);
            let told = edge.cli(&["check", &file.display().to_string()]).await;
            assert_eq!((told.code, told.stderr.lines().count()), (1, 1), "{}", told.text());
            assert!(told.stderr.contains("slip.yaml:1:") && told.stderr.contains(mend), "{}", told.stderr);
        }
    });
}

#[test]
fn the_page_for_those_who_come_from_cloudflared_shows_what_the_program_says() {
    run(async {
        let manual = std::fs::read_to_string(here().join("../docs/coming-from-cloudflared.md")).unwrap();
        let file = manual.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let folder = Folder::default();
        folder.write("config.yml", file);
        for block in page::blocks(&manual, "Your config.yml").unwrap() {
            let words: Vec<&str> = block.commands.split_whitespace().collect();
            let mut command = tokio::process::Command::new(program(words[0]));
            command.args(&words[1..]).current_dir(folder.path());
            let said = output(command).await.ok();
            block.expect(&said).unwrap();
            assert_eq!(said.lines().count(), block.seen.len(), "the page leaves nothing out: {said}");
        }
    });
}

#[test]
fn each_rule_file_of_the_documents_is_accepted() {
    run(async {
        let mut pages: Vec<_> =
            std::fs::read_dir(here().join("../docs")).unwrap().map(|page| page.unwrap().path()).collect();
        pages.push(here().join("../README.md"));
        let mut files = 0;
        for page in pages.into_iter().filter(|page| page.extension().is_some_and(|kind| kind == "md")) {
            let text = std::fs::read_to_string(&page).unwrap();
            let yaml = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
            for rules in yaml.filter(|text| text.contains("ingress:\n") && !text.contains("kind:")) {
                // Some stand in a list.
                let indent = rules.len() - rules.trim_start_matches(' ').len();
                let rules: Vec<_> =
                    rules.lines().map(|line| line.get(indent..).unwrap_or_default()).collect();
                let checked = check(&rules.join("\n")).await;
                assert_eq!(checked.code, 0, "{}: {}", page.display(), checked.text());
                files += 1;
            }
        }
        assert!(files >= 5, "there are {files} of them");
    });
}

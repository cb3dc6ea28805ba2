//! The rule file: what is read, what is refused and where, what is warned about.

use std::time::Duration;

use causeway_tunnel::PlainHttp;
use proptest::prelude::*;

use super::origin_request::OriginRequest;
use super::{Config, Visitors, ignored, parse};
use crate::ingress::Choice;
use crate::service::Service;

fn read(text: &str) -> Config {
    parse("c.yml", text).unwrap()
}

fn refused(text: &str) -> String {
    parse("c.yml", text).unwrap_err().to_string()
}

const EVERYTHING: &str = r#"
tunnel: 6ff42ae2-765d-4adf-8112-31c55c1551ef
credentials-file: /root/.cloudflared/6ff42ae2.json
metrics: localhost:2000
loglevel: warn
no-autoupdate: true
warp-routing:
  enabled: true
originRequest:
  connectTimeout: 10s
  tcpKeepAlive: 15
  keepAliveConnections: 20
  http2Origin: true
ingress:
  - hostname: blog.example.dev
    service: http://10.0.0.104
  - hostname: "*.apps.example.dev"
    path: ^/static/.*\.(js|css)$
    service: https://10.0.0.100:8443
    originRequest:
      connectTimeout: 1m30s
      tlsTimeout: 2s
      noHappyEyeballs: true
      keepAliveTimeout: 30s
      httpHostHeader: apps.internal:8443
      originServerName: apps.internal
      matchSNItoHost: false
      caPool: /etc/causeway/ca.pem
      noTLSVerify: true
      disableChunkedEncoding: true
      http2Origin: false
      bastionMode: false
      proxyType: socks
      proxyAddress: 127.0.0.1
      proxyPort: 8080
      ipRules:
        - prefix: 10.0.0.0/8
          ports: [80, 443]
          allow: true
      access:
        required: true
        teamName: me
        audTag: [abc]
  - hostname: sock.example.dev
    service: unix:/run/app.sock
  - hostname: sock-tls.example.dev
    service: unix+tls:/run/app.sock
  - hostname: ws.example.dev
    service: ws://10.0.0.9:8080
  - hostname: wss.example.dev
    service: wss://10.0.0.9
  - hostname: db.example.dev
    service: tcp://10.0.0.9:5432
  - hostname: hello.example.dev
    service: hello_world
  - service: http_status:404
"#;

#[test]
fn a_cloudflared_file_with_every_key_is_read() {
    let config = read(EVERYTHING);
    assert_eq!(config.rules.len(), 9);
    assert_eq!(config.metrics, Some("127.0.0.1:2000".parse().unwrap()));
    assert_eq!(config.log_level.as_deref(), Some("warn"));
    let (first, second) = (&config.rules[0].origin, &config.rules[1].origin);
    assert_eq!(first.connect_timeout, Duration::from_secs(10));
    assert_eq!(first.tcp_keep_alive, Duration::from_secs(15));
    assert_eq!((first.keep_alive_connections, second.keep_alive_connections), (20, 20));
    assert_eq!(second.connect_timeout, Duration::from_secs(90));
    assert_eq!((first.http2_origin, second.http2_origin), (true, false));
    assert!(second.no_tls_verify && second.disable_chunked_encoding && second.no_happy_eyeballs);
    assert_eq!(second.http_host_header.as_deref(), Some("apps.internal:8443"));
    assert_eq!(config.rules[1].ca_pool_at.map(|at| at.0), Some(28));
    assert_eq!(config.table().find("x.apps.example.dev", "/static/a.js"), Choice::Rule(1));
    assert_eq!(config.table().find("x.apps.example.dev", "/other"), Choice::Rule(8));
    let warned: Vec<&str> =
        config.warnings.iter().map(|w| w.text.split('`').nth(1).unwrap_or(&w.text)).collect();
    for key in [
        "tunnel",
        "credentials-file",
        "no-autoupdate",
        "warp-routing",
        "access",
        "bastionMode",
        "proxyType",
        "proxyAddress",
        "proxyPort",
        "ipRules",
        "noTLSVerify",
    ] {
        assert!(warned.contains(&key), "{key} in {warned:?}");
    }
    assert!(config.warnings.iter().any(|w| w.text.contains("501")));
    assert!(config.warnings.is_sorted_by_key(|w| w.line));
}

#[test]
fn the_defaults_are_cloudflareds() {
    let config = read("ingress:\n  - service: http://a\n");
    let origin = &config.rules[0].origin;
    assert_eq!(origin.connect_timeout, Duration::from_secs(30));
    assert_eq!(origin.tls_timeout, Duration::from_secs(10));
    assert_eq!(origin.tcp_keep_alive, Duration::from_secs(30));
    assert_eq!((origin.keep_alive_connections, origin.keep_alive_timeout), (100, Duration::from_secs(90)));
    assert!(
        !origin.no_tls_verify
            && !origin.http2_origin
            && !origin.match_sni_to_host
            && !origin.no_happy_eyeballs
    );
    assert_eq!(config.grace, Duration::from_secs(30));
    assert!(config.warnings.is_empty());
}

#[test]
fn our_own_keys_are_read() {
    let config = read(
        "edges: ['e1:443', 'e2:443']\ntokenFile: /run/token\ngracePeriod: 5s\nshards: 3\nlog: {level: debug, format: json}\n\
         ingress:\n  - service: h2c://grpc:50051\n    originRequest: {responseHeaderTimeout: 0s, idleTimeout: 10s, upgradeIdleTimeout: 2h}\n",
    );
    assert_eq!(config.edges.unwrap().len(), 2);
    assert_eq!((config.grace, config.shards), (Duration::from_secs(5), Some(3)));
    assert_eq!((config.log_level.as_deref(), config.log_json), (Some("debug"), Some(true)));
    assert_eq!(config.rules[0].origin.response_header_timeout, Duration::ZERO);
}

#[test]
fn mistakes_are_named_with_file_line_and_column() {
    let misspelt = refused("ingress:\n  - hostnme: a.b\n    service: http://x\n");
    assert!(misspelt.starts_with("c.yml:2:5: ") && misspelt.contains("`hostname`"), "{misspelt}");
    let service =
        refused("ingress:\n  - hostname: a.b\n    service: 10.0.0.1:80\n  - service: http_status:404\n");
    assert!(service.starts_with("c.yml:3:14: ") && service.contains("http://10.0.0.1:80"), "{service}");
    let duration = refused("originRequest:\n  connectTimeout: soon\ningress:\n  - service: http://a\n");
    assert!(duration.starts_with("c.yml:2:") && duration.contains("soon"), "{duration}");
    let regex = refused("ingress:\n  - path: '(['\n    service: http://a\n  - service: http://b\n");
    assert!(regex.starts_with("c.yml:2:11: ") && regex.contains("regular expression"), "{regex}");
    let hostname = refused("ingress:\n  - hostname: a.*.b\n    service: http://a\n  - service: http://b\n");
    assert!(hostname.starts_with("c.yml:2:15: ") && hostname.contains('*'), "{hostname}");
    let sni = refused("ingress:\n  - service: https://a\n    originRequest: {originServerName: 'a b'}\n");
    assert!(sni.starts_with("c.yml:3:"), "{sni}");
    assert!(refused("ingress: [").starts_with("c.yml:1:"));
    assert!(refused("metrics: here\ningress: [{service: http://a}]").contains("127.0.0.1:20241"));
}

#[test]
fn keys_that_nobody_knows_are_warned_about_with_their_line_and_the_nearest_key() {
    let config = read(
        "x-base: &base { connectTimeout: 10s }\nownerTeam: home\nlogLevl: debug\ningress:\n  - hostname: a.b\n    colour: red\n    \
         service: https://x\n    originRequest: *base\n  - service: https://y\n    originRequest:\n      noTlsVerify: true\n      whatever: [1, {a: b}]\n",
    );
    assert_eq!(config.rules[0].origin.connect_timeout, Duration::from_secs(10));
    assert!(!config.rules[1].origin.no_tls_verify);
    let warned: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warned,
        [
            "1:1: `x-base` is ignored: it is no key of a rule file",
            "2:1: `ownerTeam` is ignored: it is no key of a rule file",
            "3:1: `logLevl` is ignored: did you mean `loglevel`?",
            "6:5: `colour` is ignored: it is no key of a rule file",
            "11:7: `noTlsVerify` is ignored: did you mean `noTLSVerify`?",
            "12:7: `whatever` is ignored: it is no key of a rule file",
        ]
    );
    let no_rules = refused("ingres:\n  - service: http://x\n");
    assert!(no_rules.contains("no rules") && no_rules.contains("ingress"), "{no_rules}");
}

#[test]
fn a_rules_own_keys_may_not_be_misspelt_for_it_would_take_more_than_was_meant() {
    for (slip, key) in
        [("hostnme: a.b", "hostname"), ("pth: ^/x", "path"), ("orignRequest: {}", "originRequest")]
    {
        let misspelt =
            refused(&format!("ingress:\n  - {slip}\n    service: http://x\n  - service: http://y\n"));
        assert!(misspelt.starts_with("c.yml:2:5: ") && misspelt.contains(&format!("`{key}`")), "{misspelt}");
    }
}

#[test]
fn what_is_not_served_is_read_with_a_warning_that_says_501() {
    for rule in [
        "originRequest: { bastionMode: true }",
        "service: ftp://127.0.0.1",
        "service: gopher://nas:70",
        "service: bastion",
        "service: tcp://db:5432",
    ] {
        let config =
            read(&format!("ingress:\n  - hostname: a.b\n    {rule}\n  - service: http_status:404\n"));
        assert!(matches!(config.rules[0].service, Service::Unserved(_)), "{rule}");
        let is_told = |w: &super::Warning| w.text.contains("501") && (2..=3).contains(&w.line);
        assert!(config.warnings.iter().any(is_told), "{rule}: {:?}", config.warnings);
    }
    let global = read(
        "originRequest: { bastionMode: true }\ningress:\n  - hostname: a.b\n  - service: http_status:404\n",
    );
    assert!(matches!(global.rules[0].service, Service::Unserved(_)));
    let missing = refused("ingress:\n  - hostname: a.b\n  - service: http_status:404\n");
    assert!(missing.starts_with("c.yml:2:5: ") && missing.contains("no `service`"), "{missing}");
}

#[test]
fn what_cloudflared_shows_of_a_tunnel_of_the_dashboard_is_a_rule_file() {
    let config = read(
        r#"{"ingress":[{"hostname":"a.b","path":"","service":"http://a","originRequest":{"connectTimeout":10}},
            {"hostname":"","path":"","service":"http_status:404","originRequest":{}}],
            "originRequest":{"connectTimeout":30},"warp-routing":{}}"#,
    );
    assert_eq!(config.rules.len(), 2);
    assert_eq!(config.rules[0].origin.connect_timeout, Duration::from_secs(10));
}

#[test]
fn what_cloudflare_access_guarded_is_not_opened_to_everybody() {
    let file = |global: &str, rule: &str| {
        format!(
            "originRequest: {{ {global} }}\ningress:\n  - hostname: a.b\n    {rule}\n  - service: http_status:404\n"
        )
    };
    let (guard, open) = ("access: { required: true, teamName: me }", "access: { required: false }");
    let service = |global: &str, rule: &str| read(&file(global, rule)).rules[0].service.to_string();
    let own = |access: &str| format!("service: http://a\n    originRequest: {{ {access} }}");
    assert_eq!(service("", &own(guard)), "http://a:80 behind Cloudflare Access");
    assert_eq!(service(guard, "service: http://a"), "http://a:80 behind Cloudflare Access");
    assert_eq!(service(guard, &own(open)), "http://a:80");
    assert_eq!(service("", &own("access: { teamName: me }")), "http://a:80");
    assert_eq!(service(guard, "service: http_status:204"), "http_status:204");
    let told = read(&file(guard, "service: http://a")).warnings;
    assert!(told.len() == 1 && told[0].line == 1 && told[0].text.contains("501"), "{told:?}");
    let unread = refused(&file(guard, "service: https://a\n    tls: passthrough"));
    assert!(unread.starts_with("c.yml:1:") && unread.contains("passthrough"), "{unread}");
}

#[test]
fn slips_in_yaml_are_told_with_their_line_and_the_mend() {
    for (text, told) in [
        (
            "ingress:\n  - hostname: *.example.dev\n    service: http://10.0.0.5\n  - service: http_status:404\n",
            "2:15: `hostname`: `*.example.dev` is a reference to YAML, not a text; put it into quotation marks: \"*.example.dev\"",
        ),
        (
            "ingress:\n    -hostname: a.example.dev\n     service: http://10.0.0.5\n    -service: http_status:404\n",
            "2:5: `-hostname` has no space after the dash, so it is no entry of a list; write `- hostname`",
        ),
        (
            "ingress:\n  -hostname: a.example.dev\n",
            "2:3: `-hostname` has no space after the dash, so it is no entry of a list; write `- hostname`",
        ),
        ("ingress:\n\t- service: http://a\n", "2:1: the line is indented with a tab; YAML takes spaces only"),
        (
            "ingress:\n  hostname: a.b\n  service: http://a\n",
            "2:3: `ingress` is a list, and here is a mapping",
        ),
        (
            "ingress:\n  - hostname: [a.b]\n    service: http://a\n",
            "2:15: `hostname` is a single value, and here is a list",
        ),
        (
            "ingress:\n  - hostname: a.b\n    hostname: c.d\n    service: http://a\n",
            "3:5: the key `hostname` stands here a second time; remove one of the two, or write both values under one key",
        ),
        (
            "ingress:\n  - service: http://a\n    originRequest: { noTLSVerify: sure }\n",
            "3:35: `noTLSVerify` is `true` or `false`, not sure",
        ),
        (
            "ingress:\n  - service: http_status: 404\n",
            "2:14: `service`: a `: ` inside a value makes a second key of it; put the value into quotation marks, or the second key on a line of its own",
        ),
        (
            "ingress:\n  - service:http://a\n",
            "2:5: `service:` has no space after the colon, so it is no key; write `service: http://a`",
        ),
        ("edges: e1:443\nurl: http://a\n", "1:8: `edges` is a list, not e1:443; write `edges: [\"e1:443\"]`"),
    ] {
        assert_eq!(refused(text), format!("c.yml:{told}"), "{text}");
    }
}

#[test]
fn a_path_is_read_as_go_reads_it() {
    let config = read(
        "ingress:\n  - path: ^/users/{id}/posts$\n    service: http_status:204\n  - service: http_status:404\n",
    );
    assert_eq!(config.table().find("a.b", "/users/{id}/posts"), Choice::Rule(0));
    assert_eq!(config.table().find("a.b", "/users/7/posts"), Choice::Rule(1));
    let regex = refused("ingress:\n  - path: '^/(?=x)'\n    service: http://a\n  - service: http://b\n");
    assert!(regex.starts_with("c.yml:2:11: the path is no regular expression: look-around"), "{regex}");
}

#[test]
fn an_origins_name_may_be_a_wildcard_as_it_is_to_go() {
    let config =
        read("ingress:\n  - service: https://a\n    originRequest: {originServerName: '*.home.test'}\n");
    assert_eq!(config.rules[0].origin.origin_server_name.as_deref(), Some("*.home.test"));
}

#[test]
fn the_last_rule_and_no_other_takes_everything() {
    let missing = refused("ingress:\n  - hostname: a.b\n    service: http://x\n");
    assert!(missing.starts_with("c.yml:3:14: ") && missing.contains("http_status:404"), "{missing}");
    let with_path = refused("ingress:\n  - path: ^/x\n    service: http://x\n");
    assert!(with_path.contains("last rule"), "{with_path}");
    let early = refused(
        "ingress:\n  - service: http://x\n  - hostname: a.b\n    service: http://y\n  - service: http://z\n",
    );
    assert!(early.starts_with("c.yml:2:") && early.contains("rule 1"), "{early}");
    assert!(refused("ingress: []").contains("no rules"));
    assert!(refused("# nothing\n").contains("no rules"));
    assert!(read("ingress:\n  - hostname: '*'\n    service: http://x\n").warnings.is_empty());
}

#[test]
fn a_rule_that_can_never_match_is_warned_about() {
    let config = read(
        "ingress:\n  - hostname: '*.b'\n    service: http://x\n  - hostname: a.b\n    service: http://y\n  - service: http_status:404\n",
    );
    assert_eq!(config.warnings.len(), 1);
    assert_eq!(config.warnings[0].line, 5);
    assert!(config.warnings[0].text.contains("rule 2 can never match: rule 1"), "{}", config.warnings[0]);
}

#[test]
fn a_url_alone_is_one_rule_for_everything() {
    let config = read("url: http://localhost:8000\ntunnel: x\n");
    assert_eq!(config.rules[0].service.to_string(), "http://localhost:8000");
    assert_eq!(super::from_url("http://10.0.0.1").unwrap().rules.len(), 1);
    for (url, service) in [
        ("localhost:8000", "http://localhost:8000"),
        ("10.0.0.1", "http://10.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("https://nas.lan", "https://nas.lan:443"),
    ] {
        assert_eq!(super::from_url(url).unwrap().rules[0].service.to_string(), service);
        let config = read(&format!("url: \"{url}\"\n"));
        assert_eq!(config.rules[0].service.to_string(), service);
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = parse("c.yml", &text);
    }

    #[test]
    fn any_change_of_a_good_file_is_read_or_refused_at_a_place_in_it(at in 0_usize..2000, with in "[ -~\n]{0,3}", cut in 0_usize..30) {
        let at = at.min(EVERYTHING.len());
        let end = (at + cut).min(EVERYTHING.len());
        let changed = format!("{}{with}{}", &EVERYTHING[..at], &EVERYTHING[end..]);
        if let Err(error) = parse("c.yml", &changed) {
            prop_assert!(error.line <= changed.lines().count() as u64 + 1);
        }
    }

    #[test]
    fn every_list_of_plain_rules_ending_in_a_catch_all_is_read(names in proptest::collection::vec("[a-z]{1,8}\\.dev", 0..8)) {
        let mut text = "ingress:\n".to_owned();
        for name in &names {
            text += &format!("  - hostname: {name}\n    service: http://{name}:80\n");
        }
        text += "  - service: http_status:404\n";
        let config = read(&text);
        prop_assert_eq!(config.rules.len(), names.len() + 1);
        for name in &names {
            let first = names.iter().position(|other| other == name).unwrap();
            prop_assert_eq!(config.table().find(name, "/"), Choice::Rule(first));
        }
    }
}

/// The lines of the manual's tables on the connector: what stands in the first column, and in the second.
fn manual() -> Vec<(&'static str, &'static str, &'static str)> {
    let page = include_str!("../../../docs/configuration.md");
    page[page.find("## The connector").unwrap()..]
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let key = cells.next()?.trim_end_matches(" |");
            Some((key, cells.next().unwrap_or(""), line))
        })
        .collect()
}

#[test]
fn the_manual_lists_every_key_of_ours() {
    let lines = manual();
    let ours = &ignored::KEYS[..ignored::OURS];
    assert_eq!(ignored::KEYS[ignored::OURS], "tunnel", "ours stand first");
    for key in ours {
        assert!(
            lines.iter().any(|(_, _, line)| line.contains(&format!("`{key}"))),
            "`{key}` is not in the manual"
        );
    }
    // serde's refusal of an unknown key names all that are known.
    let error = serde_json::from_str::<OriginRequest>(r#"{ "?": 1 }"#).unwrap_err().to_string();
    let known: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
    assert!(known.len() > 20, "{error}");
    for key in known {
        assert!(
            lines.iter().any(|(_, _, line)| line.contains(&format!("`{key}`"))),
            "`{key}` is not in the manual"
        );
    }
}

#[test]
fn the_defaults_in_the_manual_are_those_of_the_code() {
    let from = "originRequest:\n";
    let mut text = from.to_owned();
    let table = manual().into_iter().skip_while(|(key, ..)| *key != "connectTimeout`");
    for (key, default, _) in table {
        if let Some(default) = default.strip_prefix('`') {
            text.push_str(&format!("  {}: {}\n", key.trim_end_matches('`'), default.trim_end_matches('`')));
        }
    }
    assert!(text.lines().count() > 10, "{text}");
    assert_eq!(read(&format!("{text}url: http://a")).rules[0].origin, super::OriginSettings::default());
}

#[test]
fn a_header_for_the_visitors_address_must_be_one_that_nothing_else_uses() {
    let read = |name: &str| {
        let text = format!(
            "originRequest: {{ visitorIpHeader: X-Client }}\ningress:\n  - service: http://a\n    originRequest: {{ visitorIpHeader: {name} }}\n"
        );
        parse("rules.yml", &text).map(|config| config.rules[0].origin.visitor_ip_header.clone())
    };
    assert_eq!(read("CF-Connecting-IP").unwrap().unwrap().as_str(), "cf-connecting-ip");
    assert_eq!(read("''").unwrap(), None, "an empty one takes back what was said for all rules");
    for wrong in [
        "'X Y'",
        "Host",
        "cookie",
        "Content-Length",
        "X-Forwarded-For",
        "Sec-WebSocket-Key",
        "Proxy-Authorization",
    ] {
        let error = read(wrong).unwrap_err();
        assert_eq!((error.line, error.help.is_some()), (4, true), "{error}");
    }
}

#[test]
fn what_a_rule_asks_of_its_visitors_holds_for_its_name() {
    let rules = "ingress:\n  - { hostname: a.dev, path: /x, service: http://a, http: serve, hsts: 365d }\n  - { hostname: a.dev, service: http://b }\n  - service: http://c\n";
    let config = read(rules);
    let own = Visitors { http: PlainHttp::Serve, hsts: Some(31_536_000) };
    assert_eq!(
        config.rules.iter().map(|rule| rule.visitors).collect::<Vec<_>>(),
        [own, own, Visitors::default()]
    );
    let torn = rules.replace("service: http://b", "service: http://b, http: redirect");
    let error = parse("c.yml", &torn).unwrap_err();
    assert_eq!(error.line, 3);
    assert!(error.to_string().contains("`http` of `a.dev` says something else in line 2"), "{error}");
    let error = parse("c.yml", &rules.replace("http: serve", "http: sing")).unwrap_err();
    assert!(error.line == 2 && error.to_string().contains("redirect"), "{error}");
    let error = parse("c.yml", &rules.replace("365d", "a year")).unwrap_err();
    assert!(error.line == 2 && error.to_string().contains("duration"), "{error}");
}

#[test]
fn a_proxy_is_read_and_a_wrong_one_is_refused_at_its_place() {
    let rules = "url: http://a\n";
    let with = |lines: &str| parse("c.yml", &format!("{rules}{lines}"));
    let config = with("proxy: http://me@proxy.lan:3128\nproxyPasswordFile: /run/secrets/proxy\n").unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.proxy_at, Some((3, 20)));
    let error = config.outward().unwrap_err().to_string();
    assert!(
        error.starts_with("c.yml:3:20: `proxyPasswordFile`: the password for the proxy is not"),
        "{error}"
    );
    for (lines, told) in [
        (
            "proxy: http://me:s3cret@h:1\n",
            "c.yml:2:8: no password is taken here, where others can read it; put it into a file",
        ),
        ("proxy: https://h:1\n", "c.yml:2:8: TLS with the proxy itself is not spoken; "),
        ("proxy: ftp://h\n", "c.yml:2:8: `ftp` is nothing that is spoken with proxies; http://HOST:PORT"),
        ("proxy: h:0\n", "c.yml:2:8: the port of the proxy is no number"),
        ("proxy: h:1\nproxyPasswordFile: /p\n", "c.yml:3:20: `proxyPasswordFile` has the password of nobody"),
        ("proxyPasswordFile: /p\n", "c.yml:2:20: `proxyPasswordFile` has the password of nobody"),
    ] {
        let error = with(lines).unwrap_err().to_string();
        assert!(error.starts_with(told) && !error.contains("s3cret"), "{told:?} in {error:?}");
    }
}

#[test]
fn the_command_line_wins_over_the_files_proxy() {
    let file = "url: http://a\nproxy: http://me@proxy.lan:3128\nproxyPasswordFile: /of/file\n";
    let mut config = read(file);
    config.say_proxy(None, None).unwrap();
    assert_eq!(config.proxy_at, Some((3, 20)));
    config.say_proxy(None, Some(std::path::Path::new("/of/flag"))).unwrap();
    assert!(config.outward().unwrap_err().to_string().contains("/of/flag"));
    config.say_proxy(Some("none"), None).unwrap();
    assert!(matches!(config.outward().unwrap(), crate::forward_proxy::Outward::Direct));
    let error = config.say_proxy(Some("http://u:s3cret@h:1"), None).unwrap_err().to_string();
    assert!(error.starts_with("--proxy:1:1: no password") && !error.contains("s3cret"), "{error}");
}

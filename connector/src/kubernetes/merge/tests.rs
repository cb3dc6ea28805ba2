//! A file's rules and those of Services, together.

use causeway_tunnel::PlainHttp;

use super::*;
use crate::config::{of_cluster, parse};
use crate::kubernetes::annotations::{Loopback, Names};

const READING: Reading = Reading { names: Names::Ours, loopback: Loopback::Refuse };

fn service(name: &str, ours: &[(&str, &str)]) -> Service {
    Service::sample(name, "1", "10.0.0.104", ours)
}

/// `hostname service from`, and the remarks.
fn merged(file: &str, services: &[Service]) -> (Vec<String>, Vec<String>) {
    let config = over(&parse("c.yml", file).unwrap(), Some(services), READING);
    let shown = |rule: &Rule| {
        let from = rule.found.as_deref().unwrap_or("file");
        format!("{} {} {from}", rule.hostname, rule.service)
    };
    (config.rules.iter().map(shown).collect(), config.remarks)
}

const FILE: &str = "ingress:\n  - { hostname: a.dev, service: 'http://10.0.0.1' }\n  - { hostname: '*.b.dev', path: ^/admin, service: 'http_status:403' }\n  - service: http_status:404\n";

#[test]
fn the_files_rules_win_and_its_last_one_comes_last() {
    let services = [
        service("shop/a", &[("hostname", "a.dev,x.b.dev")]),
        service("shop/c", &[("hostname", "c.dev"), ("host-header", "c.internal")]),
    ];
    let (rules, remarks) = merged(FILE, &services);
    assert_eq!(
        rules,
        [
            "a.dev http://10.0.0.1:80 file",
            "*.b.dev http_status:403 file",
            "c.dev http://10.0.0.104:80 shop/c",
            "x.b.dev http://10.0.0.104:80 shop/a",
            "* http_status:404 file"
        ]
    );
    let [remark] = remarks.try_into().unwrap();
    assert!(
        remark.starts_with("Service shop/a: `a.dev` is the file's: the rule in line 2 of c.yml"),
        "{remark}"
    );
    let config = over(&parse("c.yml", FILE).unwrap(), Some(&services), READING);
    assert_eq!(config.rules[2].origin.http_host_header.as_deref(), Some("c.internal"));
    assert!(config.rules[2].origin.match_sni_to_host && !config.rules[0].origin.match_sni_to_host);
}

#[test]
fn a_files_wildcard_wins_over_a_services_name() {
    let file =
        "ingress:\n  - { hostname: '*.dev', service: 'http://10.0.0.1' }\n  - service: http_status:404\n";
    let (rules, remarks) = merged(file, &[service("shop/a", &[("hostname", "a.dev,*.x.dev")])]);
    assert_eq!((rules.len(), remarks.len()), (2, 2));
    // But a name does not win over a wildcard that takes more.
    let (rules, _) = merged(FILE, &[service("shop/a", &[("hostname", "*.dev")])]);
    assert_eq!(rules[2], "*.dev http://10.0.0.104:80 shop/a");
}

#[test]
fn where_tls_ends_is_the_files_word_too() {
    let file = "ingress:\n  - { hostname: '*.dev', service: 'https://10.0.0.1', tls: passthrough }\n  - service: http_status:404\n";
    let (rules, remarks) = merged(file, &[service("shop/a", &[("hostname", "a.dev")])]);
    assert_eq!(rules.len(), 2);
    assert!(remarks[0].contains("`tls: passthrough` by the rule in line 2 of c.yml"), "{remarks:?}");
    let at_home = service("shop/a", &[("hostname", "a.dev"), ("tls", "connector")]);
    let (rules, remarks) = merged(FILE.replace("a.dev", "z.dev").as_str(), std::slice::from_ref(&at_home));
    assert!(rules.len() == 3 && remarks[0].contains("`--data FOLDER`"), "{remarks:?}");
    let (rules, remarks) = merged(&format!("data: /d\n{}", FILE.replace("a.dev", "z.dev")), &[at_home]);
    assert!(rules.len() == 4 && remarks.is_empty(), "{remarks:?}");
}

#[test]
fn a_services_rule_has_what_the_file_says_for_all_rules_and_for_its_name() {
    let file = "originRequest: { connectTimeout: 3s, originServerName: apps.lan }\ningress:\n  - { hostname: a.dev, path: ^/x, service: 'http://10.0.0.1', http: serve }\n  - service: http_status:404\n";
    let services =
        [service("shop/a", &[("hostname", "a.dev"), ("scheme", "https")]).with_ports(&[("s", 8443)])];
    let config = over(&parse("c.yml", file).unwrap(), Some(&services), READING);
    let rule = &config.rules[1];
    assert_eq!(
        (rule.service.to_string().as_str(), rule.found.as_deref()),
        ("https://10.0.0.104:8443", Some("shop/a"))
    );
    assert_eq!(rule.origin.connect_timeout.as_secs(), 3);
    assert!(!rule.origin.match_sni_to_host, "the file says the name");
    assert_eq!(rule.visitors.http, PlainHttp::Serve);
}

#[test]
fn nothing_is_announced_before_anything_is_known_unless_a_file_says_it() {
    assert!(over(&of_cluster(), None, READING).rules.is_empty());
    assert_eq!(over(&of_cluster(), Some(&[]), READING).rules.len(), 1);
    assert_eq!(over(&parse("c.yml", FILE).unwrap(), None, READING).rules.len(), 3);
}

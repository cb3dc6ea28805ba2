//! `tls`: where TLS of a rule's visitors ends, and what that asks of the rule and of those above it.
//!
//! The first rule whose hostname takes a name decides, as for everything else; below a rule that passes TLS through, others of
//! the same name serve what comes without TLS. Where it ends in the connector the rules serve both.

use causeway_tunnel::{Pattern, TlsEnd};
use serde_saphyr::Spanned;

use super::{AtHome, Problem, Rule};
use crate::service::Service;

/// Reads the key's value.
pub(super) fn end(text: &Spanned<String>) -> Result<TlsEnd, Problem> {
    match text.value.as_str() {
        "edge" => Ok(TlsEnd::Edge),
        "passthrough" => Ok(TlsEnd::Passthrough),
        "connector" => Ok(TlsEnd::Connector),
        other => {
            let near = causeway_daemon::config::nearest(other, &["edge", "passthrough", "connector"]);
            Err(Problem::at(text.referenced, format!("`{other}` is no place where TLS can end"))
                .help(Some(format!("write `{}`", near.unwrap_or("edge")))))
        }
    }
}

/// Reads the service of a rule that passes TLS through.
pub(super) fn service(text: &Spanned<String>) -> Result<Service, Problem> {
    Service::parse_raw(&text.value)
        .map_err(|error| Problem::at(text.referenced, error.reason).help(error.help))
}

/// The first rule that takes a name says where its TLS ends, before there is a path to look at: no other may say otherwise, or
/// whoever reads the file from the top would take its requests for read, or for unread, when they are not.
pub(super) fn check(rules: &[Rule], home: &AtHome, at: impl Fn(usize) -> (u64, u64)) -> Result<(), Problem> {
    for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| !rule.tls.is_edge()) {
        let problem = |reason: String, help: &str| {
            let (line, column) = at(index);
            Err(Problem { line, column, reason, help: Some(help.to_owned()) })
        };
        if rule.path.is_some() && rule.tls == TlsEnd::Passthrough {
            let reason = "a rule with `tls: passthrough` sees no path".to_owned();
            return problem(reason, "take `path` out, or have TLS end at the edge or in the connector");
        }
        let earlier = rules[..index]
            .iter()
            .position(|earlier| earlier.tls != rule.tls && earlier.hostname.covers(&rule.hostname));
        if let Some(earlier) = earlier {
            let (ends, left) = match (rules[earlier].tls, rule.tls) {
                (TlsEnd::Passthrough, _) => ("with TLS that passes through", "end here"),
                (TlsEnd::Connector, _) => ("with TLS that ends in the connector", "pass through"),
                (TlsEnd::Edge, TlsEnd::Connector) => ("with TLS that ends at the edge", "end here"),
                (TlsEnd::Edge, _) => ("with TLS that ends at the edge", "pass through"),
            };
            let reason = format!(
                "rule {} ({}, line {}) takes these names {ends}, so none is left to {left}",
                earlier + 1,
                rules[earlier].hostname,
                rules[earlier].line
            );
            return problem(reason, "put this rule above it, or write the same `tls` in both");
        }
        if rule.tls != TlsEnd::Connector {
            continue;
        }
        let later =
            rules[index..].iter().find(|later| later.hostname == rule.hostname && later.tls != rule.tls);
        if let Some(later) = later {
            let reason = format!("the rule in line {} has the same hostname and another `tls`", later.line);
            return problem(
                reason,
                "TLS ends before there is a path: write `tls: connector` in all rules of the name",
            );
        }
        if home.certificate_folders.is_empty() && (home.data.is_none() || !home.acme.enabled) {
            let reason = "TLS ends here, and there is nowhere to have certificates from".to_owned();
            return problem(
                reason,
                "add `data: FOLDER` at the top of the file, where the connector keeps those that it gets by itself, or \
                 `certificateFolders: [FOLDER]`",
            );
        }
    }
    Ok(())
}

/// Where TLS of a pattern's names ends, as far as one rule takes them all.
pub(crate) fn end_of(rules: &[Rule], pattern: &Pattern) -> TlsEnd {
    let first = rules.iter().find(|rule| rule.hostname.covers(pattern));
    first.map_or(TlsEnd::Edge, |rule| rule.tls)
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn refused(rules: &str) -> String {
        parse("c.yml", &format!("ingress:\n{rules}  - service: http_status:404\n")).unwrap_err().to_string()
    }

    #[test]
    fn the_first_rule_that_takes_a_name_says_where_its_tls_ends() {
        let text = "ingress:\n  - { hostname: b.a.dev, service: 'http://h' }\n  - { hostname: '*.a.dev', service: 'https://10.0.0.1', tls: passthrough }\n  - { hostname: c.a.dev, service: 'http://10.0.0.1' }\n  - { hostname: d.dev, service: 'tcp://h:1', tls: passthrough }\n  - { hostname: e.dev, service: 'http://h', tls: edge }\n  - service: http_status:404\n";
        let config = parse("c.yml", text).unwrap();
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        let ends = |name: &str| end_of(&config.rules, &Pattern::parse(name).unwrap());
        assert_eq!(ends("b.a.dev"), TlsEnd::Edge);
        assert_eq!(ends("*.a.dev"), TlsEnd::Passthrough);
        assert_eq!(ends("c.a.dev"), TlsEnd::Passthrough, "the rule below is for what comes in the clear");
        assert_eq!(ends("d.dev"), TlsEnd::Passthrough);
        assert_eq!([ends("e.dev"), ends("*")], [TlsEnd::Edge; 2]);
        let (requests, passing) = (config.table(), config.passing());
        use crate::ingress::Choice::{Nothing, Rule};
        assert_eq!([requests.find("c.a.dev", "/"), requests.find("d.dev", "/")], [Rule(2), Rule(5)]);
        assert_eq!([passing.find("c.a.dev", "/"), passing.find("b.a.dev", "/")], [Rule(1); 2]);
        assert_eq!(passing.find("e.dev", "/"), Nothing);
        let services: Vec<_> = config.rules.iter().map(|rule| rule.service.to_string()).collect();
        assert_eq!(services[3], "tcp://h:1");
    }

    #[test]
    fn where_tls_ends_in_the_connector_rules_have_paths_and_serve_the_clear_too() {
        let text = "data: /d\ningress:\n  - { hostname: a.dev, path: ^/x, service: 'http://h', tls: connector }\n  - { hostname: a.dev, service: 'http://i', tls: connector }\n  - { hostname: b.dev, service: 'https://h', tls: passthrough }\n  - service: http_status:404\n";
        let config = parse("c.yml", text).unwrap();
        let ends = |name: &str| end_of(&config.rules, &Pattern::parse(name).unwrap());
        assert_eq!(
            [ends("a.dev"), ends("b.dev"), ends("c.dev")],
            [TlsEnd::Connector, TlsEnd::Passthrough, TlsEnd::Edge]
        );
        use crate::ingress::Choice::Rule;
        let requests = config.table();
        assert_eq!([requests.find("a.dev", "/x"), requests.find("a.dev", "/y")], [Rule(0), Rule(1)]);
        assert_eq!(config.passing().first("a.dev"), Some(0));
        assert_eq!(config.home.data.as_deref(), Some(std::path::Path::new("/d")));
    }

    #[test]
    fn what_cannot_pass_through_is_refused_at_its_place_with_the_mend() {
        for (rules, told) in [
            (
                "  - { hostname: a.dev, service: 'https://h', tls: passthru }\n",
                "2:51: `passthru` is no place where TLS can end; write `passthrough`",
            ),
            (
                "  - { hostname: a.dev, service: 'http://h', tls: passthrough }\n",
                "2:33: `http://h` does not end TLS",
            ),
            (
                "  - { hostname: a.dev, service: hello_world, tls: passthrough }\n",
                "2:33: `hello_world` does not end TLS",
            ),
            ("  - { hostname: a.dev, service: 'tcp://h', tls: passthrough }\n", "2:33: "),
            ("  - { hostname: a.dev, path: ^/x, service: 'https://h', tls: passthrough }\n", "sees no path"),
            (
                "  - { hostname: '*.dev', service: 'http://h' }\n  - { hostname: a.dev, service: 'https://h', tls: passthrough }\n",
                "3:33: rule 1 (*.dev, line 2) takes these names",
            ),
            (
                "  - { hostname: a.dev, service: 'http://h', originRequest: { proxyProtocol: v2 } }\n",
                "`proxyProtocol` is for rules with `tls: passthrough`",
            ),
            (
                "  - { hostname: a.dev, service: 'tcp://h:1', tls: passthrough, originRequest: { proxyProtocol: v1 } }\n",
                "`v1` is not spoken",
            ),
            (
                "  - { hostname: a.dev, service: 'http://h', tls: conector }\n",
                "`conector` is no place where TLS can end; write `connector`",
            ),
            (
                "  - { hostname: a.dev, service: 'http://h', tls: connector }\n",
                "2:33: TLS ends here, and there is nowhere to have certificates from",
            ),
            (
                "  - { hostname: '*.dev', service: 'https://h', tls: passthrough }\n  - { hostname: a.dev, service: 'http://h', tls: connector }\n",
                "takes these names with TLS that passes through, so none is left to end here",
            ),
            (
                "  - { hostname: a.dev, service: 'http://h', tls: connector, originRequest: { proxyProtocol: v2 } }\n",
                "`proxyProtocol` is for rules with `tls: passthrough`",
            ),
        ] {
            let error = refused(rules);
            assert!(error.contains(told), "{told:?} in {error}");
        }
        let last = parse("c.yml", "ingress:\n  - { service: 'https://h', tls: passthrough }\n").unwrap_err();
        assert!(last.to_string().contains("the last rule must take every request"), "{last}");
    }
}
